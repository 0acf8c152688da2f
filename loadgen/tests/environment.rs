//! Flags that nobody typed: their values come from the environment.

use std::process::{Command, Output};

fn run(args: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(args).envs(variables.iter().copied());
    command.output().expect("runs")
}

fn attempted(output: &Output) -> u64 {
    let error = String::from_utf8_lossy(&output.stderr);
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).expect(&error);
    result["outcomes"]["attempted"].as_u64().expect("a count")
}

#[test]
fn a_flag_wins_over_its_variable_and_an_empty_one_is_none() {
    let variables = [
        ("LOADGEN_RATE", "1k"),
        ("LOADGEN_CONNECTIONS", "30"),
        ("LOADGEN_JSON", "-"),
        ("LOADGEN_QUIET", "1"),
        ("LOADGEN_TIMEOUT", ""),
    ];
    assert_eq!(attempted(&run(&["run", "--", "--engine", "epoll"], &variables)), 30);
    let typed = ["run", "--connections", "20", "--", "--engine", "epoll"];
    assert_eq!(attempted(&run(&typed, &variables)), 20);
}

#[test]
fn a_wrong_value_is_blamed_on_its_variable() {
    for (variable, value) in [("LOADGEN_RATE", "many"), ("LOADGEN_QUIET", "perhaps")] {
        let output = run(&["run"], &[(variable, value)]);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(variable), "{text}");
    }
    let output = run(&["watch"], &[("LOADGEN_ADDR", "nowhere")]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}
