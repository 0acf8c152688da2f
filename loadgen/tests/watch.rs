//! `loadgen watch` beside plain blocking servers. Its numbers are held to what such servers record
//! in `watch_truth`.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use loadgen::model::result::{Kind, RunResult};
use loadgen::model::watch::{ListedListener, Watch};
use socket2::{Domain, SockRef, Socket, Type};

const LOADGEN: &str = env!("CARGO_BIN_EXE_loadgen");

fn listen(addr: &str, backlog: i32) -> (TcpListener, SocketAddr) {
    let addr: SocketAddr = addr.parse().unwrap();
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(&addr.into()).unwrap();
    socket.listen(backlog).unwrap();
    let listener = TcpListener::from(socket);
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

fn loadgen(args: &str) -> Output {
    Command::new(LOADGEN).args(args.split_whitespace()).output().expect("loadgen starts")
}

fn watch(args: &str) -> (Output, RunResult) {
    let output = loadgen(&format!("watch {args} --json -"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let result = RunResult::parse(&output.stdout).unwrap_or_else(|e| panic!("{e}: {said}"));
    assert_eq!(result.kind, Kind::Watch);
    (output, result)
}

fn part(result: &RunResult) -> &Watch {
    result.watch.as_ref().expect("the part of watch")
}

/// When a connection was established at the client, and when `accept` returned it.
#[derive(Clone, Copy)]
struct Recorded {
    connected: Instant,
    accepted: Instant,
}

/// A server and a client that make known traffic until told to stop.
struct Traffic {
    stop: Arc<AtomicBool>,
    client: thread::JoinHandle<()>,
    server: thread::JoinHandle<Vec<Recorded>>,
}

/// Connects once every `every`; the server sleeps as `before_accept` says before each accept. The
/// two share a queue of instants, in the order of the accept queue: the client connects alone.
fn traffic(
    listener: TcpListener,
    every: Duration,
    before_accept: impl Fn(usize) -> Duration + Send + 'static,
) -> Traffic {
    let addr = listener.local_addr().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let (connected, instants) = channel();
    let ended = Arc::clone(&stop);
    let client = thread::spawn(move || connect_until(addr, every, &ended, &connected));
    let server = thread::spawn(move || {
        let mut recorded = Vec::new();
        // The instant of the last connect, before which the client has none to accept.
        for connected in instants {
            thread::sleep(before_accept(recorded.len()));
            drop(listener.accept().expect("accepted"));
            recorded.push(Recorded { connected, accepted: Instant::now() });
        }
        recorded
    });
    Traffic { stop, client, server }
}

fn connect_until(addr: SocketAddr, every: Duration, stop: &AtomicBool, told: &Sender<Instant>) {
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let stream = TcpStream::connect(addr).expect("connected");
        told.send(Instant::now()).expect("the server takes it");
        SockRef::from(&stream).set_linger(None).unwrap();
        next += every;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

impl Traffic {
    fn end(self) -> Vec<Recorded> {
        self.stop.store(true, Ordering::Relaxed);
        self.client.join().unwrap();
        self.server.join().unwrap()
    }
}

/// Nanoseconds of the waits, ascending.
fn waits(recorded: &[Recorded]) -> Vec<u64> {
    let wait = |one: &Recorded| one.accepted.saturating_duration_since(one.connected);
    let mut waits: Vec<u64> =
        recorded.iter().map(|one| u64::try_from(wait(one).as_nanos()).unwrap()).collect();
    waits.sort_unstable();
    waits
}

/// Watches for `seconds` while the server stalls for `stall` before every `nth` accept.
fn stalls(mode: &str, stall: Duration, nth: usize) -> (Vec<u64>, RunResult) {
    let (listener, addr) = listen("127.0.0.1:0", 4096);
    let traffic = traffic(listener, Duration::from_millis(4), move |n| {
        if n % nth == 0 { stall } else { Duration::ZERO }
    });
    let (output, result) = watch(&format!("{addr} --duration 4s --mode {mode}"));
    assert!(output.status.success(), "{output:?}");
    (waits(&traffic.end()), result)
}

/// Stalls that are much longer than the resolution are seen as long as they were, by depth alone:
/// other tests in this namespace do not disturb that.
#[test]
fn stalls_are_seen_as_long_as_they_were() {
    let (truth, result) = stalls("depth", Duration::from_millis(100), 100);
    let longest = *truth.last().unwrap();
    let watch = part(&result);
    assert_eq!(watch.mode, "depth");
    let seen = result.histograms["accept_delay"].max.unwrap();
    let allowed = (longest / 10).max(watch.resolution_ns) + late(watch);
    assert!(seen.abs_diff(longest) <= allowed, "{seen} of {longest}, {watch:?}");
    assert!(watch.depth_max >= 2 && watch.ticks > 100, "{watch:?}");
}

/// What late samples of a busy machine may add.
fn late(watch: &Watch) -> u64 {
    if watch.late_ticks_share > 0.02 { 20 * watch.interval_ns } else { 0 }
}

#[test]
fn an_overflowing_queue_is_told_with_what_limits_it() {
    let (_blocked, addr) = listen("127.0.0.1:0", 3);
    let folder = tempfile::tempdir().unwrap();
    let clients: Arc<Mutex<Vec<Socket>>> = Arc::default();
    let held = Arc::clone(&clients);
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(300));
        for _ in 0..12 {
            let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            client.set_nonblocking(true).unwrap();
            assert!(client.connect(&addr.into()).is_err(), "it is in progress");
            held.lock().unwrap().push(client);
        }
    });
    let out = folder.path().join("out");
    let (output, result) = watch(&format!("{addr} --duration 3s --out {}", out.display()));
    assert!(output.status.success(), "{output:?}");
    let watch = part(&result);
    assert_eq!((watch.limit, watch.depth_max, watch.depth), (3, 4, 4), "{watch:?}");
    assert!(watch.drops >= 8 && watch.longest_wait_ns > Some(1_000_000_000), "{watch:?}");
    let codes: Vec<&str> = result.verdict.advice.iter().map(|a| a.code.as_str()).collect();
    assert!(codes.contains(&"accept_queue_overflowed") && codes.contains(&"listener_stuck"));
    let text = result.verdict.advice.iter().map(|a| a.text.clone()).collect::<String>();
    assert!(text.contains("by the server's backlog"), "{text}");
    other_commands_take_it(&out);
}

/// `report`, `merge` and `export` of a watch.
fn other_commands_take_it(out: &std::path::Path) {
    let shown = out.display();
    let report = loadgen(&format!("report {shown}"));
    let text = String::from_utf8_lossy(&report.stdout).into_owned();
    assert!(report.status.success() && text.contains("at most 4 of 3"), "{text}");
    for format in ["csv", "hgrm", "hlog", "prometheus", "markdown"] {
        let exported = loadgen(&format!("export {shown} --format {format}"));
        assert!(exported.status.success(), "{format}: {exported:?}");
    }
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("Watched listener") && page.contains("loadgen watch"));
    let merged = loadgen(&format!("merge {shown} {shown} --out {shown}/merged"));
    assert_eq!(merged.status.code(), Some(2), "{merged:?}");
    assert!(String::from_utf8_lossy(&merged.stderr).contains("only results of `loadgen run`"));
}

