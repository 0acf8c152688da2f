//! Clients of several kinds at once against one server process, for as long as asked for.
//!
//! `SOAK_SECONDS=1800 cargo test --release --test it soak -- --nocapture` soaks for half an hour
//! and prints a line a minute; `SOAK_ENGINE=uring` gives one engine all of the time; `SOAK_SEED=7`
//! lets the clients do the same again, though not the scheduler. See docs/soak.md.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use socket2::SockRef;
use uring_echo::sys::procfs;

use self::random::Random;
use crate::support::{ENGINES, Server, TIMEOUT, connect, has_pool, pattern, wait_until};
use crate::torture::{reset, stall};

#[path = "../sim/random.rs"]
#[allow(dead_code, reason = "the simulation draws in more ways")]
mod random;

/// How long a plain `cargo test` soaks.
const SECONDS: u64 = 3;

/// No spinning: a soak shares its machine with others.
const ARGS: [&str; 4] = ["--workers", "2", "--busy-poll", "off"];
/// Pools small enough to run empty, yet with a buffer for every slow reader and some more.
const POOL_ARGS: [&str; 4] = ["--pool", "256k", "--credit", "64k"];

/// Connections that hold a buffer each before it begins: so many that each worker gets more of them
/// than it has buffers.
const STALLED: u64 = 64;

/// Every client sends a part of one block, repeated. The length of the block is prime, so that a
/// lost or repeated buffer shifts the rest.
const BLOCK: usize = 1_048_573;

/// SO_RCVBUF of the clients: the kernel's own choice holds tens of MiB, so that no slow reader
/// would fill the server's buffers. With less than a few segments of loopback the rest at the end
/// would take minutes to arrive.
const RECEIVE_BUFFER: usize = 512 << 10;

/// One in so many connections is reset by its client, at any moment of its life.
const RESET_ONE_IN: u32 = 4;

/// How much the process may have grown since the warm-up, in percent.
const GROWTH_PERCENT: u64 = 1;

/// The ranges that clients of one kind draw their parameters from.
struct ClientKind {
    clients: u64,
    /// Bytes sent on a connection, at most.
    bytes: u32,
    /// Bytes given to one write.
    write_size: RangeInclusive<u32>,
    /// Bytes taken by one read.
    read_size: RangeInclusive<u32>,
    /// After each read, in milliseconds.
    pause_ms: RangeInclusive<u32>,
    /// Between two connections, in milliseconds.
    rest_ms: RangeInclusive<u32>,
}

const CLIENT_KINDS: [ClientKind; 4] = [
    CHURN,
    // Long streams, some of which last until the end.
    ClientKind { bytes: 1 << 30, write_size: 1 << 10..=64 << 10, pause_ms: 5..=50, ..CHURN },
    // Slow readers: what they owe fills the kernel's buffers, their credit and the pool.
    ClientKind {
        clients: 12,
        bytes: 64 << 20,
        write_size: 1 << 20..=1 << 20,
        read_size: 1 << 10..=8 << 10,
        pause_ms: 10..=50,
        ..CHURN
    },
    // Writers of single bytes.
    ClientKind { clients: 4, bytes: 5_000, write_size: 1..=1, pause_ms: 1..=2, ..CHURN },
];

const CHURN: ClientKind = ClientKind {
    clients: 6,
    bytes: 2_000,
    write_size: 100..=2_000,
    read_size: 64 << 10..=64 << 10,
    pause_ms: 0..=0,
    rest_ms: 0..=12,
};

/// What the clients have done so far.
#[derive(Default)]
struct Totals {
    connected: AtomicU64,
    ended: AtomicU64,
    echoed: AtomicU64,
}

/// What one connection does.
struct Script {
    bytes: u64,
    write_size: usize,
    read_size: usize,
    pause: Duration,
    half_close: bool,
    /// It is reset once it has moved this many bytes in both directions together.
    reset_at: u64,
    /// Where in the block its bytes begin.
    start: u64,
}

impl Script {
    fn draw(kind: &ClientKind, random: &mut Random) -> Self {
        let bytes = 1 + any_magnitude(random, kind.bytes);
        let reset = random.below(RESET_ONE_IN) == 0;
        let moment = 2 * any_magnitude(random, u32::try_from(bytes).expect("was one"));
        let mut draw = |range: &RangeInclusive<u32>| random.range(*range.start(), *range.end());
        Self {
            bytes,
            write_size: draw(&kind.write_size) as usize,
            read_size: draw(&kind.read_size) as usize,
            pause: Duration::from_millis(draw(&kind.pause_ms).into()),
            half_close: random.below(2) == 0,
            reset_at: if reset { moment } else { u64::MAX },
            start: u64::from(random.below(u32::MAX)),
        }
    }
}

/// A number below `most`, every order of magnitude equally often, because most happens at the
/// beginning of a stream.
fn any_magnitude(random: &mut Random, most: u32) -> u64 {
    u64::from(random.below(most)) >> random.below(16)
}

