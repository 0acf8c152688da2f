//! The admin endpoint: what is counted, and what probes are told.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::Signal;

use crate::support::{
    ENGINES, Server, connect, has_pool, program, round_trip, tightest_sandbox, wait_until,
};

/// Where the endpoint of a server is.
fn admin(server: &Server) -> SocketAddr {
    let fields = server.fields("listening");
    fields["admin"].as_str().expect("an address").parse().expect("an address")
}

/// The status and body of an answer, with its header in front of the latter.
fn get(addr: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = connect(addr);
    write!(stream, "GET {path} HTTP/1.1\r\nHost: admin\r\n\r\n").expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("answered and closed");
    let status = text.get(9..12).and_then(|digits| digits.parse().ok());
    (status.expect("a status"), text)
}

/// Samples by name, and then by labels as they are written.
struct Samples(BTreeMap<String, BTreeMap<String, f64>>);

fn scrape(addr: SocketAddr) -> Samples {
    let (status, text) = get(addr, "/metrics");
    assert_eq!(status, 200, "{text}");
    assert!(text.contains("content-type: application/openmetrics-text; version=1.0.0"), "{text}");
    let (_, body) = text.split_once("\r\n\r\n").expect("a body");
    assert!(body.ends_with("# EOF\n"), "{body}");
    let mut samples: BTreeMap<String, BTreeMap<String, f64>> = BTreeMap::new();
    for line in body.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').expect("a value");
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let value = value.parse().expect("a number");
        let labels = labels.trim_end_matches('}').to_owned();
        let before = samples.entry(name.to_owned()).or_default().insert(labels, value);
        assert_eq!(before, None, "twice: {series}");
    }
    Samples(samples)
}

impl Samples {
    /// The sum over what has all of `labels`.
    fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let series = self.0.get(name).unwrap_or_else(|| panic!("no {name}"));
        let chosen =
            series.iter().filter(|(own, _)| labels.iter().all(|label| own.contains(label)));
        chosen.map(|(_, value)| value).sum()
    }
}

#[test]
fn counters_equal_what_the_clients_count() {
    const CLIENTS: u32 = 4;
    const ROUNDS: u32 = 50;
    for engine in ENGINES {
        let sandbox = ["--sandbox", tightest_sandbox(engine)];
        let args = [&sandbox[..], &["--admin", "127.0.0.1:0", "--workers", "2"]].concat();
        let Some(server) = Server::start(engine, &args) else { return };
        let (addr, endpoint) = (server.addr(), admin(&server));
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let scraping = scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let now = scrape(endpoint);
                    assert!(
                        now.sum("uring_echo_connections_open", &[]) <= f64::from(CLIENTS) + 4.0
                    );
                }
            });
            let client = || {
                for _ in 0..ROUNDS {
                    round_trip(&mut connect(addr), &[7; 1000]);
                }
            };
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
            clients.into_iter().for_each(|client| client.join().expect("served"));
            done.store(true, Ordering::Relaxed);
            scraping.join().expect("answered all the time");
        });
        let connections = f64::from(CLIENTS * ROUNDS);
        let is = |now: &Samples, name, labels: &[_], value| now.sum(name, labels) == value;
        wait_until("everything is counted", || {
            let now = scrape(endpoint);
            is(&now, "uring_echo_connections_accepted_total", &[], connections)
                && is(&now, "uring_echo_connections_open", &[], 0.0)
                && is(&now, "uring_echo_connections_closed_total", &[], connections)
                && is(&now, "uring_echo_received_bytes_total", &[], 1000.0 * connections)
                && is(&now, "uring_echo_sent_bytes_total", &[], 1000.0 * connections)
        });
        let now = scrape(endpoint);
        let finished = now.sum("uring_echo_connections_closed_total", &["reason=\"finished\""]);
        assert_eq!(finished, connections, "{engine}");
        assert_eq!(now.0["uring_echo_connections_accepted_total"].len(), 2, "one per worker");
        assert_eq!(now.sum("uring_echo_accept_queue_depth", &[]), 0.0, "{engine}");
        assert_eq!(now.0.contains_key("uring_echo_loop_events_sum"), has_pool(engine));
        if has_pool(engine) {
            assert!(now.sum("uring_echo_loop_events_sum", &[]) >= 4.0 * connections);
            assert_eq!(now.sum("uring_echo_pool_buffers_in_use", &[]), 0.0);
        }
        assert_eq!(get(endpoint, "/livez").0, 200);
        assert_eq!(get(endpoint, "/nothing").0, 404);
        server.signal(Signal::TERM);
        server.wait_clean_exit();
    }
}

