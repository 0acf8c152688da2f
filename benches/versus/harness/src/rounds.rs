//! The order of measurements: cell by cell, and within a cell round by round through all
//! candidates, beginning with another one each round, each with a fresh server.

use crate::bench::{Bench, Measured};
use crate::candidate::Candidate;
use crate::report::{CellResult, Row, Sample, TableResult};
use crate::server::Server;
use crate::tables::{Cell, Measure, Table};

/// Measures all cells of `table`.
pub(crate) fn measure(
    bench: &Bench,
    table: Table,
    candidates: &[&'static Candidate],
    rounds: usize,
) -> TableResult {
    let rounds = rounds.min(table.most_rounds);
    let cells = table.cells.iter().map(|cell| {
        let serving = candidates.iter().copied().filter(|one| table.serves(one, cell));
        let mut rows: Vec<Row> = serving.map(Row::new).collect();
        for round in 0..rounds {
            eprintln!("{}: {}, round {} of {rounds}", table.name, cell.name, round + 1);
            go_round(bench, cell, &cell.measure, &mut rows, round);
        }
        if let Some(apart) = &cell.apart {
            eprintln!("{}: {}, apart", table.name, cell.name);
            go_round(bench, cell, apart, &mut rows, rounds);
        }
        CellResult { name: cell.name.clone(), rows }
    });
    let cells = cells.collect();
    TableResult {
        name: table.name,
        title: table.title,
        about: table.about,
        metrics: table.metrics,
        cells,
    }
}

fn go_round(bench: &Bench, cell: &Cell, measure: &Measure, rows: &mut [Row], round: usize) {
    for index in rotated(rows.len(), round) {
        let row = &mut rows[index];
        let sample = match once(bench, cell, measure, row.candidate) {
            Ok(measured) => Sample::measured(round, measured),
            Err(error) => Sample::failed(round, format!("{error:#}")),
        };
        if let Some(trouble) = sample.trouble() {
            eprintln!("  {}: {trouble}", row.candidate.name);
        }
        row.samples.push(sample);
    }
}

fn once(
    bench: &Bench,
    cell: &Cell,
    measure: &Measure,
    candidate: &Candidate,
) -> anyhow::Result<Measured> {
    let mut server = Server::start(candidate, cell.work, &bench.programs, &bench.place)?;
    let measured = measure(bench, &server);
    server.check()?;
    measured
}

/// All indices below `count`, from another one on each round.
fn rotated(count: usize, round: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |index| (index + round) % count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_round_begins_with_another() {
        assert_eq!(rotated(3, 0).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(rotated(3, 4).collect::<Vec<_>>(), [1, 2, 0]);
        assert_eq!(rotated(0, 1).count(), 0);
    }
}
