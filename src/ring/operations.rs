//! The verbs of a ring: each queues one operation and returns at once.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use io_uring::opcode;
use io_uring::squeue::{Entry, Flags};
use io_uring::types::{CancelBuilder, DestinationSlot, Fd, Fixed};

use super::direct::Direct;
use super::memory::Memory;
use super::pool::GROUP;
use super::queues::FreeSlot;
use super::{Op, Ring, Token};

/// A socket as the ring sees it.
#[derive(Clone, Copy, Debug)]
pub enum Handle<'a> {
    /// One in the ring's own table.
    Direct(Direct),
    /// A file descriptor of the process, which the ring keeps open until the kernel has consumed
    /// the entry that names it.
    File(&'a Arc<OwnedFd>),
}

/// A handle as the entry names it.
#[derive(Clone, Copy)]
enum Target {
    Fixed(Fixed),
    Fd(Fd),
}

impl Handle<'_> {
    /// What the entry for `slot` is to name.
    fn target(self, memory: &mut Memory, slot: &FreeSlot<'_>) -> Target {
        match self {
            Self::Direct(socket) => Target::Fixed(memory.directs.slot(socket)),
            Self::File(file) => Target::Fd(memory.files.keep(slot, file)),
        }
    }
}

/// Builds an opcode for either kind of target.
macro_rules! on {
    ($target:expr, |$name:ident| $build:expr) => {
        match $target {
            Target::Fixed($name) => $build,
            Target::Fd($name) => $build,
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

/// The most buffers a receive may be armed for.
pub const MAX_BUNDLE: usize = 16;

/// A vanished peer is an error code, not a signal. A send takes what the socket has room for and
/// never waits: it ends with EAGAIN if that is nothing.
const SEND_AT_ONCE: i32 = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
/// The kernel goes on until everything is taken or the socket fails (Linux 5.19 and newer).
const SEND_WHOLE: i32 = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;

impl Ring {
    /// The present socket of a slot of the ring's table, as an accept reported it. If the slot has
    /// none, operations on what this returns fail with EBADF.
    #[must_use]
    pub fn direct(&self, slot: u32) -> Direct {
        self.memory.directs.get(slot)
    }

    /// Accepts connections into direct descriptors until cancelled (multishot, Linux 5.19). Each
    /// completion's result is the descriptor slot, for [`Self::direct`]. The token's index is the
    /// listener's.
    ///
    /// # Panics
    /// If an accept is armed on this listener already.
    pub fn accept_many(&mut self, listener: &Arc<OwnedFd>, token: Token) {
        self.queue(Op::Accept, token, |memory, slot| {
            memory.accepted.begin(token.index());
            let listener = memory.files.keep(slot, listener);
            opcode::AcceptMulti::new(listener).allocate_file_index(true).build()
        });
    }

    /// Accepts one connection into a direct descriptor and keeps the peer's address for
    /// [`Self::accepted_peer`]. The token's index is the listener's.
    ///
    /// # Panics
    /// As [`Self::accept_many`].
    pub fn accept_one(&mut self, listener: &Arc<OwnedFd>, token: Token) {
        self.queue(Op::Accept, token, |memory, slot| {
            let (address, len) = memory.accepted.prepare(token.index());
            opcode::Accept::new(memory.files.keep(slot, listener), address, len)
                .file_index(Some(DestinationSlot::auto_target()))
                .build()
        });
    }

    /// The peer of the last completed [`Self::accept_one`] of a listener, until the next is armed.
    #[must_use]
    pub fn accepted_peer(&self, listener: u32) -> Option<SocketAddr> {
        self.memory.accepted.peer(listener)
    }

    /// Receives into buffers of the pool until it has brought as many bytes as `max_buffers` of
    /// them hold, ends or is cancelled (multishot with a total limit, Linux 6.17; a single receive
    /// before).
    ///
    /// The limit keeps a peer that floods and does not read from emptying the pool before its
    /// credit is tested: an unlimited multishot takes 32 buffers and more in one go.
    ///
    /// # Panics
    /// If `max_buffers` is more than [`MAX_BUNDLE`].
    pub fn receive_some(&mut self, socket: Handle<'_>, max_buffers: u8, token: Token) {
        assert!(usize::from(max_buffers) <= MAX_BUNDLE, "a receive into {max_buffers} buffers");
        if !self.features.limited_receive {
            return self.receive_one(socket, token);
        }
        let is_bundle = max_buffers > 1 && self.features.bundles;
        self.queue(Op::Recv, token, |memory, slot| {
            let target = socket.target(memory, slot);
            let mut entry = if is_bundle {
                on!(target, |target| opcode::RecvMultiBundle::new(target, GROUP).build())
            } else {
                on!(target, |target| opcode::RecvMulti::new(target, GROUP).build())
            };
            set_total_limit(&mut entry, u32::from(max_buffers) * memory.pool.buffer_size());
            entry
        });
    }

    /// Whether every buffer is held. If a receive ended with ENOBUFS and this is false, there are
    /// free buffers that were not provided to the kernel. They are from the next entry on, so the
    /// receive can be armed again.
    pub fn is_out_of_buffers(&self) -> bool {
        self.memory.pool.is_empty()
    }

    /// Receives once into a buffer of the pool.
    pub fn receive_one(&mut self, socket: Handle<'_>, token: Token) {
        self.receive_with(socket, 0, token);
    }

    /// Receives what is there into a buffer of the pool; ends with EAGAIN if that is nothing.
    pub fn receive_at_once(&mut self, socket: Handle<'_>, token: Token) {
        self.receive_with(socket, libc::MSG_DONTWAIT, token);
    }

    fn receive_with(&mut self, socket: Handle<'_>, flags: i32, token: Token) {
        self.queue(Op::Recv, token, |memory, slot| {
            let len = memory.pool.buffer_size();
            let target = socket.target(memory, slot);
            let entry = on!(target, |target| {
                let receive = opcode::Recv::new(target, std::ptr::null_mut(), len);
                receive.flags(flags).buf_group(GROUP).build()
            });
            entry.flags(Flags::BUFFER_SELECT)
        });
    }

    /// Sends `pieces`, in order, as far as the socket has room for them: at most
    /// [`MAX_PIECES`](super::MAX_PIECES). Ends with EAGAIN if it has none. Their buffers must stay
    /// held until the completion.
    pub fn send_pieces(&mut self, socket: Handle<'_>, pieces: &[Piece], token: Token) {
        self.queue(Op::Send, token, |memory, slot| {
            let target = socket.target(memory, slot);
            match pieces {
                [piece] => {
                    let start = memory.pool.range(piece.buffer, piece.offset, piece.len);
                    send(target, start.cast_const(), piece.len, SEND_AT_ONCE)
                }
                _ => gathered_send(memory, slot, target, pieces),
            }
        });
        self.combined.send_queued();
    }

    /// Sends `len` staged bytes from `offset` on, all of them.
    pub fn send_staged(&mut self, socket: Handle<'_>, offset: usize, len: u32, token: Token) {
        self.queue(Op::Send, token, |memory, slot| {
            let start = memory.staging.range(offset, len as usize);
            send(socket.target(memory, slot), start, len, SEND_WHOLE)
        });
    }

    /// The same, as far as the socket has room for them, like [`Self::send_pieces`].
    pub fn try_send_staged(&mut self, socket: Handle<'_>, offset: usize, len: u32, token: Token) {
        self.queue(Op::Send, token, |memory, slot| {
            let start = memory.staging.range(offset, len as usize);
            send(socket.target(memory, slot), start, len, SEND_AT_ONCE)
        });
        self.combined.send_queued();
    }

    /// Writes bytes for later [`Self::send_staged`] calls. The caller owns the range: no send of
    /// it may be in flight.
    pub fn stage(&mut self, offset: usize, bytes: &[u8]) {
        self.memory.staging.write(offset, bytes);
    }

    /// Connects a socket. The completion comes when the handshake is over, one way or the other.
    pub fn connect(&mut self, socket: Handle<'_>, addr: SocketAddr, token: Token) {
        self.queue(Op::Connect, token, |memory, slot| {
            let (address, len) = memory.arguments.address(slot, addr);
            let target = socket.target(memory, slot);
            on!(target, |target| opcode::Connect::new(target, address, len).build())
        });
    }

    /// Completes when the outcome of a connect that is still under way can be asked for (one poll,
    /// Linux 5.1).
    pub fn await_connect(&mut self, socket: &Arc<OwnedFd>, token: Token) {
        let settled = (libc::POLLOUT | libc::POLLERR | libc::POLLHUP).cast_unsigned();
        self.queue(Op::Connect, token, |memory, slot| {
            opcode::PollAdd::new(memory.files.keep(slot, socket), settled.into()).build()
        });
    }

    /// Closes a direct descriptor, which names nothing from now on. A plain descriptor is closed by
    /// dropping its owners.
    pub fn close_direct(&mut self, socket: Direct, token: Token) {
        self.queue(Op::Close, token, |memory, _| {
            opcode::Close::new(memory.directs.close(socket)).build()
        });
    }

    /// Cancels the operation that was started with `target`; it still ends with its own
    /// completion. The cancellation itself completes, as `token`, only if there was none.
    ///
    /// By its name, because the kernel looks names up; for a socket it goes through everything that
    /// is in flight on the ring.
    pub fn cancel(&mut self, target: Token, token: Token) {
        self.queue(Op::Cancel, token, |_, _| {
            let which = CancelBuilder::user_data(target.encode());
            opcode::AsyncCancel2::new(which).build().flags(Flags::SKIP_SUCCESS)
        });
    }

    /// Cancels everything in flight on `socket`, like [`Self::cancel`].
    pub fn cancel_all(&mut self, socket: Handle<'_>, token: Token) {
        self.queue(Op::Cancel, token, |memory, slot| {
            let target = socket.target(memory, slot);
            let which = on!(target, |target| CancelBuilder::fd(target).all());
            opcode::AsyncCancel2::new(which).build().flags(Flags::SKIP_SUCCESS)
        });
    }

    /// Completes with `token`, again and again, whenever `file` becomes readable (multishot poll,
    /// Linux 5.13).
    pub fn watch(&mut self, file: &Arc<OwnedFd>, token: Token) {
        self.queue(Op::Wake, token, |memory, slot| {
            let readable = i32::from(libc::POLLIN).cast_unsigned();
            opcode::PollAdd::new(memory.files.keep(slot, file), readable).multi(true).build()
        });
    }

    /// Completes when the socket is writable, or broken.
    pub fn watch_writable(&mut self, socket: Handle<'_>, token: Token) {
        self.queue(Op::Writable, token, |memory, slot| {
            let writable = i32::from(libc::POLLOUT).cast_unsigned();
            let target = socket.target(memory, slot);
            on!(target, |target| opcode::PollAdd::new(target, writable).build())
        });
    }

    /// Completes with the bytes that the socket took and the peer's system has not acknowledged, as
    /// SIOCOUTQ of tcp(7) (SOCKET_URING_OP_SIOCOUTQ, Linux 6.7; EOPNOTSUPP before).
    pub fn ask_unsent(&mut self, socket: Handle<'_>, token: Token) {
        self.queue(Op::Unsent, token, |memory, slot| {
            let target = socket.target(memory, slot);
            let command = SOCKET_URING_OP_SIOCOUTQ;
            on!(target, |target| opcode::UringCmd16::new(target, command).build())
        });
    }

    /// The first `len` bytes of a held buffer.
    #[must_use]
    pub fn bytes(&self, buffer: u16, len: u32) -> &[u8] {
        self.memory.pool.bytes(buffer, len)
    }

    /// Copies a piece of one held buffer to byte `at` of another.
    pub fn copy(&mut self, piece: Piece, to: u16, at: u32) {
        self.memory.pool.copy(piece.buffer, piece.offset, piece.len, to, at);
    }

    /// Gives a held buffer back to the kernel.
    pub fn release(&mut self, buffer: u16) {
        self.memory.pool.release(buffer);
    }
}

fn gathered_send(
    memory: &mut Memory,
    slot: &FreeSlot<'_>,
    target: Target,
    pieces: &[Piece],
) -> Entry {
    let pool = &memory.pool;
    let parts = pieces.iter().map(|piece| libc::iovec {
        iov_base: pool.range(piece.buffer, piece.offset, piece.len).cast(),
        iov_len: piece.len as usize,
    });
    let header = memory.arguments.gather(slot, parts);
    let flags = SEND_AT_ONCE.cast_unsigned();
    on!(target, |target| opcode::SendMsg::new(target, header).flags(flags).build())
}

fn send(target: Target, start: *const u8, len: u32, flags: i32) -> Entry {
    on!(target, |target| opcode::Send::new(target, start, len).flags(flags).build())
}

/// A command of a socket (`linux/io_uring.h`).
const SOCKET_URING_OP_SIOCOUTQ: u32 = 1;

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
