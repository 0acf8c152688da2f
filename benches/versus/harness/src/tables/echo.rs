//! Persistent connections that echo: small messages in a grid, and streams.

use anyhow::{Result, ensure};

use super::{Cell, Effort, Metric, Table, Unit};
use crate::bench::Bench;
use crate::sample::Measured;
use crate::server::{Cpus, Server, Work};
use crate::syscalls::SILENCE_MS;

const WARMUP_MS: u64 = 60;

/// What the connections of a cell do.
#[derive(Clone, Copy)]
struct Load {
    connections: usize,
    size: usize,
    depth: usize,
    ms: u64,
}

impl Load {
    fn args(self) -> String {
        let Self { connections, size, depth, ms } = self;
        format!("--connections {connections} --size {size} --depth {depth} --duration {ms}")
    }

    fn cell(self, name: String) -> Cell {
        Cell::new(name, Work::Echo, move |bench, server| measure(bench, server, self))
    }
}

pub(super) fn grid(effort: Effort) -> Table {
    let clients: &[usize] = effort.either(&[1, 50, 300], &[1, 50, 150, 300, 500, 1000]);
    let sizes: &[usize] = effort.either(&[512], &[128, 512, 1000]);
    let ms = 200;
    let pairs = clients.iter().flat_map(|clients| sizes.iter().map(move |size| (*clients, *size)));
    Table {
        name: "grid",
        title: "Echo",
        about: format!(
            "Named by connections × message size. Every connection sends a message, waits for \
                its echo, compares every byte and sends the next: the harness's own client, \
                spinning on its CPU. Where that client \
                is the slower side, throughput says little and the server's CPU time per echo \
                says who has room left. System calls are counted in a run of their own at 512 \
                bytes. A round is {ms} ms, after {WARMUP_MS} ms of warm-up; its p99 is of some \
                thousand messages at least, and where the pair is saturated it is what N \
                connections over the rate make it."
        ),
        cells: pairs
            .map(|(connections, size)| {
                let load = Load { connections, size, depth: 1, ms };
                let mut cell = load.cell(format!("{connections} × {size} bytes"));
                if size == 512 {
                    cell.apart =
                        Some(Box::new(move |bench, server| syscalls_per_echo(bench, server, load)));
                }
                cell
            })
            .collect(),
        metrics: vec![
            Metric::higher("rate", "echoes/s", Unit::PerSecond).compared(),
            Metric::lower("p99", "p99", Unit::Nanoseconds).compared(),
            Metric::lower("cpu", "server CPU/echo", Unit::Nanoseconds).drawn(),
            Metric::lower("syscalls", "system calls/echo", Unit::Plain),
        ],
        most_rounds: usize::MAX,
        cpus: Cpus::OneEach,
        only: &[],
    }
}

pub(super) fn streams(effort: Effort) -> Table {
    let ms = effort.either(300, 500);
    let cell = |name: &str, size, depth| {
        Load { connections: 8, size, depth, ms }.cell(format!("8 connections, {name}"))
    };
    Table {
        name: "streams",
        title: "Streams and pipelines",
        about: format!(
            "As in the echo table; bytes are counted once, as they come back. Pipelined: each \
             connection has 64 messages out at once. A round is {ms} ms."
        ),
        cells: vec![
            cell("64 KiB messages", 64 << 10, 1),
            cell("1 MiB messages", 1 << 20, 1),
            cell("64-byte messages, pipelined", 64, 64),
        ],
        metrics: vec![
            Metric::higher("bytes", "bytes/s", Unit::BytesPerSecond).compared(),
            Metric::lower("cpu_per_kib", "server CPU/KiB", Unit::Nanoseconds).drawn(),
            Metric::lower("p99", "p99 of a message", Unit::Nanoseconds),
        ],
        most_rounds: usize::MAX,
        cpus: Cpus::OneEach,
        only: &[],
    }
}

fn measure(bench: &Bench, server: &Server, load: Load) -> Result<Measured> {
    let args = format!("{} --warmup {WARMUP_MS}", load.args());
    let seen = bench.client(server, &args)?.finish()?;
    ensure!(seen.messages > 0, "no message came back within {} ms", load.ms);
    let (messages, seconds) = (seen.messages as f64, seen.elapsed_ns as f64 / 1e9);
    let bytes = messages * load.size as f64;
    let cpu = seen.server_cpu_ns.map(|cpu| cpu as f64);
    let measured = Measured { server_failure: seen.stuck(), ..Measured::default() };
    Ok(measured
        .with("rate", Some(messages / seconds))
        .with("bytes", Some(bytes / seconds))
        .with("p50", Some(seen.p50_ns as f64))
        .with("p99", Some(seen.p99_ns as f64))
        .with("max", Some(seen.max_ns as f64))
        .with("cpu", cpu.map(|cpu| cpu / messages))
        .with("cpu_per_kib", cpu.map(|cpu| cpu / (bytes / 1024.0)))
        .with("client_cores", Some(seen.client_cpu_ns as f64 / seen.elapsed_ns as f64)))
}

/// Counted in a run of its own, because a server may be slowed by it.
fn syscalls_per_echo(bench: &Bench, server: &Server, load: Load) -> Result<Measured> {
    let args = format!("{} --warmup 0 --settle {SILENCE_MS}", load.args());
    let mut client = bench.client(server, &args)?;
    let Some(counting) = bench.counter.attach(server.id(), &bench.place.folder)? else {
        client.finish()?;
        return Ok(Measured::default());
    };
    client.wait_for_last()?;
    let calls = counting.finish()? as f64;
    let seen = client.finish()?;
    let per_echo = (seen.messages > 0).then(|| calls / seen.messages as f64);
    Ok(Measured::default().with("syscalls", per_echo))
}
