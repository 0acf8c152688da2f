//! What was typed on the command line, and nothing that needs a system call.
//!
//! [`crate::plan::config`] turns [`RunArgs`] into the resolved [`crate::plan::config::RunConfig`].

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;

/// The program: one measurement per call.
#[derive(Debug, Parser)]
#[command(
    name = "loadgen",
    version,
    about = "Measures how long TCP connections wait between connect() and the server's accept()",
    long_about = "Measures how long TCP connections wait between connect() and the server's \
accept().\n\nconnect() returning does not mean that the server accepted: the kernel finishes the \
handshake alone and parks the connection in the accept queue. loadgen measures that wait, for the \
uring-echo server exactly and for any other server on this host by watching the kernel.",
    styles = STYLES,
    max_term_width = 100
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Open connections as planned and report how long each waited to be accepted
    Run(Box<RunArgs>),
    /// Try what breaks echo servers on any of them and check every byte
    Torture(TortureArgs),
    /// Hold idle connections, each echoed once, and weigh what one costs the server
    Hold(HoldArgs),
}

/// Arguments of `loadgen torture`, as typed.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Exit status: 0 all passed, 1 some failed or nobody there.")]
pub struct TortureArgs {
    /// Echo server to try, host:port
    pub addr: String,

    /// Only the case of this name, or those whose names begin like it (repeatable)
    #[arg(long, value_name = "NAME")]
    pub case: Vec<String>,

    /// Smaller numbers, for a run of seconds
    #[arg(long)]
    pub quick: bool,

    /// The server's process: it is stopped and continued, and its memory and descriptors compared
    #[arg(long, value_name = "PID")]
    pub pid: Option<u32>,

    /// Write the results as JSON to this file; - prints JSON alone on stdout
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Arguments of `loadgen hold`, as typed.
#[derive(Debug, Clone, Args)]
#[command(after_help = HOLD_EXAMPLES)]
pub struct HoldArgs {
    /// Server to connect to, host:port; without it an embedded server is started
    pub addr: Option<String>,

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

/// Arguments of `loadgen run`, as typed.
#[derive(Debug, Clone, Args)]
#[command(after_help = RUN_EXAMPLES)]
pub struct RunArgs {
    /// Server to connect to, host:port; without it an embedded server is started
    pub addr: Option<String>,

    /// Connections per second, planned ahead: late ones count from when due [default: 3000]
    #[arg(long, value_name = "N", value_parser = parse_rate, group = "shape")]
    #[arg(help_heading = "Load shape")]
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

    /// Generator threads, one ring each
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1024))]
    #[arg(help_heading = "Generator")]
    pub threads: u16,

    /// CPUs for the generator, such as 0-3,5 [default: all; split with an embedded server]
    #[arg(long, value_name = "LIST", value_parser = parse_cpus)]
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

    /// Label kept in the result file (repeatable)
    #[arg(long, value_name = "K=V", value_parser = parse_label)]
    #[arg(help_heading = "Output")]
    pub label: Vec<(String, String)>,

    /// Write result.json, run.hlog and accept_delay.hgrm into this folder
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    pub out: Option<PathBuf>,

    /// Write the result as JSON to this file; - prints JSON alone on stdout
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub json: Option<PathBuf>,

    /// No progress
    #[arg(long, help_heading = "Output")]
    pub quiet: bool,

    /// Arguments for the embedded server, after --
    #[arg(last = true, value_name = "SERVER-ARGS")]
    pub server_args: Vec<String>,
}

/// Spacing of open-loop arrivals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrivals {
    /// Equal gaps
    Constant,
    /// Exponential gaps, as independent callers produce them
    Poisson,
}

/// How the client ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Close {
    /// Reset (`SO_LINGER` 0): no TIME_WAIT, the port is free at once
    Rst,
    /// Orderly close: the client side keeps the port in TIME_WAIT
    Fin,
}

/// How the instant of accept is learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Observe {
    /// stamp if the server sends one, else diag if it is local, else none
    Auto,
    /// The server's own clock, in the first bytes (uring-echo serve --stamp)
    Stamp,
    /// The kernel's socket table: any server in this network namespace, no privilege
    Diag,
    /// Not at all: connect and echo times only
    None,
}

/// A list of CPU numbers, ascending and without repetition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuList(pub Vec<usize>);

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold());

const RUN_EXAMPLES: &str = "\
Counts take k and m (5k = 5000), durations a unit (500ms, 10s, 2m).

Examples:
  loadgen run                                       embedded server, 3000/s for 10 s
  loadgen run --rate 5k --connections 50k --out results
  loadgen run 127.0.0.1:8000 --observe diag         a server you did not write
  loadgen run --burst 2k --every 1s --duration 30s  2000 at one instant, each second
  loadgen run --rate 2k -- --stall 100ms/2s         a server that stops accepting now and then

Exit status: 0 fine, 1 runtime error, 2 usage, 4 run INVALID, 130 interrupted.";

const HOLD_EXAMPLES: &str = "\
Examples:
  loadgen hold --connections 100k -- --workers 6    six tables of descriptors in one process
  loadgen hold 127.0.0.1:8000 --connections 5k --probe-rate 100 --duration 30s

Exit status: 0 all echoed and none lost, 1 otherwise.";

