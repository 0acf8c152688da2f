//! The report of connections that were held.

use super::{Style, entry, paragraph, transport, verdict};
use crate::model::hold::{Hold, MemoryUsage};
use crate::model::result::RunResult;
use crate::render::units;

pub(super) fn lines(result: &RunResult, style: Style) -> Vec<String> {
    let Some(hold) = &result.hold else { return Vec::new() };
    let title = format!("loadgen {} hold → {}", result.tool.version, result.target.addr);
    let mut lines = vec![style.bold(&title)];
    lines.extend(transport::transport_and_engine(result));
    lines.push(String::new());
    lines.extend(entry("connections", connections(hold)));
    lines.extend(hold.first_error.iter().flat_map(|error| paragraph("first error", error)));
    lines.extend(hold.ended_early.iter().flat_map(|why| paragraph("ended early", why)));
    lines.extend(opening(hold));
    lines.extend(network(hold));
    lines.extend(kernel(hold));
    lines.extend(paragraph("user space", &user_space(hold)));
    lines.extend(paragraph("kernel memory", &kernel_memory(hold)));
    lines.extend(probes(result, hold));
    lines.extend(ending(hold));
    lines.push(String::new());
    lines.extend(verdict::lines(result, style));
    lines
}

fn connections(hold: &Hold) -> Vec<String> {
    let count = |n: u32| units::count(n.into());
    let (wanted, opened, echoed) = (count(hold.wanted), count(hold.opened), count(hold.echoed));
    vec![
        format!("{wanted} wanted, {opened} opened, {echoed} echoed"),
        format!("{} lost after {:.1} s idle", count(hold.lost), hold.held_s),
        format!("opened within {:.1} s by {}", hold.opening_s, holders(hold)),
    ]
}

fn holders(hold: &Hold) -> String {
    if hold.rings > 0 {
        let rings = units::plural(hold.rings as u64, "ring");
        let threads = units::plural(hold.threads as u64, "thread");
        return format!("{threads} with {rings}");
    }
    match hold.processes {
        1 => "1 process".to_owned(),
        n => format!("{n} processes"),
    }
}

/// How fast they were opened, and what that cost both ends.
fn opening(hold: &Hold) -> Vec<String> {
    let opened = f64::from(hold.opened.max(1));
    let rate = units::rate(opened / hold.opening_s.max(1e-9));
    let each = |seconds: f64| format!("{:.1} µs", seconds * 1e6 / opened);
    let cpu = hold.opening_cpu.unwrap_or_default();
    let holders = cpu.holders_s.map(|s| format!("{} by what opened it", each(s)));
    let server = cpu.server_s.map(|s| format!("{} by the server", each(s)));
    let cpu: Vec<String> = holders.into_iter().chain(server).collect();
    let cpu = match cpu.len() {
        0 => String::new(),
        _ => format!("; CPU of each: {}", cpu.join(", ")),
    };
    paragraph("opening", &format!("{rate} connections/s{cpu}"))
}

/// The namespace that was made for it.
fn network(hold: &Hold) -> Vec<String> {
    let Some(network) = &hold.private_network else { return Vec::new() };
    let buckets = network.hash_buckets.map(units::count).unwrap_or_default();
    let text = match &network.shared_because {
        None => format!("a namespace with {buckets} hash buckets of its own"),
        Some(why) => format!("a namespace that shares the machine's hash buckets: {why}"),
    };
    paragraph("network", &text)
}

/// How long their end took.
fn ending(hold: &Hold) -> Vec<String> {
    let count = units::count(hold.echoed.saturating_sub(hold.lost).into());
    let text = match (hold.server_stop_s, hold.closing_s) {
        (Some(stop), _) => format!("the server stopped with {count} open within {stop:.1} s"),
        (None, Some(closing)) => format!("{count} reset by the clients within {closing:.1} s"),
        (None, None) => return Vec::new(),
    };
    paragraph("end", &text)
}

