//! One connection, and the ways to send on it.

use std::thread;
use std::time::Duration;

use super::{Outcome, Target};
use crate::echo_client::{EchoClient, EchoError, pattern};

/// Sends `len` bytes with the end of the stream right behind them; reads meanwhile.
pub(super) fn half_close(target: &Target, len: usize) -> Outcome {
    let rounds = if len > 1 << 20 { target.scaled(3, 1) } else { target.scaled(50, 5) };
    let bytes = pattern(len as u64, len);
    for _ in 0..rounds {
        let mut peer = target.server.connect()?;
        send_beside(&mut peer, Sender::at_once(&bytes), Duration::ZERO, target)?;
    }
    Ok(format!("{rounds} × {len} bytes came back, then the end"))
}

/// 16 MiB to a reader that does not read at first.
pub(super) fn slow_reader(target: &Target) -> Outcome {
    let stop = if target.options.quick { Duration::from_millis(500) } else { STOP };
    let bytes = pattern(11, 16 << 20);
    let mut peer = target.server.connect()?;
    send_beside(&mut peer, Sender::at_once(&bytes), stop, target)?;
    Ok(format!("16 MiB came back after {stop:?} without reading"))
}

/// Every byte a write and, without Nagle's delay, a segment: awaited first, then not.
pub(super) fn one_byte_at_a_time(target: &Target) -> Outcome {
    let awaited = pattern(12, target.scaled(1000, 200));
    let mut peer = target.server.connect()?;
    awaited.chunks(1).try_for_each(|byte| peer.round_trip(byte))?;
    let streamed = pattern(13, target.scaled(20_000, 2_000));
    let sender = Sender { bytes: &streamed, pieces: |_| 1 };
    send_beside(&mut peer, sender, Duration::ZERO, target)?;
    Ok(format!("{} bytes awaited one by one, {} in a stream", awaited.len(), streamed.len()))
}

/// 1,000 messages of 1 to 64 bytes in as many writes, on several connections.
pub(super) fn pipelined(target: &Target) -> Outcome {
    let connections = target.scaled(50, 5);
    let bytes = pattern(14, (1..=MESSAGES).map(message_len).sum());
    for _ in 0..connections {
        let sender = Sender { bytes: &bytes, pieces: message_len };
        send_beside(&mut target.server.connect()?, sender, Duration::ZERO, target)?;
    }
    Ok(format!("{MESSAGES} messages on each of {connections} connections, in order"))
}

/// What is sent and in what pieces: the length of each by its number, from 1.
#[derive(Clone, Copy)]
struct Sender<'a> {
    bytes: &'a [u8],
    pieces: fn(usize) -> usize,
}

impl<'a> Sender<'a> {
    const fn at_once(bytes: &'a [u8]) -> Self {
        Self { bytes, pieces: |_| usize::MAX }
    }

    fn send(self, peer: &mut EchoClient) -> Result<(), EchoError> {
        let mut rest = self.bytes;
        for number in 1.. {
            let (piece, behind) = rest.split_at((self.pieces)(number).min(rest.len()));
            peer.send(piece)?;
            rest = behind;
            if rest.is_empty() {
                break;
            }
        }
        peer.half_close()
    }
}

/// Sends from a thread of its own, waits for `stop`, and reads everything back and the end.
fn send_beside(
    peer: &mut EchoClient,
    sender: Sender<'_>,
    stop: Duration,
    target: &Target,
) -> Result<(), EchoError> {
    let mut sending = peer.try_clone()?;
    thread::scope(|scope| {
        let send = move || sender.send(&mut sending);
        let sent = thread::Builder::new().spawn_scoped(scope, send);
        let sent = sent.map_err(|error| EchoError::no_thread(&error))?;
        target.server.pause(stop);
        let read = peer.expect(sender.bytes).and_then(|()| peer.expect_end());
        if read.is_err() {
            // Nobody reads any more, so the sender might wait for ever.
            peer.shutdown_both();
        }
        let sent = sent.join().unwrap_or_else(|_| Err(EchoError::panicked()));
        // What was read says more than that nobody took the rest.
        read.and(sent)
    })
}

const fn message_len(number: usize) -> usize {
    number * 37 % 64 + 1
}

const MESSAGES: usize = 1000;
const STOP: Duration = Duration::from_secs(3);
