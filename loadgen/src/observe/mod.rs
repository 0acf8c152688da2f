//! When a connection was accepted: two methods, and a probe that chooses between them.
//!
//! - [`StampReader`]: the server sends the instant as the first bytes of every connection.
//! - [`DiagWatch`]: the kernel shows it, for any server in this network namespace, in samples of
//!   the server's end of each waiting connection ([`DiagSocket`]).
//! - [`probe()`]: which of the two a given server allows.
//!
//! [`learn_offset`] bounds how far apart the clocks are where the server is on another machine.
//! [`ListenerQueue`] counts the connections in the accept queues, for the evidence.
//!
//! For `loadgen watch`, which makes no connection: [`ListenerTable`] lists the listeners,
//! [`ListenerLooks`] samples those of one address, [`PassiveOpens`] counts the connections that
//! arrive, [`EstablishedTrace`] times them where that is permitted, [`QueuedDump`] lists those that
//! wait, and [`DestroyedSockets`] tells on which ports connections end. [`ProcListeners`] is for
//! namespaces that may not be entered.

mod clock_offset;
mod destroyed;
mod diag;
mod established;
pub mod floor;
mod listener;
mod listener_looks;
mod listener_table;
mod netlink;
mod observation;
mod passive_opens;
mod probe;
mod proc_listeners;
mod queued;
mod stamp;
mod watch;

pub use clock_offset::{ClockContradiction, MAX_DRIFT_PPB, OffsetBounds, StampedAccept};
pub use destroyed::DestroyedSockets;
pub use diag::{DiagSocket, Inode, SocketSample};
pub use established::{Established, EstablishedTrace, TraceError};
pub use listener::ListenerQueue;
pub use listener_looks::{ListenerLooks, Looks, MEMBERS_MAX};
pub use listener_table::{Listener, ListenerTable, covering, takes};
pub use observation::{Bracket, Observation, ObservationKind, VANISHED_AFTER_NS};
pub use passive_opens::PassiveOpens;
pub use probe::{CONNECT_TIMEOUT, Observability, ProbeError, STAMP_TIMEOUT, learn_offset, probe};
pub use proc_listeners::ProcListeners;
pub use queued::{Queued, QueuedDump};
pub use stamp::{StampReader, StampReading};
pub use watch::{DiagWatch, Patience, SocketSampler};
