//! `loadgen hold`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use ipnet::IpNet;

use super::target::TargetArgs;
use super::values::{parse_count_u32, parse_duration, parse_rate, parse_source};

/// Arguments of `loadgen hold`, as typed.
#[derive(Debug, Clone, Args)]
#[command(after_help = HOLD_EXAMPLES)]
pub struct HoldArgs {
    /// Server to connect to, host:port; without it an embedded server is started
    pub addr: Option<String>,

    /// How the address is understood.
    #[command(flatten)]
    pub target: TargetArgs,

    /// Connections to hold open at once: 100k, 1m
    #[arg(long, value_name = "N", value_parser = parse_count_u32, default_value = "10k")]
    pub connections: u32,

    /// Further connections per second while they are held, each measured as those of `run`
    #[arg(long, value_name = "R", value_parser = parse_rate)]
    pub probe_rate: Option<f64>,

    /// How long they are held once all are open
    #[arg(long, value_name = "D", value_parser = parse_duration, default_value = "5s")]
    pub duration: Duration,

    /// Connect from these addresses in turn (repeatable) [default: as many of 127.0.0.0/8 as it
    /// takes to a server there]
    #[arg(long, value_name = "CIDR", value_parser = parse_source)]
    pub source: Vec<IpNet>,

    /// What holds them: the tables of rings, or processes with a descriptor for each connection
    #[arg(long, value_enum, default_value = "auto")]
    pub holders: HoldersArg,

    /// In a network namespace of its own, without connection tracking or other traffic, with a hash
    /// table of sockets for so many connections (Linux 6.1); needs no root where users may make
    /// namespaces. For the embedded server only: nothing outside can be reached
    #[arg(long)]
    pub private_network: bool,

    /// Who ends them: the clients, by resets, or the embedded server, which is then stopped while
    /// all are open; how long that takes is reported
    #[arg(long, value_enum, default_value = "clients")]
    pub end: EndArg,

    /// Write the result as JSON to this file; - prints JSON alone on stdout
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Arguments for the embedded server, after --
    #[arg(last = true, value_name = "SERVER-ARGS", conflicts_with = "addr")]
    pub server_args: Vec<String>,
}

/// What holds connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HoldersArg {
    /// Rings where io_uring is available, else processes
    Auto,
    /// Tables of direct descriptors of io_uring, in this process
    Rings,
    /// Blocking sockets, in as many processes as RLIMIT_NOFILE demands
    Processes,
}

/// Who ends what is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EndArg {
    /// The clients reset all, then the server is stopped
    Clients,
    /// The server is stopped first
    Server,
}

const HOLD_EXAMPLES: &str = "\
Examples:
  loadgen hold --connections 100k
  loadgen hold --private-network --connections 1m --probe-rate 50
  loadgen hold 127.0.0.1:8000 --connections 5k --probe-rate 100 --duration 30s

What the machine cannot hold (memory, ports, descriptors, connection tracking) is refused at once.

Exit status: 0 all echoed and none lost, 1 otherwise, 2 usage.";
