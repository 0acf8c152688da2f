//! What an idle connection weighs.

use std::thread;

use anyhow::{Context, Result};

use super::{Cell, Effort, Metric, Table, Unit, millis};
use crate::bench::{Bench, GeneratorFailed};
use crate::process;
use crate::sample::Measured;
use crate::server::{Cpus, Server, Work};

const SHRUNK: &str = "kernel slab shrank meanwhile, for other reasons: no number";
/// The kernel frees what the server before this one had only after a while.
const SETTLING_MS: u64 = 500;

pub(super) fn table(effort: Effort) -> Table {
    let connections = effort.either(3000, 10_000);
    let name = format!("{connections} idle connections");
    Table {
        name: "memory",
        title: "Memory of idle connections",
        about: "`loadgen hold`: every connection echoes once and then stays open. Resident memory \
                is the server process's; per connection, what it grew by since it started. Kernel \
                slab is the whole machine's growth: both ends of each connection."
            .to_owned(),
        cells: vec![Cell::new(name, Work::Echo, move |bench, server| {
            measure(bench, server, connections)
        })],
        metrics: vec![
            Metric::lower("grown", "resident/connection", Unit::Bytes),
            Metric::lower("resident", "resident, all open", Unit::Bytes).drawn(),
            Metric::lower("slab", "kernel slab/connection", Unit::Bytes),
        ],
        most_rounds: usize::MAX,
        cpus: Cpus::OneEach,
        only: &[],
    }
}

fn measure(bench: &Bench, server: &Server, connections: u32) -> Result<Measured> {
    thread::sleep(millis(SETTLING_MS));
    let fresh = process::resident_bytes(server.id())? as f64;
    let args = format!("--connections {connections} --duration 1s");
    let result = bench.loadgen_command("hold", server, &args, millis(60_000))?;
    let held = result.hold.context("no part of hold").context(GeneratorFailed)?;
    let resident = held.after.rss_kib.map(|kib| kib as f64 * 1024.0);
    let opened = Some(f64::from(held.opened)).filter(|opened| *opened > 0.0);
    let grown = resident.zip(opened).map(|(all, opened)| (all - fresh).max(0.0) / opened);
    let missing = connections - held.opened;
    let failure = (missing + held.lost > 0)
        .then(|| format!("lost: {missing} not opened, {} closed by the server", held.lost));
    let slab = Some(held.bytes_per_connection.kernel_slab);
    let shrunk = slab.filter(|slab| *slab <= 0.0).map(|_| SHRUNK.to_owned());
    let measured = Measured::default()
        .with("grown", grown)
        .with("resident", resident)
        .with("slab", slab.filter(|slab| *slab > 0.0));
    let notes = shrunk.into_iter().collect();
    Ok(Measured { lost: (missing + held.lost).into(), server_failure: failure, notes, ..measured })
}
