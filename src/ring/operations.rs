//! The verbs of a ring: each queues one operation and returns at once.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use io_uring::opcode;
use io_uring::squeue::{Entry, Flags};
use io_uring::types::{CancelBuilder, DestinationSlot, Fd, Fixed};

use super::pool::GROUP;
use super::{Op, Ring, Token};

/// A socket as the ring sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Handle {
    /// A slot of the ring's direct-descriptor table.
    Direct(u32),
    /// A file descriptor of the process.
    File(RawFd),
}

impl From<BorrowedFd<'_>> for Handle {
    fn from(fd: BorrowedFd<'_>) -> Self {
        Self::File(fd.as_raw_fd())
    }
}

/// Builds an opcode for either kind of handle.
macro_rules! on {
    ($handle:expr, |$target:ident| $build:expr) => {
        match $handle {
            Handle::Direct(slot) => {
                let $target = Fixed(slot);
                $build
            }
            Handle::File(fd) => {
                let $target = Fd(fd);
                $build
            }
        }
    };
}

/// `len` bytes of a held receive buffer, from `offset` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The buffer.
    pub buffer: u16,
    /// The first byte.
    pub offset: u32,
    /// How many bytes.
    pub len: u32,
}

/// A vanished peer is an error code, not a signal. A send that took part of its bytes says so,
/// which frees buffers early and tells a slow reader from one that has stopped.
const SEND_PART: i32 = libc::MSG_NOSIGNAL;
/// The kernel goes on until everything is taken or the socket fails (Linux 5.19 and newer).
const SEND_WHOLE: i32 = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;

impl Ring {
    /// Accepts connections into direct descriptors until cancelled (multishot, Linux 5.19). Each
    /// completion's result is the descriptor slot.
    pub fn accept_many(&mut self, listener: BorrowedFd<'_>, token: Token) {
        let entry =
            opcode::AcceptMulti::new(Fd(listener.as_raw_fd())).allocate_file_index(true).build();
        self.push(entry, Op::Accept, token);
    }

    /// Accepts one connection into a direct descriptor and keeps the peer's address for
    /// [`Self::accepted_peer`] under `cell`. Arm at most one per cell at a time.
    pub fn accept_one(&mut self, listener: BorrowedFd<'_>, cell: u32, token: Token) {
        let (address, len) = self.accepted.prepare(cell);
        let entry = opcode::Accept::new(Fd(listener.as_raw_fd()), address, len)
            .file_index(Some(DestinationSlot::auto_target()))
            .build();
        self.push(entry, Op::Accept, token);
    }

    /// The peer of the last completed [`Self::accept_one`] of `cell`.
    #[must_use]
    pub fn accepted_peer(&self, cell: u32) -> Option<SocketAddr> {
        self.accepted.peer(cell)
    }

    /// Receives into buffers of the pool until it has brought as many bytes as `max_buffers` of
    /// them hold, ends or is cancelled (multishot with a total limit, Linux 6.17; a single receive
    /// before).
    ///
    /// The limit keeps a peer that floods and does not read from emptying the pool before its
    /// credit is tested: an unlimited multishot takes 32 buffers and more in one go.
    pub fn receive_some(&mut self, socket: Handle, max_buffers: u8, token: Token) {
        if !self.features.limited_receive {
            return self.receive_one(socket, token);
        }
        let mut entry = on!(socket, |target| opcode::RecvMulti::new(target, GROUP).build());
        set_total_limit(&mut entry, u32::from(max_buffers) * self.pool.buffer_size());
        self.push(entry, Op::Recv, token);
    }

    /// Whether every buffer is held. If a receive ended with ENOBUFS and this is false, there are
    /// free buffers that were not provided to the kernel. They are from the next entry on, so the
    /// receive can be armed again.
    pub fn is_out_of_buffers(&self) -> bool {
        self.pool.is_empty()
    }

    /// Receives once into a buffer of the pool.
    pub fn receive_one(&mut self, socket: Handle, token: Token) {
        let len = self.pool.buffer_size();
        let entry = on!(socket, |target| {
            opcode::Recv::new(target, std::ptr::null_mut(), len).buf_group(GROUP).build()
        });
        self.push(entry.flags(Flags::BUFFER_SELECT), Op::Recv, token);
    }

    /// Sends `pieces`, in order, or as much of them as the socket takes: at most
    /// [`MAX_PIECES`](super::MAX_PIECES). Their buffers must stay held until the completion.
    pub fn send_pieces(&mut self, socket: Handle, pieces: &[Piece], token: Token) {
        let entry = match pieces {
            [piece] => {
                let start = self.pool.range(piece.buffer, piece.offset, piece.len);
                send(socket, start.cast_const(), piece.len, SEND_PART)
            }
            _ => self.gathered_send(socket, pieces),
        };
        self.push(entry, Op::Send, token);
    }

