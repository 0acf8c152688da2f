//! The order of measurements: cell by cell, and within a cell round by round through all
//! candidates, beginning with another one each round and every other round backwards, each with a
//! fresh server.

use anyhow::Result;

use crate::bench::{Bench, Measured};
use crate::candidate::Candidate;
use crate::report::{CellResult, Row, Sample, TableResult};
use crate::server::Server;
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
            go_round(bench, cell, &cell.measure, &mut rows, round)?;
        }
        if let Some(apart) = &cell.apart {
            eprintln!("{}: {}, apart", table.name, cell.name);
            go_round(bench, cell, apart, &mut rows, rounds)?;
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
    cell: &Cell,
    measure: &Measure,
    rows: &mut [Row],
    round: usize,
) -> Result<()> {
    for index in order(rows.len(), round) {
        let row = &mut rows[index];
        let outcome = once(bench, cell, measure, row.candidate);
        stop::check()?;
        let sample = match outcome {
            Ok(measured) => Sample::measured(round, measured),
            Err(error) => Sample::failed(round, format!("{error:#}")),
        };
        if let Some(trouble) = sample.trouble() {
            eprintln!("  {}: {trouble}", row.candidate.name);
        }
        row.samples.push(sample);
    }
    Ok(())
}

fn once(bench: &Bench, cell: &Cell, measure: &Measure, candidate: &Candidate) -> Result<Measured> {
    let mut server = Server::start(candidate, cell.work, &bench.programs, &bench.place)?;
    let measured = measure(bench, &server);
    server.check()?;
    measured
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
