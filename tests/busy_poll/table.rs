//! The table of docs/busy-poll.md.

use std::fmt::Write;

use super::candidates::ALL;
use super::machine::{Machine, run};
use super::traces::{Arrivals, Trace};

/// Every candidate under every load.
pub(crate) fn markdown() -> String {
    let mut text = String::new();
    for (title, trace, machine) in loads() {
        writeln!(text, "**{title}**\n").expect("a string");
        writeln!(text, "| policy | cores | p50 µs | p99 µs | p99.9 µs | throttled |").expect("it");
        writeln!(text, "|---|---:|---:|---:|---:|---:|").expect("a string");
        for (candidate, name) in ALL {
            let outcome = run(candidate, trace, machine);
            let [p50, p99, p999] = [50.0, 99.0, 99.9].map(|p| outcome.delay_us(p));
            let (cores, throttled) = (outcome.cores, outcome.throttled);
            let line = format!("{cores:.2} | {p50:.0} | {p99:.0} | {p999:.0} | {throttled}");
            writeln!(text, "| {name} | {line} |").expect("a string");
        }
        text.push('\n');
    }
    text
}

fn loads() -> Vec<(&'static str, Trace, Machine)> {
    let idle = Machine::default();
    let open = |arrivals, rate, messages| Trace { arrivals, rate, messages };
    let poisson = |rate| open(Arrivals::Poisson, rate, 2);
    vec![
        ("Constant, 500 clients a second, 2 messages each", open(Arrivals::Constant, 500, 2), idle),
        ("Constant, 3,000 a second, accept only", open(Arrivals::Constant, 3_000, 0), idle),
        ("Poisson, 500 a second, 2 messages each", poisson(500), idle),
        ("Poisson, 3,000 a second, 2 messages each", poisson(3_000), idle),
        ("Poisson, 20,000 a second, accept only", open(Arrivals::Poisson, 20_000, 0), idle),
        ("Bursts of 20, 3,000 a second", open(Arrivals::Bursts(20), 3_000, 2), idle),
        ("Ping-pong on one connection", Trace::ping_pong(), idle),
        (
            "Half a core of quota, Poisson, 3,000 a second",
            poisson(3_000),
            Machine { quota: Some(0.5), ..idle },
        ),
        (
            "A CPU-bound neighbour on the core, Poisson, 1,000 a second",
            poisson(1_000),
            Machine { hog: true, ..idle },
        ),
    ]
}
