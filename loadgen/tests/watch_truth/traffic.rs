//! Traffic whose waits are known, and a watch beside it.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use loadgen::model::result::RunResult;
use loadgen::model::watch::Watch;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use rustix::event::{PollFd, PollFlags, poll};
use socket2::{Domain, SockRef, Socket, Type};

use crate::inside::loadgen;

/// What a worker does between accepts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Service {
    /// Accepts at once, but stands for `length` in every `every`.
    Stalls { length: Duration, every: Duration },
    /// Comes back after a time that is exponentially distributed.
    Exponential(Duration),
    /// Stands for a while when the first has come, with a short backlog.
    Blocked { first: Duration, backlog: i32 },
    /// Never accepts.
    Stuck,
}

/// Connections at random instants.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) rate: f64,
    pub(crate) length: Duration,
}

pub(crate) struct Case {
    pub(crate) listen: &'static str,
    /// Addresses that the clients connect to in turn; the first is watched.
    pub(crate) connect: &'static [&'static str],
    pub(crate) workers: Vec<Service>,
    pub(crate) load: Load,
    pub(crate) neighbour: bool,
    /// More arguments of the watch.
    pub(crate) args: &'static str,
}

/// What server and client recorded.
pub(crate) struct Truth {
    /// Of those that were accepted, ascending.
    pub(crate) waits: Vec<u64>,
    /// How many were never accepted, and how long they had waited together in the end.
    pub(crate) still_waiting: u64,
    still_waiting_ns: u64,
    /// Connections whose first SYN found a full queue.
    pub(crate) dropped: u64,
    /// The listener of the worker that accepts nothing.
    pub(crate) stuck: Option<u32>,
}

impl Truth {
    pub(crate) fn mean(&self) -> u64 {
        let arrivals = self.waits.len() as u64 + self.still_waiting;
        (self.waits.iter().sum::<u64>() + self.still_waiting_ns) / arrivals
    }

    pub(crate) fn percentile(&self, percent: usize) -> u64 {
        let rank = (self.waits.len() * percent).div_ceil(100);
        self.waits[rank.clamp(1, self.waits.len()) - 1]
    }
}

/// A watch that has ended.
pub(crate) struct Watched {
    pub(crate) result: RunResult,
}

impl Watched {
    pub(crate) fn part(&self) -> &Watch {
        self.result.watch.as_ref().expect("the part of watch")
    }
}

pub(crate) fn listen(addr: &str, backlog: i32) -> TcpListener {
    let addr: SocketAddr = addr.parse().unwrap();
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(&addr.into()).unwrap();
    socket.listen(backlog).unwrap();
    socket.into()
}

/// Runs the case and hands both sides to `check`. If the machine gave the watch so little CPU that
/// it says so itself, once more; and if again, nothing can be said.
pub(crate) fn run(case: &Case, check: impl Fn(&Truth, &Watched)) {
    run_beside(case, |_| (), check);
}

/// As [`run`], with something of the watched address beside it for as long.
pub(crate) fn run_beside<T>(
    case: &Case,
    beside: impl Fn(SocketAddr) -> T,
    check: impl Fn(&Truth, &Watched),
) {
    const LATE: f64 = 0.02;
    for _ in 0..2 {
        let (truth, seen) = once(case, &beside);
        if seen.part().late_ticks_share <= LATE {
            return check(&truth, &seen);
        }
    }
    eprintln!("SKIPPED: the machine is too busy for its watch to be held to anything");
}

fn once<T>(case: &Case, beside: impl Fn(SocketAddr) -> T) -> (Truth, Watched) {
    let servers = Servers::start(case);
    let beside = beside(servers.addrs[0]);
    let neighbour = case.neighbour.then(|| at_once(listen("127.0.0.1:0", 128), 1000.0));
    let mut watch = start_watch(servers.addrs[0], case.args);
    let (arrived, dropped) = connect_all(&servers.addrs, case.load);
    // The last are accepted, and seen to be.
    thread::sleep(Duration::from_millis(400));
    let seen = watch.end();
    let ended = Instant::now();
    drop((neighbour, beside));
    (servers.end(&arrived, dropped, ended), seen)
}

/// When a connection was accepted, by the client's address.
type Accepted = HashMap<SocketAddr, Instant>;

struct Servers {
    addrs: Vec<SocketAddr>,
    accepted: Arc<Mutex<Accepted>>,
    stuck: Option<(u32, TcpListener)>,
}

impl Servers {
    fn start(case: &Case) -> Self {
        let accepted: Arc<Mutex<Accepted>> = Arc::default();
        let (mut stuck, mut bound) = (None, case.listen.to_owned());
        for service in &case.workers {
            let backlog =
                if let Service::Blocked { backlog, .. } = service { *backlog } else { 4096 };
            let listener = listen(&bound, backlog);
            bound = listener.local_addr().unwrap().to_string();
            if matches!(service, Service::Stuck) {
                stuck = Some((inode(&listener), listener));
                continue;
            }
            let (service, record) = (*service, Arc::clone(&accepted));
            thread::spawn(move || serve(&listener, service, &record));
        }
        let port = bound.parse::<SocketAddr>().unwrap().port();
        let addrs = case.connect.iter();
        let addrs = addrs.map(|ip| SocketAddr::new(ip.parse().unwrap(), port)).collect();
        Self { addrs, accepted, stuck }
    }

