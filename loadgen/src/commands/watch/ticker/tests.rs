use std::net::{TcpListener, TcpStream};

use super::*;
use crate::observe::{Inode, Listener};

const MS: u64 = 1_000_000;

/// A kernel whose listeners, counter and clock are set by the test.
#[derive(Default)]
struct Fake {
    now_ns: u64,
    there: Vec<Listener>,
    known: Vec<Listener>,
    opened: u64,
    fails: Option<rustix::io::Errno>,
}

impl Kernel for Fake {
    fn now_ns(&self) -> u64 {
        self.now_ns
    }

    fn listeners(&self) -> impl Iterator<Item = &Listener> {
        self.known.iter()
    }

    fn sample(&mut self) -> io::Result<Looks> {
        if let Some(errno) = self.fails.take() {
            return Err(errno.into());
        }
        if !self.unchanged()? {
            return Ok(Looks::Changed);
        }
        self.known.clone_from(&self.there);
        Ok(Looks::Whole)
    }

    fn unchanged(&mut self) -> io::Result<bool> {
        let inodes = |all: &[Listener]| all.iter().map(|one| one.inode.0).collect::<Vec<_>>();
        Ok(inodes(&self.there) == inodes(&self.known))
    }

    fn find(&mut self) -> io::Result<()> {
        self.known.clone_from(&self.there);
        if self.there.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(()) }
    }

    fn opened(&mut self) -> io::Result<u64> {
        Ok(self.opened)
    }
}

fn listener(inode: u32) -> Listener {
    let addr = SocketAddr::from(([127, 0, 0, 1], 80));
    let inode = Inode(inode);
    let (uid, interface, only_v6, depth, limit, drops) = (0, 0, false, 0, 128, 0);
    Listener { addr, inode, uid, interface, only_v6, depth, limit, drops }
}

/// Watches listener 1 every 2 ms.
fn ticker(first: Listener, opened: u64) -> Ticker<Fake> {
    let fake = Fake { there: vec![first], known: vec![first], opened, ..Fake::default() };
    Ticker::open(fake, first.addr, 2 * MS, ModeChoice::Fifo).unwrap()
}

impl Ticker<Fake> {
    /// A sample after `ms`, before which `arrived` came and `depth` stayed.
    fn after(&mut self, ms: u64, arrived: u64, depth: u32) {
        self.kernel.now_ns += ms * MS;
        self.kernel.opened = self.kernel.opened.wrapping_add(arrived);
        self.kernel.there.iter_mut().for_each(|one| one.depth = depth);
        self.tick(self.kernel.now_ns).unwrap();
    }
}

#[test]
fn counters_that_wrap_around_go_on() {
    let mut ticker = ticker(Listener { drops: u32::MAX - 1, ..listener(1) }, 0xffff_fffe);
    ticker.after(2, 0, 1);
    ticker.kernel.there[0].drops = 3;
    ticker.kernel.opened = 5;
    ticker.after(2, 0, 8);
    assert_eq!((ticker.seen.recorder.arrived, ticker.seen.recorder.sums().drops), (7, 5));
    assert_eq!((opened_since(5, 9), opened_since(u64::from(u32::MAX), 0)), (4, 1));
}

#[test]
fn a_listener_that_restarts_is_watched_on_and_its_queue_forgotten() {
    let mut ticker = ticker(listener(1), 0);
    ticker.after(2, 5, 5);
    ticker.kernel.there.clear();
    ticker.after(2, 0, 0);
    assert_eq!(ticker.presence, Presence::AbsentSince(4 * MS));
    ticker.after(20, 0, 0);
    ticker.kernel.there = vec![Listener { drops: 9, ..listener(2) }];
    ticker.after(20, 7, 0);
    assert_eq!(ticker.presence, Presence::There);
    let pace = ticker.seen.pace;
    assert_eq!((pace.restarts, pace.absent_ns), (1, 40 * MS));
    ticker.after(2, 1, 1);
    ticker.after(50, 0, 0);
    let recorder = &ticker.seen.recorder;
    assert_eq!((recorder.fifo.count(), recorder.sums().drops), (0, 0), "it was there before");
    assert_eq!(recorder.members[0].now.inode, Inode(2));
}

