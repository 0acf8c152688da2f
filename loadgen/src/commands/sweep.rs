//! `loadgen sweep`: a run per cell and round, in turns, and what came of them side by side.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::{Args, Command, CommandFactory, Parser};
use uring_echo::cli::ServeArgs;

use super::child_run::{ChildError, ChildRun, folder_of, inherited, typed};
use super::envelope::{Destination, envelope};
use super::exit::ExitStatus;
use super::run::options::{self, ConfigError};
use crate::analyse::sweep::summarise;
use crate::cli::run::RunArgs;
use crate::cli::sweep::{Over, Rates, SWEEP_FLAGS, SweepArgs};
use crate::cli::{self, Cli};
use crate::model::result::{Kind, RunResult};
use crate::model::sweep::{Sweep, SweepCell};
use crate::model::verdict::Verdict;
use crate::plan::matrix::{Cell, Dimension, cells, turns};
use crate::render::output::{self, Output, OutputError};
use crate::render::{picture, progress, terminal};
use crate::sys::signals::StopFlag;

/// Why there is no sweep.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The arguments do not go together. A usage error.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A cell would be no run, or no server. A usage error.
    #[error("{cell}: {cause}")]
    Cell {
        /// Which one.
        cell: String,
        /// What the flags' parser says.
        cause: String,
    },
    /// A flag to vary that there is not. A usage error.
    #[error("--over {flag}: {cause}")]
    UnknownFlag {
        /// Which flag.
        flag: String,
        /// Why not.
        cause: &'static str,
    },
    /// The folder belongs to another sweep. A usage error.
    #[error("{0}")]
    OtherSweep(String),
    /// A file cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The system refused something.
    #[error("running the sweep")]
    System(#[from] io::Error),
}

impl SweepError {
    /// Whether what was typed is at fault.
    pub fn is_usage(&self) -> bool {
        !matches!(self, Self::Output(_) | Self::System(_))
    }
}

/// Measures what is not measured yet, and reports all of it.
///
/// # Errors
/// [`SweepError`] where nothing was measured, or what was cannot be reported.
pub fn execute(args: &SweepArgs) -> Result<ExitStatus, SweepError> {
    let began = SystemTime::now();
    let matrix = Matrix::of(args)?;
    let stop = StopFlag::on_signals(ExitStatus::Interrupted as i32)?;
    let out = args.run.out.clone().unwrap_or_else(|| folder_of_now(began));
    output::make_folder(&out)?;
    let destination = Destination::open(None, args.run.json.as_deref())?;
    let files = Files::open(&out)?;
    let measured = matrix.measure(&out, args, &stop)?;
    let mut swept = measured.into_result(args, began, stop.is_set());
    destination.print_report(&swept.result)?;
    let written = files.write(&mut swept, &matrix.title());
    let mut result = swept.result;
    if !destination.json_alone() {
        output::print(&terminal::afterwards(&[], &written, output::style_of_stdout()))?;
    }
    destination.finish(&mut result)?;
    let missed = result.sweep.iter().flat_map(|sweep| &sweep.cells).any(|it| it.slo_missed > 0);
    Ok(match ExitStatus::of(&result) {
        ExitStatus::Fine if missed => ExitStatus::SloMissed,
        status => status,
    })
}

fn folder_of_now(began: SystemTime) -> PathBuf {
    let date = humantime::format_rfc3339_seconds(began).to_string().replace(['-', ':'], "");
    format!("sweep-{date}").into()
}

/// The cells with the arguments of their runs.
struct Matrix {
    cells: Vec<Cell>,
    /// Of the runs of all cells.
    common: Vec<String>,
    seed: u64,
    rounds: u32,
    server: Vec<String>,
    /// Flags that go to the run instead of the server.
    of_run: Vec<String>,
}