#[test]
fn the_stuck_worker_of_a_group_is_found() {
    let (stuck, addr) = listen("127.0.0.1:0", 512);
    for _ in 0..3 {
        let (healthy, _) = listen(&addr.to_string(), 512);
        thread::spawn(move || {
            for stream in healthy.incoming() {
                drop(stream.expect("accepted"));
            }
        });
    }
    let clients = thread::spawn(move || {
        let connect = |_| {
            thread::sleep(Duration::from_millis(5));
            TcpStream::connect(addr).expect("connected")
        };
        (0..400).map(connect).collect::<Vec<_>>()
    });
    let (output, result) = watch(&format!("{addr} --duration 3s --mode depth"));
    assert!(output.status.success(), "{output:?}");
    let watch = part(&result);
    assert_eq!((watch.mode.as_str(), watch.members.len()), ("depth", 4), "{watch:?}");
    let standing = |m: &&_| -> bool {
        let member: &loadgen::model::watch::WatchMember = m;
        member.longest_wait_ns > Some(1_000_000_000)
    };
    let found: Vec<_> = watch.members.iter().filter(standing).collect();
    let [found] = found[..] else { panic!("{watch:?}") };
    assert_eq!(found.inode, inode(&stuck), "{watch:?}");
    assert!(found.depth > 10 && found.waits == 0, "{found:?}");
    assert!(result.verdict.advice.iter().any(|advice| advice.code == "listener_stuck"));
    drop(clients.join().unwrap());
}

