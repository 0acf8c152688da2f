//! The classic scene: nobody is pinned, and a blocking thread for each connection shares the CPUs
//! with the server.

use anyhow::{Result, ensure};

use super::{Cell, Effort, Metric, Table, Unit};
use crate::bench::Bench;
use crate::sample::Measured;
use crate::server::{Cpus, Server, Work};
use crate::syscalls::SILENCE_MS;

const SIZE: usize = 512;
const WARMUP_MS: u64 = 300;

pub(super) fn table(effort: Effort) -> Table {
    let clients: &[usize] = effort.either(&[1, 50], &[1, 50, 300, 1500]);
    let ms = effort.either(500, 1500);
    let cell = |&connections: &usize| {
        let mut cell = Cell::new(
            format!("{connections} clients"),
            Work::Echo,
            move |bench: &Bench, server: &Server| measure(bench, server, connections, ms),
        );
        cell.apart =
            Some(Box::new(move |bench, server| syscalls_per_echo(bench, server, connections, ms)));
        cell
    };
    Table {
        name: "classic",
        title: "The classic scene",
        about: format!(
            "Nobody is pinned: servers with as many workers as there are CPUs, and on the same \
             CPUs a thread for each client, which writes {SIZE} bytes, blocks until their echo is \
             there, compares it and writes again, as fast as that goes. All that the machine \
             spends, it spends on both, so throughput counts the CPU time of the server and what \
             the clients' wake-ups cost; the client that got the fewest echoes tells whether it \
             went on at the expense of some. A round is {ms} ms, after {WARMUP_MS} ms of warm-up; \
             system calls are counted in a run of their own."
        ),
        cells: clients.iter().map(cell).collect(),
        metrics: vec![
            Metric::higher("rate", "echoes/s", Unit::PerSecond).compared(),
            Metric::lower("cpu", "server CPU/echo", Unit::Nanoseconds).drawn(),
            Metric::lower("client_cpu", "clients' CPU/echo", Unit::Nanoseconds),
            Metric::lower("cores", "server cores", Unit::Plain),
            Metric::higher("fewest", "least served client, of the mean", Unit::Plain),
            Metric::lower("syscalls", "system calls/echo", Unit::Plain),
        ],
        most_rounds: usize::MAX,
        cpus: Cpus::All,
        only: &[],
    }
}

fn measure(bench: &Bench, server: &Server, connections: usize, ms: u64) -> Result<Measured> {
    let args =
        format!("--connections {connections} --size {SIZE} --warmup {WARMUP_MS} --duration {ms}");
    let seen = bench.crowd(server, &args)?.finish()?;
    ensure!(seen.echoes > 0, "no echo came back within {ms} ms");
    let (echoes, elapsed_ns) = (seen.echoes as f64, seen.elapsed_ns as f64);
    let cpu = seen.server_cpu_ns.map(|cpu| cpu as f64);
    Ok(Measured::default()
        .with("rate", Some(echoes / elapsed_ns * 1e9))
        .with("cpu", cpu.map(|cpu| cpu / echoes))
        .with("fewest", Some(seen.fewest))
        .with("client_cpu", Some(seen.client_cpu_ns as f64 / echoes))
        .with("cores", cpu.map(|cpu| cpu / elapsed_ns)))
}

fn syscalls_per_echo(
    bench: &Bench,
    server: &Server,
    connections: usize,
    ms: u64,
) -> Result<Measured> {
    let args = format!(
        "--connections {connections} --size {SIZE} --warmup 0 --duration {ms} --settle {SILENCE_MS}"
    );
    let mut clients = bench.crowd(server, &args)?;
    let Some(counting) = bench.counter.attach(server.id(), &bench.place.folder)? else {
        clients.finish()?;
        return Ok(Measured::default());
    };
    clients.wait_for_last()?;
    let calls = counting.finish()? as f64;
    let echoes = clients.finish()?.all_echoes;
    let per_echo = (echoes > 0).then(|| calls / echoes as f64);
    Ok(Measured::default().with("syscalls", per_echo))
}
