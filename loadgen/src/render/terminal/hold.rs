//! The report of connections that were held.

use super::{Style, entry, paragraph, transport, verdict};
use crate::model::hold::Hold;
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
    if let Some(seen) = hold.seen_by_kernel {
        let seen = units::count(seen as u64);
        let text = format!("shows {seen} connections at the server's port");
        lines.extend(paragraph("kernel", &text));
    }
    lines.extend(paragraph("user space", &user_space(hold)));
    lines.extend(paragraph("kernel memory", &kernel_memory(hold)));
    lines.extend(probes(result, hold));
    lines.push(String::new());
    lines.extend(verdict::lines(result, style));
    lines
}

fn connections(hold: &Hold) -> Vec<String> {
    let count = |n: u32| units::count(n.into());
    let (wanted, opened, echoed) = (count(hold.wanted), count(hold.opened), count(hold.echoed));
    let processes = match hold.processes {
        1 => "1 process".to_owned(),
        n => format!("{n} processes"),
    };
    vec![
        format!("{wanted} wanted, {opened} opened, {echoed} echoed"),
        format!("{} lost after {:.1} s idle", count(hold.lost), hold.held_s),
        format!("opened within {:.1} s by {processes}", hold.opening_s),
    ]
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
    format!(
        "slab {} bytes each (unreclaimable {}), TCP buffers {}: both ends and the descriptors of \
         the holding processes",
        units::signed(each.kernel_slab),
        units::signed(each.kernel_unreclaimable),
        units::signed(each.tcp_buffers)
    )
}

fn probes(result: &RunResult, hold: &Hold) -> Vec<String> {
    let Some(probe) = result.histograms.get("probe") else { return Vec::new() };
    let [p50, p99, max] = [probe.p50, probe.p99, probe.max].map(units::maybe);
    let failed = units::count(hold.probes_failed);
    let echoed = units::count(probe.count);
    let text = format!("{echoed} connect to echo p50 {p50}, p99 {p99}, max {max}; {failed} failed");
    paragraph("probes", &text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::hold::{BytesPerConnection, MemoryUsage};
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
            opening_s: 0.25,
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
        for part in ["1,000 wanted", "999 echoed", "+103 bytes each", "refused", "1 process"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let last = text.lines().last().unwrap_or_default();
        assert_eq!(last, "verdict       VALID, but 1 of 1,000 not_echoed");
    }
}