#[test]
fn what_happened_while_the_machine_was_suspended_is_in_no_number() {
    let mut ticker = ticker(listener(1), 0);
    ticker.after(2, 0, 0);
    ticker.after(2, 3, 3);
    ticker.after(3_600_000, 1_000, 2);
    ticker.after(2, 0, 0);
    let recorder = &ticker.seen.recorder;
    assert_eq!((ticker.seen.pace.pauses, recorder.arrived), (1, 3));
    assert!(recorder.sums().depth_time < 1e9, "{}", recorder.sums().depth_time);
    ticker.after(2, 4, 4);
    ticker.after(100, 0, 0);
    assert_eq!(ticker.seen.recorder.fifo.count(), 4);
}

#[test]
fn a_kernel_that_is_short_of_memory_is_asked_again() {
    let mut ticker = ticker(listener(1), 0);
    ticker.after(2, 0, 0);
    ticker.kernel.fails = Some(rustix::io::Errno::NOBUFS);
    ticker.after(2, 1, 1);
    ticker.after(2, 0, 1);
    assert_eq!(ticker.seen.recorder.arrived, 1);
    ticker.kernel.fails = Some(rustix::io::Errno::ACCESS);
    assert!(ticker.tick(ticker.kernel.now_ns).is_err());
}

#[test]
fn late_samples_are_counted() {
    let mut ticker = ticker(listener(1), 0);
    ticker.after(2, 0, 0);
    ticker.kernel.now_ns += 9 * MS;
    ticker.tick(ticker.kernel.now_ns - 5 * MS).unwrap();
    assert_eq!((ticker.seen.pace.ticks, ticker.seen.pace.late), (2, 1));
}

/// On real sockets; connections come and go meanwhile.
#[test]
fn a_sample_allocates_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap();
    let live = Live::open(server).unwrap();
    let mut ticker = Ticker::open(live, server, 2 * MS, ModeChoice::Auto).unwrap();
    ticker.seen.neighbours = Some(Neighbours::open(server).unwrap());
    ticker.seen.sampled = Some(Sampled::open(server, BUDGET).unwrap());
    ticker.open_trace().unwrap();
    ticker.tick(monotonic_ns()).unwrap();
    for _ in 0..50 {
        let _waiting = [TcpStream::connect(server).unwrap(), TcpStream::connect(server).unwrap()];
        let sampled = |ticker: &mut Ticker<Live>| {
            let used = allocation_counter::measure(|| ticker.tick(monotonic_ns()).unwrap());
            assert_eq!(used.count_total, 0);
        };
        sampled(&mut ticker);
        drop(listener.accept().unwrap());
        sampled(&mut ticker);
        drop(listener.accept().unwrap());
        sampled(&mut ticker);
    }
    assert!(ticker.seen.recorder.fifo.count() >= 100, "of other tests too");
}

#[test]
fn a_watch_ends_when_its_namespace_is_gone() {
    let mut ticker = ticker(listener(1), 0);
    ticker.network = Some(Network::named(std::path::Path::new("/proc/self/ns/net")));
    ticker.kernel.there.clear();
    ticker.after(2, 0, 0);
    ticker.still_somewhere().unwrap();
    let mut child = std::process::Command::new("sleep").arg("9").spawn().unwrap();
    let path = format!("/proc/{}/ns/net", child.id());
    ticker.network = Some(Network::named(path.as_ref()));
    ticker.still_somewhere().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let error = ticker.still_somewhere().unwrap_err().to_string();
    assert!(error.contains(&path) && error.contains("nobody listens"), "{error}");
}
