//! The order of measurements: cell by cell, and within a cell round by round through all
//! candidates, beginning with another one each round and every other round backwards, each with a
//! fresh server.

use anyhow::{Error, Result};

use crate::bench::{Bench, GeneratorFailed};
use crate::candidate::Candidate;
use crate::report::{CellResult, Row, TableResult};
use crate::sample::{Measured, Sample};
use crate::server::{Cpus, Server};
use crate::stop;
use crate::tables::{Cell, Measure, Table};

/// Measures all cells of `table`.
///
/// # Errors
/// A signal has come.
pub(crate) fn measure(
    bench: &Bench,
    table: Table,
    candidates: &[&'static Candidate],
    rounds: usize,
) -> Result<TableResult> {
    let rounds = rounds.min(table.most_rounds);
    let mut cells = Vec::new();
    for cell in &table.cells {
        let serving = candidates.iter().copied().filter(|one| table.serves(one, cell));
        let mut rows: Vec<Row> = serving.map(Row::new).collect();
        for round in 0..rounds {
            eprintln!("{}: {}, round {} of {rounds}", table.name, cell.name, round + 1);
            go_round(bench, (cell, table.cpus), &cell.measure, &mut rows, round)?;
        }
        if let Some(apart) = &cell.apart {
            eprintln!("{}: {}, apart", table.name, cell.name);
            go_round(bench, (cell, table.cpus), apart, &mut rows, rounds)?;
        }
        cells.push(CellResult { name: cell.name.clone(), rows });
    }
    Ok(TableResult {
        name: table.name,
        title: table.title,
        about: table.about,
        metrics: table.metrics,
        cells,
    })
}

fn go_round(
    bench: &Bench,
    scene: (&Cell, Cpus),
    measure: &Measure,
    rows: &mut [Row],
    round: usize,
) -> Result<()> {
    for index in order(rows.len(), round) {
        let row = &mut rows[index];
        let measured = once(bench, scene, measure, row.candidate);
        stop::check()?;
        let sample = Sample { round, measured };
        for (whose, why) in sample.failures() {
            eprintln!("  {}: {whose}: {why}", row.candidate.name);
        }
        row.samples.push(sample);
    }
    Ok(())
}

fn once(
    bench: &Bench,
    (cell, cpus): (&Cell, Cpus),
    measure: &Measure,
    candidate: &Candidate,
) -> Measured {
    let server = Server::start(candidate, cell.work, cpus, &bench.programs, &bench.place);
    let mut server = match server {
        Ok(server) => server,
        Err(error) => return failed_by_server(&error),
    };
    let measured = measure(bench, &server);
    match (server.check(), measured) {
        (Err(error), _) => failed_by_server(&error),
        (Ok(()), Ok(measured)) => measured,
        (Ok(()), Err(error)) if error.is::<GeneratorFailed>() => {
            Measured { generator_failure: Some(format!("{error:#}")), ..Measured::default() }
        }
        (Ok(()), Err(error)) => failed_by_server(&error),
    }
}

fn failed_by_server(error: &Error) -> Measured {
    Measured { server_failure: Some(format!("{error:#}")), ..Measured::default() }
}

/// All indices below `count`, from another one on each round, and every other round backwards:
/// nobody always follows the same one.
fn order(count: usize, round: usize) -> impl Iterator<Item = usize> {
    let step = move |index| if round.is_multiple_of(2) { index } else { count - 1 - index };
    (0..count).map(move |index| (step(index) + round) % count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_round_begins_with_another_and_goes_the_other_way() {
        assert_eq!(order(4, 0).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(order(4, 1).collect::<Vec<_>>(), [0, 3, 2, 1]);
        assert_eq!(order(4, 2).collect::<Vec<_>>(), [2, 3, 0, 1]);
        assert_eq!(order(0, 1).count(), 0);
    }
}
