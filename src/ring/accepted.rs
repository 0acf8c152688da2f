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
/// until the ring is gone.
#[derive(Debug)]
pub(super) struct AcceptedAddresses {
    cells: Region,
    count: u32,
}

impl AcceptedAddresses {
    pub(super) fn new(count: u32) -> Self {
        Self { cells: Region::new(count as usize * size_of::<Cell>()), count }
    }

    fn cell(&self, index: u32) -> *mut Cell {
        assert!(index < self.count, "listener {index} of {}", self.count);
        let width = size_of::<Cell>();
        #[allow(clippy::cast_ptr_alignment, reason = "page-aligned region, 8-aligned width")]
        self.cells.at(index as usize * width, width).cast()
    }

    /// Pointers for an accept on listener `index`.
    pub(super) fn prepare(&mut self, index: u32) -> (*mut sockaddr, *mut socklen_t) {
        let cell = self.cell(index);
        // SAFETY: projection to a field inside the cell, without reading it.
        let len = unsafe { &raw mut (*cell).len };
        #[allow(clippy::cast_possible_truncation, reason = "128 bytes")]
        let room = size_of::<SockAddrStorage>() as socklen_t;
        // SAFETY: inside the cell. The engine arms one accept per listener at a time, so the kernel
        // does not write here now; if it did, only the address reported would be wrong.
        unsafe { len.write(room) };
        (cell.cast(), len)
    }

    /// The address the last completed single accept of listener `index` left.
    pub(super) fn peer(&self, index: u32) -> Option<SocketAddr> {
        let cell = self.cell(index);
        // SAFETY: the cell was zeroed when mapped and then written whole by the kernel; every
        // bit pattern is a valid Cell.
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
