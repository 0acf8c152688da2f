//! Many connections at once.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use uring_echo::sys::descriptors;

use super::suite::{of, on_threads};
use super::{CaseError, Outcome, Target};
use crate::echo_client::{EchoClient, EchoError, EchoServer, PendingConnect, pattern};
use crate::render::units;

/// Connections that send and do not read, beside others that do: those keep their round trips, and
/// what the first are owed is there when they read at last.
pub(super) fn slow_beside_normal(target: &Target) -> Outcome {
    let count = target.scaled(200, 40);
    let bytes = pattern(21, SLOW_BYTES + count);
    let mut slow = (0..count).map(|i| Slow::start(target, &bytes[i..][..SLOW_BYTES]));
    let mut slow = slow.by_ref().collect::<Result<Vec<_>, _>>()?;
    stuff(&mut slow, target)?;
    let worst = normal_round_trips(target, count).map_err(of("a normal connection"))?;
    let owed: usize = slow.iter().map(|slow| slow.sent).sum();
    finish(&mut slow).map_err(of("a slow reader at last"))?;
    Ok(format!(
        "{count} normal connections: worst round trip {}; then {count} slow readers got {} MiB",
        units::duration(u64::try_from(worst.as_nanos()).unwrap_or(u64::MAX)),
        owed >> 20
    ))
}

/// All connections begun before any is waited for, as many at once as descriptors allow.
pub(super) fn burst(target: &Target) -> Outcome {
    let total = target.scaled(20_000, 2_000);
    let wave = total.min(descriptors_left()?);
    let message = pattern(22, 64);
    let mut left = total;
    while left > 0 {
        let now = wave.min(left);
        echo_all(target, now, &message).map_err(of(&format!("of {now} begun at once, one")))?;
        left -= now;
    }
    target.still_serves()?;
    let all = units::count(total as u64);
    Ok(if wave == total {
        format!("{all} connections at once, each echoed")
    } else {
        format!("{all} connections, {} at once, each echoed", units::count(wave as u64))
    })
}

/// A connection that sends as long as it is taken and does not read.
struct Slow<'a> {
    peer: EchoClient,
    bytes: &'a [u8],
    sent: usize,
}

impl<'a> Slow<'a> {
    fn start(target: &Target, bytes: &'a [u8]) -> Result<Self, CaseError> {
        Ok(Self {
            peer: target.server.begin_connect(Some(SMALL_BUFFER))?.complete()?,
            bytes,
            sent: 0,
        })
    }

    fn send_some(&mut self) -> Result<usize, CaseError> {
        let until = self.bytes.len().min(self.sent + PIECE);
        let taken = self.peer.send_nonblocking(&self.bytes[self.sent..until])?;
        self.sent += taken;
        Ok(taken)
    }

    fn finish(&mut self) -> Result<(), EchoError> {
        self.peer.enlarge_receive_buffer()?;
        self.peer.half_close()?;
        self.peer.expect(&self.bytes[..self.sent])?;
        self.peer.expect_end()
    }
}

/// Sends on all until none takes any more for a while.
fn stuff(slow: &mut [Slow<'_>], target: &Target) -> Result<(), CaseError> {
    let mut quiet_since = Instant::now();
    while quiet_since.elapsed() < QUIET && Instant::now() < target.server.deadline {
        let mut taken = 0;
        for slow in &mut *slow {
            taken += slow.send_some()?;
        }
        if taken > 0 {
            quiet_since = Instant::now();
        } else {
            target.server.pause(Duration::from_millis(5));
        }
    }
    Ok(())
}

/// Lets all read what they are owed. One after the other they would wait for each other's turns of
/// the CPU: each reads through a window of a few kilobytes, so that on a busy machine (six busy
/// threads on two CPUs) 200 took 7 s, and with more of them a minute.
fn finish(slow: &mut [Slow<'_>]) -> Result<(), CaseError> {
    let shares = slow.chunks_mut(slow.len().div_ceil(THREADS).max(1)).map(Mutex::new);
    let shares: Vec<_> = shares.collect();
    on_threads(shares.len(), |i| {
        let mut share = shares[i].lock().expect("a thread has its own");
        Ok(share.iter_mut().try_for_each(Slow::finish)?)
    })?;
    Ok(())
}

/// `count` connections of some round trips each; returns the longest.
fn normal_round_trips(target: &Target, count: usize) -> Result<Duration, CaseError> {
    let deadline = target.server.deadline.min(Instant::now() + NORMAL_LIMIT);
    let patient = Target { server: EchoServer { deadline, ..target.server }, ..*target };
    let worsts = on_threads(THREADS, |i| {
        let share = (0..count).skip(i).step_by(THREADS);
        share.map(|_| one_normal(&patient)).try_fold(Duration::ZERO, |a, b| Ok(a.max(b?)))
    })?;
    Ok(worsts.into_iter().max().unwrap_or_default())
}

fn one_normal(target: &Target) -> Result<Duration, CaseError> {
    let message = pattern(23, 1000);
    let mut peer = target.server.connect()?;
    let mut worst = Duration::ZERO;
    for _ in 0..ROUND_TRIPS {
        let start = Instant::now();
        peer.round_trip(&message)?;
        worst = worst.max(start.elapsed());
    }
    Ok(worst)
}

fn echo_all(target: &Target, count: usize, message: &[u8]) -> Result<(), EchoError> {
    let begun =
        (0..count).map(|_| target.server.begin_connect(None)).collect::<Result<Vec<_>, _>>()?;
    let peers = begun.into_iter().map(PendingConnect::complete);
    let mut peers = peers.collect::<Result<Vec<EchoClient>, _>>()?;
    peers.iter_mut().try_for_each(|peer| peer.send(message))?;
    peers.iter_mut().try_for_each(|peer| peer.expect(message))?;
    // A reset frees the ports at once.
    peers.into_iter().try_for_each(EchoClient::reset)
}

/// How many connections this process can hold besides what it has open.
fn descriptors_left() -> Result<usize, CaseError> {
    let limit = descriptors::limit().enforced() as usize;
    match limit.saturating_sub(RESERVE) {
        0 => Err(CaseError::Skipped(format!(
            "this process may have only {limit} descriptors: raise that with ulimit -n"
        ))),
        left => Ok(left),
    }
}

/// Most that a slow reader sends: more than the kernel's buffers hold for it.
const SLOW_BYTES: usize = 8 << 20;
const PIECE: usize = 64 << 10;
/// So little that the echo stays with the server.
const SMALL_BUFFER: usize = 4 << 10;
/// Slow readers are stuffed once nothing was taken for this long.
const QUIET: Duration = Duration::from_millis(300);
/// How long a normal connection may take beside slow ones.
const NORMAL_LIMIT: Duration = Duration::from_secs(20);
const ROUND_TRIPS: usize = 20;
const THREADS: usize = 8;
/// Descriptors for everything else: the server may have the same limit and needs some too.
const RESERVE: usize = 300;
