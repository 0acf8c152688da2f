//! The report as text, for terminals of 80 columns and more.

use std::path::PathBuf;
use std::time::Duration;

use super::plot;
use crate::evidence::Evidence;
use crate::generate::recorder::Phase;
use crate::model::result::{Generator, Load, Report, Summary};
use crate::plan::config::{Arrivals, Close, Observe};
use crate::render::units;

/// Columns used.
const WIDTH: usize = 80;
/// Columns of the names at the left.
const NAMES: usize = 14;

/// Whether to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// ANSI escape sequences.
    pub color: bool,
}

impl Style {
    fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// The whole report; `files` were written beside it.
pub fn render(report: &Report, files: &[PathBuf], style: Style) -> String {
    let mut lines = head(report, style);
    lines.push(String::new());
    lines.extend(phases(report, style));
    lines.extend(curve(report, style));
    lines.push(String::new());
    lines.extend(outcomes(report));
    lines.extend(pace(&report.generator));
    lines.extend(evidence(report));
    lines.push(String::new());
    lines.extend(verdict(report, style));
    let shown = files.iter().map(|file| file.display().to_string());
    lines.extend(entry("files", shown.collect()));
    lines.join("\n") + "\n"
}

fn head(report: &Report, style: Style) -> Vec<String> {
    let title = format!("loadgen {} → {}", report.tool_version, report.target.addr);
    let mut seen = match report.target.observe {
        Observe::Stamp => "accepts stamped by the server".to_owned(),
        Observe::Diag => "accepts seen in the kernel's socket table".to_owned(),
        Observe::None | Observe::Auto => "accepts not observed".to_owned(),
    };
    if let Some(Summary { p50: Some(p50), p99: Some(p99), .. }) =
        report.histograms.get(Phase::DiagResolution.name())
    {
        let (p50, p99) = (units::duration(*p50), units::duration(*p99));
        seen += &format!(", to within {p50} (p50) and {p99} (p99)");
    }
    let mut lines = vec![style.bold(&title), load(&report.load), seen];
    lines.extend(server(report));
    lines
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

fn server(report: &Report) -> Vec<String> {
    let server = &report.server;
    let workers = server.workers.map(|n| units::plural(n, "worker"));
    let known = [
        server.engine.as_ref().map(|engine| format!("engine {engine}")),
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
    lines.extend(server.degraded.iter().map(|what| format!("server degraded: {what}")));
    lines
}

fn phases(report: &Report, style: Style) -> Vec<String> {
    let header = row(["phase", "count", "p50", "p90", "p99", "p99.9", "max"]);
    let mut lines = vec![style.bold(&header)];
    let shown = Phase::ALL.into_iter().filter(|phase| *phase != Phase::DiagResolution);
    for (phase, summary) in shown.filter_map(|p| Some((p, report.histograms.get(p.name())?))) {
        let cells = [
            phase.name(),
            &units::count(summary.count),
            &units::maybe(summary.p50),
            &enough(summary.p90, summary.count, 10),
            &enough(summary.p99, summary.count, 100),
            &enough(summary.p99_9, summary.count, 1000),
            &units::maybe(summary.max),
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
fn enough(ns: Option<u64>, count: u64, needed: u64) -> String {
    units::maybe(ns.filter(|_| count >= needed))
}

fn curve(report: &Report, style: Style) -> Vec<String> {
    let sampled = |phase: &Phase| report.histograms.get(phase.name()).is_some_and(|s| s.count > 0);
    let phase = [Phase::AcceptDelay, Phase::Connect].into_iter().find(sampled);
    let Some(phase) = phase else { return Vec::new() };
    let Some(histogram) = report.histograms[phase.name()].histogram() else { return Vec::new() };
    let plot = plot::render(&histogram, WIDTH);
    if plot.is_empty() {
        return plot;
    }
    let title = style.dim(&format!("{} by percentile", phase.name()));
    [String::new(), title].into_iter().chain(plot).collect()
}

fn outcomes(report: &Report) -> Vec<String> {
    let outcomes = &report.outcomes;
    let ended = outcomes.ended.iter().filter(|(_, n)| **n > 0);
    let ended = ended.map(|(outcome, n)| format!("{} {}", units::count(*n), outcome.name()));
    let ended: Vec<String> = ended.collect();
    let mut lines = vec![format!(
        "{} attempted: {}",
        units::count(outcomes.attempted),
        if ended.is_empty() { "none ended".into() } else { ended.join(", ") }
    )];
    if report.warmup_excluded > 0 {
        lines.push(format!("{} more in the warm-up", units::count(report.warmup_excluded)));
    }
    if report.accepted_before_return > 0 {
        let early = report.accepted_before_return;
        let share = percent(early, outcomes.attempted);
        lines.push(format!("{} accepted before connect returned ({share})", units::count(early)));
    }
    for kind in &report.errnos {
        let (count, name) = (units::count(kind.count), kind.outcome.name());
        lines.push(format!("{count} × {name}: {}", kind.message));
    }
    if report.errnos_other > 0 {
        lines.push(format!("{} × other errors", units::count(report.errnos_other)));
    }
    entry("outcomes", lines)
}

fn pace(generator: &Generator) -> Vec<String> {
    let (Some(target), Some(achieved)) = (generator.target_rate, generator.achieved_rate) else {
        return Vec::new();
    };
    let (target, achieved) = (units::rate(target), units::rate(achieved));
    entry("rate", vec![format!("{achieved} connects/s of {target} planned")])
}

fn evidence(report: &Report) -> Vec<String> {
    let evidence = &report.evidence;
    let mut lines = entry("accept queue", queue(evidence));
    lines.extend(entry("kernel", kernel(evidence)));
    lines.extend(entry("conntrack", vec![conntrack(evidence)]));
    lines.extend(entry("cpu", cpu(report)));
    lines.extend(entry("not readable", evidence.unreadable.clone()));
    lines
}

fn queue(evidence: &Evidence) -> Vec<String> {
    let Some(queue) = &evidence.accept_queue else { return Vec::new() };
    vec![format!(
        "deepest {}, mean {:.2}, of {} ({}, {})",
        units::count(queue.depth_max.into()),
        queue.depth_mean,
        units::count(queue.limit.into()),
        units::plural(queue.listeners.into(), "listener"),
        units::plural(queue.samples, "look"),
    )]
}

fn kernel(evidence: &Evidence) -> Vec<String> {
    let Some(kernel) = &evidence.kernel else { return Vec::new() };
    let mut lines = vec![format!(
        "{}, {}, {}",
        units::plural(kernel.listen_overflows, "queue overflow"),
        units::plural(kernel.listen_drops, "listen drop"),
        units::plural(kernel.tcp_syn_retrans, "SYN retransmit"),
    )];
    let schedule = evidence.retransmit_schedule.unwrap_or_default();
    if schedule.connect + schedule.accept_delay > 0 {
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
        units::count(table.drop + table.insert_failed + table.early_drop)
    )
}

fn cpu(report: &Report) -> Vec<String> {
    let attempts = report.outcomes.attempted + report.warmup_excluded;
    let use_of = |name: &str, cpu: &crate::evidence::CpuUse| {
        let each = cpu.cpu_ns.checked_div(attempts).map(units::duration);
        let each = each.map_or_else(String::new, |each| format!(" ({each} per connection)"));
        format!("{name} {:.2} cores{each}", cpu.cores)
    };
    let generator = report.generator.cpu.as_ref().map(|cpu| use_of("generator", cpu));
    let server = report.evidence.server_cpu.as_ref().map(|cpu| use_of("server", cpu));
    generator.into_iter().chain(server).collect()
}

fn verdict(report: &Report, style: Style) -> Vec<String> {
    let text = &report.verdict;
    let word =
        if text.valid { style.paint("1;32", "VALID") } else { style.paint("1;31", "INVALID") };
    let mut lines = vec![word];
    for reason in &text.reasons {
        lines.extend(wrap(&format!("✗ {reason}"), WIDTH - NAMES, "  "));
    }
    for advice in &text.advice {
        lines.extend(wrap(&format!("! {advice}"), WIDTH - NAMES, "  "));
    }
    entry("verdict", lines)
}

/// Lines under a name at the left; nothing without lines.
fn entry(name: &str, lines: Vec<String>) -> Vec<String> {
    let names = std::iter::once(name).chain(std::iter::repeat(""));
    names.zip(lines).map(|(name, line)| format!("{name:<NAMES$}{line}")).collect()
}

/// Breaks at spaces; a single longer word stays whole.
fn wrap(text: &str, width: usize, indent: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is always a last line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(format!("{indent}{word}"));
        }
    }
    lines
}

fn percent(part: u64, whole: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    let share = 100.0 * part as f64 / whole.max(1) as f64;
    format!("{share:.1} %")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_words_stay_whole_and_lines_stay_narrow() {
        let lines = wrap("a bb ccc dddddddddd e", 6, "  ");
        assert_eq!(lines, ["a bb", "  ccc", "  dddddddddd", "  e"]);
    }

    #[test]
    fn percentiles_need_samples_beyond_them() {
        assert_eq!(enough(Some(5_000), 99, 100), "–");
        assert_eq!(enough(Some(5_000), 100, 100), "5.00µs");
    }

    #[test]
    fn names_stand_only_beside_the_first_line() {
        let lines = entry("cpu", vec!["a".into(), "b".into()]);
        assert_eq!(lines, ["cpu           a", "              b"]);
        assert!(entry("cpu", vec![]).is_empty());
    }
}
