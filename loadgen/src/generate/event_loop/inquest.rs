//! Why a connection took long or was never accepted, asked of the kernel before its socket closes.

use std::net::SocketAddr;

use crate::generate::attempt_recorder::{AttemptRecorder, Timeline};
use crate::model::evidence::Unaccepted;
use crate::model::outcome::Outcome;
use crate::observe::{DiagSocket, SocketSample};

/// Asks about single connections, each after a wait of a second or more: some microseconds do not
/// matter then.
#[derive(Debug)]
pub(super) struct Inquest {
    /// `None` before the first question, and where the kernel or a sandbox denies sock_diag.
    diag: Option<DiagSocket>,
    denied: bool,
    /// Whether a stamp tells of accepts: without one, an accepted connection is not known to be.
    by_stamp: bool,
}

impl Inquest {
    pub(super) fn new(by_stamp: bool) -> Self {
        Self { diag: None, denied: false, by_stamp }
    }

    /// Whether the connection lived long enough for a retransmission to matter.
    pub(super) fn is_due(&self, times: &Timeline, now_ns: u64) -> bool {
        now_ns.saturating_sub(times.called_ns()) >= FIRST_RETRANSMISSION_NS
    }

    /// Records whether a segment was sent again, by the client or, where the server's end is
    /// visible, only by the server.
    pub(super) fn retransmissions(
        &mut self,
        times: &Timeline,
        client: SocketAddr,
        server: SocketAddr,
        recorder: &mut AttemptRecorder,
    ) {
        let Some(diag) = self.open() else { return };
        // An end that cannot be read has no evidence: then nothing is claimed.
        let mut again = |of, to| matches!(diag.retransmissions(of, to), Ok(Some(1..)));
        let by_client = again(client, server);
        if by_client || again(server, client) {
            recorder.retransmitted(times, by_client);
        }
    }

    /// Records where a connection is that is given up as never accepted. The outcome is another one
    /// if it was accepted and only the stamp is missing.
    pub(super) fn unaccepted(
        &mut self,
        times: &Timeline,
        client: SocketAddr,
        server: SocketAddr,
        recorder: &mut AttemptRecorder,
    ) -> Outcome {
        let sample = self.open().and_then(|diag| diag.sample(server, client).ok());
        let one = |shown: fn(&mut Unaccepted) -> &mut u64| {
            let mut unaccepted = Unaccepted::default();
            *shown(&mut unaccepted) = 1;
            unaccepted
        };
        let shown = match sample {
            Some(SocketSample::Accepted { .. } | SocketSample::Ended) if self.by_stamp => {
                return Outcome::StampInvalid;
            }
            // It is accepted this moment, too late.
            Some(SocketSample::Accepted { .. } | SocketSample::Ended | SocketSample::Queued) => {
                one(|it| &mut it.queued)
            }
            Some(SocketSample::Handshake) => one(|it| &mut it.handshake),
            Some(SocketSample::Absent { listener: true }) => one(|it| &mut it.lost),
            Some(SocketSample::Absent { listener: false }) => one(|it| &mut it.elsewhere),
            None => return Outcome::NeverAccepted,
        };
        recorder.unaccepted(times, shown);
        Outcome::NeverAccepted
    }

    fn open(&mut self) -> Option<&mut DiagSocket> {
        if self.diag.is_none() && !self.denied {
            self.diag = DiagSocket::open().ok();
            self.denied = self.diag.is_none();
        }
        self.diag.as_mut()
    }
}

/// A SYN is repeated after one second at the earliest (TCP_TIMEOUT_INIT).
const FIRST_RETRANSMISSION_NS: u64 = 950_000_000;