impl Matrix {
    /// Every cell is parsed as it will be by its run: what is wrong is known now.
    fn of(args: &SweepArgs) -> Result<Self, SweepError> {
        options::of_many_runs(&args.run)?;
        let own = [&SWEEP_FLAGS[..], &["--seed"]].concat();
        let mut common = inherited(&typed(), &own);
        common.retain(|argument| argument != "--quiet");
        let rates = args.rates.iter().map(|Rates(rates)| dimension_of_rates(rates));
        let over = args
            .over
            .iter()
            .map(|Over { flag, values }| Dimension { flag: flag.clone(), values: values.clone() });
        let mut of_run = vec!["rate".to_owned()];
        for Over { flag, .. } in &args.over {
            if belongs_to_run(flag, args.run.addr.is_some())? {
                of_run.push(flag.clone());
            }
        }
        let matrix = Self {
            cells: cells(&rates.chain(over).collect::<Vec<_>>()),
            common,
            seed: args.run.seed,
            rounds: args.rounds,
            server: args.run.server_args.clone(),
            of_run,
        };
        matrix.cells.iter().try_for_each(|cell| matrix.check(cell))?;
        Ok(matrix)
    }

    fn check(&self, cell: &Cell) -> Result<(), SweepError> {
        let run = self.child(cell, 1, Path::new("."));
        let wrong = |error: clap::Error| SweepError::Cell {
            cell: cell.name.clone(),
            cause: first_line(&error),
        };
        let line = ["loadgen".to_owned()].into_iter().chain(run.arguments);
        let parsed = Cli::try_parse_from(line).map_err(wrong)?;
        ServeArgs::try_parse_from(["serve".to_owned()].into_iter().chain(run.server))
            .map_err(wrong)?;
        if let cli::Command::Run(args) = parsed.command {
            options::resolve(&args)?;
            options::objectives(&args)?;
        }
        Ok(())
    }

    fn child(&self, cell: &Cell, round: u32, out: &Path) -> ChildRun {
        let (mut arguments, mut server) = (vec!["run".to_owned()], self.server.clone());
        arguments.extend_from_slice(&self.common);
        for (flag, value) in &cell.settings {
            let side = if self.of_run.contains(flag) { &mut arguments } else { &mut server };
            side.push(format!("--{flag}={value}"));
        }
        // Another plan in each round, the same for all its cells.
        let seed = self.seed.wrapping_add((round - 1).into());
        arguments.push(format!("--seed={seed}"));
        arguments.push(format!("--label=cell={}", cell.name));
        arguments.push(format!("--label=round={round}"));
        arguments.push("--quiet".into());
        ChildRun { arguments, server, folder: folder_of(out, &cell.name, round) }
    }

    fn title(&self) -> String {
        format!("{} cells, {} rounds each", self.cells.len(), self.rounds)
    }

    fn measure(
        &self,
        out: &Path,
        args: &SweepArgs,
        stop: &StopFlag,
    ) -> Result<Measured, SweepError> {
        let mut measured = Measured::of(&self.cells);
        let all = self.cells.len() * self.rounds as usize;
        for (done, (round, at)) in turns(self.cells.len(), self.rounds).enumerate() {
            if measured.failed[at].is_some() {
                continue;
            }
            let run = self.child(&self.cells[at], round, out);
            let name = &self.cells[at].name;
            let tell = |what: &str| {
                if !args.run.quiet {
                    progress::say(&format!("[{}/{all}] {name}, round {round}: {what}", done + 1));
                }
            };
            match run.finished().and_then(|found| match found {
                Some(result) => Ok((result, "measured before")),
                None => run.measure(stop).map(|result| (result, "measured")),
            }) {
                Ok((result, how)) => {
                    tell(how);
                    measured.rounds[at].1.push(result);
                }
                Err(ChildError::Interrupted) => break,
                Err(error @ ChildError::Ended { .. }) => {
                    tell(&error.to_string());
                    measured.failed[at] = Some(error.to_string());
                }
                Err(ChildError::System(error)) => return Err(error.into()),
                Err(error @ (ChildError::OtherArguments { .. } | ChildError::Load(_))) => {
                    return Err(SweepError::OtherSweep(error.to_string()));
                }
            }
        }
        Ok(measured)
    }
}

