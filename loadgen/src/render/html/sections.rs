//! The report of one result, from the headline to the environment.

use std::slice;

use maud::{Markup, PreEscaped, html};

use super::{charts, comparison, facts, figure, verdict_badge};
use crate::model::histogram::Summary;
use crate::model::load::Observe;
use crate::model::outcome::{Outcome, Phase};
use crate::model::result::{Kind, RunResult};
use crate::model::torture::{CaseStatus, Torture};
use crate::render::{floor, headline, objectives, sequence, terminal, units};

/// Everything.
pub(super) fn all(result: &RunResult) -> Markup {
    html! {
        header {
            h1 { (super::title(result)) }
            p.setting { (setting(result)) }
            p.headline { (verdict_badge(result)) (headline::sentence(result)) }
            (findings(result))
        }
        main { (content(result)) }
        (footer(result))
    }
}

/// What comes below the headline.
pub(super) fn content(result: &RunResult) -> Markup {
    html! {
        @if super::is_judged(result) { (tiles(result)) }
        (floor(result))
        @if let Some(compared) = &result.comparison {
            (comparison::section(slice::from_ref(compared)))
        }
        @if result.sweep.is_some() {
            pre.scroll { (terminal::report(result, terminal::Style::default())) }
        }
        @if result.trace.is_some() {
            figure class="trace" { (PreEscaped(sequence::svg(result))) }
        }
        @if super::is_judged(result) { (pictures(result)) }
        @if let Some(torture) = &result.torture { (cases(torture)) }
        @if !result.histograms.is_empty() { (phases(result)) }
        @if result.outcomes.attempted > 0 { (outcomes(result)) }
        (facts::all(result))
        h2 { "Command" }
        pre { code { (command_line(&result.argv)) } }
    }
}

fn setting(result: &RunResult) -> String {
    let observed = match result.target.observe {
        _ if !matches!(result.kind, Kind::Run | Kind::Watch) => None,
        Observe::Stamp => Some("accepts stamped by the server".to_owned()),
        Observe::Diag => Some("accepts seen in the kernel's socket table".to_owned()),
        Observe::None | Observe::Auto => Some("accepts not observed".to_owned()),
    };
    let width = result.target.resolution;
    let within = width.map(|width| format!("to within {}", units::duration(width.p50_ns)));
    let labels = result.labels.iter().map(|(name, value)| format!("{name}={value}"));
    let clock = result.target.clock_offset.as_ref().map(units::clock);
    let parts = [Some(result.started_at.clone()), observed, within, clock].into_iter().flatten();
    parts.filter(|part| !part.is_empty()).chain(labels).collect::<Vec<_>>().join(" · ")
}

fn findings(result: &RunResult) -> Markup {
    let verdict = &result.verdict;
    html! {
        @if !(verdict.reasons.is_empty() && verdict.advice.is_empty()
            && result.slo.is_empty() && result.problems.is_empty()) {
            ul.findings {
                @for problem in &result.problems { li.bad { (problem) } }
                @for reason in &verdict.reasons {
                    li.bad { code { (reason.code) } ": " (reason.text) }
                }
                @for slo in &result.slo {
                    @let (class, mark) = if slo.met { ("good", "✓") } else { ("bad", "✗") };
                    li class=(class) {
                        (mark) " " code { (slo.expr) } ": " (objectives::measured(slo))
                    }
                }
                @for advice in &verdict.advice {
                    li { code { (advice.code) } ": " (advice.text) }
                }
            }
        }
    }
}