/// CPU numbers stay below this (`CPU_SETSIZE`, sched_setaffinity(2)).
const CPU_MAX: usize = 1024;

/// Longest accepted duration: a year, so that nanoseconds always fit in 64 bits.
const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

fn parse_rate(text: &str) -> Result<f64, String> {
    let (digits, factor) = split_suffix(text, 1000);
    let value: f64 = digits.parse().map_err(|_| not_a("rate", text))?;
    #[expect(clippy::cast_precision_loss, reason = "factors are 1, 1000 and 1000000")]
    let rate = value * factor as f64;
    if (0.001..=10_000_000.0).contains(&rate) {
        return Ok(rate);
    }
    Err("a rate is between 0.001 and 10m connections per second".into())
}

fn parse_count(text: &str) -> Result<u64, String> {
    parse_scaled(text, 1000)?.filter_zero("a count is at least 1")
}

fn parse_count_u32(text: &str) -> Result<u32, String> {
    u32::try_from(parse_count(text)?).map_err(|_| format!("{text} is too large"))
}

fn parse_messages(text: &str) -> Result<u32, String> {
    u32::try_from(parse_scaled(text, 1000)?).map_err(|_| format!("{text} is too large"))
}

fn parse_size(text: &str) -> Result<u32, String> {
    const SIZE_MAX: u64 = 16 << 20;
    let size = parse_scaled(text, 1024)?.filter_zero("a message has at least 1 byte")?;
    if size > SIZE_MAX {
        return Err("a message has at most 16m bytes".into());
    }
    u32::try_from(size).map_err(|_| format!("{text} is too large"))
}

/// A whole number with an optional `k` or `m`, which stand for `unit` and its square.
fn parse_scaled(text: &str, unit: u64) -> Result<u64, String> {
    let (digits, factor) = split_suffix(text, unit);
    let value: u64 = digits.replace('_', "").parse().map_err(|_| not_a("whole number", text))?;
    value.checked_mul(factor).ok_or_else(|| format!("{text} is too large"))
}

fn split_suffix(text: &str, unit: u64) -> (&str, u64) {
    match text.char_indices().next_back() {
        Some((at, 'k' | 'K')) => (&text[..at], unit),
        Some((at, 'm' | 'M')) => (&text[..at], unit * unit),
        _ => (text, 1),
    }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let duration = parse_duration_or_zero(text)?;
    if duration.is_zero() {
        return Err("a duration longer than zero is needed".into());
    }
    Ok(duration)
}

fn parse_duration_or_zero(text: &str) -> Result<Duration, String> {
    let parsed = humantime::parse_duration(text);
    let duration = parsed.map_err(|e| format!("{e}; durations look like 500ms, 10s or 2m"))?;
    if duration > DURATION_MAX {
        return Err("at most a year".into());
    }
    Ok(duration)
}

fn parse_source(text: &str) -> Result<IpNet, String> {
    let alone = text.parse::<std::net::IpAddr>().map(IpNet::from);
    alone.or_else(|_| text.parse()).map_err(|_| not_a("CIDR such as 127.0.0.0/24", text))
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err("a label looks like key=value".into()),
    }
}

/// Parses `0-3,5` (the kernel's cpulist format, cpuset(7)).
pub(crate) fn parse_cpus(text: &str) -> Result<CpuList, String> {
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let low: usize = low.trim().parse().map_err(|_| not_a("CPU list such as 0-3,5", text))?;
        let high: usize = high.trim().parse().map_err(|_| not_a("CPU list such as 0-3,5", text))?;
        if low > high || high >= CPU_MAX {
            return Err(format!("CPU range {part}: numbers ascend and stay below {CPU_MAX}"));
        }
        cpus.extend(low..=high);
    }
    cpus.sort_unstable();
    cpus.dedup();
    Ok(CpuList(cpus))
}

fn not_a(what: &str, text: &str) -> String {
    format!("'{text}' is not a {what}")
}

/// Zero is refused where it would mean a run that does nothing.
trait FilterZero: Sized {
    fn filter_zero(self, message: &str) -> Result<Self, String>;
}

impl FilterZero for u64 {
    fn filter_zero(self, message: &str) -> Result<Self, String> {
        if self == 0 { Err(message.into()) } else { Ok(self) }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn run(args: &str) -> Result<RunArgs, clap::Error> {
        let words = ["loadgen", "run"].into_iter().chain(args.split_whitespace());
        Cli::try_parse_from(words).map(|cli| match cli.command {
            Command::Run(run) => *run,
            other => panic!("not a run: {other:?}"),
        })
    }

    #[test]
    fn the_command_definition_is_sound() {
        Cli::command().debug_assert();
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
            "--label novalue",
            "--slo p99<1ms",
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
    fn cpu_lists_are_sorted_and_unique() {
        assert_eq!(parse_cpus("5,0-3,2"), Ok(CpuList(vec![0, 1, 2, 3, 5])));
        assert!(parse_cpus("0-1024").is_err());
        assert!(parse_cpus("").is_err());
    }

    #[test]
    fn a_single_address_is_a_source_too() {
        let args = run("--source 127.0.0.9 --source 127.1.0.0/16 --source ::1").unwrap();
        let shown: Vec<String> = args.source.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["127.0.0.9/32", "127.1.0.0/16", "::1/128"]);
    }
}