/// One connection of a client, driven by poll(2).
struct Client<'a> {
    stream: TcpStream,
    script: Script,
    block: &'a [u8],
    sent: u64,
    echoed: u64,
    half_closed: bool,
}

impl Client<'_> {
    /// Runs the script to its end. Once the soak is `over` nothing more is sent, and everything
    /// that was sent has to come back.
    fn run(&mut self, over: &AtomicBool) {
        let mut room = vec![0; self.script.read_size];
        while self.sent + self.echoed < self.script.reset_at {
            if over.load(Ordering::Relaxed) {
                self.script.bytes = self.sent;
                self.script.pause = Duration::ZERO;
            }
            let all_sent = self.sent >= self.script.bytes;
            if all_sent && !self.script.half_close && self.echoed == self.sent {
                return;
            }
            if all_sent && self.script.half_close && !self.half_closed {
                self.stream.shutdown(Shutdown::Write).expect("half-closed");
                self.half_closed = true;
            }
            let ready = self.wait(!all_sent);
            if ready.contains(PollFlags::OUT) {
                self.write();
            }
            if ready.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR)
                && self.read(&mut room) == 0
            {
                assert!(self.half_closed, "the server ended the stream first");
                assert_eq!(self.echoed, self.sent, "bytes are missing at the end");
                return;
            }
        }
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("a socket");
    }

    fn wait(&self, writes: bool) -> PollFlags {
        let wanted = if writes { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        let mut polled = [PollFd::new(&self.stream, wanted)];
        let timeout = Timespec::try_from(TIMEOUT).expect("a short time");
        let ready = rustix::io::retry_on_intr(|| poll(&mut polled, Some(&timeout)));
        assert_ne!(ready.expect("polled"), 0, "{} of {} came back", self.echoed, self.sent);
        polled[0].revents()
    }

    fn write(&mut self) {
        let left = usize::try_from(self.script.bytes - self.sent).unwrap_or(usize::MAX);
        let bytes = bytes_from(self.block, self.script.start + self.sent);
        let bytes = &bytes[..bytes.len().min(left).min(self.script.write_size)];
        match self.stream.write(bytes) {
            Ok(len) => self.sent += len as u64,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "sending: {error}"),
        }
    }

    /// Reads and compares what is there; returns how much that was.
    fn read(&mut self, room: &mut [u8]) -> usize {
        let len = self.stream.read(room).expect("echoed");
        let mut rest = &room[..len];
        assert!(self.echoed + len as u64 <= self.sent, "more came back than was sent");
        while !rest.is_empty() {
            let expected = bytes_from(self.block, self.script.start + self.echoed);
            let (now, later) = rest.split_at(rest.len().min(expected.len()));
            assert!(now == &expected[..now.len()], "a wrong byte after {}", self.echoed);
            self.echoed += now.len() as u64;
            rest = later;
        }
        thread::sleep(self.script.pause);
        len
    }
}

/// The bytes of `block`, repeated, from `position` to the end of the block.
fn bytes_from(block: &[u8], position: u64) -> &[u8] {
    let at = usize::try_from(position % block.len() as u64).expect("below a length");
    &block[at..]
}

/// Runs one connection after the other until the soak is over.
fn keep_connecting(
    addr: SocketAddr,
    kind: &ClientKind,
    mut random: Random,
    block: &[u8],
    totals: &Totals,
    over: &AtomicBool,
) {
    while !over.load(Ordering::Relaxed) {
        let script = Script::draw(kind, &mut random);
        let stream = connect(addr);
        totals.connected.fetch_add(1, Ordering::Relaxed);
        let socket = SockRef::from(&stream);
        socket.set_tcp_nodelay(true).expect("a socket");
        socket.set_nonblocking(true).expect("a socket");
        socket.set_recv_buffer_size(RECEIVE_BUFFER).expect("a socket");
        let mut client = Client { stream, script, block, sent: 0, echoed: 0, half_closed: false };
        client.run(over);
        totals.echoed.fetch_add(client.echoed, Ordering::Relaxed);
        totals.ended.fetch_add(1, Ordering::Relaxed);
        drop(client);
        let rest_ms = random.range(*kind.rest_ms.start(), *kind.rest_ms.end());
        thread::sleep(Duration::from_millis(rest_ms.into()));
    }
}

/// What /proc says of the server: proc_pid_smaps(5), proc_pid_fd(5), proc_pid_status(5).
#[derive(Debug)]
struct Usage {
    rss_kib: u64,
    descriptors: usize,
    threads: usize,
}

impl Usage {
    fn of(server: &Server) -> Self {
        let proc = format!("/proc/{}", server.pid().as_raw_nonzero());
        let count = |what: &str| fs::read_dir(format!("{proc}/{what}")).expect("it runs").count();
        // Exact, where the counters of /proc/PID/status lag behind by some pages for each CPU.
        let rss_kib = procfs::kib(&format!("{proc}/smaps_rollup"), "Rss").expect("it runs");
        Self { rss_kib, descriptors: count("fd"), threads: count("task") }
    }
}

