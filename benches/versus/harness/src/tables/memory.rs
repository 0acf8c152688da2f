//! What an idle connection weighs.

use anyhow::Result;

use super::{Cell, Effort, Metric, Table, Unit, millis};
use crate::bench::{Bench, Measured};
use crate::process;
use crate::server::{Server, Work};

pub(super) fn table(effort: Effort) -> Table {
    let connections = effort.either(1000, 10_000);
    let name = format!("{connections} idle connections");
    Table {
        name: "memory",
        title: "Memory of idle connections",
        about: "`loadgen hold`: every connection echoes once and then stays open. Resident memory \
                is the server process's; per connection, what it grew by since it started. Kernel \
                slab is the whole machine's growth: both ends of each connection, and the client's \
                descriptors."
            .to_owned(),
        cells: vec![Cell::new(name, Work::Echo, move |bench, server| {
            measure(bench, server, connections)
        })],
        metrics: vec![
            Metric::lower("grown", "resident/connection", Unit::Bytes),
            Metric::lower("resident", "resident, all open", Unit::Bytes).drawn(),
            Metric::lower("slab", "kernel slab/connection", Unit::Bytes),
        ],
        most_rounds: 3,
        only: &[],
    }
}

fn measure(bench: &Bench, server: &Server, connections: u32) -> Result<Measured> {
    let fresh = process::resident_bytes(server.id())? as f64;
    let args = format!("--connections {connections} --duration 1s");
    let held = bench.loadgen_command("hold", server, &args, millis(60_000))?;
    let number = |pointer| held.pointer(pointer).and_then(serde_json::Value::as_f64);
    let resident = number("/after/rss_kib").map(|kib| kib * 1024.0);
    let opened = number("/opened").filter(|opened| *opened > 0.0);
    let grown = resident.zip(opened).map(|(all, opened)| (all - fresh).max(0.0) / opened);
    let lost = number("/lost").unwrap_or(0.0);
    let complete = lost == 0.0 && opened == Some(f64::from(connections));
    let invalid = format!("{} opened, {lost} lost", opened.unwrap_or(0.0));
    let measured = Measured::default()
        .with("grown", grown)
        .with("resident", resident)
        .with("slab", number("/bytes_per_connection/kernel_slab"));
    Ok(Measured { invalid: (!complete).then_some(invalid), ..measured })
}
