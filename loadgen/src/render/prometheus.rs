//! A result in Prometheus' text format, version 0.0.4: durations in seconds, a histogram per phase,
//! attempts by outcome, kernel evidence, the verdict.

use std::fmt::{Display, Write};

use super::headline;
use crate::model::evidence::{CpuUse, Evidence, KernelCounters};
use crate::model::histogram::{Count, HIGHEST_NS, HistogramError, Summary};
use crate::model::result::RunResult;

/// Bounds of the buckets: 1, 2 and 5 times each power of ten from 1 µs on.
const FIRST_BUCKET_NS: u64 = 1_000;

/// The metrics.
///
/// # Errors
/// [`HistogramError`] where a histogram of the result cannot be read.
pub fn render(result: &RunResult) -> Result<String, HistogramError> {
    let mut text = Text::default();
    info(&mut text, result);
    text.family("loadgen_attempts_total", "counter", "Connections attempted, by outcome.");
    for (outcome, count) in &result.outcomes.ended {
        text.sample("loadgen_attempts_total", &[("outcome", outcome)], count);
    }
    rates(&mut text, result);
    phases(&mut text, result)?;
    evidence(&mut text, &result.evidence);
    Ok(text.0)
}

fn info(text: &mut Text, result: &RunResult) {
    let server = &result.server;
    let known = |field: &Option<String>| field.clone().unwrap_or_default();
    text.family("loadgen_run_info", "gauge", "What was measured, with what.");
    text.sample(
        "loadgen_run_info",
        &[
            ("run_id", &result.run_id),
            ("target", &result.target.addr),
            ("version", &result.tool.version),
            ("transport", &known(&result.generator.transport)),
            ("engine", &known(&server.engine)),
            ("accept", &known(&server.accept)),
        ],
        1,
    );
    let valid = u8::from(headline::verdict(result) == "VALID");
    text.family("loadgen_run_valid", "gauge", "1 if the measurement is valid.");
    text.sample("loadgen_run_valid", &[], valid);
    if let Some(times) = result.times {
        let help = "When the last attempt ended, seconds since 1970.";
        text.family("loadgen_run_ended_timestamp_seconds", "gauge", help);
        let ended = Seconds(times.load_ended);
        text.sample("loadgen_run_ended_timestamp_seconds", &[], ended);
    }
}

fn rates(text: &mut Text, result: &RunResult) {
    let generator = &result.generator;
    for (name, help, rate) in [
        ("loadgen_target_rate", "Connects per second as planned.", generator.target_rate),
        ("loadgen_achieved_rate", "Connects per second as called.", generator.achieved_rate),
    ] {
        if let Some(rate) = rate.filter(|rate| rate.is_finite()) {
            text.family(name, "gauge", help);
            text.sample(name, &[], rate);
        }
    }
}

fn phases(text: &mut Text, result: &RunResult) -> Result<(), HistogramError> {
    const NAME: &str = "loadgen_phase_seconds";
    const QUANTILE: &str = "loadgen_phase_quantile_seconds";
    text.family(NAME, "histogram", "Durations of each phase.");
    for (phase, summary) in &result.histograms {
        histogram(text, NAME, phase, &summary.counts()?);
    }
    text.family(QUANTILE, "gauge", "Quantiles of each phase, to three digits; 1 is the maximum.");
    for (phase, summary) in &result.histograms {
        for (quantile, ns) in quantiles(summary) {
            if let Some(ns) = ns {
                text.sample(QUANTILE, &[("phase", phase), ("quantile", quantile)], Seconds(ns));
            }
        }
    }
    Ok(())
}

fn quantiles(summary: &Summary) -> [(&'static str, Option<u64>); 6] {
    [
        ("0.5", summary.p50),
        ("0.9", summary.p90),
        ("0.99", summary.p99),
        ("0.999", summary.p99_9),
        ("0.9999", summary.p99_99),
        ("1", summary.max),
    ]
}

/// Cumulative, as the format wants it. A value counts where its bucket of the histogram begins.
fn histogram(text: &mut Text, name: &str, phase: &str, counts: &[Count]) {
    let (bucket, sum, count) =
        (format!("{name}_bucket"), format!("{name}_sum"), format!("{name}_count"));
    for bound in bounds() {
        let within = total(counts.iter().filter(|(value, _)| *value <= bound));
        let le = Seconds(bound).to_string();
        text.sample(&bucket, &[("phase", phase), ("le", &le)], within);
    }
    let all = total(counts.iter());
    text.sample(&bucket, &[("phase", phase), ("le", "+Inf")], all);
    let nanoseconds: f64 = counts.iter().map(|(value, n)| *value as f64 * *n as f64).sum();
    text.sample(&sum, &[("phase", phase)], nanoseconds / 1e9);
    text.sample(&count, &[("phase", phase)], all);
}

pub(super) fn bounds() -> impl Iterator<Item = u64> {
    let decades = std::iter::successors(Some(FIRST_BUCKET_NS), |power| Some(power * 10));
    let decades = decades.take_while(|power| *power <= HIGHEST_NS);
    let steps = decades.flat_map(|power| [1, 2, 5].map(|factor| factor * power));
    steps.take_while(|bound| *bound <= HIGHEST_NS)
}

fn total<'a>(counts: impl Iterator<Item = &'a Count>) -> u64 {
    counts.fold(0, |sum, (_, count)| sum.saturating_add(*count))
}