fn dimension_of_rates(rates: &[f64]) -> Dimension {
    let values = rates.iter().map(ToString::to_string).collect();
    Dimension { flag: "rate".into(), values }
}

/// A flag that both have, such as `--cpus`, is the server's, as long as there is one to start.
fn belongs_to_run(flag: &str, server_given: bool) -> Result<bool, SweepError> {
    let has = |command: &Command| command.get_arguments().any(|arg| arg.get_long() == Some(flag));
    let server = has(&ServeArgs::command());
    let run = has(&RunArgs::augment_args(Command::new("run")))
        && !SWEEP_FLAGS.contains(&format!("--{flag}").as_str());
    let unknown = |cause| Err(SweepError::UnknownFlag { flag: flag.to_owned(), cause });
    match (server, run) {
        (true, _) if !server_given => Ok(false),
        (_, true) => Ok(true),
        (true, false) => unknown("a flag of the embedded server, but an address was given"),
        (false, false) => unknown("neither uring-echo serve nor loadgen run has this flag"),
    }
}

/// Without what clap adds for a terminal.
fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// What there is of each cell.
struct Measured {
    cells: Vec<Cell>,
    rounds: Vec<(String, Vec<RunResult>)>,
    failed: Vec<Option<String>>,
}

impl Measured {
    fn of(cells: &[Cell]) -> Self {
        Self {
            cells: cells.to_vec(),
            rounds: cells.iter().map(|cell| (cell.name.clone(), Vec::new())).collect(),
            failed: vec![None; cells.len()],
        }
    }

    fn into_result(self, args: &SweepArgs, began: SystemTime, interrupted: bool) -> Swept {
        let cells = self.cells.iter().zip(&self.rounds).zip(&self.failed);
        let summary = |((cell, (_, rounds)), failed): ((&Cell, &(String, Vec<_>)), &Option<_>)| {
            let (name, settings) = (cell.name.clone(), cell.settings.clone());
            let failed = failed.clone();
            let mut summary = SweepCell { name, settings, failed, ..SweepCell::default() };
            summarise(&mut summary, rounds);
            summary
        };
        let sweep = Sweep { rounds: args.rounds, cells: cells.map(summary).collect() };
        let failed = self.failed.iter().zip(&self.cells);
        let problems = failed.filter_map(|(failed, cell)| {
            failed.as_ref().map(|why| format!("{}: {why}", cell.name))
        });
        let result = RunResult {
            problems: problems.collect(),
            sweep: Some(sweep),
            interrupted,
            verdict: Verdict::of(Vec::new(), Vec::new()),
            ..envelope(Kind::Sweep, began)
        };
        Swept { result, rounds: self.rounds }
    }
}

/// A sweep that is over, and the rounds that its picture shows.
struct Swept {
    result: RunResult,
    rounds: Vec<(String, Vec<RunResult>)>,
}

/// What the folder holds besides the rounds.
struct Files {
    table: Output,
    picture: Output,
}

impl Files {
    fn open(out: &Path) -> Result<Self, OutputError> {
        Ok(Self {
            table: Output::open(&out.join("sweep.json"))?,
            picture: Output::open(&out.join("sweep.svg"))?,
        })
    }

    /// What fails is a problem of the result.
    fn write(self, swept: &mut Swept, title: &str) -> Vec<PathBuf> {
        let picture = self.picture.write(&picture::overlay(title, &swept.rounds));
        let mut written = Vec::new();
        for file in [picture, self.table.write(&swept.result.to_json())] {
            match file {
                Ok(path) => written.push(path),
                Err(error) => swept.result.problems.push(error.to_string()),
            }
        }
        written
    }
}
