//! What a watch tells at its end: by fifo where that is true, else by depth alone.

use uring_echo::sys::procfs::somaxconn;

use super::neighbours::Neighbours;
use super::recorder::{Member, Recorder, Told};
use super::ticker::Watched;
use crate::analyse::queue_waits::{QueueWaits, mean_wait_ns};
use crate::cli::watch::ModeChoice;
use crate::model::watch::{Watch, WatchMember};
use crate::sys::processes::{Owner, socket_owners};

/// The watch as data, and the waits of the mode that it tells.
pub(super) fn of(watched: &Watched, mode: ModeChoice, interval_ns: u64) -> (Watch, Told) {
    let Watched { recorder, neighbours, pace, length_ns, .. } = watched;
    let (fifo, reason) = mode_told(recorder, neighbours, mode);
    let exclusive = fifo || neighbours.busy().is_none();
    let told = if fifo { recorder.fifo.told(false) } else { recorder.depth.told(exclusive) };
    let sums = recorder.sums();
    let arrived = if exclusive { recorder.arrived.max(sums.arrived) } else { sums.arrived };
    let hidden = arrived - sums.arrived;
    let mean = mean_wait_ns(sums.depth_time, arrived);
    let range = mean_wait_ns(sums.depth_time, recorder.arrived.max(sums.arrived)).zip(mean);
    let now = recorder.sampled_ns;
    let watch = Watch {
        mode: if fifo { "fifo" } else { "depth" }.into(),
        mode_reason: reason,
        resolution_ns: QueueWaits::resolution_ns(interval_ns),
        interval_ns,
        watched_ns: *length_ns,
        accepts: if fifo { recorder.fifo_accepts() } else { sums.left + hidden },
        below_resolution: told.below,
        mean_wait_ns: mean.filter(|_| exclusive),
        mean_wait_range_ns: range.filter(|_| !exclusive),
        depth: recorder.waiting(),
        depth_max: recorder.depth_max,
        limit: recorder.limit(),
        somaxconn: somaxconn(),
        drops: sums.drops,
        longest_wait_ns: recorder.longest_wait_ns(now),
        ticks: pace.ticks,
        late_ticks_share: pace.late as f64 / pace.ticks.max(1) as f64,
        cpu_cores: pace.cpu_ns as f64 / (*length_ns).max(1) as f64,
        restarts: pace.restarts,
        absent_ns: pace.absent_ns,
        neighbours_share: neighbours.share(),
        members: members(&recorder.members, now),
    };
    (watch, told)
}

/// Whether fifo is told, and why not if it is not.
pub(super) fn mode_told(
    recorder: &Recorder,
    neighbours: &Neighbours,
    mode: ModeChoice,
) -> (bool, Option<String>) {
    let grouped = recorder.grouped.then(|| {
        "several listeners share the address, and the kernel does not count their connections \
         apart"
            .to_owned()
    });
    match mode {
        ModeChoice::Depth => (false, Some("--mode depth".into())),
        ModeChoice::Fifo => (grouped.is_none(), grouped),
        ModeChoice::Auto => {
            let reason = grouped.or_else(|| neighbours.busy());
            (reason.is_none(), reason)
        }
    }
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
