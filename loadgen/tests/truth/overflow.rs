//! Accept queues that are full, at each of the places where that can strike a connection, behind a
//! path of 25 ms each way (overflow.py makes it, and keeps its own record and the kernel's
//! counters).

use std::process::Command;

use loadgen::model::evidence::Unaccepted;
use loadgen::model::outcome::{Outcome, Phase};
use loadgen::model::result::RunResult;
use serde_json::Value;

use crate::namespace::in_namespace;

/// A listener, what is in its queue before the load, and when it begins to accept.
struct Scene {
    sysctl: &'static str,
    backlog: u32,
    queued: u32,
    hold_ms: &'static str,
}

/// What loadgen reports and what the server and its kernel recorded.
struct Seen {
    reported: RunResult,
    record: Value,
}

const SCENE: Scene = Scene { sysctl: "", backlog: 2, queued: 0, hold_ms: "never" };

impl Scene {
    /// Prints that it skips and returns `None` where the scene cannot be set up.
    fn run(&self, load: &str) -> Option<Seen> {
        let needed = "python3 -c 'open(\"/dev/net/tun\")'";
        if !Command::new("sh").args(["-c", needed]).status().is_ok_and(|it| it.success()) {
            eprintln!("SKIPPED, python3 and /dev/net/tun are needed: {load}");
            return None;
        }
        let Self { sysctl, backlog, queued, hold_ms } = self;
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/truth/overflow.py");
        let sysctl = if sysctl.is_empty() { ":".into() } else { format!("sysctl -qw {sysctl}") };
        let output = in_namespace(&format!(
            "{sysctl} && exec timeout 60 python3 {path} {backlog} {queued} {hold_ms} \
             $LOADGEN run 10.9.8.2:7700 --observe diag {load} --quiet --json -"
        ))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(matches!(output.status.code(), Some(0 | 4)), "{said}");
        let text = String::from_utf8(output.stdout).unwrap();
        let (reported, record) = text.trim_end().rsplit_once('\n').expect(&said);
        Some(Seen {
            reported: RunResult::parse(reported.as_bytes()).unwrap(),
            record: serde_json::from_str(record).unwrap(),
        })
    }
}

impl Seen {
    fn counted(&self, name: &str) -> u64 {
        self.record["counted"][name].as_u64().expect(name)
    }

    /// From the SYN on the path to accept, ascending, of those that were accepted.
    fn waited_ns(&self) -> Vec<u64> {
        let waits = self.record["waited_ns"].as_array().expect("waits");
        let mut waits: Vec<u64> = waits.iter().map(|wait| wait.as_u64().unwrap()).collect();
        waits.sort_unstable();
        waits
    }

    fn check_outcomes(&self, expected: &[(Outcome, u64)]) {
        let found = Outcome::ALL.map(|outcome| (outcome, self.reported.outcomes.of(outcome)));
        let found: Vec<_> = found.into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(found, expected, "{:#?}", self.reported.verdict);
    }

    /// The kernel's counters are reported as the kernel has them, and as this server's.
    fn check_overflows(&self, expected: u64) {
        assert_eq!(self.counted("ListenOverflows"), expected);
        let kernel = self.reported.evidence.kernel.expect("counters");
        assert_eq!(kernel.listen_overflows, expected);
        assert_eq!(kernel.syncookies_sent, self.counted("SyncookiesSent"));
        let overflowed = self.advice("accept_queue_overflowed");
        assert!(overflowed.contains(&format!(" {expected} times")), "{overflowed}");
        assert!(overflowed.contains("by the server's backlog"), "{overflowed}");
    }

    fn check_places(&self, expected: Unaccepted) {
        assert_eq!(self.reported.evidence.unaccepted, Some(expected));
    }

    /// The text of a piece of advice.
    fn advice(&self, code: &str) -> &str {
        let verdict = &self.reported.verdict;
        let advice = verdict.advice.iter().find(|advice| advice.code == code);
        &advice.unwrap_or_else(|| panic!("{code} is missing: {verdict:#?}")).text
    }

    fn lacks(&self, code: &str) {
        let verdict = &self.reported.verdict;
        let all = verdict.advice.iter().chain(&verdict.reasons);
        assert!(all.into_iter().all(|found| found.code != code), "{verdict:#?}");
    }
}

#[test]
fn full_when_the_syn_arrives() {
    let scene = Scene { queued: 3, ..SCENE };
    let Some(seen) = scene.run("--burst 5 --timeout 500ms") else { return };
    seen.check_outcomes(&[(Outcome::ConnectTimeout, 5)]);
    seen.check_overflows(5);
    seen.lacks("never_accepted");
}

