//! `loadgen watch --export` over plain sockets, and the dashboard that asks for its metrics.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A watch that exports, of a listener that accepts `served` connections and leaves one waiting.
struct Exporting {
    watch: Child,
    endpoint: SocketAddr,
    watched: SocketAddr,
    _listener: TcpListener,
    _waiting: TcpStream,
}

impl Exporting {
    fn start(served: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let watched = listener.local_addr().unwrap();
        let mut watch = Command::new(env!("CARGO_BIN_EXE_loadgen"))
            .args(["watch", &watched.to_string(), "--export", "127.0.0.1:0", "--mode", "depth"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("loadgen starts");
        let mut said = BufReader::new(watch.stderr.take().expect("piped"));
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("metrics at http://").expect(&line);
        let endpoint = url.strip_suffix("/metrics").unwrap().parse().unwrap();
        // Until the watch has ended, so that nothing blocks it.
        thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        for _ in 0..served {
            let _client = TcpStream::connect(watched).unwrap();
            thread::sleep(Duration::from_millis(50));
            drop(listener.accept().unwrap());
            // The queue is seen empty before the next one.
            thread::sleep(Duration::from_millis(50));
        }
        let waiting = TcpStream::connect(watched).unwrap();
        Self { watch, endpoint, watched, _listener: listener, _waiting: waiting }
    }

    fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.endpoint).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    /// The metrics, once a second has ended that saw the connection that waits.
    fn scrape(&self) -> String {
        let deadline = Instant::now() + Duration::from_secs(20);
        let waiting = |text: &str| {
            text.lines().any(|l| l.starts_with("accept_queue_depth{") && l.ends_with(" 1.0"))
        };
        loop {
            let text = self.ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
            if waiting(&text) {
                return text;
            }
            assert!(Instant::now() < deadline, "{text}");
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Exporting {
    fn drop(&mut self) {
        let pid = Pid::from_child(&self.watch);
        kill_process(pid, Signal::INT).unwrap();
        assert!(self.watch.wait().unwrap().success(), "Ctrl-C is how an endless watch ends");
    }
}

#[test]
fn a_scrape_tells_what_was_watched() {
    let exporting = Exporting::start(3);
    let text = exporting.scrape();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert!(text.contains("content-type: application/openmetrics-text; version=1.0.0"), "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
    let addr = format!("addr=\"{}\"", exporting.watched);
    let samples = || text.lines().filter(|line| line.contains('{'));
    assert!(samples().all(|line| line.contains(&addr)), "{text}");
    let value = |name: &str| {
        let line = samples().find(|line| line.starts_with(&format!("{name}{{")));
        let value = line.and_then(|line| line.rsplit(' ').next()).expect(name);
        value.parse::<f64>().expect("a number")
    };
    // A busy machine may sample so late that it sees fewer.
    assert!((1.0..=3.0).contains(&value("accepts_total")), "{text}");
    assert_eq!(value("accepts_total"), value("accept_delay_seconds_count"));
    assert!(value("watch_ticks_total") > 0.0 && value("accept_queue_limit") > 0.0, "{text}");
    assert!(text.contains(&format!("pid=\"{}\"", std::process::id())), "{text}");
    assert!(text.contains("mode=\"depth\""), "{text}");
}

#[test]
fn slow_and_wrong_requests_disturb_nobody() {
    let exporting = Exporting::start(0);
    let slow: Vec<TcpStream> =
        (0..8).map(|_| TcpStream::connect(exporting.endpoint).unwrap()).collect();
    slow.iter().for_each(|mut stream| stream.write_all(b"GET /met").unwrap());
    let whole = exporting.scrape();
    let head = exporting.ask("HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(head.contains("content-type: application/openmetrics-text"), "{head}");
    let wrong = exporting.ask("GET /metric HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(wrong.starts_with("HTTP/1.1 404 "), "{wrong}");
    let post = exporting.ask("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    assert!(post.starts_with("HTTP/1.1 405 "), "{post}");
    assert!(exporting.scrape().len() >= whole.len() / 2);
}

#[test]
fn an_address_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let args = ["watch", &addr, "--export", &addr, "--duration", "1s"];
    let output = Command::new(env!("CARGO_BIN_EXE_loadgen")).args(args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&addr) && said.contains("Address already in use"), "{said}");
}

/// Names that a query uses: words that are no function, no label and no number.
fn metrics_in(query: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut rest = query.to_owned();
    // Label matchers and groupings hold label names and strings.
    while let (Some(from), Some(to)) = (rest.find('{'), rest.find('}')) {
        rest.replace_range(from..=to, "");
    }
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '$');
    let known = ["addr", "listener", "le", "mode", "pid", "process", "by", "on", "group_left"];
    let functions = ["rate", "sum", "max", "histogram_quantile", "increase", "clamp_min", "or"];
    for name in rest.split(word) {
        let plain = name.starts_with(|c: char| c.is_ascii_alphabetic());
        if plain && !known.contains(&name) && !functions.contains(&name) {
            names.insert(name.to_owned());
        }
    }
    names
}

#[test]
fn every_query_of_the_dashboard_names_a_metric_that_is_exported() {
    let dashboard = include_str!("../../deploy/grafana/loadgen-watch.json");
    let dashboard: serde_json::Value = serde_json::from_str(dashboard).expect("JSON");
    let text = Exporting::start(1).scrape();
    let exported: BTreeSet<&str> =
        text.lines().filter_map(|line| line.split(['{', ' ']).next()).collect();
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let mut asked = 0;
    for target in targets {
        let query = target["expr"].as_str().expect("a query");
        let names = metrics_in(query);
        assert!(!names.is_empty(), "{query}");
        for name in names {
            assert!(exported.contains(&*name), "{query}: {name} is not exported\n{text}");
            asked += 1;
        }
    }
    assert!(asked > 10, "{asked}");
    let variable = dashboard["templating"]["list"][1]["query"].as_str().expect("a variable");
    assert_eq!(variable, "label_values(watch_info, addr)");
}
