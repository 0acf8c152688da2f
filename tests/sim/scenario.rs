//! The parameters of a run: sizes, faults and clients, all drawn from the seed.
//!
//! Each fault is left out of half of the runs (swarm testing: Groce et al., ISSTA 2012), because
//! some defects show only in the absence of a fault.

use uring_echo::echo::{Limits, Nanos};

use super::random::Random;

#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) limits: Limits,
    pub(crate) faults: Faults,
    pub(crate) scripts: Vec<ClientScript>,
    /// How many steps with faults before everything may finish.
    pub(crate) steps: u32,
    pub(crate) drain_at: Option<u32>,
    pub(crate) stop_at: Option<u32>,
    /// Whether the engine accepts what is left in the queues when it drains.
    pub(crate) empties_queue: bool,
    /// How many times as often the kernel works as events are delivered, 1 to 4.
    pub(crate) lag: u32,
    /// How many completions may overtake each other; 1: none.
    pub(crate) window: usize,
    /// How many bytes the kernel buffers for a client that does not read.
    pub(crate) send_space: u32,
    /// How many bytes of a client the kernel buffers for the shard.
    pub(crate) recv_space: u32,
}

/// How often each fault occurs, per mille of its occasions.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) short_recv: u32,
    pub(crate) short_send: u32,
    /// A socket that has room takes nothing all the same.
    pub(crate) zero_send: u32,
    /// A socket is said to be writable although it is not, or only a little.
    pub(crate) early_writable: u32,
    /// The kernel cannot tell how many bytes are unsent.
    pub(crate) unsent_unknown: u32,
    /// A receive fills several buffers at once.
    pub(crate) bundled_recv: u32,
    /// A receive brings more than it was armed for, which makes longer chains in small pools.
    pub(crate) oversized_recv: u32,
    pub(crate) failed_send: u32,
    /// ENOBUFS although the pool is not empty: it was when the receive was tried.
    pub(crate) no_buffers: u32,
    pub(crate) recv_ends: u32,
    pub(crate) accept_ends: u32,
    pub(crate) exhausted: u32,
    pub(crate) aborted: u32,
    pub(crate) fatal: u32,
    pub(crate) stale: u32,
    pub(crate) time_jumps: u32,
}

/// The behaviour of one client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientScript {
    pub(crate) listener: usize,
    pub(crate) address: u128,
    pub(crate) arrives: u32,
    pub(crate) bytes: u32,
    /// The most it writes at once.
    pub(crate) chunk: u32,
    /// How often it reads, per mille of its steps; 0: not while faults are injected.
    pub(crate) reads: u32,
    /// The most it reads at once: a trickle reader takes a byte or a few.
    pub(crate) gulp: u32,
    /// Whether it ends its stream while faults are injected, or only afterwards.
    pub(crate) ends: bool,
    /// The step at which it resets the connection.
    pub(crate) resets: Option<u32>,
}

impl Scenario {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let steps = random.pick(&[60, 200, 400, 800]);
        let limits = draw_limits(random);
        let clients = random.pick(&[1, 2, 4, 8, 16, 30]);
        let reset_chance = random.pick(&[0, 0, 100, 500]);
        let script = |_| draw_script(random, &limits, steps, reset_chance);
        let scripts = (0..clients).map(script).collect();
        let end = random.below(steps);
        let (drain_at, stop_at) = match random.below(8) {
            0 => (Some(end), None),
            1 => (None, Some(end)),
            2 => (Some(end), Some(random.range(end, steps))),
            _ => (None, None),
        };
        Self {
            limits,
            faults: Faults::draw(random),
            scripts,
            steps,
            drain_at,
            stop_at,
            empties_queue: random.chance(500),
            lag: random.range(1, 4),
            window: random.pick(&[1, 1, 2, 8]),
            send_space: random.pick(&[1, 10, 64, 300, 5000]),
            recv_space: random.pick(&[1, 50, 500, 5000]),
        }
    }
}

impl Faults {
    fn draw(random: &mut Random) -> Self {
        let mut rate_or_none =
            |most: &[u32]| if random.chance(500) { random.pick(most) } else { 0 };
        Self {
            short_recv: rate_or_none(&[100, 500, 1000]),
            short_send: rate_or_none(&[100, 500, 1000]),
            zero_send: rate_or_none(&[1, 50]),
            early_writable: rate_or_none(&[20, 300]),
            unsent_unknown: rate_or_none(&[100, 1000]),
            bundled_recv: rate_or_none(&[300, 1000]),
            oversized_recv: rate_or_none(&[1000]),
            failed_send: rate_or_none(&[1, 5]),
            no_buffers: rate_or_none(&[10, 200, 800]),
            recv_ends: rate_or_none(&[20, 300, 1000]),
            accept_ends: rate_or_none(&[50, 300]),
            exhausted: rate_or_none(&[50, 300, 800]),
            aborted: rate_or_none(&[50, 300]),
            fatal: rate_or_none(&[1, 1, 10]),
            stale: rate_or_none(&[10, 100]),
            time_jumps: rate_or_none(&[50, 400]),
        }
    }
}

fn draw_limits(random: &mut Random) -> Limits {
    let buffer_size = random.pick(&[1, 2, 3, 8, 16, 64]);
    let credit_buffers = random.pick(&[1, 1, 2, 3, 8, 40]);
    let maybe =
        |random: &mut Random, spans: &[u64]| random.chance(300).then(|| Nanos(random.pick(spans)));
    let limits = Limits {
        listeners: random.pick(&[1, 1, 2, 3]),
        max_connections: random.pick(&[1, 1, 2, 3, 5, 8, 20, 30]),
        accept_burst: random.pick(&[1, 2, 4, 16]),
        buffers: random.pick(&[1, 1, 2, 4, 8, 50]),
        buffer_size,
        credit: buffer_size * credit_buffers + random.below(buffer_size),
        greeting: random.pick(&[0, 0, 64]),
        max_per_ip: random.chance(150).then(|| random.range(1, 3)),
        idle_timeout: maybe(random, &[20_000, 100_000]),
        write_timeout: maybe(random, &[10_000, 60_000]),
        min_drain: random.pick(&[1, 4, 100]),
        drain_timeout: maybe(random, &[1, 5_000, 80_000]),
        accept_backoff: Nanos(random.pick(&[1, 100, 1_000])),
        room_grace: Nanos(1),
    };
    // No draw of its own: a seed draws what it always drew.
    Limits { room_grace: limits.accept_backoff, ..limits }
}

fn draw_script(
    random: &mut Random,
    limits: &Limits,
    steps: u32,
    reset_chance: u32,
) -> ClientScript {
    let bytes = random.pick(&[0, 1, 2, 20, 100, 400]);
    let arrives = random.below(steps / 2);
    ClientScript {
        listener: random.index(usize::from(limits.listeners)),
        address: u128::from(random.below(3)),
        arrives,
        bytes: bytes + random.below(bytes + 1),
        chunk: random.pick(&[1, 5, 30, 500]),
        reads: random.pick(&[1000, 1000, 300, 20, 0]),
        gulp: random.pick(&[64, 64, 8, 1]),
        ends: random.chance(600),
        resets: random.chance(reset_chance).then(|| random.range(arrives, steps)),
    }
}
