//! What was measured, as data, and the three forms in which it is written.

mod markdown;
mod picture;
mod units;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Serialize, Serializer};

use crate::bench::Measured;
use crate::candidate::{Candidate, Role, SUBJECT};
use crate::machine::Machine;
use crate::stats::{FEWEST_ROUNDS, Spread};
use crate::tables::Metric;

/// Everything of one run; `versus.json` is this.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) schema_version: u32,
    pub(crate) machine: Machine,
    pub(crate) took_seconds: u64,
    pub(crate) candidates: Vec<Presence>,
    pub(crate) tables: Vec<TableResult>,
}

/// A candidate and whether it could be started here.
#[derive(Debug, Serialize)]
pub(crate) struct Presence {
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

#[derive(Debug, Serialize)]
pub(crate) struct Sample {
    pub(crate) round: usize,
    #[serde(flatten)]
    pub(crate) measured: Measured,
    pub(crate) failed: Option<String>,
}

/// What the rounds of one number come to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Number {
    pub(crate) spread: Spread,
    /// Enough rounds were clean, and the others are not in it.
    pub(crate) sound: bool,
}

impl Sample {
    pub(crate) fn measured(round: usize, measured: Measured) -> Self {
        Self { round, measured, failed: None }
    }

    pub(crate) fn failed(round: usize, why: String) -> Self {
        Self { round, measured: Measured::default(), failed: Some(why) }
    }

    /// Why it is not to be trusted, if so.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.failed.as_deref().or(self.measured.invalid.as_deref())
    }
}

impl Row {
    pub(crate) fn new(candidate: &'static Candidate) -> Self {
        Self { candidate, samples: Vec::new() }
    }

    /// Every round failed.
    fn is_empty(&self) -> bool {
        self.samples.iter().all(|sample| sample.failed.is_some())
    }

    /// Of the clean rounds if they are enough, else of all, and then it is not sound.
    pub(crate) fn number(&self, metric: &Metric) -> Option<Number> {
        let of = |sample: &Sample| sample.measured.values.get(metric.key).copied();
        let all: Vec<&Sample> = self
            .samples
            .iter()
            .filter(|sample| sample.failed.is_some() || of(sample).is_some())
            .collect();
        let clean: Vec<f64> =
            all.iter().filter(|it| it.trouble().is_none()).filter_map(|it| of(it)).collect();
        let sound = clean.len() >= FEWEST_ROUNDS || clean.len() * 2 >= all.len();
        let values = if sound { clean } else { all.iter().filter_map(|it| of(it)).collect() };
        Some(Number { spread: Spread::of(values)?, sound })
    }
}

impl CellResult {
    /// The best by `metric` of those that are `among`, and whose number is sound.
    fn best(
        &self,
        among: impl Fn(&Candidate) -> bool,
        metric: &Metric,
    ) -> Option<(&'static str, Spread)> {
        let rows = self.rows.iter().filter(|row| among(row.candidate));
        let numbers = rows.filter_map(|row| Some((row.candidate.name, row.number(metric)?)));
        let sound = numbers.filter(|(_, number)| number.sound);
        metric.better.best(sound.map(|(name, number)| (name, number.spread)))
    }

    fn of(&self, name: &str, metric: &Metric) -> Option<Number> {
        self.rows.iter().find(|row| row.candidate.name == name)?.number(metric)
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
mod tests {
    use super::*;
    use crate::candidate::CANDIDATES;
    use crate::stats::Better;
    use crate::tables::Unit;

    const METRIC: Metric = Metric {
        key: "x",
        title: "x",
        unit: Unit::Plain,
        better: Better::Lower,
        compared: true,
        drawn: false,
    };

    /// The number of rounds with these values, of which some are marked.
    fn number(rounds: &[(f64, bool)]) -> Option<Number> {
        let mut row = Row::new(&CANDIDATES[0]);
        for (round, (value, marked)) in rounds.iter().enumerate() {
            let measured = Measured::default().with(METRIC.key, Some(*value));
            let invalid = marked.then(|| "why".to_owned());
            row.samples.push(Sample::measured(round, Measured { invalid, ..measured }));
        }
        row.number(&METRIC)
    }

    #[test]
    fn marked_rounds_stay_out_where_enough_are_clean() {
        let number =
            number(&[(1.0, false), (2.0, false), (3.0, false), (90.0, true), (91.0, true)]);
        let number = number.expect("a number");
        assert!(number.sound);
        assert_eq!((number.spread.median, number.spread.rounds), (2.0, 3));
    }

    #[test]
    fn with_too_few_clean_rounds_the_number_is_of_all_and_not_sound() {
        let number = number(&[(1.0, false), (5.0, true), (9.0, true)]).expect("a number");
        assert!(!number.sound);
        assert_eq!((number.spread.median, number.spread.rounds), (5.0, 3));
    }

    #[test]
    fn a_row_whose_rounds_all_failed_is_empty() {
        let mut row = Row::new(&CANDIDATES[0]);
        row.samples.push(Sample::failed(0, "why".to_owned()));
        assert!(row.is_empty());
    }
}
