//! Clients that go away at every moment. A bystander connected before keeps its echo, and the
//! server serves on.

use super::suite::of;
use super::{Outcome, Target};
use crate::echo_client::{EchoClient, EchoError, pattern};

/// Before anything is sent.
pub(super) fn after_connect(target: &Target) -> Outcome {
    repeatedly(target, target.scaled(1000, 100), EchoClient::reset)
}

/// Right behind a message whose echo nobody reads.
pub(super) fn after_send(target: &Target) -> Outcome {
    let message = pattern(31, 4000);
    repeatedly(target, target.scaled(1000, 100), |mut peer| {
        peer.send(&message)?;
        peer.reset()
    })
}

/// While both directions are as full as they get.
pub(super) fn mid_stream(target: &Target) -> Outcome {
    let bytes = pattern(32, 1 << 20);
    repeatedly(target, target.scaled(100, 10), |mut peer| {
        while peer.send_nonblocking(&bytes)? > 0 {}
        peer.expect(&bytes[..1000])?;
        peer.reset()
    })
}

/// After the end of the stream, with the echo still owed.
pub(super) fn half_closed(target: &Target) -> Outcome {
    let bytes = pattern(33, 1 << 20);
    repeatedly(target, target.scaled(200, 20), |mut peer| {
        while peer.send_nonblocking(&bytes)? > 0 {}
        peer.half_close()?;
        peer.reset()
    })
}

/// With nothing owed.
pub(super) fn after_echo(target: &Target) -> Outcome {
    let message = pattern(34, 4000);
    repeatedly(target, target.scaled(1000, 100), |mut peer| {
        peer.round_trip(&message)?;
        peer.reset()
    })
}

/// Connects and closes in order, without a word.
pub(super) fn vanish(target: &Target) -> Outcome {
    repeatedly(target, target.scaled(2000, 200), |peer| {
        drop(peer);
        Ok(())
    })
}

fn repeatedly(
    target: &Target,
    times: usize,
    go_away: impl Fn(EchoClient) -> Result<(), EchoError>,
) -> Outcome {
    let mut bystander = target.server.connect()?;
    let message = pattern(35, 1000);
    bystander.round_trip(&message)?;
    for _ in 0..times {
        go_away(target.server.connect()?)?;
    }
    bystander.round_trip(&message).map_err(of("a bystander"))?;
    target.still_serves()?;
    Ok(format!("{times} times; a bystander and a new connection are served"))
}
