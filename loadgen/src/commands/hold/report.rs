//! What came of holding, as text and as JSON.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;

use serde_json::json;

use super::Held;
use super::memory_usage::bytes_each;
use crate::render::units;

/// Text on stdout, and JSON where it is wanted; alone if that is stdout.
pub(super) fn write(held: &Held, path: Option<&Path>) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match path {
        None => return stdout.write_all(text(held).as_bytes()),
        Some(path) if path == Path::new("-") => {}
        Some(path) => {
            std::fs::write(path, json_text(held)?)?;
            return stdout.write_all(text(held).as_bytes());
        }
    }
    stdout.write_all(json_text(held)?.as_bytes())
}

fn text(held: &Held) -> String {
    let count = |n: u32| units::count(n.into());
    let mut text = format!(
        "Connections  {} wanted, {} opened, {} echoed, {} lost after {} s idle\n             \
         opened within {:.1} s by {}\n",
        count(held.wanted),
        count(held.opened),
        count(held.echoed),
        count(held.lost),
        held.held_s,
        held.opening_s,
        if held.processes == 1 {
            "1 process".into()
        } else {
            format!("{} processes", held.processes)
        },
    );
    if let Some(trouble) = &held.trouble {
        line(&mut text, "Trouble", trouble);
    }
    if let Some(seen) = held.seen_by_kernel {
        let shown = units::count(seen as u64);
        line(&mut text, "Kernel", &format!("shows {shown} connections at the server's port"));
    }
    memory_lines(&mut text, held);
    if let Some(probes) = &held.probes {
        let took = [probes.p50_ns, probes.p99_ns, probes.max_ns].map(units::duration);
        let [p50, p99, max] = took;
        let words = format!(
            "{} connect to echo p50 {p50}, p99 {p99}, max {max}; {} failed",
            probes.echoed, probes.failed
        );
        line(&mut text, "Probes", &words);
    }
    text
}

fn memory_lines(text: &mut String, held: &Held) {
    let (before, after) = (held.before, held.after);
    match (before.rss_kib, after.rss_kib, held.server_pid) {
        (Some(from), Some(to), Some(pid)) => {
            let words = format!(
                "RSS of process {pid}: {} KiB before (pools touched by a warm-up), {} KiB with all \
                 open: {:.0} bytes each",
                units::count(from),
                units::count(to),
                bytes_each(from, to, held.echoed)
            );
            line(text, "User space", &words);
        }
        _ => line(text, "User space", "the server's process is not to be seen from here"),
    }
    let words = format!(
        "Slab +{:.0} bytes each (unreclaimable {:+.0}), TCP buffers {:+.0}: both ends and the \
         descriptors of the holding processes",
        bytes_each(before.slab_kib, after.slab_kib, held.echoed),
        bytes_each(before.unreclaimable_kib, after.unreclaimable_kib, held.echoed),
        bytes_each(before.tcp_kib, after.tcp_kib, held.echoed)
    );
    line(text, "Kernel", &words);
}

fn line(text: &mut String, subject: &str, words: &str) {
    writeln!(text, "{subject:<12} {words}").expect("a string takes everything");
}

fn json_text(held: &Held) -> io::Result<String> {
    let rss = held.before.rss_kib.zip(held.after.rss_kib);
    let mut value = serde_json::to_value(held)?;
    value["bytes_per_connection"] = json!({
        "user_space": rss.map(|(before, after)| bytes_each(before, after, held.echoed)),
        "kernel_slab": bytes_each(held.before.slab_kib, held.after.slab_kib, held.echoed),
    });
    Ok(serde_json::to_string_pretty(&value)? + "\n")
}
