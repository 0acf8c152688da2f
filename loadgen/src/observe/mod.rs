//! When a connection was accepted: two methods, and a probe that chooses between them.
//!
//! - [`StampReader`]: the server sends the instant as the first bytes of every connection.
//! - [`DiagWatch`]: the kernel shows it, for any server in this network namespace, in samples of
//!   the server's end of each waiting connection ([`DiagSocket`]).
//! - [`probe()`]: which of the two a given server allows.
//!
//! [`ListenerQueue`] counts the connections in the accept queues, for the evidence.

mod diag;
pub mod floor;
mod listener;
mod netlink;
mod observation;
mod probe;
mod stamp;
mod watch;

pub use diag::{DiagSocket, Inode, SocketSample};
pub use listener::ListenerQueue;
pub use observation::{Bracket, Observation, ObservationKind, VANISHED_AFTER_NS};
pub use probe::{CONNECT_TIMEOUT, Observability, ProbeError, STAMP_TIMEOUT, probe};
pub use stamp::{StampReader, StampReading};
pub use watch::{DiagWatch, Patience, SocketSampler};
