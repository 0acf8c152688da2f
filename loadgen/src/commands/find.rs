//! `loadgen find`: the highest rate that holds the objectives.

use std::io;
use std::path::{Path, PathBuf};

use clap::Parser;
use uring_echo::cli::ServeArgs;

use super::child_run::{ChildError, ChildRun, folder_of, inherited, typed};
use super::envelope::tool;
use super::exit::ExitStatus;
use super::run::options::{self, ConfigError};
use crate::analyse::find::{self, Answer, Search, Step, Trial};
use crate::cli::find::{FIND_FLAGS, FindArgs};
use crate::model::found::{Found, Limit};
use crate::model::result::RunResult;
use crate::render::output::{self, Output, OutputError};
use crate::render::{picture, progress, terminal, units};
use crate::sys::signals::StopFlag;

/// Why nothing was found.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// The arguments do not go together. A usage error.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is nothing to hold. A usage error.
    #[error("find needs an objective: --slo EXPR, such as --slo 'accept_delay.p99<1ms'")]
    NoObjective,
    /// The range is empty. A usage error.
    #[error("--min {min} is above --max {max}")]
    EmptyRange {
        /// The lower end.
        min: f64,
        /// The upper end.
        max: f64,
    },
    /// Rates are what is searched for. A usage error.
    #[error("find chooses the rate: leave out --rate, --burst and --concurrency")]
    OwnShape,
    /// The arguments of the embedded server are none. A usage error.
    #[error("{0}")]
    Server(String),
    /// The folder belongs to another search. A usage error.
    #[error("{0}")]
    OtherSearch(String),
    /// Too few connections to judge. A usage error.
    #[error(
        "{} at {rate} per second are too few to judge, it takes {ATTEMPTS_MIN}: a longer \
         --duration (at this rate {}), more --connections, or a higher --min",
        units::plural(*.attempted, "connection"),
        seconds_for(*.rate)
    )]
    TooShort {
        /// Connections of the run.
        attempted: u64,
        /// Its rate.
        rate: f64,
    },
    /// The first run failed.
    #[error("{0}")]
    Run(String),
    /// A file cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The system refused something.
    #[error("searching")]
    System(#[from] io::Error),
}

impl FindError {
    /// Whether what was typed is at fault.
    pub fn is_usage(&self) -> bool {
        !matches!(self, Self::Run(_) | Self::Output(_) | Self::System(_))
    }
}

/// Runs of a search take this long, unless they are told otherwise.
const DURATION_DEFAULT: &str = "--duration=3s";

/// Added where no objective is about outcomes.
const COMPLETED: &str = "completed>=99%";

/// Attempts below which a p99 says nothing.
const ATTEMPTS_MIN: u64 = 100;

/// How long [`ATTEMPTS_MIN`] connections take at this rate, as typed after `--duration`.
fn seconds_for(rate: f64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let seconds = ATTEMPTS_MIN as f64 / rate;
    format!("{}s", seconds.ceil().max(1.0))
}

/// Searches and prints what was found.
///
/// # Errors
/// [`FindError`].
pub fn execute(args: &FindArgs) -> Result<ExitStatus, FindError> {
    let mut hunt = Hunt::of(args)?;
    let stop = StopFlag::on_signals(ExitStatus::Interrupted as i32)?;
    let scratch = tempfile::tempdir()?;
    let out = args.run.out.clone().unwrap_or_else(|| scratch.path().to_owned());
    output::make_folder(&out)?;
    let json_alone = args.run.json.as_ref().is_some_and(|path| path.as_os_str() == "-");
    let kept = args.run.out.iter().flat_map(|out| [out.join("find.json"), out.join("find.svg")]);
    let wanted = kept.chain(args.run.json.clone().filter(|_| !json_alone));
    let files = wanted.map(|path| Output::open(&path)).collect::<Result<Vec<_>, _>>()?;
    let answer = hunt.search(&out, &stop)?;
    let found = hunt.found(answer);
    let json = format!("{:#}\n", serde_json::to_value(&found).expect("plain data"));
    let style = output::style_of_stdout();
    output::print(&if json_alone { json.clone() } else { terminal::found(&found, style) })?;
    let mut written: Vec<PathBuf> = Vec::new();
    for file in files {
        let is_picture = file.path().extension().is_some_and(|extension| extension == "svg");
        written.push(file.write(&if is_picture { picture::knee(&found) } else { json.clone() })?);
    }
    if !json_alone {
        output::print(&terminal::afterwards(&[], &written, style))?;
    }
    Ok(status(&found))
}

fn status(found: &Found) -> ExitStatus {
    match (found.interrupted, found.found_rate, found.limit) {
        (true, ..) => ExitStatus::Interrupted,
        (_, Some(_), _) => ExitStatus::Fine,
        (_, None, Some(Limit::Generator)) => ExitStatus::Invalid,
        (_, None, _) => ExitStatus::SloMissed,
    }
}

/// The search and the runs that it has made.
struct Hunt {
    search: Search,
    /// Of every run.
    arguments: Vec<String>,
    server: Vec<String>,
    seed: u64,
    quiet: bool,
    slo: Vec<String>,
    runs: Vec<(f64, Vec<RunResult>)>,
}

