//! One run: chaos first, then everyone does their part, then nothing may be left.

use uring_echo::echo::{ConnId, Event, Nanos, RecvEnd, Shard};

use super::client::Stage;
use super::completions::Lane;
use super::coverage::NAMES;
use super::kernel::Kernel;
use super::random::Dice;
use super::scenario::{Faults, Scenario};
use super::socket::Socket;

/// Rounds of everyone doing all they can until which a run must have ended: a round may move no
/// more than one byte, and 30 clients send up to 800 each.
const ROUNDS: u32 = 100_000;

#[derive(Debug)]
pub(crate) struct World {
    shard: Shard,
    kernel: Kernel,
    scenario: Scenario,
    dice: Dice,
    now: Nanos,
    step: u32,
    drained_at: Option<Nanos>,
    traced: bool,
    events: u64,
}

impl World {
    pub(crate) fn new(seed: u64, traced: bool) -> Self {
        Self::of(Dice::new(seed), traced)
    }

    /// A run whose every decision is taken from `script`, as far as that goes.
    pub(crate) fn scripted(script: Vec<u8>, traced: bool) -> Self {
        Self::of(Dice::scripted(script), traced)
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
        self.tell(Event::Start);
        while self.step < self.scenario.steps {
            self.control();
            self.chaos();
            self.step += 1;
        }
        self.settle();
        self.end();
        self.verify();
    }

    /// What this run went through, in the order of [`NAMES`](super::coverage::NAMES).
    pub(crate) fn sights(&self) -> [u64; NAMES.len()] {
        let (stats, watch) = (self.shard.stats(), &self.kernel.watch);
        [
            self.events,
            stats.accepted,
            watch.orderly,
            stats.reset,
            stats.refused_by_ip,
            stats.idle_timeouts,
            stats.write_timeouts,
            stats.cut_short,
            watch.full_sends,
            stats.gathered,
            stats.credit_stops,
            stats.parked,
            watch.bursts,
            watch.cut_back,
            watch.turns,
            stats.accept_exhausted,
            stats.accept_aborted,
            watch.dead_listeners,
            stats.stale,
        ]
    }

