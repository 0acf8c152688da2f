//! A run that failed looks failed.

use std::io::{Read, Write};

use crate::support::{json, loadgen, refusing, said, serving, stderr, stdout};

/// The report from its verdict on.
fn verdict(text: &str) -> &str {
    text.split_once("verdict").expect(text).1
}

#[test]
fn a_run_of_which_nothing_can_come_ends_at_once_and_names_the_cause() {
    let (_bound, addr) = refusing();
    let output = loadgen(&format!("run {addr} --rate 200 --duration 30s --quiet"));
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let text = stdout(&output);
    assert!(verdict(&text).contains("INVALID: ") && verdict(&text).contains("refused"), "{text}");
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("nobody listens at the address"), "{text}");
    assert!(!words.contains("run longer") && !words.contains("were reached of"), "{text}");
    assert!(stderr(&output).contains("the run ends here"), "{}", stderr(&output));
}

#[test]
fn the_rest_of_a_hopeless_run_is_not_attempted() {
    let (_bound, addr) = refusing();
    let result = json(&loadgen(&format!("run {addr} --rate 200 --duration 30s --json -")));
    let attempted = result["outcomes"]["attempted"].as_u64().unwrap();
    assert!((10..6000).contains(&attempted), "{:#}", result["outcomes"]);
    assert_eq!(result["interrupted"], false);
    let (codes, _) = said(&result);
    assert!(codes.contains(&"nothing_completed".into()), "{codes:?}");
}

#[test]
fn the_verdict_line_carries_what_failed() {
    let addr = serving(100, |stream, _| drop(stream));
    let output = loadgen(&format!("run {addr} --rate 500 --connections 300 --observe none"));
    let text = stdout(&output);
    let line = verdict(&text).lines().next().unwrap();
    assert!(line.contains(" of 300 refused"), "{text}");
}

#[test]
fn no_echo_at_all_is_invalid() {
    let addr = serving(10_000, |mut stream, _| {
        let mut message = [0; 64];
        let other = stream.read(&mut message).map(|_| message.map(|byte| !byte));
        drop(other.and_then(|other| stream.write_all(&other)));
    });
    let result =
        json(&loadgen(&format!("run {addr} --messages 1 --rate 200 --connections 150 --json -")));
    assert_eq!(result["outcomes"]["echo_mismatch"], 150, "{:#}", result["outcomes"]);
    assert_eq!(result["verdict"]["valid"], false);
    let (codes, text) = said(&result);
    assert!(codes.contains(&"nothing_completed".into()), "{codes:?}");
    assert!(text.contains("--messages 0") && !text.contains("run longer"), "{text}");
}

#[test]
fn a_closed_loop_says_that_it_hides_stalls() {
    let result = json(&loadgen("run --concurrency 2 --connections 150 --json - --quiet"));
    let (codes, text) = said(&result);
    assert!(codes.contains(&"closed_loop".into()) && text.contains("--rate"), "{text}");
}

#[test]
fn a_burst_says_how_long_it_took_to_enter() {
    let result = json(&loadgen("run --burst 2000 --json - --quiet"));
    let (codes, text) = said(&result);
    let lag_ns = result["histograms"]["generator_lag"]["max"].as_u64().unwrap();
    assert_eq!(codes.contains(&"burst_entry".into()), lag_ns > 1_000_000, "{text}");
}
