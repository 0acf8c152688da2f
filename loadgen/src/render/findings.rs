//! The text of each reason and each piece of advice: what was found, and what to do.

mod meaning;

use serde_json::json;

use self::meaning::meaning;
use super::units;
use crate::model::evidence::{Evidence, Unaccepted};
use crate::model::histogram::HIGHEST_NS;
use crate::model::merge::{Note, PartReason};
use crate::model::outcome::{Outcome, Phase};
use crate::model::result::RunResult;
use crate::model::verdict::{Advice, Finding, Reason, Verdict};

/// A reason with its text.
pub fn reason(reason: &Reason) -> Finding {
    Finding::of(reason, reason_text(reason, "add --threads"))
}

/// The same, of a run with this evidence: more threads do not help a generator that its CPU quota
/// stopped.
pub fn reason_given(found: &Reason, evidence: &Evidence) -> Finding {
    if evidence.generator_throttled.is_none_or(|throttled| throttled.periods == 0) {
        return reason(found);
    }
    Finding::of(found, reason_text(found, "raise the generator's CPU quota"))
}

/// A piece of advice with its text.
pub fn advice(advice: &Advice) -> Finding {
    Finding::of(advice, format!("{}: {}", noticed(advice), meaning(advice)))
}

/// The verdict on what has no measurement to judge: valid unless it was cut off.
pub fn only_interruption(interrupted: bool) -> Verdict {
    let reasons = interrupted.then(|| reason(&Reason::Interrupted));
    Verdict::of(reasons.into_iter().collect(), Vec::new())
}

/// A reason of a part, which is one of the whole.
pub fn part_reason(reason: &PartReason) -> Finding {
    let PartReason { part, others, finding } = reason;
    let more = match others {
        0 => String::new(),
        n => format!(" (and {} more)", units::plural(*n, "part")),
    };
    Finding { text: format!("{part}: {}{more}", finding.text), ..finding.clone() }
}

/// What was noticed while merging.
pub fn note(note: &Note) -> Finding {
    let (code, text, number, value) = match note {
        Note::EvidenceShared { parts } => (
            "evidence_shared",
            format!(
                "{} watched a server or kernel that others watched at the same time: what it \
                 counted is in the evidence once",
                units::plural(*parts, "part")
            ),
            "parts",
            json!(parts),
        ),
        Note::StartsApart { skew_ns } => (
            "starts_apart",
            format!(
                "the shards began within {} of each other: give all of them the same --start-at, \
                 and their hosts the same time",
                units::duration(*skew_ns)
            ),
            "skew_ns",
            json!(skew_ns),
        ),
        Note::PartsDiffer { fields } => (
            "parts_differ",
            format!("the parts differ in {}: left out", fields.join(", ")),
            "fields",
            json!(fields),
        ),
    };
    Finding { code: code.into(), text, numbers: [(number.to_owned(), value)].into() }
}

fn reason_text(reason: &Reason, more_power: &str) -> String {
    match *reason {
        Reason::Interrupted => "the run was interrupted: the report is partial".into(),
        Reason::ServerEnded => {
            "the embedded server ended during the run: what came later measured nothing".into()
        }
        Reason::GeneratorFailed => {
            "a generator thread gave up: the numbers end where it did".into()
        }
        Reason::GeneratorLag { p99_ns, limit_ns } => format!(
            "the generator was late by {} at p99 (limit {}): lower the rate, {more_power}, or \
             give it CPUs of its own with --cpus",
            units::duration(p99_ns),
            units::duration(limit_ns)
        ),
        Reason::RateNotReached { target, achieved } => format!(
            "{} connects per second were reached of {} planned: lower the rate or {more_power}",
            units::rate(achieved),
            units::rate(target)
        ),
        Reason::Shed { count } => format!(
            "{} over --max-in-flight were not attempted: the server does not keep up at this \
             rate, or raise --max-in-flight",
            units::plural(count, "arrival")
        ),
        Reason::NotBegun { count } => format!(
            "{} planned and not begun when the time was over: lower the rate or \
             {more_power}",
            was(count, "connect")
        ),
        Reason::NotObserved { count, observed } => format!(
            "{} may have been accepted without being observed, beside {} with a sample: what is \
             missing may be the slowest",
            units::plural(count, "attempt"),
            units::count(observed)
        ),
        Reason::ServerWaitedForCpu { per_accept_ns, accept_delay_ns } => format!(
            "the server's threads waited {} per accept for a CPU that the generator kept, beside a \
             mean accept_delay of {}: pin the two apart (--cpus, taskset) or lower the rate",
            units::duration(per_accept_ns),
            units::duration(accept_delay_ns)
        ),
        Reason::NothingCompleted { attempted, outcome, count } => format!(
            "none of {} completed ({} {}): {}",
            units::plural(attempted, "attempt"),
            units::count(count),
            outcome.name(),
            why_nothing(outcome)
        ),
        Reason::TooFewSamples { phase, count, needed, attempted } => {
            too_few(phase, count, needed, attempted)
        }
        Reason::ClockErrors { count } => format!(
            "{} between client and server: a clock was set during the run, drifts by more than \
             100 ppm, or the stamps are of several machines; use --observe diag on the server's \
             host, or name one server",
            units::plural(count, "clock contradiction")
        ),
        Reason::Clipped { count } => format!(
            "{} exceeded {} and were cut to it: shorten --timeout",
            units::plural(count, "sample"),
            units::duration(HIGHEST_NS)
        ),
        Reason::Unaccounted { count } => format!(
            "{} ended without an outcome: this is a defect of loadgen, please report it",
            units::plural(count, "attempt")
        ),
    }
}