/// Five of eight are established for their clients only. Nobody accepts, so it stays so.
#[test]
fn full_when_the_last_ack_arrives() {
    let scene = Scene { backlog: 10, queued: 8, ..SCENE };
    let Some(seen) = scene.run("--burst 8 --timeout 500ms") else { return };
    seen.check_outcomes(&[(Outcome::NeverAccepted, 8)]);
    seen.check_overflows(5);
    seen.check_places(Unaccepted { queued: 3, handshake: 5, ..Unaccepted::default() });
    let never = seen.advice("never_accepted");
    assert!(never.contains("full when their last ACK came"), "{never}");
    seen.lacks("deferred");
}

/// The server makes room after 200 ms; five learn of it when the kernel repeats the handshake.
#[test]
fn room_after_the_last_ack_is_found_when_the_handshake_is_repeated() {
    let scene = Scene { backlog: 10, queued: 8, hold_ms: "200", ..SCENE };
    let Some(seen) = scene.run("--burst 8 --timeout 10s") else { return };
    seen.check_outcomes(&[(Outcome::Completed, 8)]);
    seen.check_overflows(5);
    let truth = seen.waited_ns();
    let repeated = truth.iter().filter(|ns| **ns > 900_000_000).count();
    assert_eq!((truth.len(), repeated), (8, 5), "{truth:?}");
    let delays = seen.reported.sampled(Phase::AcceptDelay).unwrap().histogram().unwrap();
    assert_eq!(delays.len() - delays.count_between(0, 900_000_000), 5);
    // The path noted the SYN after connect was called, the server the accept after it happened.
    let resolution = seen.reported.sampled(Phase::DiagResolution).unwrap().max.unwrap();
    let slowest = delays.highest_equivalent(delays.max()) + resolution;
    assert!(slowest >= truth[2], "{slowest} and {truth:?}");
    let schedule = seen.reported.evidence.retransmission_schedule.unwrap();
    assert_eq!((schedule.handshake_repeated, schedule.connect), (5, 0));
    let advice = seen.advice("retransmission_schedule");
    assert!(advice.starts_with("5 samples") && advice.contains("retry timer"), "{advice}");
}

/// The kernel keeps nothing of a connection whose cookie finds the queue full: the client is
/// connected for good, although the server accepts all the time.
#[test]
fn ghosts_of_syn_cookies() {
    let scene = Scene { hold_ms: "200", sysctl: "net.ipv4.tcp_syncookies=1", ..SCENE };
    let Some(seen) = scene.run("--burst 20 --timeout 600ms") else { return };
    let accepted = seen.waited_ns().len() as u64;
    let ghosts = 20 - accepted;
    seen.check_outcomes(&[(Outcome::Completed, accepted), (Outcome::NeverAccepted, ghosts)]);
    seen.check_overflows(ghosts);
    let shown = seen.reported.evidence.unaccepted.unwrap();
    assert_eq!((shown.lost + shown.handshake, shown.queued), (ghosts, 0), "{shown:?}");
    assert!(shown.lost >= 10 && seen.counted("SyncookiesSent") >= shown.lost, "{shown:?}");
    let never = seen.advice("never_accepted");
    assert!(never.contains("SYN cookies that find the accept queue full"), "{never}");
    seen.advice("syn_queue_full");
    let sampled = seen.reported.samples(Phase::AcceptDelay);
    assert_eq!(sampled, accepted, "a ghost has no accept delay");
}

#[test]
fn a_reset_in_place_of_a_full_queue() {
    let sysctl = "net.ipv4.tcp_abort_on_overflow=1";
    let scene = Scene { backlog: 10, queued: 8, sysctl, ..SCENE };
    let Some(seen) = scene.run("--burst 8 --timeout 500ms") else { return };
    seen.check_outcomes(&[(Outcome::ResetAfterConnect, 5), (Outcome::NeverAccepted, 3)]);
    seen.check_overflows(5);
    assert_eq!(seen.counted("EmbryonicRsts"), 5);
    seen.check_places(Unaccepted { queued: 3, ..Unaccepted::default() });
    let reset = seen.advice("reset_on_overflow");
    assert!(reset.contains("5 connections were reset by the kernel"), "{reset}");
    assert!(reset.contains("full when their last ACK came"), "{reset}");
    seen.lacks("reset");
    seen.lacks("not_observed");
}
