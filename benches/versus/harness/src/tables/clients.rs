//! The two clients against the same servers: does the choice of client make the numbers?

use anyhow::Result;

use super::{Cell, Effort, Metric, Table, Unit};
use crate::bench::Bench;
use crate::sample::{Measured, together};
use crate::server::{Cpus, Server, Work};

const AT_ONCE: u32 = 16;

pub(super) fn table(effort: Effort) -> Table {
    let ms = effort.either(400, 800);
    Table {
        name: "clients",
        title: "The clients themselves",
        about: format!(
            "Connect, one echo of 64 bytes, reset, {AT_ONCE} at once: loadgen and the harness's \
             own epoll client one after the other against the same server process. Connections a \
             second and core are what one CPU-second of the client is good for; both spin, so \
             that is close to what they reach on their one CPU. A round is {ms} ms of each."
        ),
        cells: vec![Cell::new("both against one server", Work::Echo, move |bench, server| {
            measure(bench, server, ms)
        })],
        metrics: vec![
            Metric::higher("loadgen_rate", "loadgen: connections/s", Unit::PerSecond),
            Metric::higher("own_rate", "other: connections/s", Unit::PerSecond),
            Metric::higher("loadgen_per_core", "loadgen: per s and core", Unit::PerSecond),
            Metric::higher("own_per_core", "other: per s and core", Unit::PerSecond),
            Metric::lower("loadgen_cpu", "loadgen: CPU/connection", Unit::Nanoseconds),
            Metric::lower("own_cpu", "other: CPU/connection", Unit::Nanoseconds),
        ],
        most_rounds: 3,
        cpus: Cpus::OneEach,
        only: &["uring", "tokio", "mio"],
    }
}

fn measure(bench: &Bench, server: &Server, ms: u64) -> Result<Measured> {
    let seconds = ms as f64 / 1000.0;
    let args = format!("--concurrency {AT_ONCE} --messages 1 --observe none --duration {ms}ms");
    let loaded = bench.loadgen(server, &args)?;
    let cpu = loaded.result.generator.cpu.map(|cpu| cpu.cpu_ns as f64);
    let loadgen_cpu = cpu.and_then(|cpu| loaded.per_completed(cpu));
    let load = format!("--connections {AT_ONCE} --replace-after 1 --duration {ms}");
    let seen = bench.client(server, &load)?.finish()?;
    let count = seen.connections as f64;
    let own_cpu = (seen.connections > 0).then(|| seen.client_cpu_ns as f64 / count);
    let measured = loaded
        .outcome()
        .with("loadgen_rate", Some(loaded.completed() / seconds))
        .with("own_rate", Some(count / (seen.elapsed_ns as f64 / 1e9)))
        .with("loadgen_per_core", loadgen_cpu.map(|cpu| 1e9 / cpu))
        .with("own_per_core", own_cpu.map(|cpu| 1e9 / cpu))
        .with("loadgen_cpu", loadgen_cpu)
        .with("own_cpu", own_cpu);
    let server_failure = together([measured.server_failure.clone(), seen.stuck()]);
    Ok(Measured { server_failure, ..measured })
}
