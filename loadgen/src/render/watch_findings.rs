//! The words of a watch: its line of a second, and its advice.

use serde_json::json;

use super::units;
use crate::model::verdict::Finding;
use crate::model::watch::{LIMIT_UNKNOWN, Watch};
use crate::model::watch_live::WatchSecond;

/// The line of a second.
#[must_use]
pub fn line(second: &WatchSecond<'_>) -> String {
    let at = second.at_ns / 1_000_000_000;
    if second.listeners.is_empty() {
        return format!("{at:>5} s  nobody listens");
    }
    let count = |n: u32| units::count(n.into());
    let told = |ns| units::resolved(ns, second.resolution_ns);
    let waits = match second.waits.is_empty() {
        true => "–".to_owned(),
        false => format!(
            "p50 {} p99 {} max {}",
            told(second.waits.value_at_quantile(0.5)),
            told(second.waits.value_at_quantile(0.99)),
            told(second.waits.max())
        ),
    };
    let longest = second.longest_wait_ns().map(|ns| format!(", longest {}", units::duration(ns)));
    format!(
        "{at:>5} s  waiting {}{} (max {} of {})  seen accepted {}/s  {waits}  dropped {}",
        count(second.waiting()),
        longest.unwrap_or_default(),
        count(second.depth_max),
        limit(second.limit()),
        units::rate(second.accept_rate()),
        units::count(second.drops)
    )
}

/// A limit, where it is known.
#[must_use]
pub fn limit(limit: u32) -> String {
    match limit {
        LIMIT_UNKNOWN => "an unknown limit".into(),
        known => units::count(known.into()),
    }
}

/// More late samples than this bend the numbers.
pub(super) const LATE_MAX: f64 = 0.02;
/// A queue this full is close to dropping.
pub(super) const FULL: f64 = 0.8;

/// What was noticed, and the remedy.
#[must_use]
pub fn advice(watch: &Watch) -> Vec<Finding> {
    let found = [dropped(watch), nearly_full(watch), stuck(watch), late(watch), other_mode(watch)];
    found.into_iter().flatten().collect()
}

fn finding(code: &str, text: String, numbers: &[(&str, serde_json::Value)]) -> Finding {
    let numbers = numbers.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
    Finding { code: code.into(), text, numbers: numbers.collect() }
}

fn dropped(watch: &Watch) -> Option<Finding> {
    if watch.drops == 0 {
        return None;
    }
    let what = units::plural(watch.drops, "packet");
    let text = format!(
        "{what} of new connections dropped (SYNs and last ACKs, retransmissions included): each \
         client waits a second for its first retry, then longer. {}",
        which_binds(watch)
    );
    Some(finding("accept_queue_overflowed", text, &[("count", json!(watch.drops))]))
}

/// The effective limit is the smaller of backlog and somaxconn: which of the two to raise.
fn which_binds(watch: &Watch) -> String {
    if watch.limit == LIMIT_UNKNOWN {
        return "Look at its limit from inside of its network namespace (`loadgen watch --list`)"
            .into();
    }
    let limit = limit(watch.limit);
    let whose = match watch.limit {
        511 => ", the default of Node.js, nginx and Redis",
        128 => ", the default of many runtimes and of old kernels",
        100 => ", the default of Python's asyncio",
        50 => ", the default of Java's ServerSocket",
        5 => ", the default of Python's socketserver",
        _ => "",
    };
    match watch.somaxconn {
        Some(somaxconn) if watch.limit >= somaxconn => format!(
            "The queue is limited to {limit} by net.core.somaxconn: raise that, and the server's \
             backlog with it"
        ),
        Some(somaxconn) => format!(
            "The queue is limited to {limit} by the server's backlog{whose}: raise it \
             (net.core.somaxconn allows {}), or accept faster",
            units::count(somaxconn.into())
        ),
        None => format!("The queue is limited to {limit}{whose}: raise the server's backlog"),
    }
}

fn nearly_full(watch: &Watch) -> Option<Finding> {
    let full = f64::from(watch.depth_max) / (f64::from(watch.limit) + 1.0);
    if watch.drops > 0 || full < FULL {
        return None;
    }
    let text = format!(
        "the queue held {} of {}: nothing was dropped yet. {}",
        units::count(watch.depth_max.into()),
        units::count(watch.limit.into()),
        which_binds(watch)
    );
    Some(finding("accept_queue_nearly_full", text, &[("fullness", json!(full))]))
}

