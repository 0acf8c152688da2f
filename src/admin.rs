//! What a running server tells whoever operates it, over HTTP: `/metrics` in OpenMetrics, `/livez`
//! (does it work), `/readyz` (should it get connections).
//!
//! Everything is read from counters that the workers publish anyway, and from the kernel; no worker
//! is asked for anything.

mod metrics;

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, Weak};

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use crate::health::Health;
use crate::http::{Answer, Endpoint, HttpError, OPENMETRICS, StatusCode};
use crate::sys::cpu_quota::CpuGroups;

/// Everything that is told.
#[derive(Debug)]
pub(crate) struct Observed {
    /// Names of what runs, as labels.
    pub(crate) server: Vec<(&'static str, String)>,
    pub(crate) health: Arc<Health>,
    pub(crate) listeners: Vec<Listener>,
    /// Connections share a pool of buffers, and a loop of our own serves them.
    pub(crate) has_loop: bool,
    /// Opened before a sandbox closes the file system.
    pub(crate) groups: Mutex<CpuGroups>,
    /// Nanoseconds since 1970.
    pub(crate) started_ns: u64,
}

/// A listening socket, which the workers keep open and close.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) socket: Weak<OwnedFd>,
    pub(crate) addr: SocketAddr,
    /// Several sockets may listen on one address.
    pub(crate) queue: usize,
}

/// The control groups of this process, for [`Observed::groups`].
pub(crate) fn open_groups() -> Mutex<CpuGroups> {
    Mutex::new(CpuGroups::open(Path::new("/")))
}

/// Answers at `listener` from now on.
pub(crate) fn start(listener: TcpListener, observed: Observed) -> Result<Endpoint, HttpError> {
    let observed = Arc::new(observed);
    let health = Arc::clone(&observed.health);
    let mut registry = Registry::with_prefix("uring_echo");
    registry.register_collector(Box::new(observed));
    Endpoint::start("admin", listener, move |path| match path {
        "/metrics" => metrics(&registry),
        "/livez" => match health.stuck_worker() {
            None => Answer::text(StatusCode::OK, "alive"),
            Some(worker) => unavailable(&format!("worker {worker} is stuck")),
        },
        "/readyz" => match health.readiness() {
            Ok(()) => Answer::text(StatusCode::OK, "ready"),
            Err(reason) => unavailable(&reason.to_string()),
        },
        "/" => Answer::text(StatusCode::OK, "/metrics\n/livez\n/readyz"),
        _ => Answer::not_found(),
    })
}

fn unavailable(reason: &str) -> Answer {
    Answer::text(StatusCode::SERVICE_UNAVAILABLE, reason)
}

fn metrics(registry: &Registry) -> Answer {
    let mut body = String::with_capacity(16 << 10);
    match encode(&mut body, registry) {
        Ok(()) => Answer { status: StatusCode::OK, content_type: OPENMETRICS, body },
        Err(error) => Answer::text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}
