//! Which mode tells the waits, and what it knows beside them.

use super::neighbours::Neighbours;
use super::recorder::{Recorder, Series};
use super::sampled::Sampled;
use super::ticker::Pace;
use super::traced::Traced;
use crate::analyse::queue_waits::{QueueWaits, mean_wait_ns};
use crate::cli::watch::ModeChoice;
use crate::observe::QueuedDump;

/// All that was seen.
pub(super) struct Seen {
    pub(super) interval_ns: u64,
    pub(super) recorder: Recorder,
    pub(super) neighbours: Option<Neighbours>,
    pub(super) traced: Option<Traced>,
    /// Why the tracepoint is not read, where it was tried.
    pub(super) trace_refused: Option<String>,
    pub(super) sampled: Option<Sampled>,
    pub(super) pace: Pace,
}

/// How waits are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Trace,
    Fifo,
    Sampled,
    Depth,
}

impl Mode {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Fifo => "fifo",
            Self::Sampled => "sampled",
            Self::Depth => "depth",
        }
    }

    pub(super) fn resolution_ns(self, interval_ns: u64) -> u64 {
        match self {
            Self::Trace => interval_ns,
            Self::Fifo | Self::Depth => QueueWaits::resolution_ns(interval_ns),
            Self::Sampled => QueueWaits::resolution_ns(interval_ns) + QueuedDump::resolution_ns(),
        }
    }
}

/// The waits, and the numbers that go with them.
pub(super) struct Telling<'a> {
    pub(super) mode: Mode,
    /// Why it is not a better mode.
    pub(super) reason: Option<String>,
    pub(super) series: &'a Series,
    /// Whether connections that came and went between two samples are known to be of this address.
    pub(super) with_unseen: bool,
    pub(super) accepts: u64,
    pub(super) mean_ns: Option<u64>,
    /// Bounds of the mean, where that is all that is known.
    pub(super) mean_range_ns: Option<(u64, u64)>,
}

impl Seen {
    /// Why no better mode than depth is true, if it is not.
    pub(super) fn crowded(&self) -> Option<String> {
        let grouped = || {
            "several listeners share the address, and the kernel does not count their connections \
             apart"
                .to_owned()
        };
        let unseen = || {
            Some(
                "the queues are read from /proc, some times a second: the network namespace may \
                 not be entered, or sock_diag is denied. Drops are those of the whole namespace"
                    .to_owned(),
            )
        };
        let others = || self.neighbours.as_ref().map_or_else(unseen, Neighbours::busy);
        self.recorder.grouped.then(grouped).or_else(others)
    }

    /// Why the tracepoint does not tell, if it does not.
    pub(super) fn trace_refused(&self) -> Option<String> {
        let Some(traced) = &self.traced else { return self.trace_refused.clone() };
        let refused = || {
            let refused = traced.refused();
            (refused > 0).then(|| format!("{refused} connections could not be followed"))
        };
        traced.untrue().map(str::to_owned).or_else(refused)
    }

    fn mode(&self, wanted: ModeChoice) -> (Mode, Option<String>) {
        let trace = self.traced.is_some() && self.trace_refused().is_none();
        let crowded = self.crowded();
        match wanted {
            ModeChoice::Depth => (Mode::Depth, Some("--mode depth".into())),
            ModeChoice::Sampled => (Mode::Sampled, self.unsampled().or(crowded)),
            ModeChoice::Fifo if self.recorder.grouped => (Mode::Depth, crowded),
            ModeChoice::Fifo => (Mode::Fifo, None),
            ModeChoice::Trace | ModeChoice::Auto if trace => (Mode::Trace, None),
            ModeChoice::Trace | ModeChoice::Auto => match crowded {
                None => (Mode::Fifo, None),
                reason if self.unsampled().is_none() => (Mode::Sampled, reason),
                reason => (Mode::Depth, reason),
            },
        }
    }

    fn unsampled(&self) -> Option<String> {
        self.sampled.as_ref().map_or_else(|| Some("no dump was taken".into()), Sampled::untrue)
    }

    /// What is told now, if `wanted` was asked for.
    pub(super) fn telling(&self, wanted: ModeChoice) -> Telling<'_> {
        let recorder = &self.recorder;
        let (mode, reason) = self.mode(wanted);
        let sums = recorder.sums();
        let alone = self.neighbours.as_ref().is_some_and(|others| others.busy().is_none());
        let opened = recorder.arrived.max(sums.arrived);
        let known = match mode {
            Mode::Trace => Some(recorder.timed),
            Mode::Fifo => Some(opened),
            Mode::Sampled | Mode::Depth => alone.then_some(opened),
        };
        let with_unseen = mode == Mode::Depth && alone;
        let mean = |arrivals| mean_wait_ns(sums.depth_time, arrivals);
        let range = || mean(opened).zip(mean(sums.arrived));
        let accepts = match mode {
            Mode::Trace => recorder.trace.count(),
            Mode::Fifo => recorder.fifo_accepts(),
            Mode::Sampled | Mode::Depth => {
                sums.left + known.map_or(0, |arrived| arrived.saturating_sub(sums.arrived))
            }
        };
        Telling {
            mode,
            reason,
            series: match mode {
                Mode::Trace => &recorder.trace,
                Mode::Fifo => &recorder.fifo,
                Mode::Sampled => &recorder.dumps,
                Mode::Depth => &recorder.depth,
            },
            with_unseen,
            accepts,
            mean_ns: known.and_then(mean),
            mean_range_ns: if known.is_none() { range() } else { None },
        }
    }
}