/// One member of a group whose queue stands while others are served.
fn stuck(watch: &Watch) -> Option<Finding> {
    const STANDS_NS: u64 = 1_000_000_000;
    let stands = |ns: Option<u64>| ns.is_some_and(|ns| ns >= STANDS_NS);
    let member = watch.members.iter().filter(|m| stands(m.longest_wait_ns));
    let member = member.max_by_key(|m| m.longest_wait_ns)?;
    let owner = member.owners.first().map_or_else(String::new, |owner| format!(" of {owner}"));
    let of = match watch.members.len() {
        1 => String::new(),
        n => format!(", one of {n} with this address,"),
    };
    let text = format!(
        "the listener{owner}{of} leaves {} waiting, the longest for {}: it is stuck, or blocked in \
         something else than accept",
        units::plural(member.depth.into(), "connection"),
        units::maybe(member.longest_wait_ns)
    );
    let numbers =
        [("inode", json!(member.inode)), ("longest_wait_ns", json!(member.longest_wait_ns))];
    Some(finding("listener_stuck", text, &numbers))
}

fn late(watch: &Watch) -> Option<Finding> {
    if watch.late_ticks_share <= LATE_MAX {
        return None;
    }
    let text = format!(
        "{:.1} % of the samples came late: waits are told longer than they were. Watch with a \
         longer --interval, or on a less busy machine",
        watch.late_ticks_share * 100.0
    );
    Some(finding("late_ticks", text, &[("share", json!(watch.late_ticks_share))]))
}

fn other_mode(watch: &Watch) -> Option<Finding> {
    let reason = watch.mode_reason.as_ref()?;
    let (code, text) = match watch.mode.as_str() {
        "sampled" => (
            "waits_sampled",
            format!(
                "waits are told by dumps of the queue at random instants ({reason}): percentiles \
                 are those of waits of {} and more, and vary from watch to watch",
                units::duration(watch.resolution_ns)
            ),
        ),
        _ => (
            "depth_alone",
            format!(
                "waits are told by the depth of the queue alone ({reason}): stalls are seen, \
                 connections that come and go between two samples are not"
            ),
        ),
    };
    Some(finding(code, text, &[]))
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;

    use super::*;
    use crate::model::watch_live::ListenerSecond;

    fn texts(watch: &Watch) -> String {
        advice(watch).iter().map(|f| format!("{}: {}\n", f.code, f.text)).collect()
    }

    #[test]
    fn drops_are_told_with_the_limit_that_binds() {
        let node = Watch { drops: 7, limit: 511, somaxconn: Some(4096), ..Watch::default() };
        let said = texts(&node);
        assert!(said.contains("Node.js") && said.contains("by the server's backlog"), "{said}");
        let capped = Watch { limit: 128, somaxconn: Some(128), ..node };
        assert!(texts(&capped).contains("raise that"), "{}", texts(&capped));
    }

    #[test]
    fn a_full_queue_and_late_samples_are_told() {
        let full = Watch { depth_max: 9, limit: 10, late_ticks_share: 0.3, ..Watch::default() };
        let said = texts(&full);
        assert!(said.contains("nearly_full") && said.contains("30.0 %"), "{said}");
        assert_eq!(texts(&Watch { limit: 10, ..Watch::default() }), "");
    }

    #[test]
    fn the_second_that_has_no_listener_says_so() {
        let waits = Histogram::new(3).unwrap();
        let listener = ListenerSecond {
            inode: 7,
            depth: 3,
            depth_max: 4,
            limit: 128,
            drops: 0,
            accepts: 0,
            longest_wait_ns: Some(5_000_000),
            waits: &waits,
        };
        let second = WatchSecond {
            at_ns: 7_000_000_000,
            length_ns: 1_000_000_000,
            mode: "depth",
            mode_reason: None,
            resolution_ns: 2_000_000,
            waits: &waits,
            unseen: 0,
            mean_wait_ns: None,
            accepts: 0,
            depth_time_ns: 0.0,
            depth_max: 4,
            drops: 0,
            ticks: 500,
            late_ticks: 0,
            cpu_ns: 0,
            restarts: 0,
            listeners: &[listener],
        };
        let said = line(&second);
        assert!(said.contains("waiting 3, longest 5.00ms (max 4 of 128)"), "{said}");
        assert!(line(&WatchSecond { listeners: &[], ..second }).contains("nobody listens"));
    }
}
