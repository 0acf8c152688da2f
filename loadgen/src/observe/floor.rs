//! Measures what the instrument itself costs here: its clock, a connect that is accepted at once, a
//! look at the socket table, a timer.

use std::hint::spin_loop;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use rustix::thread::{ClockId, clock_nanosleep_absolute};
use rustix::time::Timespec;
use socket2::SockRef;
use uring_echo::clock::monotonic_ns;

use super::DiagSocket;
use crate::model::floor::{Cost, Floor, Machine};

const CLOCK_BATCHES: usize = 1000;
/// One read is too short for the clock that is read.
const READS_PER_BATCH: u64 = 100;
const CONNECTIONS: usize = 2000;
const LOOKS: usize = 5000;
const SLEEPS: usize = 300;
const SLEEP_NS: u64 = 1_000_000;

/// Measures everything, in less than a second on an idle machine.
///
/// # Errors
/// Where a socket or thread is refused. A socket table that cannot be read is not an error.
pub fn measure(machine: Machine, measured_at: String) -> io::Result<Floor> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (connect, accept_delay) = connections(&listener)?;
    let looks = looks(&listener);
    let (lookup, diag_resolution) = looks.map_or((None, None), |(a, b)| (Some(a), Some(b)));
    Ok(Floor {
        machine,
        measured_at,
        clock_read: clock(),
        connect,
        accept_delay,
        lookup,
        diag_resolution,
        timer_wakeup: timer()?,
    })
}

fn clock() -> Cost {
    let batch = |_| {
        let begin = monotonic_ns();
        let end = (0..READS_PER_BATCH).fold(begin, |_, _| monotonic_ns());
        end.saturating_sub(begin) / READS_PER_BATCH
    };
    Cost::of((0..CLOCK_BATCHES).map(batch).collect())
}

/// Accepts until told to stop, and passes on when, with the connection.
fn accept(listener: &TcpListener, stop: &AtomicBool, accepted: &Sender<(u64, TcpStream)>) {
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => {
                // The receiver ends only after this thread.
                accepted.send((monotonic_ns(), stream)).expect("a receiver");
            }
            Err(_) => spin_loop(),
        }
    }
}

/// connect called → established, and → accepted. The accepting thread never sleeps: a wake-up is a
/// server's choice and no floor.
fn connections(listener: &TcpListener) -> io::Result<(Cost, Cost)> {
    let addr = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    let (sender, receiver) = channel();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| accept(listener, &stop, &sender));
        let measured = (0..CONNECTIONS).map(|_| connection(addr, &receiver));
        let measured = measured.collect::<io::Result<Vec<(u64, u64)>>>();
        stop.store(true, Ordering::Relaxed);
        let (connects, delays) = measured?.into_iter().unzip();
        Ok((Cost::of(connects), Cost::of(delays)))
    })
}

fn connection(addr: SocketAddr, accepted: &Receiver<(u64, TcpStream)>) -> io::Result<(u64, u64)> {
    let called = monotonic_ns();
    let stream = TcpStream::connect(addr)?;
    let established = monotonic_ns();
    let (accepted, peer) = accepted
        .recv_timeout(ACCEPT_TIMEOUT)
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "nobody accepted"))?;
    // Reset instead of TIME_WAIT: thousands of ports are free again at once.
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    drop((stream, peer));
    Ok((established.saturating_sub(called), accepted.saturating_sub(called)))
}

const ACCEPT_TIMEOUT: Duration = Duration::from_secs(5);

/// The cost of a look at a waiting connection, and the distance of two; `None` where the socket
/// table cannot be read.
fn looks(listener: &TcpListener) -> Option<(Cost, Cost)> {
    let stream = TcpStream::connect(listener.local_addr().ok()?).ok()?;
    let (server, client) = (stream.peer_addr().ok()?, stream.local_addr().ok()?);
    let mut table = DiagSocket::open().ok()?;
    let (mut costs, mut distances, mut last) = (Vec::new(), Vec::new(), None);
    for _ in 0..LOOKS {
        let begin = monotonic_ns();
        table.sample(server, client).ok().filter(|sample| sample.is_visible())?;
        costs.push(monotonic_ns().saturating_sub(begin));
        let sampled = table.sampled_ns();
        distances.extend(last.map(|last| sampled.saturating_sub(last)));
        last = Some(sampled);
    }
    Some((Cost::of(costs), Cost::of(distances)))
}

fn timer() -> io::Result<Cost> {
    let lateness = |_| {
        let due = monotonic_ns() + SLEEP_NS;
        let part = |ns: u64| i64::try_from(ns).unwrap_or(i64::MAX);
        let due_at =
            Timespec { tv_sec: part(due / 1_000_000_000), tv_nsec: part(due % 1_000_000_000) };
        clock_nanosleep_absolute(ClockId::Monotonic, &due_at)?;
        Ok(monotonic_ns().saturating_sub(due))
    };
    Ok(Cost::of((0..SLEEPS).map(lateness).collect::<io::Result<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_measured_and_an_accept_is_no_faster_than_a_look_at_the_clock() {
        let floor = measure(Machine::default(), String::new()).unwrap();
        assert_eq!(floor.connect.count, CONNECTIONS as u64);
        assert_eq!(floor.timer_wakeup.count, SLEEPS as u64);
        assert_eq!(floor.lookup.unwrap().count, LOOKS as u64);
        assert_eq!(floor.diag_resolution.unwrap().count, LOOKS as u64 - 1);
        assert!(floor.accept_delay.min_ns > floor.clock_read.min_ns, "{floor:?}");
    }
}
