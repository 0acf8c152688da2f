//! Connections that come and go as fast as the client can make them.

use anyhow::Result;

use super::{Cell, Effort, Metric, Table, Unit};
use crate::bench::Bench;
use crate::sample::Measured;
use crate::server::{Cpus, Server, Work};

const AT_ONCE: u32 = 16;

pub(super) fn table(effort: Effort) -> Table {
    let ms = effort.either(300, 500);
    let cell = |name, work, load: &'static str| {
        Cell::new(name, work, move |bench, server| measure(bench, server, load, ms))
    };
    Table {
        name: "churn",
        title: "Connection churn",
        about: format!(
            "loadgen keeps {AT_ONCE} connections going, each replaced when it ends, all closed by \
             the client with a reset. One client CPU cannot exhaust a server, so the rate is \
             the pair's; the server's CPU time per connection is the server's own. A server that \
             spins is charged for its spinning too, while the load is on. A round is {ms} ms."
        ),
        cells: vec![
            cell("accept, then reset", Work::Accept, "--messages 0 --observe diag"),
            cell("accept, echo 64 bytes, then reset", Work::Echo, "--messages 1 --observe none"),
        ],
        metrics: vec![
            Metric::lower("cpu", "server CPU/connection", Unit::Nanoseconds).drawn(),
            Metric::higher("rate", "connections/s", Unit::PerSecond).compared(),
            Metric::lower("cores", "server cores", Unit::Plain),
        ],
        most_rounds: usize::MAX,
        cpus: Cpus::OneEach,
        only: &[],
    }
}

fn measure(bench: &Bench, server: &Server, load: &str, ms: u64) -> Result<Measured> {
    let args = format!("--concurrency {AT_ONCE} --duration {ms}ms {load}");
    let loaded = bench.loadgen(server, &args)?;
    let seconds = ms as f64 / 1000.0;
    let cpu = loaded.cores.and_then(|cores| loaded.per_completed(cores * seconds * 1e9));
    Ok(loaded
        .outcome()
        .with("cpu", cpu)
        .with("rate", Some(loaded.completed() / seconds))
        .with("cores", loaded.cores))
}
