//! From steps to rows: which lane a step stands in, where its arrow points, what it says.

use crate::model::trace::{Event, Side, Step, Trace};
use crate::render::units;

/// A vertical line of the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lane {
    Client,
    Kernel,
    Server,
}

impl Lane {
    pub(super) const ALL: [Self; 3] = [Self::Client, Self::Kernel, Self::Server];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Kernel => "kernel, server's end",
            Self::Server => "server",
        }
    }
}

impl From<Side> for Lane {
    fn from(side: Side) -> Self {
        match side {
            Side::Client => Self::Client,
            Side::Kernel => Self::Kernel,
            Side::Server => Self::Server,
        }
    }
}

/// One row of the picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Row {
    /// Something happens.
    Step {
        /// When, from the call of connect.
        time: String,
        /// Where.
        lane: Lane,
        /// The lane to which something goes.
        to: Option<Lane>,
        /// What.
        text: String,
    },
    /// Nothing happens for a while.
    Wait {
        /// How long, and in which queue meanwhile.
        text: String,
    },
}

/// Waits from here on have a row of their own.
const LONG_NS: u64 = 1_000_000;

/// The rows of a trace, ascending.
pub(super) fn rows(trace: &Trace) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut before: Option<&Step> = None;
    let mut queued = false;
    for step in &trace.steps {
        let waited = before.map_or(0, |before| step.at_ns.abs_diff(before.at_ns));
        if waited >= LONG_NS && step.at_ns > 0 {
            rows.push(wait(waited, queued, step.event));
        }
        queued = match step.event {
            Event::AcceptQueue => true,
            Event::Accepted => false,
            _ => queued,
        };
        rows.push(row(step, trace));
        before = Some(step);
    }
    rows
}

/// What ends a wait says what was waited for.
fn wait(ns: u64, queued: bool, end: Event) -> Row {
    let why = match end {
        Event::SynRetransmitted => ": no answer",
        _ if queued => " in the queue",
        _ => "",
    };
    Row::Wait { text: format!("{}{why}", units::duration(ns)) }
}

fn row(step: &Step, trace: &Trace) -> Row {
    let lane = Lane::from(step.side);
    let (lane, to, text) = match step.event {
        Event::Socket => (lane, None, "socket()".into()),
        Event::Bind => (lane, None, "bind()".into()),
        Event::Listen => (lane, None, listen(trace)),
        Event::Queued => (lane, None, format!("{} wait already", counted(step))),
        Event::AcceptCalled => (lane, None, "accept() waits".into()),
        Event::HoldBegan => (lane, None, format!("busy for {}", units::duration(trace.hold_ns))),
        Event::ConnectCalled => (lane, Some(Lane::Kernel), "connect(): SYN".into()),
        Event::SynQueue => (lane, None, "in the SYN queue".into()),
        Event::SynRetransmitted => (lane, Some(Lane::Kernel), "SYN again".into()),
        Event::AcceptQueue => (lane, None, accept_queue(step, trace)),
        Event::Established => (Lane::Kernel, Some(lane), "connect() returns".into()),
        Event::Accepted => (Lane::Kernel, Some(lane), accepted(step).into()),
        Event::Sent => (lane, Some(Lane::Server), format!("send {} bytes", counted(step))),
        Event::Received => (lane, None, format!("read {} bytes", counted(step))),
        Event::EchoSent => (lane, Some(Lane::Client), format!("send {} bytes", counted(step))),
        Event::FirstByte => (lane, None, "first byte".into()),
        Event::Echoed => (lane, None, format!("echo of {} bytes", counted(step))),
        Event::Answered => (lane, None, answered(step)),
        Event::Closed => (lane, None, "close()".into()),
    };
    let took = step.took_ns.map(|ns| format!(" {}", units::duration(ns))).unwrap_or_default();
    Row::Step { time: time(step.at_ns), lane, to, text: text + &took }
}

/// A look from outside comes after what it shows.
fn accepted(step: &Step) -> &'static str {
    if step.seen_within_ns.is_some() { "accept() by now" } else { "accept() returns" }
}

fn listen(trace: &Trace) -> String {
    trace.backlog.map_or_else(|| "listen()".into(), |backlog| format!("listen({backlog})"))
}

fn accept_queue(step: &Step, trace: &Trace) -> String {
    match (step.count, trace.queue_limit) {
        (Some(count), Some(limit)) => {
            format!("accept queue, {count} of {}", u64::from(limit) + 1)
        }
        _ => "in the accept queue".into(),
    }
}

fn answered(step: &Step) -> String {
    match step.count {
        Some(0) | None => "no answer".into(),
        Some(bytes) => format!("{bytes} bytes, no echo"),
    }
}

fn counted(step: &Step) -> u64 {
    step.count.unwrap_or(0)
}

/// Long after the connect the steps are still microseconds apart, which has to be readable.
fn time(at_ns: i64) -> String {
    let sign = if at_ns < 0 { "-" } else { "" };
    let ns = at_ns.unsigned_abs();
    if ns < LONG_NS {
        return format!("{sign}{}", units::duration(ns));
    }
    format!("{sign}{}.{:03}ms", ns / 1_000_000, ns / 1_000 % 1_000)
}

#[cfg(test)]
mod tests {
    use super::super::tests::held;
    use super::*;

    #[test]
    fn a_long_wait_has_a_row_that_says_where() {
        let rows = rows(&held());
        let waits: Vec<_> = rows.iter().filter(|row| matches!(row, Row::Wait { .. })).collect();
        let expected =
            ["1.00s: no answer", "200ms in the queue"].map(|text| Row::Wait { text: text.into() });
        assert_eq!(waits, expected.iter().collect::<Vec<_>>());
    }

    #[test]
    fn returns_point_away_from_the_kernel() {
        let rows = rows(&held());
        let to = |wanted: &str| {
            rows.iter().find_map(|row| match row {
                Row::Step { lane, to, text, .. } if text == wanted => Some((*lane, *to)),
                _ => None,
            })
        };
        assert_eq!(to("connect() returns"), Some((Lane::Kernel, Some(Lane::Client))));
        assert_eq!(to("accept() returns"), Some((Lane::Kernel, Some(Lane::Server))));
    }
}
