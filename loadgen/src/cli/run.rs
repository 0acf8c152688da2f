//! `loadgen run`.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::Args;
use ipnet::IpNet;
use uring_echo::values::{CpuList, cpu_list};

use super::target::TargetArgs;
use super::values::{
    parse_count, parse_count_u32, parse_duration, parse_duration_or_zero, parse_instant,
    parse_label, parse_messages, parse_rate, parse_shard, parse_size, parse_source,
};
use crate::model::load::{Arrivals, Close, Observe, TransportChoice};
use crate::model::result::Shard;

/// Arguments of `loadgen run`, as typed.
#[derive(Debug, Clone, Args)]
#[command(after_help = RUN_EXAMPLES)]
pub struct RunArgs {
    /// Server to connect to, host:port; without it an embedded server is started
    pub addr: Option<String>,

    /// How the address is understood.
    #[command(flatten)]
    pub target: TargetArgs,

    /// Connections per second, planned ahead: late ones count from when due [default: 3000]
    #[arg(long, value_name = "N", value_parser = parse_rate, group = "shape")]
    #[arg(help_heading = "Load shape", allow_negative_numbers = true)]
    pub rate: Option<f64>,

    /// Spacing of the planned arrivals [default: constant]
    #[arg(long, value_enum, conflicts_with_all = ["burst", "concurrency"])]
    #[arg(help_heading = "Load shape")]
    pub arrivals: Option<Arrivals>,

    /// Connections started at one instant
    #[arg(long, value_name = "N", value_parser = parse_count_u32, group = "shape")]
    #[arg(help_heading = "Load shape")]
    pub burst: Option<u32>,

    /// Repeat the burst at this interval
    #[arg(long, value_name = "D", value_parser = parse_duration, requires = "burst")]
    #[arg(help_heading = "Load shape")]
    pub every: Option<Duration>,

    /// Keep this many connections going, each replaced when it ends (closed loop)
    #[arg(long, value_name = "N", value_parser = parse_count_u32, group = "shape")]
    #[arg(help_heading = "Load shape")]
    pub concurrency: Option<u32>,

    /// Measure for this long, after the warm-up [default: 10s]
    #[arg(long, value_name = "D", value_parser = parse_duration, group = "stop")]
    #[arg(help_heading = "Load shape")]
    pub duration: Option<Duration>,

    /// Measure exactly this many connections, after the warm-up
    #[arg(long, value_name = "N", value_parser = parse_count, group = "stop")]
    #[arg(help_heading = "Load shape")]
    pub connections: Option<u64>,

    /// Load before the measurement: counted as excluded, recorded nowhere else [default: 0s]
    #[arg(long, value_name = "D", value_parser = parse_duration_or_zero)]
    #[arg(help_heading = "Load shape")]
    pub warmup: Option<Duration>,

    /// Echo round trips per connection [default: 1 if the server is ours, else 0]
    #[arg(long, value_name = "N", value_parser = parse_messages)]
    #[arg(help_heading = "Connection")]
    pub messages: Option<u32>,

    /// Send a message right after connect and expect no echo: for servers that are told of a
    /// connection only when data is there (TCP_DEFER_ACCEPT: Apache, nginx deferred, haproxy)
    #[arg(long, conflicts_with = "messages", help_heading = "Connection")]
    pub send_first: bool,

    /// Bytes per message; k and m mean KiB and MiB
    #[arg(long, value_name = "BYTES", value_parser = parse_size, default_value = "64")]
    #[arg(help_heading = "Connection")]
    pub size: u32,

    /// How connections end: rst frees the port at once, fin leaves it in TIME_WAIT
    #[arg(long, value_enum, default_value_t = Close::Rst)]
    #[arg(help_heading = "Connection")]
    pub close: Close,

    /// Connect from these addresses in turn (repeatable); each brings its own ports
    #[arg(long, value_name = "CIDR", value_parser = parse_source)]
    #[arg(help_heading = "Connection")]
    pub source: Vec<IpNet>,

    /// Give a connection up after this long without an answer
    #[arg(long, value_name = "D", value_parser = parse_duration, default_value = "10s")]
    #[arg(help_heading = "Connection")]
    pub timeout: Duration,

    /// How accepts are seen: the server's own stamp, the kernel's socket table, or not at all
    #[arg(long, value_enum, default_value_t = Observe::Auto)]
    #[arg(help_heading = "Connection")]
    pub observe: Observe,

