//! `loadgen torture ADDR`: what breaks echo servers, tried on any of them.
//!
//! A [`Case`](cases::Case) is a value: a name, what it does, and a function over a [`Target`].
//! [`results`] runs one after the other, each on a thread of its own and for a bounded time, so
//! that no peer can hang it. Only plain blocking sockets are used and every byte that comes back
//! is checked.

mod cases;
mod crowd;
mod cycles;
mod report;
mod resets;
mod stop;
mod streams;

use std::fmt;
use std::net::SocketAddr;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

pub use crate::echo_client::{Peer, Target};
pub use cases::{Case, all};
pub use report::{TortureError, execute};

/// How the suite is run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Smaller numbers and shorter pauses, for a run of seconds.
    pub quick: bool,
    /// The server's process, as the user gave it. Only then is it stopped and continued; otherwise
    /// it is looked for, and only looked at.
    pub pid: Option<u32>,
}

/// How a case went.
#[derive(Debug, Clone, Serialize)]
pub struct CaseResult {
    /// The case's name, as taken by `--case`.
    pub name: &'static str,
    /// Passed, failed or skipped.
    pub verdict: Verdict,
    /// What happened, in words.
    pub words: String,
    /// How long it took, in milliseconds.
    #[serde(rename = "took_ms", serialize_with = "as_millis")]
    pub took: Duration,
}

/// The outcome of a case in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Passed,
    /// The server did something else.
    Failed,
    /// Could not be tried here.
    Skipped,
}

/// Why a case did not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaseError {
    /// The server did something else than echo; what, in words.
    Failed(String),
    /// It cannot be tried here; why not, in words.
    Skipped(String),
}

/// What a case returns: what happened in words, or why it did not pass.
pub type Outcome = Result<String, CaseError>;

impl fmt::Display for CaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Failed(words) | Self::Skipped(words)) = self;
        f.write_str(words)
    }
}

/// A case by that name does not exist.
#[derive(Debug, thiserror::Error)]
#[error("no case is called or begins with '{0}'; there are: {names}", names = names())]
pub struct UnknownCase(pub String);

/// Runs every case against the echo server at `addr`.
#[must_use]
pub fn run(addr: SocketAddr, options: Options) -> Vec<CaseResult> {
    results(addr, options, all()).collect()
}

/// Runs `cases` against the echo server at `addr`, each when its result is asked for.
pub fn results<'a>(
    addr: SocketAddr,
    options: Options,
    cases: impl IntoIterator<Item = &'a Case>,
) -> impl Iterator<Item = CaseResult> {
    cases.into_iter().map(move |case| attempt(case, addr, options))
}

/// The cases called, or else beginning like, one of `names`; all cases if there are no names.
///
/// # Errors
/// [`UnknownCase`] for a name that picks nothing.
pub fn select(names: &[String]) -> Result<Vec<&'static Case>, UnknownCase> {
    let picks = |name: &String, case: &Case| {
        let exists = all().iter().any(|case| case.name == name);
        if exists { case.name == name } else { case.name.starts_with(name.as_str()) }
    };
    if let Some(name) = names.iter().find(|name| !all().iter().any(|case| picks(name, case))) {
        return Err(UnknownCase(name.clone()));
    }
    let wanted = |case: &&Case| names.is_empty() || names.iter().any(|name| picks(name, case));
    Ok(all().iter().filter(wanted).collect())
}

fn attempt(case: &Case, addr: SocketAddr, options: Options) -> CaseResult {
    let start = Instant::now();
    let target = Target::new(addr, options, start + case.limit);
    let run = case.run;
    let (sender, receiver) = mpsc::channel();
    // Not joined: a thread that does not come back must not keep the others from their turn.
    let spawned = thread::Builder::new().name(case.name.into()).spawn(move || {
        // The receiver is gone only after the time is up, and then nobody wants to know.
        drop(sender.send(run(&target)));
    });
    let outcome = match spawned {
        Err(error) => Err(CaseError::Skipped(format!("no thread to run it on: {error}"))),
        Ok(_) => receiver.recv_timeout(case.limit + GRACE).unwrap_or_else(|error| {
            Err(CaseError::Failed(match error {
                RecvTimeoutError::Timeout => format!("no end after {:?}", case.limit + GRACE),
                RecvTimeoutError::Disconnected => "the case itself panicked".into(),
            }))
        }),
    };
    let (verdict, words) = match outcome {
        Ok(words) => (Verdict::Passed, words),
        Err(CaseError::Failed(words)) => (Verdict::Failed, words),
        Err(CaseError::Skipped(words)) => (Verdict::Skipped, words),
    };
    CaseResult { name: case.name, verdict, words, took: start.elapsed() }
}

/// Every operation of a case ends by the case's limit; this is for what comes after.
const GRACE: Duration = Duration::from_secs(5);

fn names() -> String {
    all().iter().map(|case| case.name).collect::<Vec<_>>().join(", ")
}

fn as_millis<S: serde::Serializer>(took: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(took.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_distinct_and_pick_by_their_beginning() {
        let names: BTreeSet<_> = all().iter().map(|case| case.name).collect();
        assert_eq!(names.len(), all().len());
        assert_eq!(select(&[]).unwrap().len(), all().len());
        assert!(select(&["half-close".into()]).unwrap().len() > 1);
        assert_eq!(select(&["half-close-1".into()]).unwrap().len(), 1);
        let error = select(&["burst".into(), "nothing".into()]).unwrap_err();
        assert!(error.to_string().contains("'nothing'"), "{error}");
    }

    #[test]
    fn a_case_that_never_ends_or_panics_is_a_failure() {
        let never = Case {
            name: "never",
            about: "",
            limit: Duration::ZERO,
            run: |_| loop {
                thread::park();
            },
        };
        let panics = Case { name: "panics", run: |_| panic!("on purpose"), ..never };
        let addr = SocketAddr::from(([127, 0, 0, 1], 1));
        let results: Vec<_> = results(addr, Options::default(), [&panics, &never]).collect();
        assert!(results.iter().all(|result| result.verdict == Verdict::Failed));
        assert!(results[0].words.contains("panicked"), "{}", results[0].words);
        assert!(results[1].words.contains("no end"), "{}", results[1].words);
    }

    #[test]
    fn nobody_there_is_a_failure_in_words() {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let case = select(&["half-close-1".into()]).unwrap()[0];
        let result = attempt(case, nobody, Options { quick: true, pid: None });
        assert_eq!(result.verdict, Verdict::Failed);
        assert!(result.words.contains("connect"), "{}", result.words);
    }
}