    fn gathered_send(&mut self, socket: Handle, pieces: &[Piece]) -> Entry {
        let slot = self.next_slot();
        let pool = &self.pool;
        let parts = pieces.iter().map(|piece| libc::iovec {
            iov_base: pool.range(piece.buffer, piece.offset, piece.len).cast(),
            iov_len: piece.len as usize,
        });
        let header = self.arguments.gather(slot, parts);
        let flags = SEND_PART.cast_unsigned();
        on!(socket, |target| opcode::SendMsg::new(target, header).flags(flags).build())
    }

    /// Sends `len` staged bytes from `offset` on, all of them.
    pub fn send_staged(&mut self, socket: Handle, offset: usize, len: u32, token: Token) {
        let start = self.staging.range(offset, len as usize);
        self.push(send(socket, start, len, SEND_WHOLE), Op::Send, token);
    }

    /// Writes bytes for later [`Self::send_staged`] calls. The caller owns the range: no send of
    /// it may be in flight.
    pub fn stage(&mut self, offset: usize, bytes: &[u8]) {
        self.staging.write(offset, bytes);
    }

    /// Connects a socket. The completion comes when the handshake is over, one way or the other.
    pub fn connect(&mut self, socket: BorrowedFd<'_>, addr: SocketAddr, token: Token) {
        let slot = self.next_slot();
        let (address, len) = self.arguments.address(slot, addr);
        let entry = opcode::Connect::new(Fd(socket.as_raw_fd()), address, len).build();
        self.push(entry, Op::Connect, token);
    }

    /// Closes a direct descriptor. A plain descriptor is closed by dropping its owner.
    pub fn close_direct(&mut self, slot: u32, token: Token) {
        self.push(opcode::Close::new(Fixed(slot)).build(), Op::Close, token);
    }

    /// Cancels the operation that was started with `target`; it still ends with its own
    /// completion. The cancellation itself completes, as `token`, only if there was none.
    pub fn cancel(&mut self, target: Token, token: Token) {
        let which = CancelBuilder::user_data(target.encode());
        let entry = opcode::AsyncCancel2::new(which).build().flags(Flags::SKIP_SUCCESS);
        self.push(entry, Op::Cancel, token);
    }

    /// Cancels everything in flight on `socket`, like [`Self::cancel`].
    pub fn cancel_all(&mut self, socket: Handle, token: Token) {
        let which = on!(socket, |target| CancelBuilder::fd(target).all());
        let entry = opcode::AsyncCancel2::new(which).build().flags(Flags::SKIP_SUCCESS);
        self.push(entry, Op::Cancel, token);
    }

    /// Completes with `token`, again and again, whenever `fd` becomes readable (multishot poll,
    /// Linux 5.13).
    pub fn watch(&mut self, fd: BorrowedFd<'_>, token: Token) {
        let readable = i32::from(libc::POLLIN).cast_unsigned();
        self.push(
            opcode::PollAdd::new(Fd(fd.as_raw_fd()), readable).multi(true).build(),
            Op::Wake,
            token,
        );
    }

    /// The first `len` bytes of a held buffer.
    #[must_use]
    pub fn bytes(&self, buffer: u16, len: u32) -> &[u8] {
        self.pool.bytes(buffer, len)
    }

    /// Copies a piece of one held buffer to byte `at` of another.
    pub fn copy(&mut self, piece: Piece, to: u16, at: u32) {
        self.pool.copy(piece.buffer, piece.offset, piece.len, to, at);
    }

    /// Gives a held buffer back to the kernel.
    pub fn release(&mut self, buffer: u16) {
        self.pool.release(buffer);
    }
}

fn send(socket: Handle, start: *const u8, len: u32, flags: i32) -> Entry {
    on!(socket, |target| opcode::Send::new(target, start, len).flags(flags).build())
}

/// Where `struct io_uring_sqe` has `optlen`, which a multishot receive reads as the most bytes it
/// may bring altogether.
const OPTLEN_OFFSET: usize = 44;

/// Sets a field that the io-uring crate has no name for yet.
pub(super) fn set_total_limit(entry: &mut Entry, bytes: u32) {
    const { assert!(size_of::<Entry>() == 64) };
    let base = std::ptr::from_mut(entry).cast::<u8>();
    #[allow(clippy::cast_ptr_alignment, reason = "offset 44 of an 8-aligned structure")]
    let field = base.wrapping_add(OPTLEN_OFFSET).cast::<u32>();
    // SAFETY: an Entry is exactly the kernel's 64-byte submission entry (`repr(C)` around it, size
    // asserted above), so the four bytes at offset 44 are inside it and are plain integer data.
    unsafe { field.write(bytes) }
}