fn kernel(hold: &Hold) -> Vec<String> {
    let in_use = |usage: &MemoryUsage| units::count(usage.tcp_sockets);
    let text = match hold.seen_by_kernel {
        Some(seen) => {
            format!("shows {} connections at the server's port", units::count(seen as u64))
        }
        None if hold.after.tcp_sockets > 0 => format!(
            "{} TCP sockets in use before, {} with all open",
            in_use(&hold.before),
            in_use(&hold.after)
        ),
        None => return Vec::new(),
    };
    paragraph("kernel", &text)
}

fn user_space(hold: &Hold) -> String {
    let resident = hold.before.rss_kib.zip(hold.after.rss_kib);
    let each = hold.bytes_per_connection.user_space;
    match (resident, each, hold.server_pid) {
        (Some((before, after)), Some(each), Some(pid)) => format!(
            "process {pid}: {} KiB resident before (its pools touched by a warm-up), {} KiB with \
             all open: {} bytes each",
            units::count(before),
            units::count(after),
            units::signed(each)
        ),
        _ => "the server's process is not visible from here".into(),
    }
}

fn kernel_memory(hold: &Hold) -> String {
    let each = &hold.bytes_per_connection;
    let of = match hold.rings {
        0 => "both ends and the descriptors of the holding processes",
        _ => "both ends",
    };
    format!(
        "slab {} bytes each (unreclaimable {}), TCP buffers {}: {of}",
        units::signed(each.kernel_slab),
        units::signed(each.kernel_unreclaimable),
        units::signed(each.tcp_buffers)
    )
}

fn probes(result: &RunResult, hold: &Hold) -> Vec<String> {
    let Some(probe) = result.histograms.get("probe") else { return Vec::new() };
    let mut parts = vec![format!(
        "{} made, {} failed",
        units::count(probe.count),
        units::count(hold.probes_failed)
    )];
    for (name, what) in PROBED {
        let Some(phase) = result.histograms.get(name) else { continue };
        let [p50, p99, max] = [phase.p50, phase.p99, phase.max].map(units::maybe);
        parts.push(format!("{what} p50 {p50}, p99 {p99}, max {max}"));
    }
    paragraph("probes", &parts.join("; "))
}

/// Histograms of probes, and what they are called.
const PROBED: [(&str, &str); 3] =
    [("accept_delay", "accept_delay"), ("probe", "connect to first byte"), ("echo_rtt", "echo")];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::hold::{BytesPerConnection, OpeningCpu, PrivateNetwork};
    use crate::model::result::Kind;

    fn held() -> Hold {
        let before = MemoryUsage { rss_kib: Some(1000), ..MemoryUsage::default() };
        let after = MemoryUsage { rss_kib: Some(1100), slab_kib: 0, ..before };
        Hold {
            wanted: 1000,
            opened: 1000,
            echoed: 999,
            lost: 0,
            processes: 1,
            rings: 0,
            threads: 0,
            private_network: Some(PrivateNetwork {
                hash_buckets: Some(4096),
                shared_because: None,
            }),
            opening_s: 0.25,
            opening_cpu: Some(OpeningCpu { holders_s: None, server_s: Some(0.01) }),
            closing_s: None,
            server_stop_s: Some(0.5),
            ended_early: None,
            held_s: 5.0,
            first_error: Some("after 0 bytes of echo: refused".into()),
            seen_by_kernel: Some(999),
            server_pid: Some(7),
            before,
            after,
            bytes_per_connection: BytesPerConnection::of(&before, &after, 999),
            probes_failed: 0,
        }
    }

    #[test]
    fn every_number_has_its_line_and_the_verdict_the_last() {
        let mut result = RunResult { kind: Kind::Hold, hold: Some(held()), ..RunResult::default() };
        result.verdict.valid = true;
        result.outcomes.attempted = 1000;
        result.outcomes.ended = [("completed".into(), 999), ("not_echoed".into(), 1)].into();
        let text = lines(&result, Style::default()).join("\n");
        for part in [
            "1,000 wanted",
            "999 echoed",
            "+103 bytes each",
            "refused",
            "1 process",
            "4,000 connections/s",
            "10.0 µs by the server",
            "999 open within 0.5 s",
            "4,096 hash buckets of its own",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let last = text.lines().last().unwrap_or_default();
        assert_eq!(last, "verdict       VALID, but 1 of 1,000 not_echoed");
    }
}