impl Hunt {
    fn of(args: &FindArgs) -> Result<Self, FindError> {
        let run = &args.run;
        if run.rate.is_some() || run.burst.is_some() || run.concurrency.is_some() {
            return Err(FindError::OwnShape);
        }
        if args.min > args.max {
            return Err(FindError::EmptyRange { min: args.min, max: args.max });
        }
        options::of_many_runs(run)?;
        let mut slo = run.slo.clone();
        let about_outcomes = options::about_outcomes(run)?.ok_or(FindError::NoObjective)?;
        ServeArgs::try_parse_from(
            ["serve"].into_iter().chain(run.server_args.iter().map(String::as_str)),
        )
        .map_err(|error| FindError::Server(error.to_string()))?;
        let own = [&FIND_FLAGS[..], &["--seed"]].concat();
        let mut arguments = vec!["run".to_owned()];
        arguments.extend(inherited(&typed(), &own).into_iter().filter(|it| it != "--quiet"));
        if run.duration.is_none() && run.connections.is_none() {
            arguments.push(DURATION_DEFAULT.into());
        }
        if !about_outcomes {
            arguments.push(format!("--slo={COMPLETED}"));
            slo.push(COMPLETED.into());
        }
        arguments.push("--quiet".into());
        Ok(Self {
            search: Search::new(args.min, args.max),
            arguments,
            server: run.server_args.clone(),
            seed: run.seed,
            quiet: run.quiet,
            slo,
            runs: Vec::new(),
        })
    }

    /// `None` if a signal ended it.
    fn search(&mut self, out: &Path, stop: &StopFlag) -> Result<Option<Answer>, FindError> {
        loop {
            let rate = match self.search.next() {
                Step::Done(answer) => return Ok(Some(answer)),
                Step::Try(rate) => rate,
            };
            let run = self.child(rate, out);
            let measured = run.finished().and_then(|found| match found {
                Some(result) => Ok(result),
                None => run.measure(stop),
            });
            match measured {
                Ok(result) => self.judge(rate, result)?,
                Err(ChildError::Interrupted) => return Ok(None),
                Err(ChildError::System(error)) => return Err(error.into()),
                Err(error @ ChildError::Ended { .. }) => self.impossible(rate, &error)?,
                Err(error @ (ChildError::OtherArguments { .. } | ChildError::Load(_))) => {
                    return Err(FindError::OtherSearch(error.to_string()));
                }
            }
        }
    }

    fn child(&self, rate: f64, out: &Path) -> ChildRun {
        let trial = self.runs_at(rate).map_or(0, <[RunResult]>::len);
        let trial = u32::try_from(trial).unwrap_or(u32::MAX).saturating_add(1);
        let mut arguments = self.arguments.clone();
        arguments.push(format!("--rate={rate}"));
        arguments.push(format!("--seed={}", self.seed.wrapping_add((trial - 1).into())));
        let folder = folder_of(out, &format!("rate={rate}"), trial);
        ChildRun { arguments, server: self.server.clone(), folder }
    }

    fn runs_at(&self, rate: f64) -> Option<&[RunResult]> {
        let at = self.runs.iter().find(|(tried, _)| tried.total_cmp(&rate).is_eq());
        at.map(|(_, runs)| &runs[..])
    }

    fn judge(&mut self, rate: f64, result: RunResult) -> Result<(), FindError> {
        let attempted = result.outcomes.attempted;
        if attempted < ATTEMPTS_MIN {
            return Err(FindError::TooShort { attempted, rate });
        }
        let trial = find::trial(&result);
        self.tell(rate, trial, &result);
        self.search.record(rate, trial);
        match self.runs.binary_search_by(|(tried, _)| tried.total_cmp(&rate)) {
            Ok(at) => self.runs[at].1.push(result),
            Err(at) => self.runs.insert(at, (rate, vec![result])),
        }
        Ok(())
    }

    /// A load that is refused before it begins, for want of ports or descriptors, is beyond the
    /// generator. Nothing at all that runs is an error.
    fn impossible(&mut self, rate: f64, error: &ChildError) -> Result<(), FindError> {
        if self.runs.is_empty() {
            return Err(FindError::Run(error.to_string()));
        }
        if !self.quiet {
            progress::say(&format!("{}/s: {error}", units::rate(rate)));
        }
        self.search.record(rate, Trial::Misses(Limit::Generator));
        Ok(())
    }

    fn tell(&self, rate: f64, trial: Trial, result: &RunResult) {
        if self.quiet {
            return;
        }
        let verdict = match trial {
            Trial::Holds => "holds",
            Trial::Misses(Limit::Server) => "misses (server)",
            Trial::Misses(Limit::Generator) => "not offered (generator)",
        };
        let offered = trial != Trial::Misses(Limit::Generator);
        let objectives = result.slo.iter().map(|slo| terminal::objective(slo, offered));
        let objectives: Vec<String> = objectives.collect();
        let (rate, objectives) = (units::rate(rate), objectives.join("  "));
        progress::say(&format!("{rate}/s: {verdict}  {objectives}"));
    }

    fn found(&self, answer: Option<Answer>) -> Found {
        let point = |(rate, runs): &(f64, Vec<RunResult>)| {
            find::point(*rate, runs, self.search.holds(*rate))
        };
        Found {
            found_rate: answer.map_or_else(|| self.search.best_so_far(), |answer| answer.rate),
            limit: answer.map(|answer| answer.limit),
            max_reached: answer.is_some_and(|answer| answer.max_reached),
            slo: self.slo.clone(),
            curve: self.runs.iter().map(point).collect(),
            interrupted: answer.is_none(),
            tool: tool(),
            argv: std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect(),
        }
    }
}
