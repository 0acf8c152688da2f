//! How much workers may spin under CPU quotas (cgroups(7)): never so much that they are throttled.
//!
//! A group that has used up its quota is stopped until its period ends, 50 ms and more with usual
//! settings. Whoever shares the group, spinning or not, is stopped with it.

use super::budget::Share;
use crate::sys::cpu_quota::CpuUse;

/// Of what a quota leaves, all workers together may spin one in so many.
const HEADROOM: u64 = 2;
/// The largest use without spinning is remembered for about this many observations.
const PEAK_DECAY: u64 = 32;
/// After a throttled period nothing is spun for this long, in nanoseconds; twice as long each time
/// it happens again.
const BACKOFF_NS: u64 = 1_000_000_000;
const BACKOFF_MAX_NS: u64 = 64 * BACKOFF_NS;
/// So long after a back-off without throttling, the next one counts as the first.
const FORGOTTEN_NS: u64 = 10_000_000_000;

/// Follows the quotas of a process's group and its ancestors.
#[derive(Clone, Debug)]
pub struct QuotaPolicy {
    workers: u64,
    before: Option<Observation>,
    groups: Vec<Group>,
    backoff_ns: u64,
    until: u64,
}

#[derive(Clone, Copy, Debug)]
struct Observation {
    at: u64,
    process_ns: u64,
    spun_ns: u64,
}

/// What is known of one group.
#[derive(Clone, Copy, Debug, Default)]
struct Group {
    before: CpuUse,
    /// Use without spinning, in 1/1000 of a core: the largest of late.
    peak_millicores: u64,
}

impl QuotaPolicy {
    /// For a process with so many workers.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        let workers = u64::try_from(workers).unwrap_or(u64::MAX).max(1);
        Self { workers, before: None, groups: Vec::new(), backoff_ns: 0, until: 0 }
    }

    /// What each worker may spin, given what `groups` (always the same, in the same order) say at
    /// `now`, the CPU time of this process and how much of it was spun.
    pub fn observe(&mut self, now: u64, process_ns: u64, spun_ns: u64, groups: &[CpuUse]) -> Share {
        let this = Observation { at: now, process_ns, spun_ns };
        let before = self.before.replace(this);
        if self.groups.len() != groups.len() {
            self.groups = groups.iter().map(|use_| Group::new(*use_)).collect();
            return self.share(now);
        }
        let was_throttled = self.groups.iter().zip(groups).any(|(group, after)| {
            after.millicores.is_some() && after.throttled > group.before.throttled
        });
        for (group, after) in self.groups.iter_mut().zip(groups) {
            group.observe(before.unwrap_or(this), this, *after);
        }
        if was_throttled {
            self.back_off(now);
        }
        self.share(now)
    }

    fn back_off(&mut self, now: u64) {
        let is_repeated = self.until > 0 && now < self.until.saturating_add(FORGOTTEN_NS);
        let next = if is_repeated { self.backoff_ns * 2 } else { BACKOFF_NS };
        self.backoff_ns = next.min(BACKOFF_MAX_NS);
        self.until = now + self.backoff_ns;
    }

    fn share(&self, now: u64) -> Share {
        let limited = self.groups.iter().filter_map(|group| group.headroom_millicores());
        let Some(headroom) = limited.min() else { return Share::WHOLE };
        if now < self.until {
            return Share(0);
        }
        let each = headroom / HEADROOM / self.workers;
        Share(u32::try_from(each).unwrap_or(u32::MAX)).min(Share::WHOLE)
    }
}

impl Group {
    const fn new(first: CpuUse) -> Self {
        Self { before: first, peak_millicores: 0 }
    }

    fn observe(&mut self, from: Observation, to: Observation, after: CpuUse) {
        let used = match (self.before.used_ns, after.used_ns) {
            (Some(before), Some(after)) => after.saturating_sub(before),
            _ => to.process_ns.saturating_sub(from.process_ns),
        };
        let without_spinning = used.saturating_sub(to.spun_ns.saturating_sub(from.spun_ns));
        let passed = to.at.saturating_sub(from.at).max(1);
        let millicores = without_spinning.saturating_mul(1000) / passed;
        self.peak_millicores =
            millicores.max(self.peak_millicores - self.peak_millicores / PEAK_DECAY);
        self.before = after;
    }

    /// What the quota leaves; `None`: there is none.
    fn headroom_millicores(&self) -> Option<u64> {
        Some(self.before.millicores?.saturating_sub(self.peak_millicores))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn group(millicores: u64, throttled: u64) -> CpuUse {
        CpuUse { millicores: Some(millicores), throttled, used_ns: None }
    }

    #[test]
    fn without_a_quota_there_is_no_limit() {
        let mut policy = QuotaPolicy::new(2);
        assert_eq!(policy.observe(0, 0, 0, &[]), Share::WHOLE);
        let unlimited = CpuUse { throttled: 7, ..CpuUse::default() };
        assert_eq!(policy.observe(100 * MS, 90 * MS, 0, &[unlimited]), Share::WHOLE);
    }

    #[test]
    fn half_of_what_the_tightest_group_leaves_is_shared_by_the_workers() {
        let mut policy = QuotaPolicy::new(2);
        let groups = [group(2000, 0), group(500, 0), CpuUse::default()];
        assert_eq!(policy.observe(0, 0, 0, &groups), Share(125), "nothing used yet");
        // 30 ms of 100 ms, of which 20 ms were spun.
        assert_eq!(policy.observe(100 * MS, 30 * MS, 20 * MS, &groups), Share(100));
        // The peak is remembered.
        assert_eq!(policy.observe(200 * MS, 30 * MS, 20 * MS, &groups), Share(100));
    }

    #[test]
    fn what_others_in_the_group_use_counts() {
        let mut policy = QuotaPolicy::new(1);
        let used = |ns| CpuUse { used_ns: Some(ns), ..group(1000, 0) };
        policy.observe(0, 0, 0, &[used(0)]);
        assert_eq!(policy.observe(100 * MS, 10 * MS, 0, &[used(80 * MS)]), Share(100));
    }

    #[test]
    fn throttling_ends_spinning_for_longer_each_time() {
        let mut policy = QuotaPolicy::new(1);
        let s = 1000 * MS;
        policy.observe(0, 0, 0, &[group(500, 3)]);
        assert_eq!(policy.observe(s, 0, 0, &[group(500, 4)]), Share(0));
        assert_eq!(policy.observe(s + 999 * MS, 0, 0, &[group(500, 4)]), Share(0));
        assert_eq!(policy.observe(2 * s, 0, 0, &[group(500, 4)]), Share(250));
        assert_eq!(policy.observe(3 * s, 0, 0, &[group(500, 5)]), Share(0));
        assert_eq!(policy.observe(4 * s, 0, 0, &[group(500, 5)]), Share(0), "2 s now");
        assert_eq!(policy.observe(5 * s, 0, 0, &[group(500, 5)]), Share(250));
    }

    #[test]
    fn a_limit_set_or_lifted_while_running_is_followed() {
        let mut policy = QuotaPolicy::new(1);
        let unlimited = CpuUse::default();
        assert_eq!(policy.observe(0, 0, 0, &[unlimited]), Share::WHOLE);
        assert_eq!(policy.observe(100 * MS, 0, 0, &[group(200, 0)]), Share(100));
        assert_eq!(policy.observe(200 * MS, 0, 0, &[unlimited]), Share::WHOLE);
    }
}