#[test]
fn a_soak_leaves_the_server_as_it_was() {
    let chosen = std::env::var("SOAK_ENGINE").ok();
    let engines = ENGINES.into_iter().filter(|name| chosen.as_deref().is_none_or(|c| c == *name));
    let engines: Vec<&str> = engines.collect();
    assert!(!engines.is_empty(), "SOAK_ENGINE={chosen:?} is none of {ENGINES:?}");
    let each = Duration::from_secs(number("SOAK_SECONDS").unwrap_or(SECONDS));
    let each = each / u32::try_from(engines.len()).expect("few");
    let seed = number("SOAK_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        u64::from(now.subsec_nanos())
    });
    for engine in engines {
        println!("soaking {engine} for {each:?}, SOAK_SEED={seed}");
        let pool_args = if has_pool(engine) { &POOL_ARGS[..] } else { &[] };
        let args = [&ARGS[..], pool_args].concat();
        let Some(server) = Server::start(engine, &args) else { return };
        soak(server, each, seed);
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

fn soak(server: Server, time: Duration, seed: u64) {
    let fresh = Usage::of(&server);
    let (totals, over) = (Totals::default(), AtomicBool::new(false));
    touch_all_buffers(&server, &totals);
    let block = pattern(seed, BLOCK);
    let warm = thread::scope(|scope| {
        let (addr, block, totals, over) = (server.addr(), &block[..], &totals, &over);
        let mut clients = Vec::new();
        for kind in &CLIENT_KINDS {
            for _ in 0..kind.clients {
                let random = Random::new(seed.wrapping_add(clients.len() as u64));
                let work = move || keep_connecting(addr, kind, random, block, totals, over);
                clients.push(scope.spawn(work));
            }
        }
        // A client that ends before the soak is over has failed.
        let all_running = || clients.iter().all(|client| !client.is_finished());
        let warm = watch(&server, totals, time, all_running);
        over.store(true, Ordering::Relaxed);
        warm
    });
    wait_until("the server has closed what its clients have", || {
        Usage::of(&server).descriptors == fresh.descriptors
    });
    let end = Usage::of(&server);
    println!("{}", line("end", &totals, &end));
    let limit = warm.rss_kib + warm.rss_kib * GROWTH_PERCENT / 100;
    assert!(end.rss_kib <= limit, "it grew from {warm:?} to {end:?}");
    check_balance(server, &totals);
}

/// Peers that do not read occupy every buffer, also those that an engine which prefers recently
/// used ones would hardly ever use. Memory that grows after that was not merely touched late.
fn touch_all_buffers(server: &Server, totals: &Totals) {
    let flood = pattern(1, 16 << 20);
    let stalled: Vec<TcpStream> = (0..STALLED).map(|_| connect(server.addr())).collect();
    totals.connected.fetch_add(STALLED, Ordering::Relaxed);
    stalled.iter().for_each(|stream| stall(stream, &flood));
    stalled.into_iter().for_each(reset);
    totals.ended.fetch_add(STALLED, Ordering::Relaxed);
}

/// Prints a line a minute until the time is up or `well` is false; returns what the server used
/// after the first tenth.
fn watch(server: &Server, totals: &Totals, time: Duration, well: impl Fn() -> bool) -> Usage {
    let start = Instant::now();
    let mut warm = None;
    let mut minutes = 0;
    while start.elapsed() < time && well() {
        thread::sleep(Duration::from_millis(20));
        if warm.is_none() && start.elapsed() >= time / 10 {
            let usage = Usage::of(server);
            println!("{}", line("warm", totals, &usage));
            warm = Some(usage);
        }
        if start.elapsed().as_secs() / 60 > minutes {
            minutes += 1;
            println!("{}", line(&minutes.to_string(), totals, &Usage::of(server)));
        }
    }
    warm.unwrap_or_else(|| Usage::of(server))
}

fn line(when: &str, totals: &Totals, usage: &Usage) -> String {
    let ended = totals.ended.load(Ordering::Relaxed);
    let connected = totals.connected.load(Ordering::Relaxed);
    let Usage { rss_kib, descriptors, threads } = usage;
    format!(
        "| {when} | {connected} accepted | {ended} closed | {} open | {} MiB echoed \
         | {rss_kib} KiB | {descriptors} descriptors | {threads} threads |",
        connected - ended,
        totals.echoed.load(Ordering::Relaxed) >> 20,
    )
}

/// The server's own summary agrees with what its clients have counted.
fn check_balance(server: Server, totals: &Totals) {
    server.signal(Signal::TERM);
    let stopped = server.wait_for_log("stopped").expect("a summary");
    println!("{stopped}");
    assert_eq!(stopped["accepted"], totals.connected.load(Ordering::Relaxed), "{stopped}");
    assert_eq!(stopped["closed"], stopped["accepted"], "{stopped}");
    assert_eq!(stopped["cut_short"], 0, "{stopped}");
    assert!(server.wait().success(), "it did not end well");
}