#[test]
fn a_full_server_is_alive_and_not_ready_and_its_queue_is_told() {
    for engine in ENGINES {
        let args = ["--admin", "127.0.0.1:0", "--workers", "1", "--max-connections", "2"];
        let Some(server) = Server::start(engine, &args) else { return };
        let endpoint = admin(&server);
        let ready = || get(endpoint, "/readyz");
        wait_until("it is ready", || ready().0 == 200);
        let mut open: Vec<_> = (0..2).map(|_| connect(server.addr())).collect();
        open.iter_mut().for_each(|stream| round_trip(stream, b"one of two"));
        wait_until("it is full", || ready().0 == 503);
        assert!(ready().1.ends_with("full\n"), "{}", ready().1);
        assert_eq!(get(endpoint, "/livez").0, 200);
        let waiting: Vec<_> = (0..3).map(|_| connect(server.addr())).collect();
        let listener = format!("listener=\"{}\"", server.addr());
        let now = scrape(endpoint);
        assert_eq!(now.sum("uring_echo_accept_queue_depth", &[&listener]), 3.0, "{engine}");
        assert_eq!(now.sum("uring_echo_accept_queue_limit", &[]), 4096.0_f64.min(somaxconn()));
        assert_eq!(
            (now.sum("uring_echo_ready", &[]), now.sum("uring_echo_alive", &[])),
            (0.0, 1.0)
        );
        drop((open, waiting));
        wait_until("it is ready again", || ready().0 == 200);
        server.signal(Signal::TERM);
        assert!(server.wait().success());
    }
}

fn somaxconn() -> f64 {
    let text = std::fs::read_to_string("/proc/sys/net/core/somaxconn").expect("a sysctl");
    text.trim().parse().expect("a number")
}

#[test]
fn a_server_that_was_told_to_stop_is_alive_and_not_ready_and_serves_on() {
    for engine in ENGINES {
        let args = ["--admin", "127.0.0.1:0", "--drain-delay", "60s"];
        let Some(server) = Server::start(engine, &args) else { return };
        let endpoint = admin(&server);
        wait_until("it is ready", || get(endpoint, "/readyz").0 == 200);
        server.signal(Signal::TERM);
        wait_until("it is not ready", || get(endpoint, "/readyz").0 == 503);
        assert_eq!(get(endpoint, "/livez").0, 200);
        round_trip(&mut connect(server.addr()), b"who comes all the same is served");
        server.signal(Signal::TERM);
        assert_eq!(server.wait().code(), Some(130), "the second signal");
    }
}

/// The listener goes from one process to the next, so that every question is answered.
#[test]
fn a_successor_answers_where_its_predecessor_did() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("door").to_string_lossy().into_owned();
    let start = |listen: &str, admin: &str| {
        let args = ["--takeover", &path, "--listen", listen, "--admin", admin];
        Server::start("auto", &[&args[..], &["--sandbox", "require"]].concat())
    };
    let Some(mut serving) = start("127.0.0.1:0", "127.0.0.1:0") else { return };
    let (addr, endpoint) = (serving.addr().to_string(), admin(&serving));
    let done = AtomicBool::new(false);
    let last = thread::scope(|scope| {
        let scraping = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                assert_eq!(get(endpoint, "/livez").0, 200);
            }
        });
        for _ in 0..2 {
            let next = start(&addr, &endpoint.to_string()).expect("takes over");
            assert_eq!(admin(&next), endpoint);
            serving.wait_clean_exit();
            serving = next;
        }
        done.store(true, Ordering::Relaxed);
        scraping.join().expect("answered all the time");
        serving
    });
    let now = scrape(endpoint);
    assert_eq!(now.sum("uring_echo_server_info", &["inherited=\"takeover\""]), 1.0);
    last.signal(Signal::TERM);
    last.wait_clean_exit();
}

#[test]
fn an_address_that_is_taken_is_told_by_name() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = taken.local_addr().expect("bound").to_string();
    let mut command = program();
    command.args(["serve", "--engine", "epoll", "--listen", "127.0.0.1:0", "--admin", &addr]);
    let output = command.output().expect("runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("bind {addr}: ")) && text.contains("ss -ltnp"), "{text}");
}

/// Every name that a query of the dashboard uses.
fn names_in_dashboard() -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/grafana/uring-echo.json");
    let text = std::fs::read_to_string(path).expect("the dashboard");
    let dashboard: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let mut names = Vec::new();
    collect_names(&dashboard, &mut names);
    names
}

fn collect_names(value: &serde_json::Value, names: &mut Vec<String>) {
    let in_query = |text: &str| {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        words.filter(|word| word.starts_with("uring_echo_")).map(str::to_owned).collect::<Vec<_>>()
    };
    match value {
        serde_json::Value::Object(fields) => fields.iter().for_each(|(key, value)| {
            match value.as_str().filter(|_| key == "expr" || key == "query") {
                Some(query) => names.extend(in_query(query)),
                None => collect_names(value, names),
            }
        }),
        serde_json::Value::Array(values) => {
            values.iter().for_each(|value| collect_names(value, names));
        }
        _ => {}
    }
}

#[test]
fn the_dashboard_asks_for_what_is_there() {
    let Some(server) = Server::start("auto", &["--admin", "127.0.0.1:0"]) else { return };
    let now = scrape(admin(&server));
    let names = names_in_dashboard();
    assert!(names.len() > 20, "{names:?}");
    let absent: Vec<_> = names.iter().filter(|name| !now.0.contains_key(*name)).collect();
    assert!(absent.is_empty(), "not exported: {absent:?}");
    let shown: Vec<_> = now.0.keys().filter(|name| !names.contains(name)).collect();
    println!("not on the dashboard: {shown:?}");
    let mut stream = connect(server.addr());
    round_trip(&mut stream, b"serves");
    stream.shutdown(Shutdown::Both).expect("open");
}