/// The few numbers that are looked for first.
fn tiles(result: &RunResult) -> Markup {
    let delay = result.sampled(Phase::AcceptDelay);
    let bound_ns = result.clock_bound_ns(Phase::AcceptDelay.name());
    let of = |pick: fn(&Summary) -> Option<u64>| {
        delay.and_then(pick).map(|ns| units::bounded(Some(ns), bound_ns))
    };
    let hold = result.hold.as_ref();
    let watch = result.watch.as_ref();
    let tiles = [
        ("accept_delay p50", of(|s| s.p50)),
        ("accept_delay p99", of(|s| s.p99.filter(|_| s.count >= 100))),
        ("accept_delay max", of(|s| s.max)),
        ("connections per second", result.generator.achieved_rate.map(units::rate)),
        ("accepts watched", watch.map(|watch| units::count(watch.accepts))),
        ("longest queue", watch.map(|watch| units::count(watch.depth_max.into()))),
        ("dropped", watch.map(|watch| units::count(watch.drops))),
        ("connections held", hold.map(|hold| units::count(hold.opened.into()))),
        ("lost", hold.map(|hold| units::count(hold.lost.into()))),
        (
            "deepest accept queue",
            result.evidence.accept_queue.as_ref().map(|q| q.depth_max.to_string()),
        ),
    ];
    html! {
        div.tiles {
            @for (name, value) in tiles {
                @if let Some(value) = value { div { b { (value) } span { (name) } } }
            }
        }
    }
}

/// The least that could have been measured here, where `loadgen calibrate` has found it out.
fn floor(result: &RunResult) -> Markup {
    let sentences = floor::sentences(result);
    html! {
        @if let Some(quoted) = sentences.quoted { p.floor { "Floor: " (quoted) "." } }
        @if let Some(within) = sentences.within { ul.findings { li { (within) } } }
    }
}

fn pictures(result: &RunResult) -> Markup {
    let curves = "Each further nine is equally long; a curve ends at its slowest sample.";
    let heat = "Darker: more of that moment's connections. Lines: its median and 99th percentile.";
    let rate = "Connects that were called, warm-up included, against the plan.";
    let queue = "Connections that the kernel had finished and the server had not accepted.";
    let charts = [
        ("percentiles", charts::percentiles(result), curves),
        ("over-time", charts::heat_map(result), heat),
        ("rate", charts::rate(result), rate),
        ("accept-queue", charts::accept_queue(result), queue),
    ];
    html! {
        div.charts {
            @for (class, chart, caption) in charts {
                @if let Some(chart) = chart { (figure(class, &chart, caption)) }
            }
        }
    }
}

fn phases(result: &RunResult) -> Markup {
    html! {
        h2 { "Phases" }
        div.scroll { table.numbers {
            thead { tr {
                @for name in ["phase", "count", "mean", "p50", "p90", "p99", "p99.9", "max"] {
                    th { (name) }
                }
            } }
            tbody { @for name in charts::phases(result) {
                (phase(name, &result.histograms[name], result.clock_bound_ns(name)))
            } }
        } }
    }
}

fn phase(name: &str, summary: &Summary, bound_ns: u64) -> Markup {
    let enough =
        |ns: Option<u64>, needed| units::bounded(ns.filter(|_| summary.count >= needed), bound_ns);
    let class = if name == Phase::AcceptDelay.name() { "primary" } else { "" };
    #[expect(clippy::cast_possible_truncation, reason = "a float cast saturates")]
    #[expect(clippy::cast_sign_loss, reason = "durations are not negative")]
    let mean = summary.mean.map(|ns| ns.round() as u64);
    html! {
        tr class=(class) {
            th scope="row" { code { (name) } }
            td { (units::count(summary.count)) }
            td { (enough(mean, 1)) }
            td { (enough(summary.p50, 1)) }
            td { (enough(summary.p90, 10)) }
            td { (enough(summary.p99, 100)) }
            td { (enough(summary.p99_9, 1000)) }
            td { (enough(summary.max, 1)) }
        }
    }
}

