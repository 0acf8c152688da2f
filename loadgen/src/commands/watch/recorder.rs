//! The samples of a watch added up: by member and together, and in every mode, so that what is
//! known at the end decides which of them is told.

use hdrhistogram::Histogram;

use crate::analyse::queue_waits::{NewArrivals, QueueWaits, Wait};
use crate::model::histogram::{PackedHistogram, Summary, new_histogram};
use crate::model::interval::{INTERVALS_MAX, Interval};
use crate::model::outcome::{Outcomes, Phase};
use crate::model::watch_live::ListenerSecond;
use crate::observe::Listener;

/// Everything that is recorded.
pub(super) struct Recorder {
    interval_ns: u64,
    pub(super) members: Vec<Member>,
    fifo_waits: QueueWaits,
    pub(super) fifo: Series,
    pub(super) depth: Series,
    timed_waits: QueueWaits,
    pub(super) trace: Series,
    /// Arrivals that the tracepoint told.
    pub(super) timed: u64,
    pub(super) dumps: Series,
    /// Whether several members were seen at once.
    pub(super) grouped: bool,
    /// Connections of the whole namespace.
    pub(super) arrived: u64,
    pub(super) depth_max: u32,
    /// Of members that are no more.
    past: Sums,
    hidden_told: u64,
    pub(super) sampled_ns: u64,
}

/// Sums over members, by their depth alone.
#[derive(Clone, Copy, Default)]
pub(super) struct Sums {
    pub(super) arrived: u64,
    pub(super) left: u64,
    pub(super) depth_time: f64,
    pub(super) drops: u64,
}

/// One listener.
pub(super) struct Member {
    pub(super) now: Listener,
    pub(super) waits: QueueWaits,
    pub(super) histogram: Histogram<u64>,
    pub(super) depth_max: u32,
    pub(super) drops: u64,
}

impl Member {
    fn new(now: &Listener, interval_ns: u64) -> Self {
        let waits = QueueWaits::new(interval_ns);
        Self { now: *now, waits, histogram: new_histogram(), depth_max: 0, drops: 0 }
    }

    fn sums(&self) -> Sums {
        let (arrived, left) = self.waits.counts();
        Sums { arrived, left, depth_time: self.waits.depth_time(), drops: self.drops }
    }

    fn second(&self, now_ns: u64) -> ListenerSecond<'_> {
        ListenerSecond {
            inode: self.now.inode.0,
            depth: self.now.depth,
            depth_max: self.depth_max,
            limit: self.now.limit,
            drops: self.drops,
            accepts: self.waits.counts().1,
            longest_wait_ns: self.waits.longest_wait_ns(now_ns),
            waits: &self.histogram,
        }
    }
}

impl Sums {
    fn with(self, other: Self) -> Self {
        Self {
            arrived: self.arrived + other.arrived,
            left: self.left + other.left,
            depth_time: self.depth_time + other.depth_time,
            drops: self.drops + other.drops,
        }
    }
}

impl Recorder {
    pub(super) fn new(interval_ns: u64) -> Self {
        let half_ns = QueueWaits::resolution_ns(interval_ns) / 2;
        Self {
            interval_ns,
            members: Vec::new(),
            fifo_waits: QueueWaits::new(interval_ns),
            fifo: Series::new(half_ns),
            depth: Series::new(half_ns),
            timed_waits: QueueWaits::timed(interval_ns),
            trace: Series::new(interval_ns / 2),
            timed: 0,
            dumps: Series::new(half_ns),
            grouped: false,
            arrived: 0,
            depth_max: 0,
            past: Sums::default(),
            hidden_told: 0,
            sampled_ns: 0,
        }
    }

