//! The server's process is held (SIGSTOP) and let go (SIGCONT), signal(7).

use std::time::Duration;

use super::held::Held;
use super::{CaseError, Outcome, Target};
use crate::echo_client::{EchoClient, PendingConnect, pattern};

/// Connects and sends while the server is held; everything is echoed once it goes on.
pub(super) fn stop_continue(target: &Target) -> Outcome {
    let Some(pid) = target.options.pid else {
        return Err(CaseError::Skipped(
            "only with --pid: it stops that process for a second".into(),
        ));
    };
    let message = pattern(41, 10_000);
    let mut old = target.server.connect()?;
    old.round_trip(&message)?;
    let held = Held::hold(pid).map_err(|error| CaseError::Skipped(error.to_string()))?;
    old.send(&message)?;
    let begun =
        (0..WAITING).map(|_| target.server.begin_connect(None)).collect::<Result<Vec<_>, _>>()?;
    let new = begun.into_iter().map(PendingConnect::complete);
    let mut new = new.collect::<Result<Vec<EchoClient>, _>>()?;
    new.iter_mut().try_for_each(|peer| peer.send(&message))?;
    target.server.pause(Duration::from_secs(1));
    drop(held);
    old.expect(&message)?;
    new.iter_mut().try_for_each(|peer| peer.expect(&message))?;
    target.still_serves()?;
    Ok(format!("held for 1 s: 1 old and {WAITING} new connections echoed after it"))
}

const WAITING: usize = 50;
