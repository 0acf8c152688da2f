//! The report of a run.

use std::time::Duration;

use super::{Style, WIDTH, entry, floor, objectives, transport, verdict};
use crate::model::evidence::{CpuUse, Evidence};
use crate::model::load::{Arrivals, Close, Load, Observe};
use crate::model::outcome::Phase;
use crate::model::result::{Generator, RunResult, Shard};
use crate::model::server::Process;
use crate::render::{plot, units};

pub(super) fn lines(result: &RunResult, style: Style) -> Vec<String> {
    let mut lines = head(result, style);
    lines.push(String::new());
    lines.extend(phases(result, style));
    lines.extend(curve(result, style));
    lines.push(String::new());
    lines.extend(outcomes(result));
    lines.extend(pace(&result.generator));
    lines.extend(evidence(result));
    lines.push(String::new());
    lines.extend(floor::lines(result));
    lines.extend(objectives::lines(result, style));
    lines.extend(verdict::lines(result, style));
    lines
}

fn head(result: &RunResult, style: Style) -> Vec<String> {
    let title = format!("loadgen {} → {}", result.tool.version, result.target.addr);
    let mut seen = match result.target.observe {
        Observe::Stamp => "accepts stamped by the server".to_owned(),
        Observe::Diag => "accepts seen in the kernel's socket table".to_owned(),
        Observe::None | Observe::Auto => "accepts not observed".to_owned(),
    };
    if let Some(width) = result.target.resolution {
        let (p50, p99) = (units::duration(width.p50_ns), units::duration(width.p99_ns));
        seen += &format!(", to within {p50} (p50) and {p99} (p99)");
    }
    let mut lines = vec![style.bold(&title)];
    lines.extend(transport::transport_and_engine(result));
    lines.extend(result.load.as_ref().map(load));
    lines.extend(shards(result));
    lines.push(seen);
    lines.extend(result.target.clock_offset.as_ref().map(units::clock));
    lines.extend(server(result));
    lines.extend(transport::degraded(result));
    lines
}

fn shards(result: &RunResult) -> Option<String> {
    if let Some(Shard { index, count }) = result.shard {
        return Some(format!("shard {index} of {count}, counted from 0: its part of one plan"));
    }
    let (parts, skew) = (result.merged.len() as u64, units::duration(result.start_skew_ns?));
    Some(format!("merged from {}, begun within {skew}", units::plural(parts, "shard")))
}

fn load(load: &Load) -> String {
    let shape = match (load.rate, load.burst, load.concurrency) {
        (Some(rate), ..) => format!("{} connections/s, {}", units::rate(rate), spacing(load)),
        (_, Some(burst), _) => format!("bursts of {}{}", units::count(burst.into()), every(load)),
        (.., concurrency) => {
            format!("closed loop of {}", units::count(concurrency.unwrap_or(0).into()))
        }
    };
    let length = match (load.connections, load.duration_ns) {
        (Some(connections), _) => units::plural(connections, "connection"),
        (None, ns) => span(ns.unwrap_or(0)),
    };
    let warmup = match load.warmup_ns {
        0 => String::new(),
        ns => format!(" after {} of warm-up", span(ns)),
    };
    let messages = match load.messages {
        0 => "no messages".to_owned(),
        n => format!("{} of {} B", units::plural(n.into(), "echo"), load.size_bytes),
    };
    let close = match load.close {
        Close::Rst => "closed by RST",
        Close::Fin => "closed by FIN",
    };
    format!("{shape}; {length}{warmup}; {messages}; {close}")
}

fn spacing(load: &Load) -> &'static str {
    match load.arrivals {
        Some(Arrivals::Poisson) => "Poisson",
        Some(Arrivals::Constant) | None => "constant",
    }
}

fn every(load: &Load) -> String {
    load.every_ns.map_or_else(String::new, |ns| format!(" every {}", span(ns)))
}

fn span(ns: u64) -> String {
    humantime::format_duration(Duration::from_nanos(ns)).to_string()
}

fn server(result: &RunResult) -> Vec<String> {
    let server = &result.server;
    let workers = server.workers.map(|n| units::plural(n, "worker"));
    let known = [
        workers,
        server.accept.as_ref().map(|accept| format!("accept {accept}")),
        server.backlog_effective.map(|n| format!("backlog {}", units::count(n))),
        server.busy_poll.as_ref().map(|poll| format!("busy poll {poll}")),
    ];
    let known: Vec<String> = known.into_iter().flatten().collect();
    let mut lines = Vec::new();
    if !known.is_empty() {
        lines.push(format!("server: {}", known.join(", ")));
    }
    let process = |process: &Process| format!("{} ({})", process.name, process.pid);
    let processes: Vec<String> = server.processes.iter().map(process).collect();
    if !processes.is_empty() {
        lines.push(format!("listening: {}", processes.join(", ")));
    }
    lines
}