    /// The listeners are these from now on; the waits of those that stay go on.
    pub(super) fn members_are<'a>(&mut self, now: impl Iterator<Item = &'a Listener>) {
        let mut before = std::mem::take(&mut self.members);
        for listener in now {
            let known = before.iter().position(|member| member.now.inode == listener.inode);
            let member = known.map(|at| before.swap_remove(at));
            let member = member.unwrap_or_else(|| Member::new(listener, self.interval_ns));
            self.members.push(member);
        }
        self.past = before.iter().map(Member::sums).fold(self.past, Sums::with);
        self.grouped |= self.members.len() > 1;
        self.fifo_waits.reset();
        self.timed_waits.reset();
    }

    /// Nobody looked for a while: those that wait now may be others.
    pub(super) fn looked_away(&mut self) {
        self.members.iter_mut().for_each(|member| member.waits.reset());
        self.fifo_waits.reset();
        self.timed_waits.reset();
    }

    /// Several listeners share the address now.
    pub(super) fn is_group(&self) -> bool {
        self.members.len() > 1
    }

    /// A sample of every member, how many connections the namespace took since the last, and when
    /// those of the members came, where that is known.
    pub(super) fn sample<'a>(
        &mut self,
        at_ns: u64,
        now: impl Iterator<Item = &'a Listener>,
        arrived: u64,
        timed: Option<(&[u64], u64)>,
    ) {
        self.arrived += arrived;
        self.sampled_ns = at_ns;
        let mut total = 0;
        for (member, listener) in self.members.iter_mut().zip(now) {
            let Member { waits, histogram, .. } = member;
            let series = &mut self.depth;
            waits.sample(at_ns, listener.depth, NewArrivals::Unknown, |wait, count| {
                series.add(wait, count);
                histogram.saturating_record_n(series.ns(wait), count);
            });
            member.drops += u64::from(listener.drops.wrapping_sub(member.now.drops));
            member.depth_max = member.depth_max.max(listener.depth);
            self.depth_max = self.depth_max.max(listener.depth);
            member.now = *listener;
            total += listener.depth;
        }
        let series = &mut self.fifo;
        let counted = NewArrivals::Counted(arrived);
        self.fifo_waits.sample(at_ns, total, counted, |wait, count| series.add(wait, count));
        let Some((instants, lost)) = timed else { return };
        self.timed += instants.len() as u64 + lost;
        // The members of a group have one queue each: theirs are followed one by one.
        if self.members.len() == 1 {
            let (new, series) = (NewArrivals::Timed(instants, lost), &mut self.trace);
            self.timed_waits.sample(at_ns, total, new, |wait, count| series.add(wait, count));
        }
    }

    /// The wait of a connection that was followed by itself.
    pub(super) fn traced(&mut self, waited_ns: u64) {
        let below = waited_ns < self.interval_ns;
        self.trace.add(if below { Wait::Below } else { Wait::Took(waited_ns) }, 1);
    }

    /// Sums over all members, those of the past too.
    pub(super) fn sums(&self) -> Sums {
        self.members.iter().map(Member::sums).fold(self.past, Sums::with)
    }

    /// Connections waiting now.
    pub(super) fn waiting(&self) -> u32 {
        self.members.iter().map(|member| member.now.depth).sum()
    }

    /// Smallest effective backlog.
    pub(super) fn limit(&self) -> u32 {
        self.members.iter().map(|member| member.now.limit).min().unwrap_or(0)
    }

    /// Accepts, where every arrival of the namespace is one of the watched address.
    pub(super) fn fifo_accepts(&self) -> u64 {
        self.fifo_waits.counts().1
    }

    /// How long the oldest has waited.
    pub(super) fn longest_wait_ns(&self, now_ns: u64) -> Option<u64> {
        self.members.iter().filter_map(|member| member.waits.longest_wait_ns(now_ns)).max()
    }

    /// The listeners at the end of a second.
    pub(super) fn listeners(&self, now_ns: u64) -> Vec<ListenerSecond<'_>> {
        self.members.iter().map(|member| member.second(now_ns)).collect()
    }

    /// Arrivals since the last interval that no depth showed: accepted between two samples.
    pub(super) fn unseen(&self) -> u64 {
        let unseen = self.arrived.saturating_sub(self.sums().arrived);
        unseen.saturating_sub(self.hidden_told)
    }

    /// Closes an interval.
    pub(super) fn roll(&mut self, start_ns: u64, length_ns: u64) {
        let hidden = self.unseen();
        self.hidden_told += hidden;
        self.fifo.roll(start_ns, length_ns, 0);
        self.depth.roll(start_ns, length_ns, hidden);
        self.trace.roll(start_ns, length_ns, 0);
        self.dumps.roll(start_ns, length_ns, 0);
    }
}

