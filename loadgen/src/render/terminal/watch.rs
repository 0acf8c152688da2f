//! The report of a watch, and the list of listeners.

use super::{Style, WIDTH, entry, paragraph, wrap};
use crate::model::outcome::Phase;
use crate::model::result::RunResult;
use crate::model::watch::{ListedListener, Watch, WatchMember};
use crate::render::table::{
    self,
    Column::{Left, Right},
};
use crate::render::units;
use crate::render::watch_findings::limit;

pub(super) fn lines(result: &RunResult, style: Style) -> Vec<String> {
    let Some(watch) = &result.watch else { return Vec::new() };
    let title = format!("loadgen {} watch → {}", result.tool.version, result.target.addr);
    let mut lines = vec![style.bold(&title)];
    lines.extend(wrap(&how(watch), WIDTH, ""));
    lines.push(String::new());
    lines.extend(entry("waits", waits(result, watch)));
    lines.extend(entry("queue", queue(watch)));
    let several = watch.members.len() > 1;
    lines
        .extend(entry("listeners", watch.members.iter().filter(|_| several).map(member).collect()));
    let cpu = format!(
        "{} samples, {:.1} % late; {:.1} % of a core",
        units::count(watch.ticks),
        watch.late_ticks_share * 100.0,
        watch.cpu_cores * 100.0
    );
    lines.extend(paragraph("watcher", &cpu));
    if let Some(refused) = &watch.trace_refused {
        lines.extend(paragraph("no trace", refused));
    }
    if watch.pauses > 0 {
        let pauses = units::plural(watch.pauses, "time");
        let text = format!("{pauses}: what happened meanwhile is in no number");
        lines.extend(paragraph("stood still", &text));
    }
    lines.extend(paragraph("not in sight", "SYNs and last ACKs that a full queue dropped"));
    if result.interrupted {
        lines.extend(paragraph("interrupted", "the report is partial"));
    }
    for advice in &result.verdict.advice {
        lines.extend(paragraph("advice", &advice.text));
    }
    lines
}

fn how(watch: &Watch) -> String {
    let means = match watch.mode.as_str() {
        "trace" => "the instant of each arrival and the depth of the queue",
        "fifo" => "depth of the queue and count of connections",
        "sampled" => "dumps of the queue at random instants",
        _ => "depth of the queue alone",
    };
    let (resolution, length) =
        (units::duration(watch.resolution_ns), units::duration(watch.watched_ns));
    format!("mode {} ({means}), waits told to within {resolution}; {length}", watch.mode)
}

fn waits(result: &RunResult, watch: &Watch) -> Vec<String> {
    let told = |ns: Option<u64>| {
        ns.map_or_else(|| "–".into(), |ns| units::resolved(ns, watch.resolution_ns))
    };
    let mean = match (watch.mean_wait_ns, watch.mean_wait_range_ns) {
        (Some(mean), _) => format!("mean {}", units::duration(mean)),
        (None, Some((low, high))) => {
            format!("mean {} to {}", units::duration(low), units::duration(high))
        }
        (None, None) => "mean –".into(),
    };
    let at_least = if watch.mean_wait_range_ns.is_some() { "at least " } else { "" };
    let mut lines = vec![format!("{at_least}{} accepted; {mean}", units::count(watch.accepts))];
    let Some(delay) = result.sampled(Phase::AcceptDelay) else { return lines };
    if let Some(dumps) = watch.dumps_that_met {
        lines.push(format!(
            "of waits of {} and more, from {} that met somebody:",
            units::duration(watch.resolution_ns),
            units::plural(dumps, "dump")
        ));
    }
    let enough = |ns: Option<u64>, needed| told(ns.filter(|_| delay.count >= needed));
    lines.push(format!(
        "p50 {}  p90 {}  p99 {}  p99.9 {}  max {}",
        told(delay.p50),
        enough(delay.p90, 10),
        enough(delay.p99, 100),
        enough(delay.p99_9, 1000),
        told(delay.max)
    ));
    if watch.dumps_that_met.is_some() {
        return lines;
    }
    let below = units::count(watch.below_resolution);
    let share = units::percent(watch.below_resolution, delay.count);
    lines.push(format!("{below} ({share}) below {}", units::duration(watch.resolution_ns)));
    lines
}

fn queue(watch: &Watch) -> Vec<String> {
    let count = |n: u32| units::count(n.into());
    let longest = watch.longest_wait_ns.map(|ns| format!(", longest for {}", units::duration(ns)));
    let mut lines = vec![
        format!("{} waiting now{}", count(watch.depth), longest.unwrap_or_default()),
        format!(
            "at most {} of {}; {} dropped",
            count(watch.depth_max),
            limit(watch.limit),
            units::count(watch.drops)
        ),
    ];
    if watch.restarts > 0 {
        lines.push(format!(
            "the listeners changed {}; nobody listened for {}",
            units::plural(watch.restarts, "time"),
            units::duration(watch.absent_ns)
        ));
    }
    lines
}

