//! What a run is made of: sizes, faults and clients, all drawn from the seed.
//!
//! Each fault is left out of half of the runs (swarm testing: Groce et al., ISSTA 2012), since a
//! run with everything in it hides what only happens when something is absent.

use uring_echo::echo::{Limits, Nanos};

use super::random::Dice;

#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) limits: Limits,
    pub(crate) faults: Faults,
    pub(crate) plans: Vec<Plan>,
    /// How many steps of chaos before everyone is let finish.
    pub(crate) steps: u32,
    pub(crate) drain_at: Option<u32>,
    pub(crate) stop_at: Option<u32>,
    /// Whether the engine takes what is left in the queues when it drains.
    pub(crate) empties_queue: bool,
    /// How much more often the kernel works than the shard hears of it, 1 to 4.
    pub(crate) lag: u32,
    /// How many completions may overtake each other; 1: none.
    pub(crate) window: usize,
    /// How many bytes the kernel takes towards a client that does not read.
    pub(crate) send_space: u32,
    /// How many bytes a client may have under way towards the shard.
    pub(crate) recv_space: u32,
}

/// How often what goes wrong, per mille of the occasions.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) short_recv: u32,
    pub(crate) short_send: u32,
    pub(crate) zero_send: u32,
    /// A receive brings more than it was armed for: that gets at longer chains in small pools.
    pub(crate) overdone: u32,
    pub(crate) failed_send: u32,
    /// ENOBUFS beside a pool that is not empty: it was when the kernel looked.
    pub(crate) no_buffers: u32,
    pub(crate) recv_ends: u32,
    pub(crate) accept_ends: u32,
    pub(crate) exhausted: u32,
    pub(crate) aborted: u32,
    pub(crate) fatal: u32,
    pub(crate) stale: u32,
    pub(crate) time_jumps: u32,
}

/// What one client does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) listener: usize,
    pub(crate) address: u128,
    pub(crate) arrives: u32,
    pub(crate) bytes: u32,
    /// The most it writes at once.
    pub(crate) chunk: u32,
    /// How readily it reads, per mille of its turns; 0: not before the chaos is over.
    pub(crate) reads: u32,
    /// Whether it ends its stream by itself, or only when the chaos is over.
    pub(crate) ends: bool,
    /// When it breaks the connection off.
    pub(crate) resets: Option<u32>,
}

impl Scenario {
    pub(crate) fn draw(dice: &mut Dice) -> Self {
        let steps = dice.pick(&[60, 200, 400, 800]);
        let limits = draw_limits(dice);
        let crowd = dice.pick(&[1, 2, 4, 8, 16, 30]);
        let resetting = dice.pick(&[0, 0, 100, 500]);
        let plan = |_| draw_plan(dice, &limits, steps, resetting);
        let plans = (0..crowd).map(plan).collect();
        let end = dice.below(steps);
        let (drain_at, stop_at) = match dice.below(8) {
            0 => (Some(end), None),
            1 => (None, Some(end)),
            2 => (Some(end), Some(dice.range(end, steps))),
            _ => (None, None),
        };
        Self {
            limits,
            faults: Faults::draw(dice),
            plans,
            steps,
            drain_at,
            stop_at,
            empties_queue: dice.chance(500),
            lag: dice.range(1, 4),
            window: dice.pick(&[1, 1, 2, 8]),
            send_space: dice.pick(&[1, 10, 64, 300, 5000]),
            recv_space: dice.pick(&[1, 50, 500, 5000]),
        }
    }
}

impl Faults {
    fn draw(dice: &mut Dice) -> Self {
        let mut often = |most: &[u32]| if dice.chance(500) { dice.pick(most) } else { 0 };
        Self {
            short_recv: often(&[100, 500, 1000]),
            short_send: often(&[100, 500, 1000]),
            zero_send: often(&[1, 5]),
            overdone: often(&[1000]),
            failed_send: often(&[1, 5]),
            no_buffers: often(&[10, 200, 800]),
            recv_ends: often(&[20, 300, 1000]),
            accept_ends: often(&[50, 300]),
            exhausted: often(&[50, 300, 800]),
            aborted: often(&[50, 300]),
            fatal: often(&[1, 1, 10]),
            stale: often(&[10, 100]),
            time_jumps: often(&[50, 400]),
        }
    }
}

fn draw_limits(dice: &mut Dice) -> Limits {
    let buffer_size = dice.pick(&[1, 2, 3, 8, 16, 64]);
    let credit_buffers = dice.pick(&[1, 1, 2, 3, 8, 40]);
    let maybe = |dice: &mut Dice, spans: &[u64]| dice.chance(300).then(|| Nanos(dice.pick(spans)));
    Limits {
        listeners: dice.pick(&[1, 1, 2, 3]),
        max_connections: dice.pick(&[1, 1, 2, 3, 5, 8, 20, 30]),
        accept_burst: dice.pick(&[1, 2, 4, 16]),
        buffers: dice.pick(&[1, 1, 2, 4, 8, 50]),
        buffer_size,
        credit: buffer_size * credit_buffers + dice.below(buffer_size),
        greeting: dice.pick(&[0, 0, 64]),
        max_per_ip: dice.chance(150).then(|| dice.range(1, 3)),
        idle_timeout: maybe(dice, &[20_000, 100_000]),
        write_timeout: maybe(dice, &[10_000, 60_000]),
        drain_timeout: maybe(dice, &[1, 5_000, 80_000]),
        accept_backoff: Nanos(dice.pick(&[1, 100, 1_000])),
    }
}

fn draw_plan(dice: &mut Dice, limits: &Limits, steps: u32, resetting: u32) -> Plan {
    let bytes = dice.pick(&[0, 1, 2, 20, 100, 400]);
    let arrives = dice.below(steps / 2);
    Plan {
        listener: dice.index(usize::from(limits.listeners)),
        address: u128::from(dice.below(3)),
        arrives,
        bytes: bytes + dice.below(bytes + 1),
        chunk: dice.pick(&[1, 5, 30, 500]),
        reads: dice.pick(&[1000, 1000, 300, 20, 0]),
        ends: dice.chance(600),
        resets: dice.chance(resetting).then(|| dice.range(arrives, steps)),
    }
}
