//! Where settings come from: flag, environment, file, default.

use std::fs;
use std::process::Output;

use crate::support::{Server, connect, program, round_trip};

/// A file with this text, in a folder that goes with it.
fn file(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("uring-echo.toml");
    fs::write(&path, text).expect("written");
    let path = path.to_string_lossy().into_owned();
    (folder, path)
}

fn check(path: &str, args: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = program();
    command.args(["serve", "--check-config", "--config", path]).args(args);
    command.envs(variables.iter().copied());
    command.output().expect("runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_a_file() {
    let (_folder, path) = file(
        "listen = ['127.0.0.1:0', '[::1]:0']\nbacklog = 5\npool = '1m'\ncredit = '16k'\n\
         stamp = true\n",
    );
    let variables = [("URING_ECHO_POOL", "2m"), ("URING_ECHO_CREDIT", "32k")];
    let output = check(&path, &["--credit", "64k"], &variables);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let line = |start: &str, end: &str| {
        let found = said.lines().any(|line| line.starts_with(start) && line.ends_with(end));
        assert!(found, "{start} … {end}: {said}");
    };
    line("listen = [\"127.0.0.1:0\", \"[::1]:0\"] ", "# file");
    line("backlog = 5 ", "# file");
    line("stamp = true ", "# file");
    line("pool = \"2m\" ", "# environment");
    line("credit = \"64k\" ", "# flag");
    line("engine = \"uring\" ", "# default");
    line("# workers is not set", "");
}

#[test]
fn what_is_printed_is_a_file_that_says_the_same() {
    let (_folder, path) = file("busy-poll = 50\nidle-timeout = '5m'\nmax-connections = 100\n");
    let first = check(&path, &["--engine", "epoll", "--accept", "shared"], &[]);
    let (_again, copy) = file(&text(&first.stdout));
    let second = check(&copy, &[], &[]);
    assert!(second.status.success(), "{}", text(&second.stderr));
    let values = |output: &Output| {
        let said = text(&output.stdout);
        said.lines().map(|line| line.split(" #").next().map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(values(&first), values(&second));
    assert!(text(&second.stdout).contains("# file"), "{}", text(&second.stdout));
}

#[test]
fn what_is_wrong_with_a_configuration_is_told_and_exits_with_two() {
    for (wrong, said) in [
        ("backlogg = 5", "backlogg is no setting: settings are named as the flags"),
        ("config = 'x'", "config is no setting"),
        ("backlog = 'many'", "the value is that of the file"),
        ("backlog = [5]", "backlog: expected a text or a number"),
        ("stamp = 'yes'", "stamp: expected true or false"),
        ("backlog 5", "line 1"),
        ("buffer = '1k'", "--buffer takes 4k to 64k"),
        ("listen = 'nonsense'", "expected HOST:PORT"),
    ] {
        let (_folder, path) = file(wrong);
        let output = check(&path, &[], &[]);
        let text = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{wrong}: {text}");
        assert!(text.contains(said), "{wrong}: {text}");
    }
    let output = check("/nowhere/at/all.toml", &[], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("No such file"), "{}", text(&output.stderr));
}

#[test]
fn a_server_serves_as_its_file_says_and_logs_where_settings_come_from() {
    let (_folder, path) = file("listen = '[::1]:0'\nworkers = 1\nbacklog = 7\nlog = 'json'\n");
    let mut command = program();
    command.args(["serve", "--engine", "epoll"]).env("URING_ECHO_CONFIG", &path);
    let server = Server::spawn(command).expect("epoll is everywhere");
    assert!(server.addr().is_ipv6());
    round_trip(&mut connect(server.addr()), b"as the file says");
    let starting = server.fields("starting");
    assert_eq!((&starting["backlog"], &starting["workers"]), (&7.into(), &1.into()));
    let settings = starting["settings"].as_str().expect("a text");
    for part in ["engine=epoll (flag)", "backlog=7 (file)", "listen=[::1]:0 (file)"] {
        assert!(settings.contains(part), "{settings}");
    }
}
