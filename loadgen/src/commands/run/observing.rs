//! How the accepts of this server are to be observed.

use std::net::SocketAddr;

use uring_echo::stamp::{ClockDomain, Stamp};

use super::target_server::TargetServer;
use super::{RunError, refused};
use crate::generate::connection::Method;
use crate::model::load::Observe;
use crate::model::server::{Server, Target};
use crate::observe::{ListenerQueue, Observability, ProbeError, probe};
use crate::plan::config::RunConfig;
use crate::render::progress::Progress;

/// What was decided, and what the server was found to do.
#[derive(Debug)]
pub(super) struct Observing {
    method: Method,
    /// Of a server that stamps.
    clock_domain: Option<ClockDomain>,
    /// What such a server says of itself.
    stamped: Option<Stamp>,
}

impl Observing {
    /// Decides: the embedded server is known, any other is asked with one connection.
    pub(super) fn choose(
        config: &RunConfig,
        server: &TargetServer,
        progress: &mut Progress,
    ) -> Result<Self, RunError> {
        if server.is_embedded() {
            return Self::of_embedded(config.observe);
        }
        if config.observe == Observe::None {
            return Ok(Self { method: Method::None, clock_domain: None, stamped: None });
        }
        match probe(server.addr()) {
            Ok(found) => Self::of_foreign(config, found, progress),
            Err(error) => Ok(Self::of_silent(config.observe, server.addr(), &error, progress)),
        }
    }

    pub(super) fn method(&self) -> Method {
        self.method
    }

    /// Whether the server is known to stamp, so that it is ours and echoes.
    pub(super) fn stamps(&self) -> bool {
        self.clock_domain.is_some()
    }

    /// For the result file.
    pub(super) fn target(&self, addr: SocketAddr) -> Target {
        let observe = match self.method {
            Method::Stamp => Observe::Stamp,
            Method::Diag => Observe::Diag,
            Method::None => Observe::None,
        };
        let clock_domain = self.clock_domain.map(|domain| format!("{:016x}", domain.0));
        Target { addr: addr.to_string(), clock_domain, observe, resolution: None }
    }

    /// What is known of the server, with what its stamp adds.
    pub(super) fn describe(&self, known: &Server) -> Server {
        let mut server = known.clone();
        if let Some(stamp) = &self.stamped {
            server.engine.get_or_insert_with(|| stamp.engine.name().into());
            server.accept.get_or_insert_with(|| stamp.accept.name().into());
        }
        server
    }

    fn of_embedded(asked: Observe) -> Result<Self, RunError> {
        let method = match asked {
            Observe::Auto | Observe::Stamp => Method::Stamp,
            Observe::Diag => Method::Diag,
            Observe::None => Method::None,
        };
        let stamps = method == Method::Stamp;
        let domain = stamps.then(ClockDomain::current).transpose();
        let clock_domain = domain.map_err(refused("reading the clock's domain"))?;
        Ok(Self { method, clock_domain, stamped: None })
    }

    fn of_foreign(
        config: &RunConfig,
        found: Observability,
        progress: &mut Progress,
    ) -> Result<Self, RunError> {
        let here = ClockDomain::current().map_err(refused("reading the clock's domain"))?;
        let comparable = found.stamp.map(|stamp| stamp.clock_domain.compares_with(here));
        let method = method(config.observe, comparable, &found.diag, progress)?;
        if found.deferred && method == Method::Diag && !speaks(config) {
            progress.note(DEFERRED);
        }
        let clock_domain = found.stamp.map(|stamp| stamp.clock_domain);
        Ok(Self { method, clock_domain, stamped: found.stamp })
    }

    /// Of a server that could not be asked: the run will show what becomes of its connections.
    fn of_silent(
        asked: Observe,
        addr: SocketAddr,
        error: &ProbeError,
        progress: &mut Progress,
    ) -> Self {
        progress.note(&format!("the server could not be asked how to observe it: {error}"));
        let method = match asked {
            Observe::Stamp => Method::Stamp,
            Observe::Diag => Method::Diag,
            Observe::None => Method::None,
            Observe::Auto if listens_here(addr) => Method::Diag,
            Observe::Auto => Method::None,
        };
        Self { method, clock_domain: None, stamped: None }
    }
}

/// By what was asked for and what can be: `comparable` is whether the stamps' clock is ours, where
/// there are stamps. Looking needs no clock.
fn method(
    asked: Observe,
    comparable: Option<bool>,
    diag: &Result<(), String>,
    progress: &mut Progress,
) -> Result<Method, RunError> {
    let not_observable = |asked, reason: &str, instead| {
        Err(RunError::NotObservable { asked, reason: reason.into(), instead })
    };
    match (asked, comparable, diag) {
        (Observe::None, ..) => Ok(Method::None),
        (Observe::Auto | Observe::Stamp, Some(true), _) => Ok(Method::Stamp),
        (Observe::Stamp, Some(false), Ok(())) => not_observable("stamp", OTHER_CLOCK, "diag"),
        (Observe::Stamp, Some(false), Err(_)) => not_observable("stamp", OTHER_CLOCK, "none"),
        (Observe::Stamp, None, _) => {
            progress.note(NO_STAMP);
            Ok(Method::Stamp)
        }
        (Observe::Auto | Observe::Diag, _, Ok(())) => Ok(Method::Diag),
        (Observe::Diag, Some(true), Err(reason)) => not_observable("diag", reason, "stamp"),
        (Observe::Diag, _, Err(reason)) => not_observable("diag", reason, "none"),
        (Observe::Auto, stamps, Err(reason)) => {
            let clock = stamps.map_or_else(String::new, |_| format!("{OTHER_CLOCK}, and "));
            progress.note(&format!("accepts cannot be observed: {clock}{reason}"));
            Ok(Method::None)
        }
    }
}

/// Whether clients of this run send something.
fn speaks(config: &RunConfig) -> bool {
    config.send_first || config.messages_for(false) > 0
}

fn listens_here(addr: SocketAddr) -> bool {
    let depth = ListenerQueue::open(addr).and_then(|mut queue| queue.sample());
    matches!(depth, Ok(Some(_)))
}

const OTHER_CLOCK: &str = "the server stamps with a clock that cannot be compared with this \
    one: it is on another server, or in another time namespace";

const NO_STAMP: &str = "this server sends no stamp, so every connection will be stamp_invalid or \
    never_accepted: start uring-echo with --stamp, or use --observe diag";

const DEFERRED: &str = "this server is told of a connection only when data is there \
    (TCP_DEFER_ACCEPT): nothing is sent without --send-first or --messages, so its accepts will be \
    late or not seen";
