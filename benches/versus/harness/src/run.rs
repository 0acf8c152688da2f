//! One run: build, enter a namespace, check the candidates, measure every table, write the results.

use std::path::PathBuf;
use std::time::Instant;
use std::{fs, thread};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::bench::Bench;
use crate::builds::{Programs, workspace};
use crate::candidate::CANDIDATES;
use crate::cpu_contention::CpuContention;
use crate::machine::{Machine, Setting};
use crate::report::Report;
use crate::server::Place;
use crate::syscalls::Counter;
use crate::tables::{Effort, Table, all};
use crate::{availability, namespace, rounds, stop};

/// What to measure.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    /// A few minutes: fewer cells, one round
    #[arg(long)]
    quick: bool,
    /// Only this table (repeatable)
    #[arg(long = "table", value_name = "NAME")]
    tables: Vec<String>,
    /// Only this candidate (repeatable); floors and peers too are named
    #[arg(long = "peer", value_name = "NAME")]
    peers: Vec<String>,
    /// Rounds through all candidates [default: 6, quick: 1]
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// Where versus.json, versus.md and the pictures go
    #[arg(long, value_name = "DIR", default_value = "target/versus")]
    out: PathBuf,
    /// CPU that every server is pinned to
    #[arg(long, value_name = "CPU", default_value_t = 0)]
    server_cpu: usize,
    /// CPU that the clients are pinned to [default: 1, or 0 if there is no other]
    #[arg(long, value_name = "CPU")]
    client_cpu: Option<usize>,
    /// Take uring-echo, loadgen and the peers from this folder instead of building them
    #[arg(long, value_name = "DIR")]
    built: Option<PathBuf>,
    /// Name tables and candidates and end
    #[arg(long)]
    list: bool,
}

/// # Errors
/// The project does not build, or nothing of what was asked for exists. What a candidate cannot do
/// is told in the tables and is no error.
pub(crate) fn run(options: &Options) -> Result<()> {
    let effort = if options.quick { Effort::quick() } else { Effort::full() };
    let tables = chosen_tables(&effort, &options.tables)?;
    check_peers(&options.peers)?;
    if options.list {
        return list(&tables);
    }
    eprintln!("building the project and its peers, if they are not built");
    let bench = prepare(options)?;
    // Only now: a namespace has no way to the registry. Inside, this program begins again and finds
    // everything built.
    let network = namespace::enter()?;
    eprintln!("network: {network}; checking the candidates");
    raise_descriptor_limit()?;
    stop::on_signals()?;
    measure(options, &bench, tables, effort, network)
}

fn measure(
    options: &Options,
    bench: &Bench,
    tables: Vec<Table>,
    effort: Effort,
    network: String,
) -> Result<()> {
    let (begun, contention) = (Instant::now(), CpuContention::begin()?);
    let rounds = options.rounds.unwrap_or(effort.rounds());
    let availability = availability::check(bench, &options.peers);
    stop::check()?;
    let here: Vec<_> =
        availability.iter().filter(|(_, it)| it.missing.is_none()).map(|(one, _)| *one).collect();
    ensure!(!here.is_empty(), "none of the candidates could be started");
    let tables = tables
        .into_iter()
        .map(|table| rounds::measure(bench, table, &here, rounds))
        .collect::<Result<_>>()?;
    let setting = Setting {
        network,
        server_cpu: bench.place.cpu,
        client_cpu: bench.client_cpu,
        rounds,
        other_cpus: contention.other_cpus()?,
        syscalls: bench.counter.about(),
    };
    let report = Report {
        schema_version: 2,
        machine: Machine::look(setting),
        took_seconds: begun.elapsed().as_secs(),
        candidates: availability.into_iter().map(|(_, availability)| availability).collect(),
        tables,
    };
    println!("{}", report.write(&options.out)?);
    eprintln!("took {} s; results are in {}", report.took_seconds, options.out.display());
    let lacking = report.lacking(&options.peers);
    ensure!(lacking.is_empty(), "not measured: {}", lacking.join("; "));
    Ok(())
}

fn prepare(options: &Options) -> Result<Bench> {
    let folder = workspace().canonicalize()?.join("target/run");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let cpus = thread::available_parallelism().map_or(1, Into::into);
    let client_cpu = options.client_cpu.unwrap_or(usize::from(cpus > 1));
    if client_cpu == options.server_cpu {
        eprintln!("ONE CPU for servers and clients: the numbers mean little");
    }
    let programs = match &options.built {
        Some(built) => Programs::from_folder(&built.canonicalize()?)?,
        None => Programs::build(folder.clone())?,
    };
    let place = Place { cpu: options.server_cpu, folder };
    Ok(Bench { programs, place, client_cpu, counter: Counter::find() })
}

/// Ten thousand connections need as many descriptors; what the hard limit allows must do.
fn raise_descriptor_limit() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).context("raising the limit of open descriptors")
}

fn chosen_tables(effort: &Effort, names: &[String]) -> Result<Vec<Table>> {
    let mut tables = all(effort);
    let known: Vec<&str> = tables.iter().map(|table| table.name).collect();
    if let Some(name) = names.iter().find(|name| !known.contains(&name.as_str())) {
        bail!("no table is called {name}; there are {}", known.join(", "));
    }
    tables.retain(|table| names.is_empty() || names.iter().any(|name| name == table.name));
    Ok(tables)
}

fn check_peers(names: &[String]) -> Result<()> {
    let known: Vec<&str> = CANDIDATES.iter().map(|one| one.name).collect();
    if let Some(name) = names.iter().find(|name| !known.contains(&name.as_str())) {
        bail!("no candidate is called {name}; there are {}", known.join(", "));
    }
    Ok(())
}

fn list(tables: &[Table]) -> Result<()> {
    for table in tables {
        println!("{:16} {}", table.name, table.title);
    }
    println!();
    for candidate in CANDIDATES {
        println!("{:16} {}", candidate.name, candidate.about);
    }
    Ok(())
}
