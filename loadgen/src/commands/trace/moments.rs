//! What happened when, until it is known when connect was called.

use uring_echo::clock::monotonic_ns;

use crate::model::trace::{Event, Side, Step};

/// A step with its instant on the monotonic clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) side: Side,
    pub(super) event: Event,
    pub(super) at_ns: u64,
    pub(super) took_ns: Option<u64>,
    pub(super) seen_within_ns: Option<u64>,
    pub(super) count: Option<u64>,
}

impl Moment {
    /// At a known instant.
    pub(super) fn at(side: Side, event: Event, at_ns: u64) -> Self {
        Self { side, event, at_ns, took_ns: None, seen_within_ns: None, count: None }
    }

    /// Now.
    pub(super) fn now(side: Side, event: Event) -> Self {
        Self::at(side, event, monotonic_ns())
    }

    pub(super) fn count(self, count: u64) -> Self {
        Self { count: Some(count), ..self }
    }

    /// What a look showed, if it cannot have happened later than this.
    pub(super) fn not_after(self, latest_ns: u64) -> Self {
        let at_ns = self.at_ns.min(latest_ns);
        let earlier_ns = self.at_ns - at_ns;
        let seen_within_ns = self.seen_within_ns.map(|within| within.saturating_sub(earlier_ns));
        Self { at_ns, seen_within_ns, ..self }
    }

    /// A call, from its begin on.
    pub(super) fn of_call<T>(side: Side, event: Event, call: impl FnOnce() -> T) -> (Self, T) {
        let began = monotonic_ns();
        let returned = call();
        let took_ns = Some(monotonic_ns() - began);
        (Self { took_ns, ..Self::at(side, event, began) }, returned)
    }

    fn step(self, connect_called_ns: u64) -> Step {
        let Self { side, event, at_ns, took_ns, seen_within_ns, count } = self;
        let at_ns = at_ns.wrapping_sub(connect_called_ns).cast_signed();
        // What a look shows of a connection cannot have been before it was called.
        let since_ns = u64::try_from(at_ns).unwrap_or(0);
        let seen_within_ns = seen_within_ns.map(|within| within.min(since_ns));
        Step { side, event, at_ns, took_ns, seen_within_ns, count }
    }
}

/// The steps in their order, from the call of connect on; empty if it was never called.
pub(super) fn steps(moments: &[Moment]) -> Vec<Step> {
    let called = moments.iter().find(|moment| moment.event == Event::ConnectCalled);
    let Some(called) = called.map(|moment| moment.at_ns) else { return Vec::new() };
    let mut steps: Vec<Step> = moments.iter().map(|moment| moment.step(called)).collect();
    steps.sort_by_key(|step| step.at_ns);
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_look_showed_too_late_happened_earlier_in_a_narrower_bracket() {
        let seen = Moment::at(Side::Server, Event::Accepted, 900);
        let seen = Moment { seen_within_ns: Some(300), ..seen };
        let at = |moment: Moment| (moment.at_ns, moment.seen_within_ns);
        assert_eq!(at(seen.not_after(700)), (700, Some(100)));
        assert_eq!(at(seen.not_after(500)), (500, Some(0)));
        assert_eq!(at(seen.not_after(u64::MAX)), (900, Some(300)));
        let step = seen.step(800);
        assert_eq!((step.at_ns, step.seen_within_ns), (100, Some(100)), "connect was called then");
    }
}