    fn of(mut dice: Dice, traced: bool) -> Self {
        let scenario = Scenario::draw(&mut dice);
        Self {
            shard: Shard::new(scenario.limits),
            kernel: Kernel::new(&scenario),
            scenario,
            dice,
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

    /// Anybody does anything.
    fn chaos(&mut self) {
        self.now = self.now.plus(Nanos(u64::from(self.dice.below(20))));
        match self.dice.below(3 + self.scenario.lag) {
            0 => self.clients_act(),
            1 => self.deliver_one(),
            2 => self.time_passes(),
            _ => self.kernel_works(),
        }
        if self.dice.chance(self.kernel.faults.stale) {
            self.say_something_stale();
        }
    }

    fn clients_act(&mut self) {
        let number = self.dice.index(self.kernel.clients.len());
        let client = &mut self.kernel.clients[number];
        if client.stage == Stage::Away && client.plan.arrives <= self.step {
            self.kernel.arrive(number);
        } else {
            client.act(self.step, self.scenario.recv_space, &mut self.dice);
        }
    }

    fn kernel_works(&mut self) {
        let listeners = self.kernel.listeners.len();
        let which = self.dice.index(listeners + self.kernel.sockets.len());
        let worked = match which.checked_sub(listeners) {
            None => self.kernel.work_accept(which, &mut self.dice),
            Some(socket) => self.kernel.work(socket, &mut self.dice),
        };
        if !worked {
            self.take_queued();
        }
    }

    fn time_passes(&mut self) {
        if self.dice.chance(self.kernel.faults.time_jumps) {
            let span = self.dice.pick(&[100, 1_000, 10_000, 50_000]);
            self.now = self.now.plus(Nanos(u64::from(self.dice.below(span))));
        }
        let due = self.shard.deadline().is_some_and(|at| at <= self.now);
        if due || self.dice.chance(20) {
            self.tell(Event::Tick);
        }
    }

    fn deliver_one(&mut self) {
        let next = self.kernel.done.pop(self.scenario.window, &mut self.dice);
        if let Some((lane, event)) = next {
            self.kernel.hear(lane, event, self.now);
            self.tell(event);
        }
    }

    /// True if there was anything to deliver.
    fn deliver_all(&mut self) -> bool {
        let any = self.kernel.done.len() > 0;
        while self.kernel.done.len() > 0 {
            self.deliver_one();
        }
        any
    }

    /// While draining, an engine may hand over what is queued, as far as there is room. True if
    /// it did.
    fn take_queued(&mut self) -> bool {
        let mut any = false;
        let taking = self.scenario.empties_queue && self.drained_at.is_some();
        for number in 0..self.kernel.listeners.len() {
            if !taking || self.kernel.listeners[number].is_armed() || self.shard.spare_slots() == 0
            {
                continue;
            }
            if let Some(event) = self.kernel.take_queued(number) {
                self.kernel.hear(Lane::Accept(number), event, self.now);
                self.tell(event);
                any = true;
            }
        }
        any
    }

    fn say_something_stale(&mut self) {
        if self.kernel.past.is_empty() {
            return;
        }
        let conn: ConnId = self.dice.pick(&self.kernel.past);
        let event = match self.dice.below(5) {
            0 => Event::Sent { conn, len: 1 },
            1 => Event::SendFailed { conn },
            2 => Event::RecvEnded { conn, end: RecvEnd::Eof },
            3 => Event::Closed { conn },
            _ if self.kernel.memory.is_empty() => return,
            _ => Event::Received { conn, buf: self.kernel.memory.fill(1, |_| 0), len: 1 },
        };
        self.kernel.done.push(Lane::Stray, event);
    }

    /// Nothing goes wrong any more and everyone finishes: that must come to an end by itself.
    fn settle(&mut self) {
        self.kernel.faults = Faults::default();
        self.kernel.clients_arrive();
        for _ in 0..ROUNDS {
            let mut active = self.kernel.clients_finish(self.scenario.recv_space);
            active |= self.kernel.work_all(&mut self.dice);
            active |= self.deliver_all();
            active |= self.take_queued();
            if active {
                continue;
            }
            if self.kernel.is_over(self.drained_at.is_some()) {
                return;
            }
            self.wait();
        }
        self.give_up("no end in sight")
    }

    /// Nobody can do anything until time passes.
    fn wait(&mut self) {
        let Some(at) = self.shard.deadline() else { self.give_up("stuck") };
        self.now = self.now.max(at);
        self.tell(Event::Tick);
        self.kernel.calm = true;
        self.kernel.assert_not_starving();
    }

    fn end(&mut self) {
        if self.dice.chance(500) {
            self.stop();
        }
        self.drain();
        for _ in 0..ROUNDS {
            if self.shard.is_finished() {
                return;
            }
            self.kernel.work_all(&mut self.dice);
            self.deliver_all();
        }
        self.give_up("never finished")
    }

    fn verify(&mut self) {
        self.deliver_all();
        assert!(self.shard.is_finished() && self.shard.is_quiescent(), "something is left");
        assert!(self.kernel.memory.all_home(), "a buffer is not home");
        assert!(self.kernel.sockets.iter().all(Option::is_none), "a socket is open");
        let (stats, tally) = (self.shard.stats(), self.kernel.tally);
        assert_eq!((stats.accepted, stats.closed), (tally.accepted, tally.closed));
        assert_eq!((stats.bytes_in, stats.bytes_out), (tally.bytes_in, tally.bytes_out));
        assert_eq!((stats.refused_by_ip, stats.stale), (tally.refused, tally.stale));
        assert_eq!(stats.accepted, stats.closed);
    }

    fn give_up(&self, why: &str) -> ! {
        if self.traced {
            println!("{self:#?}");
        }
        panic!("{why}");
    }

    fn drain(&mut self) {
        self.kernel.draining = true;
        self.drained_at.get_or_insert(self.now);
        self.tell(Event::Drain);
    }

    fn stop(&mut self) {
        self.kernel.draining = true;
        self.kernel.stopping = true;
        self.drained_at.get_or_insert(self.now);
        self.tell(Event::Stop);
    }

    fn tell(&mut self, event: Event) {
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
            kernel.obey(action);
        });
        self.shard.assert_sound();
        self.kernel.watch();
        if event == Event::Tick {
            let next = self.shard.deadline();
            assert!(next.is_none_or(|at| at > self.now), "a tick leaves something due: it spins");
            self.kernel.sockets.iter().flatten().for_each(|socket| self.assert_in_time(socket));
        }
    }

    /// After a tick nobody is left whose time was over.
    fn assert_in_time(&self, socket: &Socket) {
        let seen = &socket.seen;
        if seen.given_up || socket.conn.is_none() {
            return;
        }
        assert!(!self.kernel.stopping, "{:?} survives the stop", socket.conn);
        let limits = &self.scenario.limits;
        let late = |timeout: Option<Nanos>, since: Nanos| {
            timeout.is_some_and(|t| since.plus(t).plus(Nanos(t.0 / 8)) <= self.now)
        };
        assert!(!late(limits.idle_timeout, seen.active_at), "{:?} is idle", socket.conn);
        let stuck = seen.sending.is_some() && late(limits.write_timeout, seen.send_at);
        assert!(!stuck, "{:?} does not read", socket.conn);
    }
}
