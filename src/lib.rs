//! uring-echo: a TCP echo server (RFC 862) on Linux io_uring.
//!
//! `main → lib → engine → {ring, echo}`: [`echo`] decides and does no I/O, [`ring`] is the only
//! module that talks to io_uring (and the only unsafe code), an engine carries completions to the
//! one and actions to the other.

pub mod clock;
pub mod echo;
pub mod stamp;
