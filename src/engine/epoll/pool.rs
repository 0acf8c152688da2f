//! Receive buffers of one worker, in one allocation whose pages are touched on first use only.

use std::io::IoSlice;

use crate::echo::{BufId, MAX_SPANS, Span};

/// Buffers by number. Free ones are a stack: the most recently used one is still in the caches.
pub(super) struct Pool {
    memory: Vec<u8>,
    size: usize,
    free: Vec<u16>,
}

impl Pool {
    pub(super) fn new(buffers: u16, size: u32) -> Self {
        let size = size as usize;
        let free = (0..buffers).rev().collect();
        Self { memory: vec![0; usize::from(buffers) * size], size, free }
    }

    pub(super) fn take(&mut self) -> Option<BufId> {
        self.free.pop().map(BufId)
    }

    pub(super) fn release(&mut self, buf: BufId) {
        self.free.push(buf.0);
    }

    /// The whole of one buffer, to receive into.
    pub(super) fn room(&mut self, buf: BufId) -> &mut [u8] {
        let start = usize::from(buf.0) * self.size;
        &mut self.memory[start..start + self.size]
    }

    pub(super) fn copy(&mut self, span: &Span, to: BufId, at: u32) {
        let to = usize::from(to.0) * self.size + at as usize;
        let from = self.range(span);
        self.memory.copy_within(from, to);
    }

    pub(super) fn bytes(&self, span: &Span) -> &[u8] {
        &self.memory[self.range(span)]
    }

    /// The bytes of `spans`, for one call.
    pub(super) fn slices(&self, spans: &[Span]) -> [IoSlice<'_>; MAX_SPANS] {
        std::array::from_fn(|i| IoSlice::new(spans.get(i).map_or(&[], |span| self.bytes(span))))
    }

    fn range(&self, span: &Span) -> std::ops::Range<usize> {
        let start = usize::from(span.buf.0) * self.size + span.offset as usize;
        start..start + span.len as usize
    }
}
