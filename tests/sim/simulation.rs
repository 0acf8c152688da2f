//! One run: first faults are injected, then everything may finish, then nothing may be left.

use uring_echo::echo::{ConnId, Event, ListenerId, Nanos, RecvEnd, Shard};

use super::client::Stage;
use super::completions::OpKey;
use super::coverage::NAMES;
use super::kernel::Kernel;
use super::random::Random;
use super::scenario::{Faults, Scenario};
use super::socket::Socket;

/// A run must end within this many rounds in which everything advances as far as possible: a round
/// may move only one byte, and 30 clients send up to 800 each.
const ROUNDS: u32 = 100_000;

#[derive(Debug)]
pub(crate) struct Simulation {
    shard: Shard,
    kernel: Kernel,
    scenario: Scenario,
    random: Random,
    now: Nanos,
    step: u32,
    drained_at: Option<Nanos>,
    traced: bool,
    events: u64,
}

impl Simulation {
    pub(crate) fn new(seed: u64, traced: bool) -> Self {
        Self::of(Random::new(seed), traced)
    }

    /// A run whose decisions are taken from `script`, as far as it reaches.
    pub(crate) fn scripted(script: Vec<u8>, traced: bool) -> Self {
        Self::of(Random::scripted(script), traced)
    }

    /// The same run, but stopped at `step`.
    pub(crate) fn stop_at(mut self, step: u32) -> Self {
        self.scenario.stop_at = Some(step);
        self
    }

    pub(crate) fn steps(&self) -> u32 {
        self.scenario.steps
    }

    pub(crate) fn run(&mut self) {
        if self.traced {
            println!("{:#?}", self.scenario);
        }
        self.handle(Event::Start);
        while self.step < self.scenario.steps {
            self.control();
            self.inject_faults();
            self.step += 1;
        }
        self.settle();
        self.end();
        self.verify();
    }

    /// How often each of [`NAMES`](super::coverage::NAMES) occurred in this run.
    pub(crate) fn coverage(&self) -> [u64; NAMES.len()] {
        let (stats, liveness) = (self.shard.stats(), &self.kernel.liveness);
        [
            self.events,
            stats.accepted,
            liveness.orderly,
            stats.reset,
            stats.refused_by_ip,
            stats.idle_timeouts,
            stats.write_timeouts,
            stats.evicted,
            stats.stalls,
            self.kernel.memory.shared,
            stats.cut_short,
            liveness.full_sends,
            stats.gathered,
            liveness.bundles,
            stats.credit_stops,
            stats.parked,
            liveness.bursts,
            liveness.bursts_cancelled,
            liveness.rotations,
            stats.accept_exhausted,
            stats.accept_aborted,
            liveness.dead_listeners,
            stats.stale,
        ]
    }

    fn of(mut random: Random, traced: bool) -> Self {
        let scenario = Scenario::draw(&mut random);
        Self {
            shard: Shard::new(scenario.limits),
            kernel: Kernel::new(&scenario),
            scenario,
            random,
            now: Nanos(1),
            step: 0,
            drained_at: None,
            traced,
            events: 0,
        }
    }

    fn control(&mut self) {
        if self.scenario.drain_at == Some(self.step) {
            self.drain();
        }
        if self.scenario.stop_at == Some(self.step) {
            self.stop();
        }
    }

    /// One step of a random participant.
    fn inject_faults(&mut self) {
        self.now = self.now.plus(Nanos(u64::from(self.random.below(20))));
        match self.random.below(3 + self.scenario.lag) {
            0 => self.clients_act(),
            1 => self.deliver_one(),
            2 => self.advance_time(),
            _ => self.kernel_acts(),
        }
        if self.random.chance(self.kernel.faults.stale) {
            self.inject_stale_event();
        }
    }

    fn clients_act(&mut self) {
        let number = self.random.index(self.kernel.clients.len());
        let client = &mut self.kernel.clients[number];
        if client.stage == Stage::Away && client.script.arrives <= self.step {
            self.kernel.arrive(number);
        } else {
            client.act(self.step, self.scenario.recv_space, &mut self.random);
        }
    }

    fn kernel_acts(&mut self) {
        let listeners = self.kernel.listeners.len();
        let which = self.random.index(listeners + self.kernel.sockets.len());
        let worked = match which.checked_sub(listeners) {
            None => self.kernel.work_accept(which, &mut self.random),
            Some(socket) => self.kernel.work(socket, &mut self.random),
        };
        if !worked {
            self.take_queued();
        }
    }

    fn advance_time(&mut self) {
        if self.random.chance(self.kernel.faults.time_jumps) {
            let span = self.random.pick(&[100, 1_000, 10_000, 50_000]);
            self.now = self.now.plus(Nanos(u64::from(self.random.below(span))));
        }
        let due = self.shard.deadline().is_some_and(|at| at <= self.now);
        if due || self.random.chance(20) {
            self.handle(Event::Tick);
        }
    }

    fn deliver_one(&mut self) {
        let mut next = self.kernel.completions.pop(self.scenario.window, &mut self.random);
        while let Some((op_key, event)) = next {
            self.kernel.delivering(op_key, event, self.now);
            self.handle(event);
            let continues = matches!(event, Event::Received { continues: true, .. });
            next = continues.then(|| self.kernel.completions.pop_of(op_key)).flatten();
        }
    }

    /// True if there was anything to deliver.
    fn deliver_all(&mut self) -> bool {
        let any = self.kernel.completions.len() > 0;
        while self.kernel.completions.len() > 0 {
            self.deliver_one();
        }
        any
    }

