//! `report.html`: a result, or several overlaid, as one file that loads nothing else.
//!
//! Text is escaped by its type (maud); only the pictures of [`super::chart`] are inserted as they
//! are. The page's policy forbids scripts and every request, so that what escapes all the same can
//! do nothing.

mod charts;
mod comparison;
mod facts;
mod overlay;
mod sections;

pub use overlay::Named;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::chart::{Chart, Theme};
use super::headline;
use crate::model::comparison::Comparison;
use crate::model::result::{Kind, RunResult};

/// Nothing from anywhere, but for the styles and the icon that are written in the page itself.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; \
                      base-uri 'none'; form-action 'none'";
const STYLE: &str = include_str!("style.css");

/// The report of one result.
pub fn report(result: &RunResult) -> String {
    page(&title(result), &sections::all(result))
}

/// What was done to whom; a comparison has no server.
fn title(result: &RunResult) -> String {
    match result.target.addr.as_str() {
        "" => format!("loadgen {}", command(result)),
        addr => format!("loadgen {} → {addr}", command(result)),
    }
}

/// The reports of several results in one page, with their curves overlaid and what may be concluded
/// from their differences.
pub fn overlay(results: &[Named<'_>], comparisons: &[Comparison]) -> String {
    match results {
        [only] => report(only.result),
        _ => page("loadgen: results compared", &overlay::sections(results, comparisons)),
    }
}

fn page(title: &str, content: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                link rel="icon" href="data:,";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body { (content) }
        }
    };
    page.into_string()
}

fn command(result: &RunResult) -> &'static str {
    match result.kind {
        Kind::Run => "run",
        Kind::Hold => "hold",
        Kind::Torture => "torture",
        Kind::Watch => "watch",
        Kind::Sweep => "sweep",
        Kind::Comparison => "compare",
        Kind::Trace => "trace",
    }
}

/// A chart with its heading and what there is to say of it.
fn figure(class: &str, chart: &Chart, caption: &str) -> Markup {
    html! {
        figure class=(class) {
            h3 { (chart.title) }
            (PreEscaped(chart.svg(&Theme::PAGE)))
            @if !caption.is_empty() { figcaption { (caption) } }
        }
    }
}

/// Whether the result is a measurement of its own, of which there is a verdict and evidence, and
/// not a view of others or a single connection.
fn is_judged(result: &RunResult) -> bool {
    match result.kind {
        Kind::Run | Kind::Hold | Kind::Torture | Kind::Watch => true,
        Kind::Sweep | Kind::Comparison | Kind::Trace => false,
    }
}

fn verdict_badge(result: &RunResult) -> Markup {
    let class = if result.verdict.valid { "badge" } else { "badge bad" };
    html! { @if is_judged(result) { span class=(class) { (headline::verdict(result)) } } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_measured_nothing_itself_has_no_verdict() {
        let of = |kind| RunResult { kind, ..RunResult::default() };
        assert!(report(&of(Kind::Run)).contains("class=\"badge"));
        for kind in [Kind::Comparison, Kind::Sweep, Kind::Trace] {
            let page = report(&of(kind));
            assert!(!page.contains("class=\"badge") && !page.contains("VALID"), "{page}");
            assert!(!page.contains("Kernel evidence"), "{page}");
        }
    }

    #[test]
    fn a_page_loads_nothing_runs_nothing_and_escapes_everything() {
        let script = "<script>alert(1)</script>";
        let mut result = RunResult::default();
        result.labels.insert(script.into(), script.into());
        result.target.addr = script.into();
        result.argv = vec![script.into()];
        result.environment.cpu = Some(script.into());
        result.outcomes.attempted = 1;
        result.outcomes.ended.insert(script.into(), 1);
        let named = [Named { name: script, result: &result }, Named { name: "b", result: &result }];
        for page in [report(&result), overlay(&named, &[])] {
            assert!(!page.contains("<script"), "{page}");
            assert!(page.contains("&lt;script&gt;") && page.contains(POLICY), "{page}");
            for what in ["src=", "url(", "@import", "http://", "https://"] {
                let outside = page.replace("http://www.w3.org/2000/svg", "");
                assert!(!outside.contains(what), "{what}");
            }
        }
    }
}