fn evidence(text: &mut Text, evidence: &Evidence) {
    if let Some(kernel) = &evidence.kernel {
        const NAME: &str = "loadgen_kernel_events_total";
        text.family(NAME, "counter", "What the kernel counted during the run.");
        for (event, count) in events(kernel) {
            text.sample(NAME, &[("event", event)], count);
        }
    }
    if let Some(queue) = &evidence.accept_queue {
        for (name, help, value) in [
            ("loadgen_accept_queue_limit", "Effective backlog.", f64::from(queue.limit)),
            ("loadgen_accept_queue_depth_max", "Longest queue.", f64::from(queue.depth_max)),
            ("loadgen_accept_queue_depth_mean", "Mean of the samples.", queue.depth_mean),
        ] {
            text.family(name, "gauge", help);
            text.sample(name, &[], value);
        }
    }
    cpu(text, "generator", evidence.generator_cpu);
    cpu(text, "server", evidence.server_cpu);
}

fn events(kernel: &KernelCounters) -> Vec<(&'static str, u64)> {
    vec![
        ("listen_overflows", kernel.listen_overflows),
        ("listen_drops", kernel.listen_drops),
        ("tcp_req_q_full_do_cookies", kernel.tcp_req_q_full_do_cookies),
        ("tcp_req_q_full_drop", kernel.tcp_req_q_full_drop),
        ("syncookies_sent", kernel.syncookies_sent),
        ("tcp_syn_retrans", kernel.tcp_syn_retrans),
        ("tcp_timeouts", kernel.tcp_timeouts),
        ("tcp_abort_on_memory", kernel.tcp_abort_on_memory),
        ("retrans_segs", kernel.retrans_segs),
        ("estab_resets", kernel.estab_resets),
    ]
}

fn cpu(text: &mut Text, side: &str, cpu: Option<CpuUse>) {
    let Some(cpu) = cpu else { return };
    let name = format!("loadgen_{side}_cpu_seconds_total");
    text.family(&name, "counter", "CPU time over the run.");
    text.sample(&name, &[], Seconds(cpu.cpu_ns));
}

/// Nanoseconds, written as seconds without losing any.
struct Seconds(u64);

impl Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (whole, rest) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        let decimals = format!("{rest:09}");
        match decimals.trim_end_matches('0') {
            "" => write!(f, "{whole}"),
            decimals => write!(f, "{whole}.{decimals}"),
        }
    }
}

/// The text so far.
#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        match labels.is_empty() {
            true => self.line(format_args!("{name} {value}")),
            false => self.line(format_args!("{name}{{{}}} {value}", labels.join(","))),
        }
    }

    fn line(&mut self, line: impl Display) {
        writeln!(self.0, "{line}").expect("a String takes whatever is written to it");
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::histogram::new_histogram;

    #[test]
    fn seconds_keep_every_nanosecond() {
        let shown = [(0, "0"), (1, "0.000000001"), (1_500_000_000, "1.5"), (10_000, "0.00001")];
        for (ns, text) in shown {
            assert_eq!(Seconds(ns).to_string(), text);
        }
    }

    #[test]
    fn buckets_are_cumulative_and_labels_are_escaped() {
        let mut histogram = new_histogram();
        [500, 1_500, 4_000, 3_000_000_000].iter().for_each(|ns| histogram.saturating_record(*ns));
        let mut result = RunResult::default();
        result.target.addr = "a\"b\\c\nd".into();
        result.histograms.insert("connect".into(), Summary::of(&histogram));
        let text = render(&result).unwrap();
        for line in [
            "loadgen_phase_seconds_bucket{phase=\"connect\",le=\"0.000001\"} 1",
            "loadgen_phase_seconds_bucket{phase=\"connect\",le=\"0.000005\"} 3",
            "loadgen_phase_seconds_bucket{phase=\"connect\",le=\"2\"} 3",
            "loadgen_phase_seconds_bucket{phase=\"connect\",le=\"+Inf\"} 4",
            "loadgen_phase_seconds_count{phase=\"connect\"} 4",
            "loadgen_run_valid 0",
        ] {
            assert!(text.lines().any(|known| known == line), "{line}: {text}");
        }
        assert!(text.contains("target=\"a\\\"b\\\\c\\nd\""), "{text}");
    }
}