fn member(member: &WatchMember) -> String {
    let owner = member.owners.first().map_or_else(|| member.inode.to_string(), Clone::clone);
    let longest = member
        .longest_wait_ns
        .map_or_else(String::new, |ns| format!(", longest for {}", units::duration(ns)));
    let (now, most, limit) = (member.depth, member.depth_max, limit(member.limit));
    let dropped = units::count(member.drops);
    format!("{owner}: {now} waiting{longest}; at most {most} of {limit}; {dropped} dropped")
}

/// The listeners of a namespace, in the order given, and what is noticed in them.
#[must_use]
pub fn listeners(listed: &[ListedListener], style: Style) -> String {
    let width = listed.iter().map(|one| one.addr.chars().count()).max().unwrap_or(0);
    let columns = [Left(width.max(7)), Right(7), Right(7), Right(5), Right(9), Left(0)];
    let header = ["address", "waiting", "limit", "full", "dropped", "owner"];
    let mut lines = vec![style.bold(&table::row(&columns, header))];
    for one in listed {
        let (waiting, limit) = (units::count(one.depth.into()), units::count(one.limit.into()));
        let (full, dropped) =
            (format!("{:.0} %", one.fullness * 100.0), units::count(one.drops.into()));
        let cells = [&*one.addr, &waiting, &limit, &full, &dropped, &owner(one)];
        lines.push(table::row(&columns, cells));
    }
    for one in listed {
        let Some(advice) = &one.advice else { continue };
        lines.push(String::new());
        let text = format!("! {} of {}: {}", one.addr, owner(one), advice.text);
        lines.extend(wrap(&text, WIDTH, "  "));
    }
    super::joined(lines)
}

/// Its first owner, and how many share the socket or the address.
fn owner(one: &ListedListener) -> String {
    let mut owner = match one.owners.split_first() {
        Some((first, [])) => format!("{} ({})", first.name, first.pid),
        Some((first, rest)) => format!("{} ({}) +{}", first.name, first.pid, rest.len()),
        None => format!("uid {}", one.uid),
    };
    if one.listeners > 1 {
        owner += &format!(", one of {}", one.listeners);
    }
    owner
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::histogram::{Summary, new_histogram};
    use crate::model::result::Kind;
    use crate::model::verdict::Finding;
    use crate::model::watch::{LimitedBy, ListedOwner};

    #[test]
    fn what_is_below_the_resolution_is_not_printed_as_a_number() {
        let mut histogram = new_histogram();
        histogram.saturating_record_n(2_000_000, 990);
        histogram.saturating_record_n(50_000_000, 10);
        let watch = Watch {
            mode: "depth".into(),
            resolution_ns: 4_000_000,
            accepts: 1000,
            below_resolution: 990,
            mean_wait_range_ns: Some((30_000, 90_000)),
            members: vec![WatchMember::default(), WatchMember::default()],
            ..Watch::default()
        };
        let mut result =
            RunResult { kind: Kind::Watch, watch: Some(watch), ..RunResult::default() };
        result.histograms.insert("accept_delay".into(), Summary::of(&histogram));
        let text = lines(&result, Style::default()).join("\n");
        for part in [
            "p50 < 4.00ms",
            "max 50",
            "990 (99.0 %) below 4.00ms",
            "at least 1,000",
            "mean 30.0µs to 90.0µs",
            "depth of the queue alone",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_listener_has_a_row() {
        let listed = ListedListener {
            addr: "127.0.0.1:80".into(),
            inode: 7,
            uid: 33,
            owners: vec![ListedOwner { pid: 9, name: "nginx".into() }],
            depth: 3,
            limit: 511,
            fullness: ListedListener::fullness(256, 511),
            drops: 2,
            listeners: 4,
            limited_by: Some(LimitedBy::Backlog),
            advice: Some(Finding { code: "x".into(), text: "raise it".into(), numbers: [].into() }),
        };
        let unseen = ListedListener { owners: Vec::new(), ..listed.clone() };
        let text = listeners(&[listed, unseen], Style::default());
        assert!(text.contains("nginx (9)") && text.contains("50 %"), "{text}");
        assert!(text.contains("uid 33, one of 4"), "{text}");
        assert!(text.contains("! 127.0.0.1:80 of nginx (9), one of 4: raise it"), "{text}");
    }
}
