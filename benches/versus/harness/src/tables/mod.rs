//! The tables: which cells each has, which numbers it shows and how they are measured.

mod accept;
mod churn;
mod classic;
mod clients;
mod echo;
mod latency;
mod memory;
mod torture;

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::bench::Bench;
use crate::candidate::Candidate;
use crate::sample::Measured;
use crate::server::{Cpus, Server, Work};
use crate::standing::Better;

/// How much time may be spent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    quick: bool,
}

impl Effort {
    pub(crate) fn quick() -> Self {
        Self { quick: true }
    }

    pub(crate) fn full() -> Self {
        Self { quick: false }
    }

    pub(crate) fn rounds(self) -> usize {
        self.either(1, 6)
    }

    fn either<T>(self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }
}

/// What a number counts, for how it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    Nanoseconds,
    PerSecond,
    Bytes,
    BytesPerSecond,
    Plain,
}

/// One number of every cell.
#[derive(Debug, Serialize)]
pub(crate) struct Metric {
    pub(crate) key: &'static str,
    pub(crate) title: &'static str,
    pub(crate) unit: Unit,
    pub(crate) better: Better,
    /// Its ratios to the best peer and to the floor are shown.
    pub(crate) compared: bool,
    /// It is what the table's picture shows.
    pub(crate) drawn: bool,
}

impl Metric {
    const fn lower(key: &'static str, title: &'static str, unit: Unit) -> Self {
        Self { key, title, unit, better: Better::Lower, compared: false, drawn: false }
    }

    const fn higher(key: &'static str, title: &'static str, unit: Unit) -> Self {
        Self { better: Better::Higher, ..Self::lower(key, title, unit) }
    }

    const fn compared(self) -> Self {
        Self { compared: true, ..self }
    }

    const fn drawn(self) -> Self {
        Self { drawn: true, compared: true, ..self }
    }
}

pub(crate) type Measure = Box<dyn Fn(&Bench, &Server) -> Result<Measured>>;

/// One load; every candidate that can serve it is measured under it.
pub(crate) struct Cell {
    pub(crate) name: String,
    pub(crate) work: Work,
    pub(crate) measure: Measure,
    /// What is measured once more after the rounds, because it disturbs the others.
    pub(crate) apart: Option<Measure>,
}

impl Cell {
    fn new(
        name: impl Into<String>,
        work: Work,
        measure: impl Fn(&Bench, &Server) -> Result<Measured> + 'static,
    ) -> Self {
        Self { name: name.into(), work, measure: Box::new(measure), apart: None }
    }
}

pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// What the numbers mean, for who reads only the table.
    pub(crate) about: String,
    pub(crate) cells: Vec<Cell>,
    pub(crate) metrics: Vec<Metric>,
    /// More rounds than this would tell nothing new.
    pub(crate) most_rounds: usize,
    pub(crate) cpus: Cpus,
    /// Candidates it is restricted to; all if none is named.
    pub(crate) only: &'static [&'static str],
}

impl Table {
    /// Whether `candidate` is in this table at all.
    pub(crate) fn admits(&self, candidate: &Candidate) -> bool {
        if self.cpus == Cpus::All && candidate.free.is_empty() {
            return false;
        }
        let wanted = candidate.tables.is_empty() || candidate.tables.contains(&self.name);
        wanted && (self.only.is_empty() || self.only.contains(&candidate.name))
    }

    /// Whether `candidate` can serve the load of `cell`.
    pub(crate) fn serves(&self, candidate: &Candidate, cell: &Cell) -> bool {
        self.admits(candidate) && (cell.work == Work::Accept || candidate.echoes)
    }
}

/// Every table, in the order in which they are measured and shown.
pub(crate) fn all(effort: &Effort) -> Vec<Table> {
    vec![
        accept::table(*effort),
        churn::table(*effort),
        echo::grid(*effort),
        echo::streams(*effort),
        memory::table(*effort),
        latency::table(*effort),
        clients::table(*effort),
        classic::table(*effort),
        torture::table(*effort),
    ]
}

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_draws_one_number_at_most_and_has_cells() {
        for effort in [Effort::quick(), Effort::full()] {
            for table in all(&effort) {
                let drawn = table.metrics.iter().filter(|metric| metric.drawn).count();
                assert!(drawn <= 1, "{}", table.name);
                assert!(!table.cells.is_empty(), "{}", table.name);
            }
        }
    }
}
