//! The words of a watch: its line of a second, and what is said of its advice.

use super::{findings, units};
use crate::model::verdict::{Advice, Finding};
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

/// A piece of advice with its text, and with what only this watch can tell of it.
#[must_use]
pub fn advice(advice: &Advice, watch: &Watch) -> Finding {
    let finding = findings::advice(advice);
    let detail = match advice {
        Advice::ListenerStuck { inode, .. } => {
            let member = watch.members.iter().find(|member| member.inode == *inode);
            member.and_then(|member| member.owners.first()).cloned()
        }
        Advice::DepthAlone | Advice::WaitsSampled { .. } => watch.mode_reason.clone(),
        _ => None,
    };
    let Some(detail) = detail else { return finding };
    Finding { text: format!("{} ({detail})", finding.text), ..finding }
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;

    use super::*;
    use crate::model::watch::WatchMember;
    use crate::model::watch_live::ListenerSecond;

    #[test]
    fn advice_is_told_with_whom_it_is_about() {
        let member =
            WatchMember { inode: 7, owners: vec!["node (4711)".into()], ..WatchMember::default() };
        let reason = Some("another listener is busy".into());
        let watch = Watch { members: vec![member], mode_reason: reason, ..Watch::default() };
        let said = |found: Advice| advice(&found, &watch).text;
        let (depth, longest_wait_ns) = (3, 2_000_000_000);
        let stuck = Advice::ListenerStuck { inode: 7, depth, longest_wait_ns, listeners: 4 };
        assert_eq!(
            said(stuck),
            "one of 4 listeners with this address leaves 3 connections waiting, the longest for \
             2.00s: it is stuck, or blocked in something else than accept (node (4711))"
        );
        assert!(said(Advice::DepthAlone).ends_with("are not (another listener is busy)"));
    }

    #[test]
    fn drops_are_told_with_the_limit_that_binds() {
        let said = |limit, somaxconn| {
            let (limit, somaxconn) = (Some(limit), Some(somaxconn));
            let found = Advice::AcceptQueueOverflowed { count: 3378, limit, somaxconn };
            findings::advice(&found).text
        };
        let node = said(511, 4096);
        for part in ["3,378 times", "up to so many clients", "Node.js", "allows 4,096"] {
            assert!(node.contains(part), "{part}: {node}");
        }
        assert!(said(128, 128).contains("limited to 128 by net.core.somaxconn: raise that"));
        let (depth, limit, somaxconn) = (450, 511, None);
        let full = Advice::AcceptQueueNearlyFull { depth, limit, somaxconn };
        let full = findings::advice(&full).text;
        assert!(full.starts_with("the accept queue held 450 of 511: nothing was"), "{full}");
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
