//! A server whose clock is seconds off, in another network namespace, behind a path that is slower
//! one way than the other (remote.py makes it). The time namespace was made with the true offset.

use std::process::Command;

use loadgen::model::load::Observe;
use loadgen::model::outcome::{Outcome, Phase};
use loadgen::model::result::RunResult;

use crate::namespace::in_namespace;

/// Prints that it skips and returns `None` where the scene cannot be set up.
fn run(ahead_s: i64, forward_ms: u64, back_ms: u64) -> Option<RunResult> {
    let needed = "python3 -c 'open(\"/dev/net/tun\")' && unshare --time true";
    if !Command::new("sh").args(["-c", needed]).status().is_ok_and(|it| it.success()) {
        eprintln!("SKIPPED, python3, /dev/net/tun and time namespaces are needed");
        return None;
    }
    let scene = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/truth/remote.py");
    let output = in_namespace(&format!(
        "exec timeout 60 python3 {scene} {ahead_s} {forward_ms} {back_ms} \
         $LOADGEN run 10.9.8.2:7700 --rate 200 --connections 100 --quiet --json -"
    ))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(matches!(output.status.code(), Some(0 | 4)), "{said}");
    Some(RunResult::parse(&output.stdout).unwrap_or_else(|e| panic!("{e}: {said}")))
}

#[test]
fn bounds_of_another_clock_contain_the_truth() {
    for (ahead_s, forward_ms, back_ms) in [(5, 20, 2), (-7, 2, 20)] {
        let Some(result) = run(ahead_s, forward_ms, back_ms) else { return };
        let completed = result.outcomes.of(Outcome::Completed);
        assert_eq!((result.target.observe, completed), (Observe::Stamp, 100), "{result:#?}");
        let clock = result.target.clock_offset.expect("another clock");
        let error_ns = clock.offset_ns.abs_diff(ahead_s * 1_000_000_000);
        assert!(error_ns <= clock.bound_ns, "{clock:?}");
        // SYN, SYN-ACK and ACK come before the accept, and nothing is known finer than the path.
        let handshake_ns = (2 * forward_ms + back_ms) * 1_000_000;
        let delay = result.sampled(Phase::AcceptDelay).expect("accepts");
        let most_ns = delay.p50.expect("a median") + clock.bound_ns;
        assert!(most_ns >= handshake_ns, "{delay:?} {clock:?}");
        assert!(2 * clock.bound_ns >= handshake_ns + back_ms * 1_000_000, "{clock:?}");
    }
}
