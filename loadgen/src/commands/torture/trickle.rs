//! Peers that send without end and read a trickle, beside one that wants its echo.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::suite::of;
use super::{CaseError, Outcome, Target};
use crate::echo_client::{EchoClient, EchoError, pattern};
use crate::render::units;

/// Every peer sends as much as is taken and reads 64 KiB per 1.5 seconds. Nobody is cut off, every
/// byte is right, and a bystander has its echo all the while.
pub(super) fn trickle_readers(target: &Target) -> Outcome {
    let count = target.scaled(2_000, 80);
    let length = if target.options.quick { QUICK } else { FULL };
    let bytes = pattern(31, CYCLE);
    let mut peers = (0..count)
        .map(|number| Trickle::start(target, number, &bytes))
        .collect::<Result<Vec<_>, _>>()
        .map_err(of("a slow reader"))?;
    let trips = beside_a_bystander(target, || serve_turns(&mut peers, target, length))?;
    for peer in &mut peers {
        peer.expect_more().map_err(of("a slow reader at last"))?;
    }
    let read: u64 = peers.iter().map(|peer| peer.read).sum();
    peers.into_iter().try_for_each(|peer| peer.client.reset())?;
    target.still_serves()?;
    judge(count, read, trips)
}

/// One that sends ahead of what it reads, in turns.
struct Trickle<'a> {
    client: EchoClient,
    bytes: &'a [u8],
    sent: u64,
    read: u64,
    turn: Instant,
}

impl<'a> Trickle<'a> {
    /// The turns of all are spread evenly.
    fn start(target: &Target, number: usize, bytes: &'a [u8]) -> Result<Self, EchoError> {
        let client = target.server.begin_connect(Some(KERNEL_BUFFER))?.complete()?;
        let spread = TURN.mul_f64(number as f64 * 0.618 % 1.0);
        let turn = Instant::now() + spread;
        let mut peer = Self { client, bytes, sent: 0, read: 0, turn };
        peer.send_some()?;
        Ok(peer)
    }

    fn take_turn(&mut self) -> Result<(), EchoError> {
        self.turn += TURN;
        let mut left = PIECE;
        while left > 0 && self.read < self.sent {
            let expected = piece(self.bytes, self.read, left.min(self.sent - self.read));
            let len = self.client.expect_some(expected)?;
            if len == 0 {
                break;
            }
            self.read += len as u64;
            left -= len as u64;
        }
        self.send_some()
    }

    fn send_some(&mut self) -> Result<(), EchoError> {
        while self.sent - self.read < AHEAD {
            let taken = self.client.send_nonblocking(piece(self.bytes, self.sent, PIECE))?;
            if taken == 0 {
                break;
            }
            self.sent += taken as u64;
        }
        Ok(())
    }

    /// More of what it is owed comes.
    fn expect_more(&mut self) -> Result<(), EchoError> {
        let owed = piece(self.bytes, self.read, PIECE.min(self.sent - self.read));
        self.client.expect(owed)?;
        self.read += owed.len() as u64;
        Ok(())
    }
}

/// At most `most` bytes of the endless repetition of `bytes`, from byte `at` on.
fn piece(bytes: &[u8], at: u64, most: u64) -> &[u8] {
    let at = usize::try_from(at % bytes.len() as u64).expect("inside a slice");
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    &bytes[at..][..most.min(bytes.len() - at)]
}

fn serve_turns(
    peers: &mut [Trickle<'_>],
    target: &Target,
    length: Duration,
) -> Result<(), CaseError> {
    let end = target.server.deadline.min(Instant::now() + length);
    while Instant::now() < end {
        let now = Instant::now();
        for peer in peers.iter_mut().filter(|peer| peer.turn <= now) {
            peer.take_turn().map_err(of("a slow reader"))?;
        }
        target.server.pause(Duration::from_millis(1));
    }
    Ok(())
}

/// Runs `crowd` and returns how long the round trips of another connection took meanwhile.
fn beside_a_bystander(
    target: &Target,
    crowd: impl FnOnce() -> Result<(), CaseError>,
) -> Result<Vec<Duration>, CaseError> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watch = || round_trips_until(target, &over);
        let bystander = thread::Builder::new().spawn_scoped(scope, watch);
        let bystander = bystander.map_err(|error| EchoError::no_thread(&error))?;
        let crowd = crowd();
        over.store(true, Ordering::Relaxed);
        let panicked = |_| Err(EchoError::panicked());
        let trips = bystander.join().unwrap_or_else(panicked).map_err(of("the bystander"));
        crowd.and(trips)
    })
}

fn round_trips_until(target: &Target, over: &AtomicBool) -> Result<Vec<Duration>, EchoError> {
    let message = pattern(32, 1000);
    let mut client = target.server.connect()?;
    let mut trips = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let start = Instant::now();
        client.round_trip(&message)?;
        trips.push(start.elapsed());
        target.server.pause(Duration::from_millis(5));
    }
    Ok(trips)
}

fn judge(count: usize, read: u64, mut trips: Vec<Duration>) -> Outcome {
    trips.sort_unstable();
    let at = |permille: usize| {
        trips.get(trips.len() * permille / 1000).or_else(|| trips.last()).copied()
    };
    let (Some(p99), Some(worst)) = (at(990), at(1000)) else {
        return Err(CaseError::Failed("the bystander had no round trip at all".into()));
    };
    let text = |time: Duration| units::duration(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    let (p99_text, worst) = (text(p99), text(worst));
    if p99 > BOUND {
        let bound = text(BOUND);
        let message =
            format!("a bystander's round trips: p99 {p99_text}, more than {bound}; worst {worst}");
        return Err(CaseError::Failed(message));
    }
    let mib = read >> 20;
    Ok(format!("{count} slow readers got {mib} MiB; a bystander: p99 {p99_text}, worst {worst}"))
}

const TURN: Duration = Duration::from_millis(1500);
/// Bytes read in a turn.
const PIECE: u64 = 64 << 10;
/// Bytes sent and not read: more than the kernel holds between the server and a peer.
const AHEAD: u64 = 512 << 10;
const KERNEL_BUFFER: usize = 32 << 10;
const CYCLE: usize = (1 << 20) + 4093;
const QUICK: Duration = Duration::from_secs(4);
const FULL: Duration = Duration::from_secs(15);
/// A server that starves others makes them wait for a turn of its slow readers; a busy machine
/// alone does not take as long.
const BOUND: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_is_about_all_but_the_worst_hundredth() {
        let trips = |slow: usize| {
            let quick = std::iter::repeat_n(Duration::from_millis(1), 1000 - slow);
            quick.chain(std::iter::repeat_n(Duration::from_secs(3), slow)).collect::<Vec<_>>()
        };
        assert!(judge(1, 0, trips(9)).is_ok_and(|text| text.contains("worst 3")));
        let starved = judge(1, 0, trips(11)).expect_err("starved");
        assert!(starved.to_string().contains("p99"), "{starved}");
        assert!(judge(1, 0, Vec::new()).is_err());
    }

    #[test]
    fn the_stream_repeats_itself_without_a_gap() {
        let bytes: Vec<u8> = (0..10).collect();
        assert_eq!(piece(&bytes, 8, 5), [8, 9]);
        assert_eq!(piece(&bytes, 10, 5), [0, 1, 2, 3, 4]);
    }
}
