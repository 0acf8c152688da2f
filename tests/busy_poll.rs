//! Deterministic simulation of busy-poll policies: one worker, one core, traces of arrivals, and
//! what each policy costs in CPU time and saves in delay. docs/busy-poll.md has the table;
//! `BUSY_POLL_TABLE=write cargo test --test busy_poll` writes it there again.

use std::path::Path;

use self::sim::candidates::Candidate;
use self::sim::machine::{Machine, Outcome, run};
use self::sim::traces::{Arrivals, Trace};

#[path = "busy_poll/mod.rs"]
mod sim;

const RATES: [u32; 6] = [100, 500, 1_000, 3_000, 10_000, 20_000];

fn chosen_and_off(trace: Trace, machine: Machine) -> (Outcome, Outcome) {
    (run(Candidate::Chosen, trace, machine), run(Candidate::Off, trace, machine))
}

#[test]
fn cpu_time_is_at_most_twice_that_of_off_and_a_tenth_and_no_median_is_worse() {
    for rate in RATES {
        for arrivals in [Arrivals::Constant, Arrivals::Poisson, Arrivals::Bursts(20)] {
            for messages in [0, 2] {
                let trace = Trace { arrivals, rate, messages };
                let (chosen, off) = chosen_and_off(trace, Machine::default());
                let bound = 2.0 * off.cores + 0.10;
                assert!(chosen.cores <= bound, "{trace:?}: {} > {bound}", chosen.cores);
                assert!(chosen.delay_us(50.0) <= off.delay_us(50.0), "{trace:?}");
            }
        }
    }
}

#[test]
fn a_ping_pong_keeps_spinning() {
    let (chosen, off) = chosen_and_off(Trace::ping_pong(), Machine::default());
    assert!(chosen.delay_us(50.0) <= off.delay_us(50.0) / 2.0);
}

#[test]
fn under_a_quota_nothing_is_throttled_that_off_would_not_be() {
    let machine = Machine { quota: Some(0.5), ..Machine::default() };
    for rate in [500, 3_000, 10_000] {
        let trace = Trace { arrivals: Arrivals::Poisson, rate, messages: 2 };
        let (chosen, off) = chosen_and_off(trace, machine);
        assert!(chosen.throttled <= off.throttled, "{rate}: {}", chosen.throttled);
        assert!(chosen.delay_us(99.9) <= 1.5 * off.delay_us(99.9), "{rate}");
    }
    let always = run(Candidate::Always, Trace::ping_pong(), machine);
    assert!(always.throttled > 0, "the simulated quota does throttle");
}

#[test]
fn beside_a_hog_the_tail_is_that_of_off() {
    let machine = Machine { hog: true, ..Machine::default() };
    let open = |rate| Trace { arrivals: Arrivals::Poisson, rate, messages: 2 };
    for trace in [open(500), open(1_000), open(3_000), Trace::ping_pong()] {
        let (chosen, off) = chosen_and_off(trace, machine);
        let (p99, bound) = (chosen.delay_us(99.0), 1.2 * off.delay_us(99.0));
        assert!(p99 <= bound, "{trace:?}: {p99} > {bound}");
    }
    let always = run(Candidate::Always, open(1_000), machine);
    assert!(always.delay_us(99.0) > 1_000.0, "the simulated neighbour does preempt");
}

#[test]
fn the_documented_table_is_the_simulated_one() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/busy-poll.md");
    let text = std::fs::read_to_string(&file).expect("the page");
    let (before, rest) = text.split_once(BEGIN).expect("a place for the table");
    let (_, after) = rest.split_once(END).expect("its end");
    let table = sim::table::markdown();
    let wanted = format!("{before}{BEGIN}\n{table}{END}{after}");
    if std::env::var_os("BUSY_POLL_TABLE").is_some_and(|value| value == "write") {
        std::fs::write(&file, wanted).expect("written");
        return;
    }
    assert!(text == wanted, "BUSY_POLL_TABLE=write cargo test --test busy_poll; now:\n{table}");
}

const BEGIN: &str = "<!-- simulated: begin -->";
const END: &str = "<!-- simulated: end -->";
