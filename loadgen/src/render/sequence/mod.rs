//! A traced connection as a sequence picture: three lanes, one row per step, ascending in time.

mod picture;
mod rows;
mod text;

pub use picture::svg;
pub use text::lines;

use crate::model::trace::{Event, Trace};
use crate::render::units;

/// What the trace shows, in sentences.
pub fn sentences(trace: &Trace) -> Vec<String> {
    let again = trace.syn_retransmissions();
    let dropped = (again > 0).then(|| {
        format!(
            "The accept queue was full: the kernel dropped the SYN, and the client sent it again \
             ({}).",
            units::plural(again, "time")
        )
    });
    dropped.into_iter().chain([delays(trace)]).collect()
}

fn delays(trace: &Trace) -> String {
    let connect = trace.since_connect_ns(Event::Established);
    let accept = trace.since_connect_ns(Event::Accepted);
    let connected = units::maybe(connect);
    let at_most = if accept_seen_within(trace).is_some() { "at most " } else { "" };
    match (connect, accept) {
        (Some(connect), Some(accept)) if accept > connect => format!(
            "connect() returned after {connected}, accept() after {at_most}{}: for {at_most}{} the \
             client was connected and no program had the connection.",
            units::duration(accept),
            units::duration(accept - connect)
        ),
        (Some(_), Some(accept)) => format!(
            "accept() returned after {at_most}{}, and only then connect(), after {connected}: the \
             kernel had woken the server first.",
            units::duration(accept)
        ),
        _ => format!(
            "connect() returned after {connected}. Whether the server has accepted is not to be \
             seen from here."
        ),
    }
}

/// The time before the row of accept in which it may have been; `None` where the server told.
fn accept_seen_within(trace: &Trace) -> Option<u64> {
    trace.step(Event::Accepted)?.seen_within_ns
}

/// What went unseen or was seen late, and why.
pub fn footnotes(trace: &Trace) -> Vec<String> {
    if trace.step(Event::Established).is_none() {
        return Vec::new();
    }
    let late = accept_seen_within(trace).map(|within| {
        format!(
            "The accept was seen from outside, by looks at the kernel's socket table: its time is \
             an upper bound, it came up to {} earlier.",
            units::duration(within)
        )
    });
    late.into_iter().chain(unseen(trace)).collect()
}

fn unseen(trace: &Trace) -> Vec<String> {
    let Some(gap) = trace.look_gap_ns.map(units::duration) else { return Vec::new() };
    let queues = [(Event::SynQueue, "SYN queue"), (Event::AcceptQueue, "accept queue")];
    let unseen = queues.into_iter().filter(|(event, _)| trace.step(*event).is_none());
    let note = |(_, queue)| {
        format!("The {queue} was not seen: a stay shorter than {gap} can fall between two looks.")
    };
    unseen.map(note).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::trace::{Side, Step};

    pub(super) fn step(side: Side, event: Event, at_ns: i64, count: Option<u64>) -> Step {
        Step { side, event, at_ns, took_ns: None, seen_within_ns: None, count }
    }

    /// A connection that waited 200 ms, its SYN sent twice.
    pub(super) fn held() -> Trace {
        use Event::{
            AcceptQueue, Accepted, Closed, ConnectCalled, Echoed, Established, HoldBegan, Listen,
            Sent, SynRetransmitted,
        };
        let steps = vec![
            step(Side::Server, Listen, -300_000, None),
            step(Side::Server, HoldBegan, -2_000, None),
            step(Side::Client, ConnectCalled, 0, None),
            step(Side::Client, SynRetransmitted, 1_000_000_000, Some(1)),
            step(Side::Kernel, AcceptQueue, 1_000_012_000, Some(1)),
            step(Side::Client, Established, 1_000_014_000, None),
            step(Side::Server, Accepted, 1_200_000_000, None),
            step(Side::Client, Sent, 1_200_010_000, Some(16)),
            step(Side::Client, Echoed, 1_200_050_000, Some(16)),
            step(Side::Client, Closed, 1_200_060_000, None),
        ];
        let look_gap_ns = Some(5_000);
        Trace { backlog: Some(0), queue_limit: Some(0), look_gap_ns, steps, ..Trace::default() }
    }

    #[test]
    fn the_sentences_name_the_drop_and_both_delays() {
        let text = sentences(&held()).join(" ");
        for part in ["dropped the SYN", "again (1 time)", "after 1.00s", "after 1.20s", "for 200ms"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn an_accept_before_connect_returned_is_said_so() {
        let mut trace = held();
        for step in &mut trace.steps {
            if step.event == Event::Accepted {
                step.at_ns = 10_000;
            }
        }
        assert!(delays(&trace).starts_with("accept() returned after 10.0µs, and only then"));
    }

    #[test]
    fn what_was_not_seen_is_said_with_the_time_between_looks() {
        let notes = footnotes(&held());
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].contains("SYN queue") && notes[0].contains("5.00µs"), "{notes:?}");
    }

    #[test]
    fn an_accept_seen_from_outside_is_an_upper_bound() {
        let mut trace = held();
        for step in &mut trace.steps {
            if step.event == Event::Accepted {
                step.seen_within_ns = Some(7_000);
            }
        }
        let (said, notes) = (delays(&trace), footnotes(&trace).join(" "));
        assert!(said.contains("accept() after at most 1.20s: for at most 200ms"), "{said}");
        assert!(notes.contains("upper bound, it came up to 7.00µs earlier"), "{notes}");
        let drawn = lines(&trace).join("\n");
        assert!(
            drawn.contains("accept() by now") && !drawn.contains("accept() returns"),
            "{drawn}"
        );
        assert!(!footnotes(&held()).join(" ").contains("upper bound"), "its server told");
    }

    #[test]
    fn an_accept_that_nobody_saw_is_not_claimed() {
        let mut trace = held();
        trace.steps.retain(|step| step.event != Event::Accepted);
        assert!(delays(&trace).contains("not to be seen"), "{}", delays(&trace));
    }
}
