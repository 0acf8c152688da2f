//! Everything that submission entries refer to.

use super::Setup;
use super::accepted::AcceptedAddresses;
use super::arguments::Arguments;
use super::direct::DirectTable;
use super::files::QueuedFiles;
use super::peers::FoundPeers;
use super::pool::Pool;
use super::staging::Staging;

/// What the entries of a ring refer to: bytes that the kernel reads or writes, and descriptors.
/// Dropping it leaks the bytes; [`Memory::free`] frees them.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) pool: Pool,
    pub(super) staging: Staging,
    pub(super) arguments: Arguments,
    pub(super) accepted: AcceptedAddresses,
    pub(super) files: QueuedFiles,
    pub(super) directs: DirectTable,
    pub(super) peers: FoundPeers,
}

impl Memory {
    /// For a ring with `slots` submission slots.
    pub(super) fn new(setup: &Setup, slots: u32) -> Self {
        Self {
            pool: Pool::new(setup.buffers, setup.buffer_size),
            staging: Staging::new(setup.staging),
            arguments: Arguments::new(slots),
            accepted: AcceptedAddresses::new(setup.listeners),
            files: QueuedFiles::new(slots),
            directs: DirectTable::new(setup.direct),
            peers: FoundPeers::default(),
        }
    }

    /// Frees the memory.
    ///
    /// # Safety
    /// No operation in flight may refer to it, and it is not used afterwards.
    pub(super) unsafe fn free(&mut self) {
        // SAFETY: passed on to the caller, like the three below.
        unsafe { self.pool.free() };
        // SAFETY: as above.
        unsafe { self.staging.free() };
        // SAFETY: as above.
        unsafe { self.arguments.free() };
        // SAFETY: as above.
        unsafe { self.accepted.free() };
    }
}
