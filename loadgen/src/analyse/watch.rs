//! What is noticed in a watch, and in the list of listeners.

use crate::model::verdict::Advice;
use crate::model::watch::{FULL, LATE_MAX, LIMIT_UNKNOWN, ListedListener, Watch, WatchMember};

/// A wait this long is no burst any more.
const STANDS_NS: u64 = 1_000_000_000;

/// What was noticed in a watch.
#[must_use]
pub fn advice(watch: &Watch) -> Vec<Advice> {
    let limit = Limit { limit: watch.limit, somaxconn: watch.somaxconn };
    let late = watch.late_ticks_share;
    let found = [
        limit.advice(watch.drops, watch.depth_max),
        stuck(watch),
        (late > LATE_MAX).then_some(Advice::LateTicks { share: late }),
        other_mode(watch),
    ];
    found.into_iter().flatten().collect()
}

/// What is noticed in a listener of a list.
#[must_use]
pub fn listed(listener: &ListedListener, somaxconn: Option<u32>) -> Option<Advice> {
    let limit = Limit { limit: listener.limit, somaxconn };
    limit.advice(listener.drops.into(), listener.depth)
}

struct Limit {
    limit: u32,
    somaxconn: Option<u32>,
}

impl Limit {
    fn advice(&self, drops: u64, depth: u32) -> Option<Advice> {
        let (limit, somaxconn) = (self.limit, self.somaxconn.map(u64::from));
        if drops > 0 {
            let limit = (limit != LIMIT_UNKNOWN).then_some(limit);
            return Some(Advice::AcceptQueueOverflowed { count: drops, limit, somaxconn });
        }
        let full = ListedListener::fullness(depth, limit) >= FULL;
        full.then_some(Advice::AcceptQueueNearlyFull { depth, limit, somaxconn })
    }
}

/// The one whose oldest connection has waited longest, if that is no burst any more.
fn stuck(watch: &Watch) -> Option<Advice> {
    let waits = |member: &WatchMember| Some((member.longest_wait_ns?, member.inode, member.depth));
    let (longest_wait_ns, inode, depth) = watch.members.iter().filter_map(waits).max()?;
    let listeners = watch.members.len();
    let stands = longest_wait_ns >= STANDS_NS;
    stands.then_some(Advice::ListenerStuck { inode, depth, longest_wait_ns, listeners })
}

fn other_mode(watch: &Watch) -> Option<Advice> {
    watch.mode_reason.as_ref()?;
    Some(match watch.mode.as_str() {
        "sampled" => Advice::WaitsSampled { resolution_ns: watch.resolution_ns },
        _ => Advice::DepthAlone,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_come_before_a_full_queue_and_an_idle_one_is_fine() {
        let idle = Watch { limit: 10, depth_max: 3, ..Watch::default() };
        assert_eq!(advice(&idle), []);
        let full = Watch { depth_max: 9, ..idle.clone() };
        let (depth, limit, somaxconn) = (9, 10, None);
        let expected = Advice::AcceptQueueNearlyFull { depth, limit, somaxconn };
        assert_eq!(advice(&full), [expected]);
        let dropped = Watch { drops: 7, somaxconn: Some(4096), ..full };
        let (count, limit, somaxconn) = (7, Some(10), Some(4096));
        let expected = Advice::AcceptQueueOverflowed { count, limit, somaxconn };
        assert_eq!(advice(&dropped), [expected]);
    }

    #[test]
    fn of_several_listeners_the_longest_wait_is_told() {
        let member = |inode, longest_wait_ns| WatchMember {
            inode,
            depth: 3,
            longest_wait_ns,
            ..WatchMember::default()
        };
        let members = vec![member(1, None), member(2, Some(4_000_000_000)), member(3, Some(9))];
        let watch = Watch { members, limit: 99, late_ticks_share: 0.3, ..Watch::default() };
        let (longest_wait_ns, listeners) = (4_000_000_000, 3);
        let stuck = Advice::ListenerStuck { inode: 2, depth: 3, longest_wait_ns, listeners };
        assert_eq!(advice(&watch), [stuck, Advice::LateTicks { share: 0.3 }]);
        let brief = Watch { members: vec![member(3, Some(9))], limit: 99, ..Watch::default() };
        assert_eq!(advice(&brief), []);
    }

    #[test]
    fn a_mode_that_sees_less_is_told() {
        let beside = |mode: &str| Watch {
            mode: mode.into(),
            mode_reason: Some("another listener is busy".into()),
            resolution_ns: 5,
            limit: 9,
            ..Watch::default()
        };
        assert_eq!(advice(&beside("depth")), [Advice::DepthAlone]);
        assert_eq!(advice(&beside("sampled")), [Advice::WaitsSampled { resolution_ns: 5 }]);
    }
}