fn phases(result: &RunResult, style: Style) -> Vec<String> {
    let header = row(["phase", "count", "p50", "p90", "p99", "p99.9", "max"]);
    let mut lines = vec![style.bold(&header)];
    let shown = Phase::ALL.into_iter().filter(|phase| *phase != Phase::DiagResolution);
    for (phase, summary) in shown.filter_map(|p| Some((p, result.histograms.get(p.name())?))) {
        let bound_ns = result.clock_bound_ns(phase.name());
        let told = |ns, needed| enough(ns, bound_ns, summary.count >= needed);
        let cells = [
            phase.name(),
            &units::count(summary.count),
            &told(summary.p50, 1),
            &told(summary.p90, 10),
            &told(summary.p99, 100),
            &told(summary.p99_9, 1000),
            &told(summary.max, 1),
        ];
        let line = row(cells);
        let primary = phase == Phase::AcceptDelay && summary.count > 0;
        lines.push(if primary { style.bold(&line) } else { line });
    }
    lines
}

fn row([name, count, rest @ ..]: [&str; 7]) -> String {
    let mut line = format!("{name:<17} {count:>12}");
    rest.iter().for_each(|cell| line += &format!(" {cell:>9}"));
    line
}

/// A percentile, or a dash where too few samples lie beyond it to mean anything.
fn enough(ns: Option<u64>, bound_ns: u64, samples: bool) -> String {
    units::bounded(ns.filter(|_| samples), bound_ns)
}

fn curve(result: &RunResult, style: Style) -> Vec<String> {
    let sampled = |phase: &Phase| result.histograms.get(phase.name()).is_some_and(|s| s.count > 0);
    let phase = [Phase::AcceptDelay, Phase::Connect].into_iter().find(sampled);
    let Some(phase) = phase else { return Vec::new() };
    let Ok(histogram) = result.histograms[phase.name()].histogram() else { return Vec::new() };
    let plot = plot::render(&histogram, WIDTH);
    if plot.is_empty() {
        return plot;
    }
    let title = style.dim(&format!("{} by percentile", phase.name()));
    [String::new(), title].into_iter().chain(plot).collect()
}

fn outcomes(result: &RunResult) -> Vec<String> {
    let outcomes = &result.outcomes;
    let ended = outcomes.ended.iter().filter(|(_, n)| **n > 0);
    let ended = ended.map(|(outcome, n)| format!("{} {}", units::count(*n), outcome));
    let ended: Vec<String> = ended.collect();
    let mut lines = vec![format!(
        "{} attempted: {}",
        units::count(outcomes.attempted),
        if ended.is_empty() { "none ended".into() } else { ended.join(", ") }
    )];
    if result.warmup_excluded > 0 {
        lines.push(format!("{} more in the warm-up", units::count(result.warmup_excluded)));
    }
    if result.accepted_before_return > 0 {
        let early = result.accepted_before_return;
        let share = units::percent(early, outcomes.attempted);
        lines.push(format!("{} accepted before connect returned ({share})", units::count(early)));
    }
    lines.extend(beside_the_samples(result));
    for kind in &result.errnos {
        let (count, name) = (units::count(kind.count), &kind.outcome);
        lines.push(format!("{count} × {name}: {}", kind.message));
    }
    if result.errnos_other > 0 {
        lines.push(format!("{} × other errors", units::count(result.errnos_other)));
    }
    entry("outcomes", lines)
}

/// Accepts of which less is known than a sample says, or nothing.
fn beside_the_samples(result: &RunResult) -> Vec<String> {
    let some = |count: Option<u64>| count.filter(|&count| count > 0);
    let order = some(result.accept_order_undetermined).map(|count| {
        let share = units::percent(count, result.outcomes.attempted);
        format!(
            "{} accepted as connect returned, before or after it ({share})",
            units::count(count)
        )
    });
    let unseen = some(result.not_observed)
        .map(|count| format!("{} ended before an accept was observed", units::count(count)));
    order.into_iter().chain(unseen).collect()
}

