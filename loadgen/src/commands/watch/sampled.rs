//! Waits from dumps of the queue at random instants: who is met is followed until it is accepted.
//!
//! The longer a wait, the surer a dump meets it. Each that was met counts for as many as there are
//! for one that is: the reciprocal of the chance that its length had. That needs no count of
//! arrivals and no order of the queues, but many dumps that meet somebody.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use rustix::time::{ClockId, clock_gettime};
use uring_echo::clock::monotonic_ns;

use super::follower::{Followed, Follower};
use super::port_filter::PortFilter;
use crate::analyse::queue_waits::inspection_weight;
use crate::observe::{Queued, QueuedDump};

/// Takes dumps on a thread of its own: one takes milliseconds where there are many sockets.
pub(super) struct Sampled {
    asked: SyncSender<Vec<Queued>>,
    answered: Receiver<io::Result<Dump>>,
    /// What the next dump is written to; `None` while one is taken.
    spare: Option<Vec<Queued>>,
    filter: PortFilter,
    follower: Follower,
    followed: HashSet<SocketAddr>,
    random: Pcg64,
    budget: f64,
    /// Mean time between two dumps.
    every_ns: f64,
    /// The time during which a dump could begin, in means.
    exposure: f64,
    began_ns: u64,
    ticked_ns: u64,
    /// Dumps that met somebody.
    pub(super) hits: u64,
    untrue: Option<String>,
}

struct Dump {
    found: Vec<Queued>,
    cost_ns: u64,
}

/// Below this many dumps that met somebody the numbers are noise.
pub(super) const HITS_MIN: u64 = 100;
/// Share of a core that dumps may take, and where they were asked for by name.
pub(super) const BUDGET: f64 = 0.005;
pub(super) const BUDGET_BY_NAME: f64 = 0.02;
const EVERY_NS: std::ops::RangeInclusive<f64> = 8e6..=1e9;
const QUEUE: usize = 4096;

impl Sampled {
    pub(super) fn open(server: SocketAddr, budget: f64) -> io::Result<Self> {
        let filter = PortFilter::open(server)?;
        let (v4, v6) = filter.families();
        let mut dump = QueuedDump::open(server.port(), v4, v6)?;
        let (asked, requests) = sync_channel::<Vec<Queued>>(1);
        let (answers, answered) = sync_channel(1);
        let serve = move || {
            while let Ok(mut found) = requests.recv() {
                found.clear();
                let before = thread_cpu_ns();
                let taken = dump.take(&mut found);
                let cost_ns = thread_cpu_ns().saturating_sub(before);
                if answers.send(taken.map(|()| Dump { found, cost_ns })).is_err() {
                    break;
                }
            }
        };
        thread::Builder::new().name("dumps".into()).spawn(serve)?;
        let now = monotonic_ns();
        Ok(Self {
            asked,
            answered,
            spare: Some(Vec::with_capacity(QUEUE)),
            budget,
            filter,
            follower: Follower::open()?,
            followed: HashSet::with_capacity(2 * QUEUE),
            random: Pcg64::seed_from_u64(now),
            every_ns: 32e6,
            exposure: 0.0,
            began_ns: now,
            ticked_ns: now,
            hits: 0,
            untrue: None,
        })
    }

    /// At a sample of the queues, in which `waiting` were seen. Passes each wait that ended to
    /// `waited`, with how many it stands for.
    pub(super) fn tick(
        &mut self,
        now_ns: u64,
        waiting: bool,
        mut waited: impl FnMut(u64, u64),
    ) -> io::Result<()> {
        let means = now_ns.saturating_sub(self.ticked_ns) as f64 / self.every_ns;
        self.ticked_ns = now_ns;
        match self.answered.try_recv() {
            Ok(dump) => self.met(dump?),
            // Nobody can be met before the dump that is being taken has ended.
            Err(_) if self.spare.is_none() => {}
            Err(_) => self.draw(means, waiting),
        }
        let Self { follower, followed, random, exposure, .. } = self;
        follower.pass(now_ns, |one, ended_ns| {
            followed.remove(&one.client);
            let weight = inspection_weight(*exposure - one.mark);
            #[expect(clippy::cast_possible_truncation, reason = "a float cast saturates")]
            #[expect(clippy::cast_sign_loss, reason = "a weight is at least 1")]
            let count = (weight + random.random::<f64>()) as u64;
            waited(ended_ns.saturating_sub(one.since_ns), count);
        })
    }

    /// Whether a dump begins now; one of an empty queue needs not be taken.
    fn draw(&mut self, means: f64, waiting: bool) {
        self.exposure += means;
        if self.random.random::<f64>() >= -(-means).exp_m1() || !waiting {
            return;
        }
        let Some(spare) = self.spare.take() else { return };
        if self.asked.send(spare).is_err() {
            self.untrue = Some("the thread that takes dumps has ended".into());
        }
    }

    fn met(&mut self, dump: Dump) {
        let Dump { found, cost_ns } = dump;
        let ours = |one: &&Queued| self.filter.is_ours(one.server) && one.since_ns > self.began_ns;
        let mut met = 0_u64;
        for one in found.iter().filter(ours) {
            met += 1;
            if !self.followed.insert(one.client) {
                continue;
            }
            let Queued { server, client, since_ns, seen_ns } = *one;
            let age = seen_ns.saturating_sub(since_ns) as f64 / self.every_ns;
            let mark = self.exposure - age;
            self.follower.follow(Followed { server, client, since_ns, seen_ns, mark });
        }
        self.hits += u64::from(met > 0);
        if self.follower.refused > 0 {
            self.untrue = Some("more waited than can be followed one by one".into());
        }
        let wanted = cost_ns as f64 / self.budget;
        self.every_ns = wanted.clamp(*EVERY_NS.start(), *EVERY_NS.end());
        self.spare = Some(found);
    }

    /// Called once a second.
    pub(super) fn second(&mut self) -> io::Result<()> {
        self.filter.look()
    }

    /// Why it tells nothing.
    pub(super) fn untrue(&self) -> Option<String> {
        let few = || format!("only {} of {HITS_MIN} dumps met somebody", self.hits);
        self.untrue.clone().or_else(|| (self.hits < HITS_MIN).then(few))
    }
}

fn thread_cpu_ns() -> u64 {
    let used = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(used.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(used.tv_nsec).unwrap_or(0)
}