    /// Generator threads
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1024))]
    #[arg(help_heading = "Generator")]
    pub threads: u16,

    /// What carries the connections: io_uring, or plain sockets and epoll where it is denied
    #[arg(long, value_enum, default_value_t = TransportChoice::Auto)]
    #[arg(help_heading = "Generator")]
    pub transport: TransportChoice,

    /// CPUs for the generator, such as 0-3,5 [default: all; split with an embedded server]
    #[arg(long, value_name = "LIST", value_parser = cpu_list)]
    #[arg(help_heading = "Generator")]
    pub cpus: Option<CpuList>,

    /// Connections open at once; arrivals beyond are counted as shed [default: 10000, or what the
    /// shape needs]
    #[arg(long, value_name = "N", value_parser = parse_count_u32)]
    #[arg(help_heading = "Generator")]
    pub max_in_flight: Option<u32>,

    /// Seed of everything drawn at random; the same seed plans the same arrivals
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(help_heading = "Generator")]
    pub seed: u64,

    /// Do part I (from 0) of N of the one plan that these arguments describe; the others are other
    /// processes' or hosts', started alike. `loadgen merge` adds their results
    #[arg(long, value_name = "I/N", value_parser = parse_shard, help_heading = "Generator")]
    pub shard: Option<Shard>,

    /// Begin at this instant, such as 2030-01-01T12:00:00Z or +5s (from now); refused if it is over
    /// before the generator is ready
    #[arg(long, value_name = "RFC3339|+D", value_parser = parse_instant)]
    #[arg(help_heading = "Generator")]
    pub start_at: Option<SystemTime>,

    /// Objective of the run (repeatable), such as accept_delay.p99<5ms, completed>99.9% or
    /// never_accepted==0; exit status 3 if one is missed
    #[arg(long, value_name = "EXPR", help_heading = "Objectives")]
    pub slo: Vec<String>,

    /// End the run as soon as this is true (repeatable), such as never_accepted>0@5s: not looked at
    /// for the first 5 s
    #[arg(long, value_name = "EXPR[@DELAY]", help_heading = "Objectives")]
    pub abort_on: Vec<String>,

    /// Label kept in the result file (repeatable)
    #[arg(long, value_name = "K=V", value_parser = parse_label)]
    #[arg(help_heading = "Output")]
    pub label: Vec<(String, String)>,

    /// Write result.json, report.html, run.hlog and accept_delay.hgrm into this folder
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    pub out: Option<PathBuf>,

    /// Write the result as JSON to this file; - prints JSON alone on stdout
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub json: Option<PathBuf>,

    /// Log of a server started elsewhere: its ready line says what it is, for the result file
    #[arg(long, value_name = "FILE", requires = "addr", help_heading = "Output")]
    pub server_log: Option<PathBuf>,

    /// No progress
    #[arg(long, help_heading = "Output")]
    pub quiet: bool,

    /// Arguments for the embedded server, after --
    #[arg(last = true, value_name = "SERVER-ARGS")]
    pub server_args: Vec<String>,
}

const RUN_EXAMPLES: &str = "\
Counts take k and m (5k = 5000), durations a unit (500ms, 10s, 2m).

Examples:
  loadgen run                                       embedded server, 3000/s for 10 s
  loadgen run --rate 5k --connections 50k --out results
  loadgen run 127.0.0.1:8000 --observe diag         a server you did not write
  loadgen run --burst 2k --every 1s --duration 30s  2000 at one instant, each second
  loadgen run host:7777 --rate 9k --shard 0/3 --start-at +5s --out shard-0   one of three
  loadgen run --rate 2k -- --stall 100ms/2s         a server that stops accepting now and then
  loadgen run --slo 'accept_delay.p99<5ms' --slo 'completed>99.9%' --abort-on 'refused>100'

Objectives compare PHASE.STATISTIC (p0 to p100, min, mean, max, stdev, count) or an outcome
(attempted, failed, completed, refused, …) by < <= > >= == != with a duration, a count or a share.

Exit status: 0 fine, 1 runtime error, 2 usage, 3 objective missed or run aborted, 4 run INVALID
(whether its objectives were met is then not known), 130 interrupted.";

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn run(args: &str) -> Result<RunArgs, clap::Error> {
        let words = ["loadgen", "run"].into_iter().chain(args.split_whitespace());
        Cli::try_parse_from(words).map(|cli| match cli.command {
            Command::Run(run) => *run,
            other => panic!("not a run: {other:?}"),
        })
    }

    #[test]
    fn suffixes_scale_counts_by_1000_and_sizes_by_1024() {
        let args = run("--rate 2.5k --connections 1m --size 64k --max-in-flight 20k").unwrap();
        assert_eq!(args.rate, Some(2500.0));
        assert_eq!(args.connections, Some(1_000_000));
        assert_eq!(args.size, 65_536);
        assert_eq!(args.max_in_flight, Some(20_000));
    }

    #[test]
    fn contradictions_are_usage_errors() {
        for args in [
            "--rate 5 --burst 5",
            "--burst 5 --concurrency 5",
            "--duration 1s --connections 5",
            "--every 1s",
            "--burst 5 --arrivals poisson",
            "--rate 0",
            "--rate -5",
            "--rate nan",
            "--connections 0",
            "--threads 0",
            "--size 17m",
            "--size 0",
            "--duration 5",
            "--cpus 3-1",
            "--cpus a",
            "--source 127.0.0.0/33",
            "--shard 3/3",
            "--shard 1",
            "--shard 0/0",
            "--start-at yesterday",
            "--start-at 2001-01-01T00:00:00Z",
            "--label novalue",
        ] {
            let error = run(args).expect_err(args);
            assert_eq!(error.exit_code(), 2, "{args}: {error}");
        }
    }

    #[test]
    fn arguments_after_the_dashes_belong_to_the_server() {
        let args = run("--rate 2000 -- --stall 100ms/2s").unwrap();
        assert_eq!(args.server_args, ["--stall", "100ms/2s"]);
        assert_eq!(args.addr, None);
    }

    #[test]
    fn a_single_address_is_a_source_too() {
        let args = run("--source 127.0.0.9 --source 127.1.0.0/16 --source ::1").unwrap();
        let shown: Vec<String> = args.source.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["127.0.0.9/32", "127.1.0.0/16", "::1/128"]);
    }
}
