//! The server's process is held (SIGSTOP) and let go (SIGCONT), signal(7).

use std::time::Duration;

use super::{CaseError, Outcome, Target};
use crate::echo_client::{EchoClient, PendingConnect, pattern};
use crate::sys::processes::ServerProcess;

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
    let held = Held::hold(pid)?;
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

/// A process that goes on when this value is gone, however the case ends.
struct Held(ServerProcess);

impl Held {
    fn hold(pid: u32) -> Result<Self, CaseError> {
        let process = ServerProcess { pid };
        process
            .suspend()
            .map_err(|error| CaseError::Skipped(format!("stopping process {pid}: {error}")))?;
        Ok(Self(process))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Err(error) = self.0.resume() {
            eprintln!("torture: the server's process does not go on: {error}");
        }
    }
}

const WAITING: usize = 50;
