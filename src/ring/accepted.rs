//! Where single accepts leave the peer's address.

use std::net::SocketAddr;

use libc::{sockaddr, socklen_t};
use socket2::{SockAddr, SockAddrStorage};

use super::region::Region;

#[repr(C)]
struct Cell {
    address: SockAddrStorage,
    len: socklen_t,
}

/// One address cell per listener. The kernel writes it when a single accept completes, so it lives
/// until the ring is gone, and is neither read nor written here while an accept is armed.
#[derive(Debug)]
pub(super) struct AcceptedAddresses {
    cells: Region,
    /// Listeners with an accept armed, of either kind.
    armed: Box<[bool]>,
}

impl AcceptedAddresses {
    pub(super) fn new(count: u32) -> Self {
        let count = count as usize;
        let armed = vec![false; count].into_boxed_slice();
        Self { cells: Region::new(count * size_of::<Cell>()), armed }
    }

    fn cell(&self, index: u32) -> *mut Cell {
        let count = self.armed.len();
        assert!((index as usize) < count, "listener {index} of {count}");
        let width = size_of::<Cell>();
        #[allow(clippy::cast_ptr_alignment, reason = "page-aligned region, 8-aligned width")]
        self.cells.at(index as usize * width, width).cast()
    }

    /// An accept is armed on listener `index`.
    ///
    /// # Panics
    /// If one is armed there already.
    pub(super) fn begin(&mut self, index: u32) {
        let was_armed = std::mem::replace(&mut self.armed[index as usize], true);
        assert!(!was_armed, "two accepts on listener {index}");
    }

    /// The accept on listener `index` has completed for the last time.
    pub(super) fn end(&mut self, index: u32) {
        self.armed[index as usize] = false;
    }

    /// Pointers for a single accept on listener `index`, which is armed with this.
    pub(super) fn prepare(&mut self, index: u32) -> (*mut sockaddr, *mut socklen_t) {
        self.begin(index);
        let cell = self.cell(index);
        // SAFETY: projection to a field inside the cell, without reading it.
        let len = unsafe { &raw mut (*cell).len };
        #[allow(clippy::cast_possible_truncation, reason = "128 bytes")]
        let room = size_of::<SockAddrStorage>() as socklen_t;
        // SAFETY: inside the cell, which the kernel does not use now: no accept was armed (asserted
        // by `begin`), and the one that is being armed has not been pushed.
        unsafe { len.write(room) };
        (cell.cast(), len)
    }

    /// The address that the last completed single accept of listener `index` left; `None` while
    /// another is armed.
    pub(super) fn peer(&self, index: u32) -> Option<SocketAddr> {
        let cell = self.cell(index);
        if self.armed[index as usize] {
            return None;
        }
        // SAFETY: no accept is armed, so the kernel does not write to the cell. It was zeroed when
        // mapped and then written whole by the kernel; every bit pattern is a valid Cell.
        let Cell { address, len } = unsafe { cell.read() };
        // SAFETY: `len` is what the kernel stored for `address`, or zero, which is no address of
        // a family `as_socket` knows.
        unsafe { SockAddr::new(address, len) }.as_socket()
    }

    /// Frees the memory.
    ///
    /// # Safety
    /// As [`Region::free`].
    pub(super) unsafe fn free(&mut self) {
        // SAFETY: passed on to the caller.
        unsafe { self.cells.free() }
    }
}