/// A bar each; the bars of failures differ in colour.
fn outcomes(result: &RunResult) -> Markup {
    let attempted = result.outcomes.attempted;
    let ended = result.outcomes.ended.iter().filter(|(_, count)| **count > 0);
    html! {
        h2 { "Outcomes" }
        table.outcomes { tbody {
            @for (name, count) in ended {
                @let class = if name == Outcome::Completed.name() { "bar" } else { "bar bad" };
                @let share = units::percent(*count, attempted);
                tr {
                    th scope="row" { code { (name) } }
                    td { (units::count(*count)) " (" (share) ")" }
                    td.wide {
                        div class=(class) style=(format!("width:{}", share.replace(' ', ""))) {}
                    }
                }
            }
        } }
        @for line in beside_outcomes(result) { p { (line) } }
    }
}

fn beside_outcomes(result: &RunResult) -> Vec<String> {
    let mut lines = Vec::new();
    if result.warmup_excluded > 0 {
        lines.push(format!("{} more in the warm-up.", units::count(result.warmup_excluded)));
    }
    if result.accepted_before_return > 0 {
        let early = result.accepted_before_return;
        let share = units::percent(early, result.outcomes.attempted);
        lines.push(format!("{} accepted before connect returned ({share}).", units::count(early)));
    }
    if let Some(count) = result.accept_order_undetermined.filter(|count| *count > 0) {
        lines.push(format!(
            "{}: whether connect had returned before is not known.",
            units::plural(count, "accept")
        ));
    }
    if let Some(count) = result.not_observed.filter(|count| *count > 0) {
        lines.push(format!(
            "{} may have been accepted without being observed.",
            units::plural(count, "attempt")
        ));
    }
    if result.censored > 0 {
        lines.push(format!(
            "{} had not ended: in accept_response they count as \"at least this long\".",
            units::plural(result.censored, "wait")
        ));
    }
    for kind in &result.errnos {
        lines.push(format!("{} × {}: {}", units::count(kind.count), kind.outcome, kind.message));
    }
    if result.errnos_other > 0 {
        lines.push(format!("{} × other errors", units::count(result.errnos_other)));
    }
    lines
}

fn cases(torture: &Torture) -> Markup {
    html! {
        h2 { "Cases" }
        div.scroll { table {
            thead { tr { th { "case" } th { "result" } th { "took" } th { "what happened" } } }
            tbody { @for case in &torture.cases {
                @let (class, status) = match case.status {
                    CaseStatus::Passed => ("good", "passed"),
                    CaseStatus::Failed => ("bad", "failed"),
                    CaseStatus::Skipped => ("dim", "skipped"),
                };
                tr {
                    th scope="row" { code { (case.name) } }
                    td class=(class) { (status) }
                    td { (units::duration(units::ns_of_ms(case.took_ms))) }
                    td { (case.message) }
                }
            } }
        } }
    }
}

/// As it can be typed into a shell again.
fn command_line(argv: &[String]) -> String {
    argv.iter().map(|arg| quoted(arg)).collect::<Vec<_>>().join(" ")
}

fn quoted(arg: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=,@%+".contains(c);
    match !arg.is_empty() && arg.chars().all(plain) {
        true => arg.to_owned(),
        false => format!("'{}'", arg.replace('\'', r"'\''")),
    }
}

fn footer(result: &RunResult) -> Markup {
    let tool = &result.tool;
    html! {
        footer {
            p {
                (tool.name) " " (tool.version)
                @if let Some(commit) = &tool.commit { " (" (commit) ")" }
                " · run " code { (result.run_id) }
            }
            p {
                code { "accept_delay" } ": connect called → accepted by the server. "
                code { "accept_response" } ": from the planned instant on. "
                code { "post_connect_wait" } ": established → accepted. "
                code { "generator_lag" } ": the generator's own lateness."
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_can_be_typed_again() {
        let argv = ["loadgen", "run", "--label", "a=b c", "it's", ""].map(str::to_owned);
        assert_eq!(command_line(&argv), r"loadgen run --label 'a=b c' 'it'\''s' ''");
    }
}