/// What keeps every attempt from completing.
fn why_nothing(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Refused => {
            "nobody listens at the address, or a packet filter rejects it: start the server first, \
             or wait for it with --wait-for-server"
        }
        Outcome::ConnectTimeout => {
            "no answer to the SYN: a packet filter, a full accept queue, or no such host"
        }
        Outcome::Unreachable => "no route to the server, or a firewall's answer",
        Outcome::ResetAfterConnect => "each was reset once it was established, see below",
        Outcome::ClosedEarly | Outcome::EchoMismatch | Outcome::EchoTimeout => {
            "the server does not echo: --messages 0 measures accepts alone"
        }
        Outcome::NeverAccepted => "the server accepted nothing within --timeout, see below",
        Outcome::StampInvalid => "the server sends no stamp: use --observe diag",
        Outcome::LocalPortExhausted | Outcome::FdLimit => "a limit of this machine, see below",
        Outcome::ClockError => {
            "the stamps are not of the clock that the run began with: use --observe diag"
        }
        Outcome::Shed | Outcome::NotBegun | Outcome::Unfinished | Outcome::Completed => {
            "see the outcomes"
        }
    }
}

/// A longer run helps only where attempts were too few.
fn too_few(phase: Phase, count: u64, needed: u64, attempted: u64) -> String {
    let few = format!(
        "{} of {} are too few for percentiles",
        units::plural(count, "sample"),
        phase.name()
    );
    if attempted < needed {
        return format!("{few}: run longer (at least {needed})");
    }
    format!("{few}: the others of {} have none", units::plural(attempted, "attempt"))
}

/// The verdict in a line: the word, and the attempts that did not complete.
pub fn headline(result: &RunResult) -> String {
    let outcomes = &result.outcomes;
    let failed = outcomes.ended.iter();
    let failed = failed.filter(|(name, n)| **n > 0 && *name != Outcome::Completed.name());
    let failed: Vec<String> =
        failed.map(|(name, n)| format!("{} {name}", units::count(*n))).collect();
    let word = if result.verdict.valid { "VALID" } else { "INVALID" };
    let [first, rest @ ..] = &failed[..] else { return word.into() };
    let but = if result.verdict.valid { ", but" } else { ":" };
    let (count, name) = first.split_once(' ').unwrap_or((first, ""));
    let all = units::count(outcomes.attempted);
    let rest: String = rest.iter().map(|other| format!(", {other}")).collect();
    format!("{word}{but} {count} of {all} {name}{rest}")
}

