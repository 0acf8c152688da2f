//! When was a connection accepted? Two ways to know, and one to choose between them.
//!
//! - [`StampReader`]: the server says so itself, first on every connection.
//! - [`DiagWatch`]: the kernel shows it, for any server in this network namespace, by looking at
//!   its end of each waiting connection ([`DiagSocket`]).
//! - [`probe()`]: which of the two a given server allows.
//!
//! [`ListenerQueue`] tells how many connections wait, for the evidence beside the delays.

mod diag;
mod listener;
mod netlink;
mod observation;
mod probe;
mod stamp;
mod watch;

pub use diag::{DiagSocket, Inode, SocketSample};
pub use listener::ListenerQueue;
pub use observation::{Bracket, Observation, ObservationKind, VANISHED_AFTER_NS};
pub use probe::{CONNECT_WITHIN, Found, ProbeError, STAMP_WITHIN, probe};
pub use stamp::{StampReader, StampReading};
pub use watch::{DiagWatch, SocketSampler};
