//! Runs cases one after the other, each on a thread of its own and for a bounded time, so that no
//! server can hang the suite.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::cases::{Case, all};
use crate::echo_client::{EchoError, EchoServer, pattern};
use crate::model::torture::{CaseResult, CaseStatus};
use crate::sys::signals::StopFlag;

/// How the suite is run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Smaller numbers and shorter pauses, for a run of seconds.
    pub quick: bool,
    /// The server's process, as the user gave it. Only then is it stopped and continued; otherwise
    /// it is searched for, and only read about.
    pub pid: Option<u32>,
}

/// The server under test, as a case sees it.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Where to connect to, and until when.
    pub server: EchoServer,
    /// How the suite is run.
    pub options: Options,
}

/// Why a case did not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaseError {
    /// The server did something else than echo.
    Failed(String),
    /// It cannot be tried here.
    Skipped(String),
}

/// What a case returns: what happened, or why it did not pass.
pub type Outcome = Result<String, CaseError>;

/// A case by that name does not exist.
#[derive(Debug, thiserror::Error)]
#[error("no case is called or begins with '{0}'; there are: {names}", names = names())]
pub struct UnknownCase(pub String);

impl Target {
    /// The larger number, or the smaller one for a quick run.
    pub(super) const fn scaled(&self, full: usize, quick: usize) -> usize {
        if self.options.quick { quick } else { full }
    }

    /// A new connection is served.
    pub(super) fn still_serves(&self) -> Result<(), CaseError> {
        let served =
            self.server.connect().and_then(|mut client| client.round_trip(&pattern(7, 1000)));
        served.map_err(of("afterwards a new connection"))
    }
}

impl From<EchoError> for CaseError {
    fn from(error: EchoError) -> Self {
        match error {
            EchoError::Server(message) => Self::Failed(message),
            EchoError::Here(message) => Self::Skipped(message),
        }
    }
}

impl fmt::Display for CaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Failed(message) | Self::Skipped(message)) = self;
        f.write_str(message)
    }
}

/// Says what of this machine could not be read.
pub(super) fn unreadable(what: &str) -> impl Fn(io::Error) -> CaseError {
    move |error| CaseError::Skipped(format!("{what}: {error}"))
}

/// Says which of several connections failed.
pub(super) fn of<E: Into<CaseError>>(whose: &str) -> impl Fn(E) -> CaseError {
    move |error| match error.into() {
        CaseError::Failed(message) => CaseError::Failed(format!("{whose}: {message}")),
        CaseError::Skipped(message) => CaseError::Skipped(format!("{whose}: {message}")),
    }
}

/// Runs `client` on `count` threads with their numbers; the first error is what happened.
pub(super) fn on_threads<T: Send>(
    count: usize,
    client: impl Fn(usize) -> Result<T, CaseError> + Sync,
) -> Result<Vec<T>, CaseError> {
    let panicked = |_| Err(EchoError::panicked().into());
    thread::scope(|scope| {
        let client = &client;
        let start = |i| thread::Builder::new().spawn_scoped(scope, move || client(i));
        let threads = (0..count).map(start).collect::<Result<Vec<_>, _>>();
        let threads = threads.map_err(|error| EchoError::no_thread(&error))?;
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(panicked)).collect()
    })
}

/// Runs `cases` against the echo server at `addr`, each when its result is asked for, until `stop`
/// is set.
pub fn results<'a>(
    addr: SocketAddr,
    options: Options,
    cases: impl IntoIterator<Item = &'a Case>,
    stop: &StopFlag,
) -> impl Iterator<Item = CaseResult> {
    cases.into_iter().map_while(move |case| attempt(case, addr, options, stop))
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

/// `None` once it is to stop.
fn attempt(case: &Case, addr: SocketAddr, options: Options, stop: &StopFlag) -> Option<CaseResult> {
    let start = Instant::now();
    let target = Target { server: EchoServer::new(addr, start + case.limit), options };
    let run = case.run;
    let (sender, receiver) = mpsc::channel();
    // Not joined: a thread that does not come back must not keep the others from their turn.
    let spawned = thread::Builder::new().name(case.name.into()).spawn(move || {
        // The receiver is gone only after the time is up, and then nobody wants to know.
        drop(sender.send(run(&target)));
    });
    let outcome = match spawned {
        Err(error) => Err(CaseError::Skipped(format!("no thread to run it on: {error}"))),
        Ok(_) => outcome(&receiver, start + case.limit + GRACE, stop)?,
    };
    let (status, message) = match outcome {
        Ok(message) => (CaseStatus::Passed, message),
        Err(CaseError::Failed(message)) => (CaseStatus::Failed, message),
        Err(CaseError::Skipped(message)) => (CaseStatus::Skipped, message),
    };
    let took_ms = start.elapsed().as_secs_f64() * 1e3;
    Some(CaseResult { name: case.name.into(), status, message, took_ms })
}

/// What the case sends by `deadline`; `None` if it is to stop.
fn outcome(receiver: &Receiver<Outcome>, deadline: Instant, stop: &StopFlag) -> Option<Outcome> {
    let failed = |message: &str| Some(Err(CaseError::Failed(message.into())));
    loop {
        match receiver.recv_timeout(STOP_CHECK) {
            Ok(outcome) => return Some(outcome),
            Err(RecvTimeoutError::Disconnected) => return failed("the case itself panicked"),
            Err(RecvTimeoutError::Timeout) if stop.is_set() => return None,
            Err(RecvTimeoutError::Timeout) if Instant::now() >= deadline => {
                return failed("no end within its time");
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// Every operation of a case ends by the case's limit; this is for what comes after.
const GRACE: Duration = Duration::from_secs(5);

/// How long a signal may go unnoticed.
const STOP_CHECK: Duration = Duration::from_millis(50);

fn names() -> String {
    all().iter().map(|case| case.name).collect::<Vec<_>>().join(", ")
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
        let results: Vec<_> =
            results(addr, Options::default(), [&panics, &never], &StopFlag::default()).collect();
        assert!(results.iter().all(|result| result.status == CaseStatus::Failed));
        assert!(results[0].message.contains("panicked"), "{}", results[0].message);
        assert!(results[1].message.contains("no end"), "{}", results[1].message);
    }

    #[test]
    fn nobody_there_is_a_failure_in_words() {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let case = select(&["half-close-1".into()]).unwrap()[0];
        let options = Options { quick: true, pid: None };
        let result = attempt(case, nobody, options, &StopFlag::default()).unwrap();
        assert_eq!(result.status, CaseStatus::Failed);
        assert!(result.message.contains("connect"), "{}", result.message);
    }

    #[test]
    fn a_request_to_stop_leaves_out_what_has_not_ended() {
        let waits = Case {
            name: "waits",
            about: "",
            limit: GRACE,
            run: |_| loop {
                thread::park()
            },
        };
        let stop = StopFlag::default();
        stop.set();
        let addr = SocketAddr::from(([127, 0, 0, 1], 1));
        assert_eq!(results(addr, Options::default(), [&waits, &waits], &stop).count(), 0);
    }
}