fn pace(generator: &Generator) -> Vec<String> {
    let (Some(target), Some(achieved)) = (generator.target_rate, generator.achieved_rate) else {
        return Vec::new();
    };
    let (target, achieved) = (units::rate(target), units::rate(achieved));
    entry("rate", vec![format!("{achieved} connects/s of {target} planned")])
}

fn evidence(result: &RunResult) -> Vec<String> {
    let evidence = &result.evidence;
    let mut lines = entry("accept queue", queue(evidence));
    lines.extend(entry("kernel", kernel(evidence)));
    lines.extend(entry("conntrack", vec![conntrack(evidence)]));
    lines.extend(entry("cpu", cpu(result)));
    lines.extend(entry("not readable", evidence.unreadable.clone()));
    lines
}

fn queue(evidence: &Evidence) -> Vec<String> {
    let Some(queue) = &evidence.accept_queue else { return Vec::new() };
    vec![format!(
        "deepest {}, mean {:.2}, of {} ({}, {}{})",
        units::count(queue.depth_max.into()),
        queue.depth_mean,
        units::count(queue.limit.into()),
        units::plural(queue.listeners.into(), "listener"),
        units::plural(queue.samples, "sample"),
        queue.samples_wanted.map_or_else(String::new, |n| format!(" of {}", units::count(n))),
    )]
}

fn kernel(evidence: &Evidence) -> Vec<String> {
    let Some(kernel) = &evidence.kernel else { return Vec::new() };
    let mut lines = Vec::new();
    let retransmits = units::plural(kernel.tcp_syn_retrans, "SYN retransmit");
    match &evidence.accept_queue {
        Some(queue) => {
            let own = queue.drops.map(|n| units::plural(n, "drop") + " at this listener");
            lines.extend(own.map(|own| own + "; in its network namespace:"));
            lines.push(format!(
                "{}, {}, {retransmits}",
                units::plural(kernel.listen_overflows, "queue overflow"),
                units::plural(kernel.listen_drops, "listen drop"),
            ));
        }
        // The counters of this namespace say nothing of a listener in another one.
        None => lines
            .push(format!("{retransmits} in this network namespace; the listener is not in it")),
    }
    let schedule = evidence.retransmission_schedule.unwrap_or_default();
    if schedule.connect.max(schedule.accept_delay) > 0 {
        lines.push(format!(
            "on the SYN retransmission schedule: {} of connect, {} of accept_delay",
            units::plural(schedule.connect, "sample"),
            units::count(schedule.accept_delay)
        ));
    }
    lines
}

fn conntrack(evidence: &Evidence) -> String {
    let Some(table) = evidence.conntrack.filter(|table| table.active()) else {
        return "not in use".into();
    };
    format!(
        "{} → at most {} of {} entries, {} lost",
        units::count(table.count_start),
        units::count(table.count_peak),
        units::count(table.limit),
        units::count(table.lost())
    )
}

fn cpu(result: &RunResult) -> Vec<String> {
    let attempts = result.outcomes.attempted.saturating_add(result.warmup_excluded);
    let use_of = |name: &str, cpu: &CpuUse| {
        let each = cpu.cpu_ns.checked_div(attempts).map(units::duration);
        let each = each.map_or_else(String::new, |each| format!(" ({each} per connection)"));
        format!("{name} {:.2} cores{each}", cpu.cores)
    };
    let generator = result.generator.cpu.as_ref().map(|cpu| use_of("generator", cpu));
    let server = result.evidence.server_cpu.as_ref().map(|cpu| use_of("server", cpu));
    let waited = result.evidence.server_run_delay.map(|delay| {
        let each = |ns: u64| units::duration(ns.checked_div(attempts).unwrap_or(0));
        let shared = match (delay.generator_shares_cpus, delay.held_by_generator_ns) {
            (false, _) => String::new(),
            (true, None) => ", which the generator may use".into(),
            (true, Some(ns)) => format!(", {} at most for the generator", each(ns)),
        };
        format!("server waited {} per connection for a CPU{shared}", each(delay.total_ns))
    });
    generator.into_iter().chain(server).chain(waited).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_need_samples_beyond_them() {
        assert_eq!(enough(Some(5_000), 0, false), "–");
        assert_eq!(enough(Some(5_000), 0, true), "5.00µs");
        assert_eq!(enough(Some(5_000), 5_001, true), "< 10.0µs", "finer than the clocks allow");
    }
}
