//! What was measured, as data, and the three forms in which it is written.

mod markdown;
mod picture;
mod units;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use loadgen::analyse::statistics::{Comparison, Summary, compare_paired};
use serde::{Serialize, Serializer};

use crate::candidate::{Candidate, Role, SUBJECT};
use crate::machine::Machine;
use crate::sample::Sample;
use crate::tables::Metric;

/// Everything of one run; `versus.json` is this.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) schema_version: u32,
    pub(crate) machine: Machine,
    pub(crate) took_seconds: u64,
    pub(crate) candidates: Vec<Availability>,
    pub(crate) tables: Vec<TableResult>,
}

/// A candidate and whether it could be started here.
#[derive(Debug, Serialize)]
pub(crate) struct Availability {
    pub(crate) name: &'static str,
    pub(crate) role: Role,
    pub(crate) about: &'static str,
    pub(crate) command: String,
    pub(crate) version: Option<String>,
    /// Why it is in no table.
    pub(crate) missing: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct TableResult {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) about: String,
    pub(crate) metrics: Vec<Metric>,
    pub(crate) cells: Vec<CellResult>,
}

#[derive(Debug, Serialize)]
pub(crate) struct CellResult {
    pub(crate) name: String,
    pub(crate) rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Row {
    #[serde(serialize_with = "name_of")]
    pub(crate) candidate: &'static Candidate,
    pub(crate) samples: Vec<Sample>,
}

/// What the rounds of one number come to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Number {
    pub(crate) summary: Summary,
    /// Enough rounds were measured, and the void ones are not in it.
    pub(crate) sound: bool,
}

/// As many make a number, whatever happened to the other rounds.
const ROUNDS_ENOUGH: usize = 3;

impl Row {
    pub(crate) fn new(candidate: &'static Candidate) -> Self {
        Self { candidate, samples: Vec::new() }
    }

    /// Nothing was measured in any round.
    fn is_empty(&self) -> bool {
        self.samples.iter().all(|sample| sample.measured.values.is_empty())
    }

    /// Connections that the server lost in all rounds.
    fn lost(&self) -> u64 {
        self.samples.iter().map(|sample| sample.measured.lost).sum()
    }

    /// The server did what it was asked to do in every round that counts.
    fn is_reliable(&self) -> bool {
        !self.samples.iter().any(|sample| sample.has_failed() && !sample.is_void())
    }

    /// Of the rounds that are not void if they are enough, else of all, and then it is not sound.
    pub(crate) fn number(&self, metric: &Metric) -> Option<Number> {
        let of = |sample: &&Sample| sample.measured.values.get(metric.key).copied();
        let all: Vec<&Sample> = self
            .samples
            .iter()
            .filter(|sample| sample.measured.values.is_empty() || of(sample).is_some())
            .collect();
        let values: Vec<f64> = all
            .iter()
            .copied()
            .filter(|sample| !sample.is_void())
            .filter_map(|it| of(&it))
            .collect();
        let sound = values.len() >= ROUNDS_ENOUGH || values.len() * 2 >= all.len();
        let values = if sound { values } else { all.iter().filter_map(of).collect() };
        Some(Number { summary: Summary::of(values)?, sound })
    }

    /// Round by round with `other`; a round that is void for one of them is void for both.
    pub(crate) fn compare(&self, other: &Self, metric: &Metric) -> Comparison {
        let valid = self.samples.iter().filter(|sample| !sample.is_void());
        let rounds: Vec<(&Sample, &Sample)> =
            valid.filter_map(|sample| Some((sample, other.valid(sample.round)?))).collect();
        let value = |sample: &Sample| sample.measured.values.get(metric.key).copied();
        let pairs: Vec<(f64, f64)> =
            rounds.iter().filter_map(|(one, other)| value(one).zip(value(other))).collect();
        let resolution = |sample: &Sample| sample.measured.resolutions.get(metric.key).copied();
        let coarser = |one, other| {
            resolution(one).into_iter().chain(resolution(other)).max_by(f64::total_cmp)
        };
        let resolutions = Summary::of(rounds.iter().filter_map(|(one, other)| coarser(one, other)));
        compare_paired(&pairs, resolutions.map_or(0.0, |it| it.median))
    }

    fn valid(&self, round: usize) -> Option<&Sample> {
        self.samples.iter().find(|sample| sample.round == round && !sample.is_void())
    }
}

impl CellResult {
    /// The best by `metric` of those that are `among`, whose number is sound and who never failed.
    fn best(&self, among: impl Fn(&Candidate) -> bool, metric: &Metric) -> Option<(&Row, Summary)> {
        let rows = self.rows.iter().filter(|row| among(row.candidate) && row.is_reliable());
        let numbers = rows.filter_map(|row| Some((row, row.number(metric)?)));
        let sound = numbers.filter(|(_, number)| number.sound);
        metric.better.best(sound.map(|(row, number)| (row, number.summary)))
    }

    fn of(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.candidate.name == name)
    }
}

fn name_of<S: Serializer>(candidate: &&Candidate, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(candidate.name)
}

impl Report {
    /// Who was not measured, and where, of those who should have been: our server if none is
    /// `named`, else each of these.
    pub(crate) fn lacking(&self, named: &[String]) -> Vec<String> {
        let wanted = |name: &str| match named {
            [] => name == SUBJECT,
            _ => named.iter().any(|it| it == name),
        };
        let missing = self.candidates.iter().filter(|one| one.missing.is_some());
        let missing = missing.map(|one| (one.name, "could not be started".to_owned()));
        let rows = self.tables.iter().flat_map(|table| {
            let of = move |cell| (table, cell);
            table.cells.iter().map(of)
        });
        let empty = rows.flat_map(|(table, cell)| {
            let empty = cell.rows.iter().filter(|row| row.is_empty());
            empty.map(|row| (row.candidate.name, format!("in {}, {}", table.name, cell.name)))
        });
        let all = missing.chain(empty).filter(|(name, _)| wanted(name));
        all.map(|(name, where_)| format!("{name} {where_}")).collect()
    }

    /// Writes `versus.json`, `versus.md` and a picture per table into `folder`; returns the text.
    ///
    /// # Errors
    /// The folder or a file cannot be written.
    pub(crate) fn write(&self, folder: &Path) -> Result<String> {
        let failed = || format!("writing the results into {}", folder.display());
        fs::create_dir_all(folder).with_context(failed)?;
        let text = markdown::of(self);
        let mut json = serde_json::to_string(self)?;
        json.push('\n');
        fs::write(folder.join("versus.json"), json).with_context(failed)?;
        fs::write(folder.join("versus.md"), &text).with_context(failed)?;
        for table in &self.tables {
            if let Some(picture) = picture::of(table) {
                fs::write(folder.join(format!("{}.svg", table.name)), picture)
                    .with_context(failed)?;
            }
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests;
