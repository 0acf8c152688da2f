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
use crate::stats::Spread;
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

    pub(crate) fn spread(&self, metric: &Metric) -> Option<Spread> {
        let values =
            self.samples.iter().filter_map(|sample| sample.measured.values.get(metric.key));
        Spread::of(values.copied())
    }
}

impl CellResult {
    /// The best of a role by `metric`.
    fn best(&self, role: Role, metric: &Metric) -> Option<(&'static str, Spread)> {
        let rows = self.rows.iter().filter(|row| row.candidate.role == role);
        let spreads = rows.filter_map(|row| Some((row.candidate.name, row.spread(metric)?)));
        metric.better.best(spreads)
    }

    fn subject(&self, metric: &Metric) -> Option<Spread> {
        self.rows.iter().find(|row| row.candidate.name == SUBJECT)?.spread(metric)
    }
}

fn name_of<S: Serializer>(candidate: &&Candidate, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(candidate.name)
}

impl Report {
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