    /// While draining, an engine accepts queued connections by itself as far as the shard allows:
    /// what comes of it is delivered like everything else. True if one was begun.
    fn take_queued(&mut self) -> bool {
        let mut any = false;
        let taking = self.scenario.empties_queue && self.drained_at.is_some();
        for number in 0..self.kernel.listeners.len() {
            let listener = ListenerId(u8::try_from(number).expect("few listeners"));
            if !taking || !self.kernel.listeners[number].has_queued() {
                continue;
            }
            if self.shard.begin_queued_accept(listener) {
                self.shard.assert_sound();
                self.kernel.listeners[number].arm_queued();
                any = true;
            }
        }
        any
    }

    fn inject_stale_event(&mut self) {
        if self.kernel.closed_conns.is_empty() {
            return;
        }
        let conn: ConnId = self.random.pick(&self.kernel.closed_conns);
        let event = match self.random.below(7) {
            0 => Event::Sent { conn, len: 1 },
            1 => Event::SendFailed { conn },
            2 => Event::RecvEnded { conn, end: RecvEnd::Eof },
            3 => Event::Closed { conn },
            4 => Event::Writable { conn },
            5 => Event::Unsent { conn, bytes: Some(1) },
            _ if self.kernel.memory.is_empty() => return,
            _ => Event::Received {
                conn,
                buf: self.kernel.memory.fill(1, |_| 0),
                len: 1,
                continues: false,
            },
        };
        self.kernel.completions.push(OpKey::Stray, event);
    }

    /// No more faults, and every client finishes: the run must come to an end by itself.
    fn settle(&mut self) {
        self.kernel.faults = Faults::default();
        self.kernel.clients_arrive();
        for _ in 0..ROUNDS {
            let mut active = self.kernel.clients_finish(self.scenario.recv_space);
            active |= self.kernel.work_all(&mut self.random);
            active |= self.deliver_all();
            active |= self.take_queued();
            if active {
                continue;
            }
            if self.kernel.clients_served(self.drained_at.is_some()) {
                return;
            }
            self.wait();
        }
        self.fail("no end in sight")
    }

    /// Nothing can advance until time passes.
    fn wait(&mut self) {
        let Some(at) = self.shard.deadline() else { self.fail("stuck") };
        self.now = self.now.max(at);
        self.handle(Event::Tick);
        self.kernel.settling = true;
        self.kernel.assert_not_starving();
    }

    fn end(&mut self) {
        if self.random.chance(500) {
            self.stop();
        }
        self.drain();
        for _ in 0..ROUNDS {
            if self.shard.is_finished() {
                return;
            }
            self.kernel.work_all(&mut self.random);
            self.deliver_all();
        }
        self.fail("never finished")
    }

    fn verify(&mut self) {
        self.deliver_all();
        assert!(self.shard.is_finished() && self.shard.is_quiescent(), "something is left");
        assert!(self.kernel.memory.all_free(), "a buffer is not free");
        assert!(self.kernel.sockets.iter().all(Option::is_none), "a socket is open");
        let (stats, expected) = (self.shard.stats(), self.kernel.expected);
        assert_eq!((stats.accepted, stats.closed), (expected.accepted, expected.closed));
        assert_eq!((stats.bytes_in, stats.bytes_out), (expected.bytes_in, expected.bytes_out));
        assert_eq!((stats.refused_by_ip, stats.stale), (expected.refused, expected.stale));
        assert_eq!((stats.accepted, stats.slips), (stats.closed, 0));
    }

    fn fail(&self, why: &str) -> ! {
        if self.traced {
            println!("{self:#?}");
        }
        panic!("{why}");
    }

    fn drain(&mut self) {
        self.kernel.draining = true;
        self.drained_at.get_or_insert(self.now);
        self.handle(Event::Drain);
    }

    fn stop(&mut self) {
        self.kernel.draining = true;
        self.kernel.stopping = true;
        self.drained_at.get_or_insert(self.now);
        self.handle(Event::Stop);
    }

    fn handle(&mut self, event: Event) {
        self.events += 1;
        let over = self.drained_at.zip(self.scenario.limits.drain_timeout);
        let over = over.is_some_and(|(start, timeout)| start.plus(timeout) <= self.now);
        self.kernel.stopping |= over && event == Event::Tick;
        self.kernel.now = self.now;
        if event == Event::Tick {
            self.kernel.tick();
        }
        if self.traced {
            println!("{:>8} {event:?}", self.now.0);
        }
        let (kernel, traced) = (&mut self.kernel, self.traced);
        self.shard.handle(self.now, event, &mut |action| {
            if traced {
                println!("             -> {action:?}");
            }
            kernel.carry_out(action);
        });
        self.shard.assert_sound();
        self.kernel.liveness();
        if event == Event::Tick {
            let next = self.shard.deadline();
            assert!(next.is_none_or(|at| at > self.now), "a tick leaves something due: it spins");
            self.kernel.sockets.iter().flatten().for_each(|socket| self.assert_in_time(socket));
        }
    }

    /// After a tick no connection is left whose timer has expired.
    fn assert_in_time(&self, socket: &Socket) {
        let view = &socket.view;
        if view.aborted || socket.conn.is_none() {
            return;
        }
        assert!(!self.kernel.stopping, "{:?} survives the stop", socket.conn);
        let limits = &self.scenario.limits;
        let late = |timeout: Option<Nanos>, since: Nanos| {
            timeout.is_some_and(|t| since.plus(t).plus(Nanos(t.0 / 8)) <= self.now)
        };
        assert!(!late(limits.idle_timeout, view.active_at), "{:?} is idle", socket.conn);
        let waits = view.watching && !view.asking;
        let stuck = waits && late(limits.write_timeout, view.granted_at);
        assert!(!stuck, "{:?} does not read", socket.conn);
    }
}