/// Waits as one of the modes tells them.
pub(super) struct Series {
    half_resolution_ns: u64,
    pub(super) current: Histogram<u64>,
    total: Histogram<u64>,
    below: u64,
    hidden: u64,
    intervals: Vec<Part>,
}

struct Part {
    start_ns: u64,
    length_ns: u64,
    waits: PackedHistogram,
    /// Arrivals that were accepted unseen.
    hidden: u64,
}

/// What a series tells.
pub(super) struct Told {
    pub(super) summary: Summary,
    pub(super) below: u64,
    pub(super) intervals: Vec<Interval>,
}

impl Series {
    fn new(half_resolution_ns: u64) -> Self {
        Self {
            half_resolution_ns,
            current: new_histogram(),
            total: new_histogram(),
            below: 0,
            hidden: 0,
            intervals: Vec::new(),
        }
    }

    fn ns(&self, wait: Wait) -> u64 {
        match wait {
            Wait::Below => self.half_resolution_ns,
            Wait::Took(ns) => ns,
        }
    }

    pub(super) fn add(&mut self, wait: Wait, count: u64) {
        self.current.saturating_record_n(self.ns(wait), count);
        self.below += if wait == Wait::Below { count } else { 0 };
    }

    fn roll(&mut self, start_ns: u64, length_ns: u64, hidden: u64) {
        self.total.add(&self.current).expect("both have the same bounds");
        self.hidden += hidden;
        let waits = PackedHistogram::of(&self.current);
        self.intervals.push(Part { start_ns, length_ns, waits, hidden });
        self.current.reset();
        if self.intervals.len() > INTERVALS_MAX {
            self.intervals = self.intervals.chunks(2).map(merged).collect();
        }
    }

    /// All of them so far.
    pub(super) fn count(&self) -> u64 {
        self.total.len() + self.current.len()
    }

    /// The waits; with those that passed unseen where they are known to be of this address.
    pub(super) fn told(&self, with_hidden: bool) -> Told {
        let whole = |mut waits: Histogram<u64>, hidden: u64| {
            if with_hidden {
                waits.saturating_record_n(self.half_resolution_ns, hidden);
            }
            Summary::of(&waits)
        };
        let interval = |part: &Part| {
            let summary = whole(part.waits.unpack(), part.hidden);
            let sampled = (summary.count > 0).then(|| (Phase::AcceptDelay.name().into(), summary));
            Interval {
                start_ns: part.start_ns,
                length_ns: part.length_ns,
                outcomes: Outcomes::default(),
                warmup_excluded: 0,
                histograms: sampled.into_iter().collect(),
            }
        };
        Told {
            summary: whole(self.total.clone(), self.hidden),
            below: self.below + if with_hidden { self.hidden } else { 0 },
            intervals: self.intervals.iter().map(interval).collect(),
        }
    }
}

fn merged(pair: &[Part]) -> Part {
    let mut waits = pair[0].waits.unpack();
    for part in &pair[1..] {
        waits.add(part.waits.unpack()).expect("both have the same bounds");
    }
    Part {
        start_ns: pair[0].start_ns,
        length_ns: pair.iter().map(|part| part.length_ns).sum(),
        waits: PackedHistogram::of(&waits),
        hidden: pair.iter().map(|part| part.hidden).sum(),
    }
}