    fn end(&self, arrived: &Accepted, dropped: u64, ended: Instant) -> Truth {
        let accepted = self.accepted.lock().unwrap();
        let since = |client: &SocketAddr, until: Instant| {
            let connected = arrived.get(client).copied().unwrap_or(until);
            u64::try_from(until.saturating_duration_since(connected).as_nanos()).unwrap()
        };
        let mut waits: Vec<u64> = accepted.iter().map(|(client, at)| since(client, *at)).collect();
        waits.sort_unstable();
        let waiting: Vec<u64> = arrived
            .keys()
            .filter(|client| !accepted.contains_key(client))
            .map(|client| since(client, ended))
            .collect();
        Truth {
            waits,
            still_waiting: waiting.len() as u64,
            still_waiting_ns: waiting.iter().sum(),
            dropped,
            stuck: self.stuck.as_ref().map(|(inode, _)| *inode),
        }
    }
}

fn inode(listener: &TcpListener) -> u32 {
    u32::try_from(rustix::fs::fstat(listener).unwrap().st_ino).unwrap()
}

/// In real servers, accepts come in a row after a stall: nothing else is done between them.
fn serve(listener: &TcpListener, service: Service, record: &Mutex<Accepted>) {
    let mut random = Pcg64::seed_from_u64(7);
    let began = Instant::now();
    if let Service::Blocked { first, .. } = service {
        let mut waits = [PollFd::new(&listener, PollFlags::IN)];
        poll(&mut waits, None).unwrap();
        thread::sleep(first);
    }
    loop {
        if let Service::Stalls { length, every } = service {
            let phase = began.elapsed().as_nanos() % every.as_nanos();
            if phase < length.as_nanos() {
                let left = length - Duration::from_nanos(u64::try_from(phase).unwrap());
                thread::sleep(left);
            }
        }
        let Ok((stream, client)) = listener.accept() else { return };
        let now = Instant::now();
        let client = SocketAddr::new(client.ip().to_canonical(), client.port());
        record.lock().unwrap().insert(client, now);
        drop(stream);
        if let Service::Exponential(mean) = service {
            thread::sleep(mean.mul_f64(exponential(&mut random)));
        }
    }
}

fn exponential(random: &mut Pcg64) -> f64 {
    -(1.0 - random.random::<f64>()).ln()
}

/// Connects at random instants, one after the other, so that no two meet in the handshake. Returns
/// when each was connected, by its address, and how many were not at once: their first SYN was
/// dropped, and the second finds a server that accepts at once.
fn connect_all(addrs: &[SocketAddr], load: Load) -> (Accepted, u64) {
    let mut random = Pcg64::seed_from_u64(11);
    let (mut arrived, mut pending) = (Accepted::new(), Vec::new());
    let began = Instant::now();
    let mut next = Duration::ZERO;
    for addr in addrs.iter().cycle() {
        next += Duration::from_secs_f64(exponential(&mut random) / load.rate);
        if next >= load.length {
            break;
        }
        thread::sleep(next.saturating_sub(began.elapsed()));
        let socket = Socket::new(Domain::for_address(*addr), Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        let _in_progress = socket.connect(&(*addr).into());
        let now = Instant::now();
        let client = socket.local_addr().unwrap().as_socket().unwrap();
        if socket.peer_addr().is_ok() {
            arrived.insert(client, now);
        }
        pending.push((client, socket));
    }
    let dropped = pending.iter().filter(|(client, _)| !arrived.contains_key(client)).count();
    // Held until the watch has ended: a client that goes away leaves the queue in another way.
    HELD.lock().unwrap().extend(pending.into_iter().map(|(_, socket)| socket));
    (arrived, dropped as u64)
}

static HELD: Mutex<Vec<Socket>> = Mutex::new(Vec::new());

/// Traffic that is accepted at once, until it is dropped.
pub(crate) struct AtOnce {
    stop: Arc<AtomicBool>,
    client: Option<JoinHandle<()>>,
}

pub(crate) fn at_once(listener: TcpListener, rate: f64) -> AtOnce {
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || listener.incoming().for_each(drop));
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let client = thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            let stream = TcpStream::connect(addr).expect("connected");
            SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
            drop(stream);
            thread::sleep(Duration::from_secs_f64(1.0 / rate));
        }
    });
    AtOnce { stop, client: Some(client) }
}

impl Drop for AtOnce {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.client.take().map(JoinHandle::join);
    }
}

/// A watch that goes on.
struct Watching {
    child: Child,
    said: JoinHandle<String>,
}

/// Starts a watch and waits until it tells of its first second.
fn start_watch(addr: SocketAddr, args: &str) -> Watching {
    let mut child = Command::new(loadgen())
        .arg("watch")
        .arg(addr.to_string())
        .args(args.split_whitespace())
        .args(["--json", "-"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("loadgen starts");
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    lines.read_line(&mut said).unwrap();
    // Whatever it says meanwhile is read, so that it never waits for that.
    let said = thread::spawn(move || {
        let _whole = lines.read_to_string(&mut said);
        said
    });
    Watching { child, said }
}

impl Watching {
    /// Ends it as Ctrl-C does.
    fn end(&mut self) -> Watched {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let mut text = Vec::new();
        self.child.stdout.take().unwrap().read_to_end(&mut text).unwrap();
        let status = self.child.wait().unwrap();
        let said = std::mem::replace(&mut self.said, thread::spawn(String::new)).join().unwrap();
        let result = RunResult::parse(&text).unwrap_or_else(|e| panic!("{status}: {e}: {said}"));
        assert!(status.success(), "{said}");
        Watched { result }
    }
}
