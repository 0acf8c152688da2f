//! How the accepts of this server are to be observed.

use std::net::SocketAddr;

use uring_echo::stamp::{ClockDomain, Stamp};

use super::target_server::TargetServer;
use super::{RunError, refused};
use crate::generate::connection::Method;
use crate::model::load::Observe;
use crate::model::server::{Server, Target};
use crate::observe::{ListenerQueue, Observability, OffsetBounds, ProbeError, learn_offset, probe};
use crate::plan::config::RunConfig;
use crate::render::progress::Progress;
use crate::render::units;

/// What was decided, and what the server was found to do.
#[derive(Debug)]
pub(super) struct Observing {
    method: Method,
    /// Of a server that stamps.
    clock_domain: Option<ClockDomain>,
    /// Where the clock of its stamps lies, if they are used and it is another one.
    clock_offset: Option<OffsetBounds>,
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
            return Ok(Self::without_stamps(Method::None));
        }
        match probe(server.addr()) {
            Ok(found) => Self::of_foreign(config, server.addr(), found, progress),
            Err(error) => Ok(Self::of_silent(config.observe, server.addr(), &error, progress)),
        }
    }

    pub(super) fn method(&self) -> Method {
        self.method
    }

    /// The clock that stamps have to be of.
    pub(super) fn stamping_clock(&self) -> Result<ClockDomain, RunError> {
        let elsewhere = self.clock_domain.filter(|_| self.clock_offset.is_some());
        elsewhere.map_or_else(here, Ok)
    }

    /// Where that clock lies, if it is not this machine's.
    pub(super) fn clock_offset(&self) -> Option<OffsetBounds> {
        self.clock_offset
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
        Target { addr: addr.to_string(), clock_domain, observe, ..Target::default() }
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
        let clock_domain = (method == Method::Stamp).then(here).transpose()?;
        Ok(Self { clock_domain, ..Self::without_stamps(method) })
    }

    fn of_foreign(
        config: &RunConfig,
        server: SocketAddr,
        found: Observability,
        progress: &mut Progress,
    ) -> Result<Self, RunError> {
        let (here, domain) = (here()?, found.stamp.map(|stamp| stamp.clock_domain));
        let comparable = domain.map(|domain| domain.compares_with(here));
        let mut method = method(config.observe, comparable, &found.diag, progress)?;
        let mut clock_offset = None;
        if let (Method::Stamp, Some(false), Some(domain)) = (method, comparable, domain) {
            clock_offset = learned(config, server, domain, progress)?;
            method = clock_offset.map_or(Method::None, |_| Method::Stamp);
        }
        if found.deferred && method == Method::Diag && !speaks(config) {
            progress.note(DEFERRED);
        }
        Ok(Self { method, clock_domain: domain, clock_offset, stamped: found.stamp })
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
        Self::without_stamps(method)
    }

    /// Of a server of which no stamp is known.
    fn without_stamps(method: Method) -> Self {
        Self { method, clock_domain: None, clock_offset: None, stamped: None }
    }
}

/// Where the clock of a server elsewhere lies; `None` where that cannot be told and stamps were not
/// asked for by name.
fn learned(
    config: &RunConfig,
    server: SocketAddr,
    domain: ClockDomain,
    progress: &mut Progress,
) -> Result<Option<OffsetBounds>, RunError> {
    match learn_offset(server, domain) {
        Ok(bounds) => {
            let bound = units::duration(bounds.half_width_ns());
            progress.note(&format!(
                "{OTHER_CLOCK}: its offset is known to ± {bound} before the run, and followed \
                 from connection to connection"
            ));
            Ok(Some(bounds))
        }
        Err(error) if config.observe == Observe::Auto => {
            progress.note(&format!("accepts cannot be observed: {OTHER_CLOCK}, and {error}"));
            Ok(None)
        }
        Err(error) => Err(RunError::NotObservable {
            asked: "stamp",
            reason: format!("{OTHER_CLOCK}, and {error}"),
            instead: "none",
        }),
    }
}

fn here() -> Result<ClockDomain, RunError> {
    ClockDomain::current().map_err(refused("reading the clock's domain"))
}

/// By what was asked for and what can be: `comparable` is whether the stamps' clock is ours, where
/// there are stamps. Looking needs no clock, and is finer than stamps of another one.
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
        (Observe::Auto | Observe::Stamp, Some(true), _)
        | (Observe::Stamp, Some(false), _)
        | (Observe::Auto, Some(false), Err(_)) => Ok(Method::Stamp),
        (Observe::Stamp, None, _) => {
            progress.note(NO_STAMP);
            Ok(Method::Stamp)
        }
        (Observe::Auto | Observe::Diag, _, Ok(())) => Ok(Method::Diag),
        (Observe::Diag, Some(_), Err(reason)) => not_observable("diag", reason, "stamp"),
        (Observe::Diag, _, Err(reason)) => not_observable("diag", reason, "none"),
        (Observe::Auto, None, Err(reason)) => {
            progress.note(&format!("accepts cannot be observed: {reason}"));
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

const OTHER_CLOCK: &str = "the server stamps with another clock than this one (another machine, or \
    another time namespace)";

const NO_STAMP: &str = "this server sends no stamp, so every connection will be stamp_invalid or \
    never_accepted: start uring-echo with --stamp, or use --observe diag";

const DEFERRED: &str = "this server is told of a connection only when data is there \
    (TCP_DEFER_ACCEPT): nothing is sent without --send-first or --messages, so its accepts will be \
    late or not seen";