fn noticed(advice: &Advice) -> String {
    let nouns = |count, noun| units::plural(count, noun);
    match *advice {
        Advice::AcceptQueueOverflowed { count, limit, somaxconn } => {
            overflow(count, limit, somaxconn)
        }
        Advice::AcceptQueueNearlyFull { depth, limit, .. } => nearly_full(depth, limit),
        Advice::ListenerStuck { depth, longest_wait_ns, listeners, .. } => {
            stuck(depth, longest_wait_ns, listeners)
        }
        Advice::LateTicks { share } => format!("{:.1} % of the samples came late", share * 100.0),
        Advice::DepthAlone => "waits are told by the depth of the queue alone".into(),
        Advice::WaitsSampled { resolution_ns } => format!(
            "waits of {} and more are told by dumps of the queue at random instants",
            units::duration(resolution_ns)
        ),
        Advice::RetransmissionSchedule { count } => {
            format!("{} at 1, 2, 3, 4, 5, 7 or 11 s", verb(count, "sample", "sits", "sit"))
        }
        Advice::SynQueueFull { cookies, dropped } => syn_queue(cookies, dropped),
        Advice::ConntrackLost { count } => {
            format!("connection tracking dropped {}", nouns(count, "packet"))
        }
        Advice::ConntrackNearlyFull { peak, limit } => conntrack(peak, limit),
        Advice::Unfinished { count } => format!("{} had not ended", nouns(count, "wait")),
        Advice::NeverAccepted { count, shown } => {
            let not_accepted = was(count, "connection");
            format!("{not_accepted} established but not accepted in time{}", places(shown))
        }
        Advice::ListenerDropped { count } => {
            format!("the kernel dropped {} at this listener", nouns(count, "packet"))
        }
        Advice::Deferred { count } => deferred(count),
        Advice::SynCookiesAlways { cookies } => {
            format!("{} sent (net.ipv4.tcp_syncookies is 2)", was(cookies, "SYN cookie"))
        }
        Advice::GeneratorThrottled { periods, stopped_ns } => {
            throttled("the generator", periods, stopped_ns)
        }
        Advice::ServerThrottled { periods, stopped_ns } => {
            throttled("the server", periods, stopped_ns)
        }
        Advice::ProxyProcess { proxy, pid } => {
            format!("the process that listens is {proxy} ({pid}), a proxy")
        }
        Advice::Reset { count } => format!("{} reset by the server", was(count, "connection")),
        Advice::ResetOnOverflow { count } => format!(
            "{} reset by the kernel, as net.ipv4.tcp_abort_on_overflow is 1",
            was(count, "connection")
        ),
        Advice::Refused { count } => format!("{} refused", was(count, "connection")),
        Advice::LocalPortExhausted { count } => {
            format!("{} found no free local port", nouns(count, "attempt"))
        }
        Advice::FdLimit { count } => {
            format!("{} found no descriptor or memory", nouns(count, "attempt"))
        }
        Advice::StampInvalid { count } => {
            format!("{} did not begin with a stamp", nouns(count, "connection"))
        }
        Advice::SamplesMissed { count } => {
            format!("the kernel had no memory for {}", nouns(count, "sample"))
        }
        Advice::AcceptNotObserved => "no accept was observed, so there is no accept_delay".into(),
        Advice::ClosedLoop { concurrency } => {
            format!("a closed loop of {} waits for the server", units::count(concurrency.into()))
        }
        Advice::BurstEntry { burst, entered_ns } => burst_entry(burst, entered_ns),
    }
}

fn nearly_full(depth: u32, limit: u32) -> String {
    let (depth, limit) = (units::count(depth.into()), units::count(limit.into()));
    format!("the accept queue held {depth} of {limit}")
}

fn deferred(count: u64) -> String {
    let established = was(count, "connection");
    format!(
        "{established} established for the client while the server's end stayed in the handshake, \
         with nothing dropped"
    )
}

fn burst_entry(burst: u32, entered_ns: u64) -> String {
    let (burst, entered) = (units::count(burst.into()), units::duration(entered_ns));
    format!("the last connect of a burst of {burst} was called {entered} after the first was due")
}

/// Where the kernel showed the connections that were not accepted.
fn places(shown: Option<Unaccepted>) -> String {
    let Some(Unaccepted { queued, handshake, lost, elsewhere }) = shown else {
        return String::new();
    };
    let places = [
        (queued, "in the accept queue"),
        (handshake, "in the handshake"),
        (lost, "nowhere"),
        (elsewhere, "not in this network namespace"),
    ];
    let places = places.into_iter().filter(|(count, _)| *count > 0);
    let places: Vec<String> =
        places.map(|(count, place)| format!("{} {place}", units::count(count))).collect();
    if places.is_empty() { String::new() } else { format!(" ({})", places.join(", ")) }
}

