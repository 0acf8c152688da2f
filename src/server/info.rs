//! The properties of a running server, and the line that tells them.

use std::net::SocketAddr;

use tracing::info;

use super::opened::Opened;
use crate::config::Config;
use crate::engine::busy_poll::LimitedBy;
use crate::listen::effective_backlog;
use crate::sandbox::Sandbox;
use crate::takeover::Origin;

/// The log target of the line that says where the server listens: at every log level, since
/// whoever starts a server waits for it.
pub(crate) const READY_LOG: &str = "uring_echo::ready";

/// The properties of a running server, for logs and results.
#[derive(Clone, Debug)]
pub struct ServerInfo {
    /// Bound addresses.
    pub addrs: Vec<SocketAddr>,
    /// Where metrics and probes are answered.
    pub admin: Option<SocketAddr>,
    /// `uring`, `epoll` or `tokio-uring`.
    pub engine: &'static str,
    /// `reuseport` or `shared`.
    pub accept: &'static str,
    /// Worker threads.
    pub workers: usize,
    /// The backlog asked for.
    pub backlog: i32,
    /// The backlog in force; `None` if somaxconn is not readable.
    pub backlog_effective: Option<u32>,
    /// `auto`, `off`, `always` or microseconds.
    pub busy_poll: String,
    /// Where the listening sockets came from, if not from this process.
    pub inherited: Option<Origin>,
    /// What limited spinning when the server started.
    pub busy_poll_limited_by: LimitedBy,
    /// Features that this kernel lacks, and the consequence of each.
    pub degraded: Vec<String>,
    /// The restrictions of the process.
    pub sandbox: Sandbox,
}

impl ServerInfo {
    pub(super) fn new(
        config: &Config,
        opened: &Opened,
        addrs: Vec<SocketAddr>,
        degraded: impl Iterator<Item = String>,
        sandbox: Sandbox,
    ) -> Self {
        Self {
            addrs,
            admin: opened.admin.as_ref().and_then(|listener| listener.local_addr().ok()),
            engine: config.engine.name(),
            accept: config.accept.name(),
            workers: config.workers.get(),
            backlog: config.backlog,
            backlog_effective: effective_backlog(config.backlog),
            inherited: opened.origin,
            busy_poll: config.busy_poll.to_string(),
            busy_poll_limited_by: LimitedBy::None,
            degraded: degraded.collect(),
            sandbox,
        }
    }

    /// Says where the server listens: one line for each address. `argv` is what it was started
    /// with, so that whoever keeps the line knows all there is to know.
    pub fn log_ready(&self, argv: &[String]) {
        for addr in &self.addrs {
            info!(
                target: READY_LOG,
                %addr,
                admin = self.admin.map(tracing::field::display),
                families = families(*addr),
                engine = self.engine,
                accept = self.accept,
                workers = self.workers,
                backlog = self.backlog,
                backlog_effective = self.backlog_effective,
                busy_poll = self.busy_poll,
                inherited = self.inherited.map(Origin::name),
                busy_poll_limited_by = self.busy_poll_limited_by.name(),
                degraded = self.degraded.join("; "),
                sandbox = self.sandbox.active.join(" "),
                argv = %serde_json::Value::from(argv),
                "listening"
            );
        }
    }
}

/// Who reaches a listener: it takes no IPv4 by an IPv6 socket, not even on `[::]`.
const fn families(addr: SocketAddr) -> &'static str {
    if addr.is_ipv4() { "IPv4" } else { "IPv6 only" }
}
