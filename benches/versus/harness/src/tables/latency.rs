//! One connection, one message at a time.

use anyhow::Result;
use loadgen::model::outcome::Phase;

use super::{Cell, Effort, Metric, Table, Unit};
use crate::bench::Bench;
use crate::sample::{Measured, together};
use crate::server::{Cpus, Server, Work};

/// Messages per connection: enough connections for loadgen to vouch for its percentiles.
const MESSAGES: u32 = 20;

pub(super) fn table(effort: Effort) -> Table {
    let ms = effort.either(400, 600);
    Table {
        name: "latency",
        title: "Round trip on one connection",
        about: format!(
            "64 bytes there and back, one connection at a time. Both clients spin: loadgen, with \
             {MESSAGES} messages a connection, and the harness's own with one connection for all: \
             its p99 is the one compared, for loadgen's holds each connection's first message. The \
             medians should agree. A round is {ms} ms of loadgen and {} ms of the other, some \
             thousand messages each.",
            ms / 2
        ),
        cells: vec![Cell::new("64 bytes", Work::Echo, move |bench, server| {
            measure(bench, server, ms)
        })],
        metrics: vec![
            Metric::lower("p50", "p50, loadgen", Unit::Nanoseconds).drawn(),
            Metric::lower("p99", "p99, loadgen", Unit::Nanoseconds),
            Metric::lower("own_p50", "p50, one connection", Unit::Nanoseconds),
            Metric::lower("own_p99", "p99, one connection", Unit::Nanoseconds).compared(),
            Metric::lower("cpu", "server CPU/echo", Unit::Nanoseconds),
        ],
        most_rounds: usize::MAX,
        cpus: Cpus::OneEach,
        only: &[],
    }
}

fn measure(bench: &Bench, server: &Server, ms: u64) -> Result<Measured> {
    let args =
        format!("--concurrency 1 --messages {MESSAGES} --size 64 --duration {ms}ms --observe none");
    let loaded = bench.loadgen(server, &args)?;
    let seen = bench.client(server, &format!("--size 64 --duration {}", ms / 2))?.finish()?;
    let cpu = seen.server_cpu_ns.filter(|_| seen.messages > 0);
    let measured = loaded
        .outcome()
        .with("p50", loaded.of(Phase::EchoRtt, |it| it.p50))
        .with("p99", loaded.of(Phase::EchoRtt, |it| it.p99))
        .with("own_p50", Some(seen.p50_ns as f64))
        .with("own_p99", Some(seen.p99_ns as f64))
        .with("cpu", cpu.map(|cpu| cpu as f64 / seen.messages as f64));
    let server_failure = together([measured.server_failure.clone(), seen.stuck()]);
    Ok(Measured { server_failure, ..measured })
}