fn inode(listener: &TcpListener) -> u32 {
    use std::os::fd::AsRawFd;
    use std::os::linux::fs::MetadataExt;
    let metadata = std::fs::metadata(format!("/proc/self/fd/{}", listener.as_raw_fd())).unwrap();
    u32::try_from(metadata.st_ino()).unwrap()
}

#[test]
fn a_server_that_restarts_is_watched_on() {
    let (first, addr) = listen("127.0.0.1:0", 16);
    let restarted = thread::spawn(move || {
        thread::sleep(Duration::from_millis(700));
        drop(first);
        thread::sleep(Duration::from_millis(700));
        let (again, _) = listen(&addr.to_string(), 16);
        let client = TcpStream::connect(addr).unwrap();
        thread::sleep(Duration::from_millis(1500));
        (again, client)
    });
    let (output, result) = watch(&format!("{addr} --duration 2500ms"));
    assert!(output.status.success(), "{output:?}");
    let watch = part(&result);
    assert!(watch.restarts >= 1 && watch.absent_ns > 0, "{watch:?}");
    assert_eq!((watch.members.len(), watch.depth), (1, 1), "{watch:?}");
    drop(restarted.join().unwrap());
}

#[test]
fn the_list_has_every_listener_the_fullest_first() {
    let (full, addr) = listen("127.0.0.1:0", 1);
    let (_empty, other) = listen("[::1]:0", 100);
    let _waiting = [TcpStream::connect(addr).unwrap(), TcpStream::connect(addr).unwrap()];
    let output = loadgen("watch --list --json -");
    let listed: Vec<ListedListener> = serde_json::from_slice(&output.stdout).expect("a list");
    let place = |addr: SocketAddr| {
        listed.iter().position(|one| one.addr == addr.to_string()).expect("it is listed")
    };
    assert!(place(addr) < place(other));
    assert!(listed.is_sorted_by(|a, b| a.fullness >= b.fullness), "{listed:?}");
    let found = &listed[place(addr)];
    assert_eq!((found.depth, found.limit, found.inode), (2, 1, inode(&full)), "{found:?}");
    assert!(found.owners.iter().any(|owner| owner.pid == std::process::id()), "{found:?}");
    let text = String::from_utf8(loadgen("watch --list").stdout).unwrap();
    assert!(text.contains(&addr.to_string()) && text.contains("100 %"), "{text}");
}

#[test]
fn what_cannot_be_watched_is_refused_with_a_reason() {
    let (listener, addr) = listen("127.0.0.1:0", 1);
    drop(listener);
    for (args, status, said) in [
        (format!("watch {addr} --duration 1s"), 1, "--list"),
        (format!("watch {addr} --mode best"), 2, "auto, trace, fifo, depth, sampled"),
        (format!("watch {addr} --interval 1us"), 2, "200us"),
        ("watch".into(), 2, "ADDR"),
        ("watch 127.0.0.1".into(), 2, "HOST:PORT"),
        (format!("watch {addr} --netns /nowhere"), 1, "/nowhere"),
    ] {
        let output = loadgen(&args);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{args}: {errors}");
        assert!(errors.contains(said), "{args}: {errors}");
    }
}
