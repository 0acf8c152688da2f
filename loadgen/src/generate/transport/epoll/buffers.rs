//! Receive buffers of the epoll transport.

/// A fixed number of buffers of one size. Of the free ones the last one used is taken first: it is
/// still in the CPU's caches.
#[derive(Debug)]
pub(super) struct Buffers {
    memory: Box<[u8]>,
    size: usize,
    free: Vec<u16>,
}

impl Buffers {
    pub(super) fn new(count: u16, size: u32) -> Self {
        let size = size as usize;
        let memory = vec![0; size * usize::from(count)].into_boxed_slice();
        Self { memory, size, free: (0..count).rev().collect() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.free.is_empty()
    }

    /// A free buffer, which is the caller's until it is released.
    pub(super) fn take(&mut self) -> Option<u16> {
        self.free.pop()
    }

    pub(super) fn release(&mut self, buffer: u16) {
        debug_assert!(!self.free.contains(&buffer), "buffer {buffer} is released twice");
        self.free.push(buffer);
    }

    pub(super) fn get(&self, buffer: u16) -> &[u8] {
        &self.memory[usize::from(buffer) * self.size..][..self.size]
    }

    pub(super) fn get_mut(&mut self, buffer: u16) -> &mut [u8] {
        &mut self.memory[usize::from(buffer) * self.size..][..self.size]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_buffer_is_somebody_s_or_free() {
        let mut buffers = Buffers::new(2, 8);
        let (first, second) = (buffers.take().unwrap(), buffers.take().unwrap());
        assert!(buffers.is_empty() && buffers.take().is_none());
        buffers.get_mut(first).fill(1);
        buffers.get_mut(second).fill(2);
        assert_eq!((buffers.get(first), buffers.get(second)), (&[1; 8][..], &[2; 8][..]));
        buffers.release(first);
        assert_eq!(buffers.take(), Some(first));
    }
}
