//! What a hold is made of: as it was typed, else as this machine needs it. Every choice is told.

use std::net::SocketAddr;

use ipnet::IpNet;

use super::HoldError;
use crate::cli::hold::{EndArg, HoldArgs, HoldersArg};
use crate::generate::holding::why_not_rings;
use crate::model::server::Server;
use crate::plan::holding::{self, GivenToServer, HolderKind, Holders, Room, Wanted, size};
use crate::plan::sources::Sources;
use crate::render::units;
use crate::server::{EmbeddedServer, option_value};
use crate::sys::addresses::is_local;

/// What was decided before the server was started.
#[derive(Debug)]
pub(super) struct Choice {
    room: Room,
    wanted: Wanted,
    /// Arguments of the embedded server.
    server_args: Vec<String>,
    /// The workers that it has to have.
    workers: Option<u32>,
    pub(super) holders: Holders,
}

impl Choice {
    /// Decides; `given` is the address of a server that is there.
    pub(super) fn make(args: &HoldArgs, given: Option<SocketAddr>) -> Result<Self, HoldError> {
        let room = Room::read().map_err(HoldError::Room)?;
        let unavailable = why_not_rings()?;
        let wanted = Wanted {
            connections: args.connections,
            both_ends: given.is_none_or(|addr| is_local(addr.ip())),
            holders: holder_kind(args.holders, unavailable.as_deref())?,
        };
        if wanted.holders == HolderKind::Processes && args.end == EndArg::Server {
            return Err(HoldError::EndByServer);
        }
        let holders = holding::holders(wanted, &room)?;
        let (mut server_args, mut workers, mut server_memory) = (args.server_args.clone(), None, 0);
        let mut reasons = Vec::new();
        if given.is_none() {
            let told = given_to_server(&args.server_args, unavailable.is_some());
            let chosen = holding::server(args.connections, told, &room)?;
            reasons = chosen.reasons;
            (workers, server_memory) = (chosen.workers, chosen.memory);
            server_args.extend(chosen.args);
            if args.end == EndArg::Server && option_value(&server_args, "drain-timeout").is_none() {
                server_args.extend(["--drain-timeout", DRAIN].map(str::to_owned));
                reasons.push(format!("--drain-timeout {DRAIN}: no client is going to finish"));
            }
        }
        let need = holding::check(wanted, server_memory, &room)?;
        tell(&format!("memory: about {} ({need}) of {}", size(need.total()), size(room.left())));
        reasons.iter().for_each(|reason| tell(&format!("server: {reason}")));
        let choice = Self { room, wanted, server_args, workers, holders };
        choice.tell_holders(unavailable.as_deref());
        Ok(choice)
    }

    /// Starts the embedded server; for probes it stamps.
    pub(super) fn start_server(&self, args: &HoldArgs) -> Result<EmbeddedServer, HoldError> {
        let server_args: Vec<_> = self.server_args.iter().map(Into::into).collect();
        let server = EmbeddedServer::start(&server_args, None, args.probe_rate.is_some())?;
        let Server { workers, degraded, .. } = server.description();
        match (self.workers, *workers) {
            (Some(needed), Some(got)) if got < u64::from(needed) => {
                Err(HoldError::Workers { got, needed, reason: degraded.join("; ") })
            }
            _ => Ok(server),
        }
    }

    /// How many rings hold connections.
    pub(super) fn rings(&self) -> usize {
        match &self.holders {
            Holders::Rings(rings, _) => rings.len(),
            Holders::Processes(_) => 0,
        }
    }

    /// Networks to connect from to the server, which is at `addr`.
    pub(super) fn sources(
        &self,
        typed: &[IpNet],
        addr: SocketAddr,
    ) -> Result<Vec<IpNet>, HoldError> {
        let connections = self.wanted.connections;
        let mut sources = typed.to_vec();
        if sources.is_empty()
            && let Some(network) = holding::sources(addr, connections, self.room.ports)
        {
            let count = units::count(self.room.ports);
            tell(&format!(
                "sources: {network}, {count} ports each, of which the kernel finds every second \
                 one quickly"
            ));
            sources.push(network);
        }
        holding::check_ports(connections, Sources::expand(&sources).len() as u64, &self.room)?;
        Ok(sources)
    }

    fn tell_holders(&self, unavailable: Option<&str>) {
        match &self.holders {
            Holders::Rings(rings, threads) => {
                let most = rings.iter().max().copied().unwrap_or(0);
                let rings = units::plural(rings.len() as u64, "ring");
                let threads = units::plural(u64::from(*threads), "thread");
                let (most, nofile) = (units::count(most.into()), self.room.nofile);
                tell(&format!(
                    "holders: {rings} with up to {most} sockets in their tables (RLIMIT_NOFILE \
                     {nofile}), filled by {threads}"
                ));
            }
            Holders::Processes(each) => {
                let each = units::count((*each).into());
                let why = unavailable.map_or_else(String::new, |why| format!("; {why}"));
                tell(&format!("holders: processes with up to {each} connections each{why}"));
            }
        }
    }
}

fn holder_kind(asked: HoldersArg, unavailable: Option<&str>) -> Result<HolderKind, HoldError> {
    match (asked, unavailable) {
        (HoldersArg::Auto | HoldersArg::Rings, None) => Ok(HolderKind::Rings),
        (HoldersArg::Auto, Some(_)) | (HoldersArg::Processes, _) => Ok(HolderKind::Processes),
        (HoldersArg::Rings, Some(reason)) => Err(HoldError::NoRings(reason.into())),
    }
}

fn given_to_server(args: &[String], without_rings: bool) -> GivenToServer {
    let value = |name| option_value(args, name);
    let of_its_own = |engine: &str| ["epoll", "tokio-uring"].contains(&engine);
    let engine = value("engine");
    GivenToServer {
        workers: value("workers").and_then(|count| count.parse().ok()),
        pool: value("pool").or_else(|| value("credit")).is_some(),
        busy_poll: value("busy-poll").is_some(),
        shares_descriptors: without_rings || engine.as_deref().is_some_and(of_its_own),
    }
}

pub(super) fn tell(what: &str) {
    eprintln!("hold: {what}");
}

/// Time for connections to end when nobody is going to end them.
const DRAIN: &str = "1ms";
