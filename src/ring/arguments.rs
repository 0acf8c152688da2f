//! Argument blocks that the kernel reads when it consumes a submission entry.
//!
//! With IORING_FEAT_SUBMIT_STABLE (Linux 5.5) the kernel has copied a socket address or a message
//! header by the time `io_uring_enter` has consumed the entry. One block per submission slot is
//! therefore enough: a slot's block is written only by whoever has its [`FreeSlot`], after its last
//! entry was consumed and before the next one is pushed.

use std::net::SocketAddr;

use libc::{iovec, msghdr, sockaddr, sockaddr_storage, socklen_t};
use socket2::{SockAddr, SockAddrStorage};

use super::queues::FreeSlot;
use super::region::Region;

/// The most pieces one gathered send may have.
pub const MAX_PIECES: usize = 16;

#[repr(C)]
#[derive(Clone, Copy)]
struct Gather {
    header: msghdr,
    pieces: [iovec; MAX_PIECES],
}

/// Only its size and alignment matter: blocks are written and read through pointers.
#[repr(C)]
#[allow(dead_code, reason = "the fields give the block its layout")]
union Argument {
    address: sockaddr_storage,
    gather: Gather,
}

/// One argument block per submission slot.
#[derive(Debug)]
pub(super) struct Arguments {
    blocks: Region,
    slots: u32,
}

impl Arguments {
    pub(super) fn new(slots: u32) -> Self {
        Self { blocks: Region::new(slots as usize * size_of::<Argument>()), slots }
    }

    fn block(&self, slot: &FreeSlot<'_>) -> *mut Argument {
        let width = size_of::<Argument>();
        let offset = (slot.number() % self.slots) as usize * width;
        #[allow(clippy::cast_ptr_alignment, reason = "page-aligned region, 8-aligned width")]
        self.blocks.at(offset, width).cast()
    }

    /// Stores a socket address in the block of `slot`.
    pub(super) fn address(
        &mut self,
        slot: &FreeSlot<'_>,
        addr: SocketAddr,
    ) -> (*const sockaddr, socklen_t) {
        let addr = SockAddr::from(addr);
        let block = self.block(slot).cast::<SockAddrStorage>();
        let len = addr.len();
        // SAFETY: `block` is at least a socket address wide and 8-aligned, and no entry that
        // refers to it is unconsumed (the slot is free).
        unsafe { block.write(addr.as_storage()) };
        (block.cast_const().cast(), len)
    }

    /// Stores a message header that gathers `pieces` in the block of `slot`.
    pub(super) fn gather(
        &mut self,
        slot: &FreeSlot<'_>,
        pieces: impl ExactSizeIterator<Item = iovec>,
    ) -> *const msghdr {
        let count = pieces.len();
        assert!(count <= MAX_PIECES, "{count} pieces in one send");
        let block = self.block(slot).cast::<Gather>();
        // SAFETY: projection to a field inside the block, without reading it.
        let first = unsafe { &raw mut (*block).pieces }.cast::<iovec>();
        for (index, piece) in pieces.enumerate() {
            assert!(index < count, "an iterator longer than it said");
            let target = first.wrapping_add(index);
            // SAFETY: `index < count <= MAX_PIECES`, so the write stays inside the array; the
            // block is not referred to by any unconsumed entry (the slot is free).
            unsafe { target.write(piece) };
        }
        // SAFETY: an all-zero msghdr is valid: null pointers and zero lengths.
        let mut header: msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = first;
        // A usize with glibc, an int with musl.
        header.msg_iovlen = u8::try_from(count).expect("no more than MAX_PIECES").into();
        // SAFETY: projection to a field inside the block, without reading it.
        let target = unsafe { &raw mut (*block).header };
        // SAFETY: as for the pieces: inside the block, and nobody reads it before the submission.
        unsafe { target.write(header) };
        block.cast_const().cast()
    }

    /// Frees the memory.
    ///
    /// # Safety
    /// As [`Region::free`].
    pub(super) unsafe fn free(&mut self) {
        // SAFETY: passed on to the caller.
        unsafe { self.blocks.free() }
    }
}
