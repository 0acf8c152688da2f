//! How long connections wait to be accepted, at planned rates.

use anyhow::Result;
use loadgen::model::outcome::Phase;

use super::{Cell, Effort, Metric, Table, Unit};
use crate::bench::Bench;
use crate::loadgen_result::Pick;
use crate::sample::{Measured, together};
use crate::server::{Cpus, Server, Work};

/// Connections that echo beside the measured ones, and their messages per second altogether.
const BESIDE: usize = 200;
const BESIDE_RATE: u32 = 4000;
/// With a smaller share of them the load was another one.
const BESIDE_LEAST: f64 = 0.95;
/// Accepts of which one in a thousand can be told.
const ENOUGH: f64 = 1000.0;
/// The background begins before and ends after the measured load by this.
const MARGIN_MS: u64 = 600;

/// Whoever is not accepted by then counts as never accepted, and the run ends.
const TIMEOUT: &str = "2s";

/// What is told of the delays.
const QUANTILES: [(&str, Pick); 5] = [
    ("p50", |it| it.p50),
    ("p90", |it| it.p90),
    ("p99", |it| it.p99),
    ("p99_9", |it| it.p99_9),
    ("max", |it| it.max),
];

pub(super) fn table(effort: Effort) -> Table {
    let rates: &[(u32, u64)] =
        effort.either(&[(3000, 500)], &[(500, 800), (3000, 600), (10_000, 400)]);
    let lengths: Vec<String> =
        rates.iter().map(|(rate, ms)| format!("{ms} ms at {rate}/s")).collect();
    let lengths = lengths.join(", ");
    let alone = rates.iter().map(|&(rate, ms)| {
        let measure = move |bench: &Bench, server: &Server| measure(bench, server, rate, ms);
        Cell::new(format!("{rate} connections/s"), Work::Accept, measure)
    });
    let beside = rates.iter().map(|&(rate, ms)| {
        let name = format!("{rate} connections/s beside {BESIDE} that echo");
        Cell::new(name, Work::Echo, move |bench, server| measure_beside(bench, server, rate, ms))
    });
    Table {
        name: "accept",
        title: "Accept delay",
        about: format!(
            "From connect() being called to the server's accept, for connections opened at a fixed \
             rate by loadgen, which watches the kernel's socket table (`--observe diag`): the same \
             ruler for all. Beside {BESIDE} echoing connections means 512-byte messages at \
             {BESIDE_RATE} a second altogether, from the same client CPU. A round is {lengths}; \
             p99.9 is told from 1,000 accepts on."
        ),
        cells: alone.chain(beside).collect(),
        metrics: vec![
            Metric::lower("p50", "p50", Unit::Nanoseconds).drawn(),
            Metric::lower("p90", "p90", Unit::Nanoseconds),
            Metric::lower("p99", "p99", Unit::Nanoseconds).compared(),
            Metric::lower("p99_9", "p99.9", Unit::Nanoseconds),
            Metric::lower("max", "max", Unit::Nanoseconds),
            Metric::lower("cores", "cores used", Unit::Plain),
            Metric::higher("echoes_beside", "echoes/s beside", Unit::PerSecond),
        ],
        most_rounds: usize::MAX,
        cpus: Cpus::OneEach,
        only: &[],
    }
}

fn measure(bench: &Bench, server: &Server, rate: u32, ms: u64) -> Result<Measured> {
    let args =
        format!("--rate {rate} --duration {ms}ms --messages 0 --observe diag --timeout {TIMEOUT}");
    let loaded = bench.loadgen(server, &args)?;
    let accepted = loaded.of(Phase::AcceptDelay, |it| Some(it.count));
    let enough = accepted.is_some_and(|count| count >= ENOUGH);
    let shown = QUANTILES.iter().filter(|(name, _)| enough || *name != "p99_9");
    let measured = shown.fold(loaded.outcome(), |measured, &(name, pick)| {
        // The longer a delay, the wider the bracket around its accept: like with like.
        let [delay, resolution] =
            [Phase::AcceptDelay, Phase::DiagResolution].map(|phase| loaded.of(phase, pick));
        measured.with_resolution(name, delay, resolution)
    });
    Ok(measured
        .with("cores", loaded.cores)
        .with("generator_lag_p99", loaded.of(Phase::GeneratorLag, |it| it.p99))
        .with("accepted", accepted))
}

fn measure_beside(bench: &Bench, server: &Server, rate: u32, ms: u64) -> Result<Measured> {
    let length = ms + MARGIN_MS;
    let load = format!(
        "--connections {BESIDE} --size 512 --rate {BESIDE_RATE} --warmup 0 --duration {length}"
    );
    let background = bench.client(server, &load)?;
    let measured = measure(bench, server, rate, ms);
    let seen = background.finish()?;
    let echoes = seen.messages as f64 / (seen.elapsed_ns as f64 / 1e9);
    let short = (echoes < BESIDE_LEAST * f64::from(BESIDE_RATE))
        .then(|| format!("background: {echoes:.0} of {BESIDE_RATE} echoes/s"));
    let measured = measured?.with("echoes_beside", Some(echoes));
    Ok(Measured {
        generator_failure: together([measured.generator_failure.clone(), short]),
        server_failure: together([measured.server_failure.clone(), seen.stuck()]),
        ..measured
    })
}
