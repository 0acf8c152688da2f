//! The live view on a real terminal: script(1) makes one.

use std::io::{BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";
const SHOW_CURSOR: &str = "\x1b[?25h";

/// `loadgen run` with `args` on a terminal of this size; what it writes is on stdout.
fn on_terminal(columns: u16, rows: u16, args: &str) -> Child {
    command_on_terminal(columns, rows, &format!("run --rate 200 --warmup 0s {args}"), &[])
}

fn command_on_terminal(columns: u16, rows: u16, args: &str, variables: &[(&str, &str)]) -> Child {
    let loadgen = env!("CARGO_BIN_EXE_loadgen");
    let command = format!("stty rows {rows} cols {columns}; exec {loadgen} {args}");
    let mut script = Command::new("script");
    script.args(["-qefc", &command, "/dev/null"]).env("TERM", "xterm-256color");
    script.env_remove("NO_COLOR").envs(variables.iter().copied());
    script.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    script.spawn().expect("script(1) is part of every Debian")
}

fn written(mut child: Child) -> String {
    let mut bytes = Vec::new();
    let stdout = child.stdout.take().expect("piped");
    BufReader::new(stdout).read_to_end(&mut bytes).expect("read to the end");
    child.wait().expect("a child");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Nothing is drawn once the terminal is given back, and the report follows.
fn is_given_back(text: &str) {
    let (shown, after) = text.rsplit_once(LEAVE).expect("the screen is left");
    assert!(shown.contains(ENTER), "{text:?}");
    assert!(after.contains(SHOW_CURSOR), "the cursor is shown again: {after:?}");
    assert!(after.contains("accept_delay") && after.contains("verdict"), "{after:?}");
}

#[test]
fn the_view_lasts_as_long_as_the_run_and_the_report_follows() {
    let text = written(on_terminal(90, 30, "--duration 3s"));
    for part in ["last second", "so far", "accept queue", "Ctrl-C ends the run"] {
        assert!(text.contains(part), "{part}: {text:?}");
    }
    is_given_back(&text);
}

#[test]
fn a_small_terminal_gets_a_line_and_no_screen() {
    let text = written(on_terminal(59, 30, "--duration 2s"));
    assert!(!text.contains(ENTER), "{text:?}");
    assert!(text.contains("verdict"), "{text:?}");
}

#[test]
fn ctrl_c_gives_the_terminal_back_before_the_report() {
    let child = on_terminal(90, 30, "--duration 60s");
    let pid = generator_of(child.id());
    thread::sleep(Duration::from_secs(3));
    interrupt(pid);
    let text = written(child);
    is_given_back(&text);
    assert!(text.contains("interrupted"), "{text:?}");
}

/// A listener that nobody accepts from, with one connection that waits.
fn listener() -> (TcpListener, TcpStream, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, TcpStream::connect(addr).unwrap(), addr.to_string())
}

#[test]
fn a_watch_is_shown_until_ctrl_c_and_its_report_follows() {
    let (_listener, _waiting, addr) = listener();
    let child = command_on_terminal(80, 24, &format!("watch {addr}"), &[]);
    let pid = generator_of(child.id());
    thread::sleep(Duration::from_millis(2500));
    interrupt(pid);
    let text = written(child);
    for part in ["waiting,", "waits to within", "late,", "Ctrl-C ends the watch"] {
        assert!(text.contains(part), "{part}: {text:?}");
    }
    assert!(text.contains("\x1b[38;5;") || text.contains("\x1b[90m"), "in colour: {text:?}");
    let (shown, after) = text.rsplit_once(LEAVE).expect("the screen is left");
    assert!(shown.contains(ENTER) && after.contains(SHOW_CURSOR), "{text:?}");
    assert!(after.contains("samples") && after.contains(&addr), "the report: {after:?}");
}

#[test]
fn a_watch_obeys_no_color_and_prints_lines_where_a_screen_would_not_do() {
    let (_listener, _waiting, addr) = listener();
    let args = format!("watch {addr} --duration 1100ms");
    let plain = written(command_on_terminal(80, 24, &args, &[("NO_COLOR", "1")]));
    let (shown, _) = plain.rsplit_once(LEAVE).expect("there was a screen");
    assert!(!shown.contains("\x1b[38;5;") && !shown.contains("\x1b[90m"), "{plain:?}");
    for (columns, variables) in [(59, ("LANG", "C")), (80, ("TERM", "dumb"))] {
        let text = written(command_on_terminal(columns, 24, &args, &[variables]));
        assert!(!text.contains(ENTER), "{text:?}");
        assert!(text.contains(" 1 s  waiting 1"), "a line a second: {text:?}");
    }
}

#[test]
fn a_watch_draws_the_size_that_the_terminal_has_now() {
    let (_listener, _waiting, addr) = listener();
    let args = format!("watch {addr} --duration 3s & sleep 1.3; stty rows 20 cols 66; wait");
    let text = written(command_on_terminal(100, 30, &args, &[]));
    let last_row = |row: u16| text.contains(&format!("\x1b[{row};1H"));
    assert!(last_row(30) && last_row(20), "{text:?}");
    assert!(text.rsplit_once(LEAVE).is_some(), "{text:?}");
}

fn interrupt(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
}

/// The process that script(1) has started, once it is loadgen and has caught its signals.
fn generator_of(script: u32) -> i32 {
    let children = format!("/proc/{script}/task/{script}/children");
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let child = std::fs::read_to_string(&children).unwrap_or_default();
        if let Some(pid) = child.split_whitespace().next() {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            if name.trim() == "loadgen" {
                return pid.parse().expect("a number");
            }
        }
        assert!(Instant::now() < deadline, "loadgen does not start");
        thread::sleep(Duration::from_millis(20));
    }
}