fn throttled(who: &str, periods: u64, stopped_ns: u64) -> String {
    format!(
        "the CPU quota of its control group stopped {who} in {} for {} in all",
        units::plural(periods, "period"),
        units::duration(stopped_ns)
    )
}

fn stuck(depth: u32, longest_wait_ns: u64, listeners: usize) -> String {
    let whose = match listeners {
        1 => "the listener".to_owned(),
        n => format!("one of {n} listeners with this address"),
    };
    let waiting = units::plural(depth.into(), "connection");
    let longest = units::duration(longest_wait_ns);
    format!("{whose} leaves {waiting} waiting, the longest for {longest}")
}

fn overflow(count: u64, limit: Option<u32>, somaxconn: Option<u64>) -> String {
    let known = |n: Option<u64>| n.map_or_else(|| "unknown".into(), units::count);
    format!(
        "this server's accept queue overflowed {} (effective backlog {}, somaxconn {})",
        units::plural(count, "time"),
        known(limit.map(u64::from)),
        known(somaxconn)
    )
}

fn syn_queue(cookies: u64, dropped: u64) -> String {
    let (cookies, dropped) = (units::plural(cookies, "SYN cookie"), units::plural(dropped, "SYN"));
    format!("a SYN queue in this network namespace was full ({cookies} sent, {dropped} dropped)")
}

fn conntrack(peak: u64, limit: u64) -> String {
    let (peak, limit) = (units::count(peak), units::count(limit));
    format!("connection tracking held {peak} of {limit} entries")
}

fn was(n: u64, noun: &str) -> String {
    verb(n, noun, "was", "were")
}

fn verb(n: u64, noun: &str, one: &str, many: &str) -> String {
    format!("{} {}", units::plural(n, noun), if n == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::evidence::Throttling;

    #[test]
    fn texts_name_the_numbers_and_the_remedy() {
        let late = reason(&Reason::GeneratorLag { p99_ns: 1_500_000, limit_ns: 1_000_000 });
        assert_eq!(late.code, "generator_lag");
        assert!(late.text.contains("1.50ms") && late.text.contains("--cpus"), "{late:?}");
        let throttled = Some(Throttling { periods: 9, stopped_ns: 1 });
        let evidence = Evidence { generator_throttled: throttled, ..Evidence::default() };
        let lag = Reason::GeneratorLag { p99_ns: 1_500_000, limit_ns: 1_000_000 };
        let stopped = reason_given(&lag, &evidence).text;
        assert!(stopped.contains("quota") && !stopped.contains("--threads"), "{stopped}");
        let slow = reason(&Reason::RateNotReached { target: 2000.0, achieved: 1000.0 });
        assert!(slow.text.starts_with("1,000 connects per second were reached of 2,000"));
        let few = |count, attempted| {
            let (phase, needed) = (Phase::AcceptDelay, 100);
            reason(&Reason::TooFewSamples { phase, count, needed, attempted }).text
        };
        assert!(few(50, 50).contains("run longer (at least 100)"), "{}", few(50, 50));
        assert!(!few(50, 500).contains("longer"), "{}", few(50, 500));
        let (outcome, count) = (Outcome::Refused, 9);
        let nothing = reason(&Reason::NothingCompleted { attempted: 9, outcome, count }).text;
        assert!(nothing.starts_with("none of 9 attempts completed (9 refused)"), "{nothing}");
        let full =
            advice(&Advice::AcceptQueueOverflowed { count: 197, limit: Some(5), somaxconn: None });
        assert!(full.text.contains("197 times (effective backlog 5, somaxconn unknown)"));
        assert_eq!(
            advice(&Advice::Refused { count: 1 }).text.split(':').next(),
            Some("1 connection was refused")
        );
    }

    #[test]
    fn the_headline_carries_what_failed() {
        let mut result = RunResult::default();
        result.outcomes.attempted = 1800;
        result.outcomes.ended = [("completed".into(), 1800), ("refused".into(), 0)].into();
        result.verdict.valid = true;
        assert_eq!(headline(&result), "VALID");
        result.outcomes.ended =
            [("completed".into(), 1394), ("refused".into(), 394), ("shed".into(), 12)].into();
        assert_eq!(headline(&result), "VALID, but 394 of 1,800 refused, 12 shed");
        result.verdict.valid = false;
        assert_eq!(headline(&result), "INVALID: 394 of 1,800 refused, 12 shed");
    }
}
