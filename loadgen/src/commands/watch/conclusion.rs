//! What a watch tells at its end.

use uring_echo::sys::procfs::somaxconn;

use super::recorder::{Member, Told};
use super::telling::Mode;
use super::ticker::Watched;
use crate::cli::watch::ModeChoice;
use crate::model::watch::{Watch, WatchMember};
use crate::sys::processes::{Owner, socket_owners};

/// The watch as data, and the waits of the mode that it tells.
pub(super) fn of(watched: &Watched, wanted: ModeChoice) -> (Watch, Told) {
    let Watched { seen, length_ns, .. } = watched;
    let (recorder, pace) = (&seen.recorder, &seen.pace);
    let telling = seen.telling(wanted);
    let told = telling.series.told(telling.with_unseen);
    let now = recorder.sampled_ns;
    let hits = seen.sampled.as_ref().map(|sampled| sampled.hits);
    let watch = Watch {
        mode: telling.mode.name().into(),
        mode_reason: telling.reason,
        trace_refused: seen.trace_refused(),
        resolution_ns: telling.mode.resolution_ns(seen.interval_ns),
        interval_ns: seen.interval_ns,
        watched_ns: *length_ns,
        accepts: telling.accepts,
        below_resolution: told.below,
        mean_wait_ns: telling.mean_ns,
        mean_wait_range_ns: telling.mean_range_ns,
        dumps_that_met: hits.filter(|_| telling.mode == Mode::Sampled),
        depth: recorder.waiting(),
        depth_max: recorder.depth_max,
        limit: recorder.limit(),
        somaxconn: somaxconn(),
        drops: recorder.sums().drops,
        longest_wait_ns: recorder.longest_wait_ns(now),
        ticks: pace.ticks,
        late_ticks_share: pace.late as f64 / pace.ticks.max(1) as f64,
        cpu_cores: pace.cpu_ns as f64 / (*length_ns).max(1) as f64,
        restarts: pace.restarts,
        absent_ns: pace.absent_ns,
        pauses: pace.pauses,
        neighbours_share: seen.neighbours.as_ref().and_then(|others| others.share()),
        members: members(&recorder.members, now),
    };
    (watch, told)
}

fn members(members: &[Member], now: u64) -> Vec<WatchMember> {
    let inodes: Vec<u32> = members.iter().map(|member| member.now.inode.0).collect();
    // The owners are an extra that other users' processes do not show either.
    let owners = socket_owners(&inodes).unwrap_or_default();
    let named = |owner: &Owner| format!("{} ({})", owner.name, owner.pid);
    let described = |member: &Member| {
        let histogram = &member.histogram;
        let sampled = !histogram.is_empty();
        WatchMember {
            inode: member.now.inode.0,
            owners: owners.get(&member.now.inode.0).into_iter().flatten().map(named).collect(),
            depth: member.now.depth,
            depth_max: member.depth_max,
            limit: member.now.limit,
            drops: member.drops,
            waits: histogram.len(),
            p99_ns: sampled.then(|| histogram.value_at_quantile(0.99)),
            longest_wait_ns: member.waits.longest_wait_ns(now),
        }
    };
    members.iter().map(described).collect()
}
