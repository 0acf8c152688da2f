//! uring-echo: a TCP echo server (RFC 862) on Linux io_uring.
//!
//! `main → lib → engine → {ring, echo}`: `echo` decides and does no I/O, [`ring`] is the only
//! module that talks to io_uring (and the only unsafe code), an engine carries completions to the
//! one and actions to the other.

pub mod clock;
#[allow(unsafe_code, reason = "the one fence: see its module documentation")]
pub mod ring;
pub mod stamp;
