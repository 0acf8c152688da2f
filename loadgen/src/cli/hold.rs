//! `loadgen hold`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
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

    /// Connections to hold open at once, by as many processes as descriptors demand
    #[arg(long, value_name = "N", value_parser = parse_count_u32, default_value = "10k")]
    pub connections: u32,

    /// Further connections per second while they are held, each timed from connect to echo
    #[arg(long, value_name = "R", value_parser = parse_rate)]
    pub probe_rate: Option<f64>,

    /// How long they are held once all are open
    #[arg(long, value_name = "D", value_parser = parse_duration, default_value = "5s")]
    pub duration: Duration,

    /// Connect from these addresses in turn (repeatable) [default: some of 127.0.0.0/8 to a
    /// server there]
    #[arg(long, value_name = "CIDR", value_parser = parse_source)]
    pub source: Vec<IpNet>,

    /// Write the result as JSON to this file; - prints JSON alone on stdout
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Arguments for the embedded server, after --
    #[arg(last = true, value_name = "SERVER-ARGS", conflicts_with = "addr")]
    pub server_args: Vec<String>,
}

const HOLD_EXAMPLES: &str = "\
Examples:
  loadgen hold --connections 100k -- --workers 6    six tables of descriptors in one process
  loadgen hold 127.0.0.1:8000 --connections 5k --probe-rate 100 --duration 30s

Exit status: 0 all echoed and none lost, 1 otherwise, 2 usage.";
