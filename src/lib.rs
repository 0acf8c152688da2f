//! uring-echo: a TCP echo server (RFC 862) on Linux io_uring.
//!
//! `main → cli → server → engine → {ring, echo}`: [`echo`] decides and does no I/O, [`ring`] is the
//! only module that talks to io_uring and the only one with unsafe code, an [`engine`] carries
//! events to the one and actions to the other. [`config`], [`metrics`], [`stamp`], [`clock`],
//! [`slots`], [`sys`] and [`values`] are leaves; the last three are shared with the load generator.
//! Start at [`Server::start`].

pub(crate) mod admin;
pub mod cli;
pub mod clock;
pub mod config;
pub mod doctor;
pub mod echo;
pub mod engine;
pub(crate) mod health;
pub mod http;
pub mod listen;
pub mod log;
pub mod metrics;
pub(crate) mod notify;
pub mod ping;
#[allow(unsafe_code, reason = "the one fence: see its module documentation")]
pub mod ring;
pub mod sandbox;
pub mod server;
pub mod shutdown;
pub mod slots;
pub mod stamp;
pub mod sys;
pub mod takeover;
pub mod values;
pub mod version;

pub use config::Config;
pub use server::{Server, ServerError};
