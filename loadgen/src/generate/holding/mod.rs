//! Connections that are opened, echoed once and held, in the tables of rings: no descriptor of the
//! process for any of them.
//!
//! A ring's table has at most RLIMIT_NOFILE entries, so many connections take several rings. A
//! thread fills its rings one after the other.

mod echo;
mod share;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use serde::{Deserialize, Serialize};
use uring_echo::ring::{Ring, RingError};

use self::echo::MESSAGE;
use self::share::{Share, ShareSpec};
use crate::plan::payload::Payload;
use crate::plan::sources::Sources;

/// What is to be held.
#[derive(Clone, Debug)]
pub struct HoldingPlan {
    /// The server.
    pub target: SocketAddr,
    /// Addresses to connect from, in turn.
    pub sources: Sources,
    /// Connections of each ring.
    pub rings: Vec<u32>,
    /// Threads that the rings are shared out to.
    pub threads: usize,
}

/// What came of opening connections.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Opened {
    /// Established.
    pub opened: u32,
    /// Of those, echoed: these are held.
    pub echoed: u32,
    /// The first failure.
    pub first_error: Option<String>,
    /// Why not all were tried.
    pub ended_early: Option<EndedEarly>,
}

/// Why opening ended before all were tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndedEarly {
    /// A stop was asked for.
    Stopped,
    /// The server did not answer any of those on their way.
    Silence,
    /// Very many failed one after the other.
    Failing,
}

impl EndedEarly {
    /// For the report.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Stopped => "a stop was asked for",
            Self::Silence => {
                "nothing came back for 10 s, so the rest was not tried; is the server full?"
            }
            Self::Failing => "1,000 failed one after the other, so the rest was not tried",
        }
    }
}

/// Why rings cannot hold connections.
#[derive(Debug, thiserror::Error)]
pub enum HoldingError {
    /// A ring is not to be had, or has failed.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// A thread cannot be started.
    #[error("starting a thread that holds connections")]
    Thread(#[source] io::Error),
    /// A thread panicked: a defect in this program.
    #[error("a thread that holds connections panicked")]
    Panicked,
}

impl Opened {
    /// Adds another part.
    pub fn add(&mut self, part: Self) {
        self.opened += part.opened;
        self.echoed += part.echoed;
        self.first_error = self.first_error.take().or(part.first_error);
        self.ended_early = self.ended_early.or(part.ended_early);
    }
}

/// The threads that hold connections.
#[derive(Debug)]
pub struct HoldingThreads(Vec<HoldingThread>);

#[derive(Debug)]
struct HoldingThread {
    orders: Sender<Order>,
    answers: Receiver<Answer>,
    body: Option<Body>,
}

#[derive(Clone, Copy, Debug)]
enum Order {
    CountLost,
    Reset,
}

#[derive(Debug)]
enum Answer {
    Opened(Opened),
    Lost(u32),
    Reset,
}

/// Why rings cannot hold connections here; `None` if they can.
///
/// # Errors
/// What is no matter of being available.
pub fn why_not_rings() -> Result<Option<String>, HoldingError> {
    match Ring::new(&share::setup(1, 0)) {
        Ok(ring) if ring.features().socket && ring.features().bind_listen => Ok(None),
        Ok(_) => Ok(Some("io_uring cannot bind sockets (needs Linux 6.11)".into())),
        Err(error) => match error.unavailable() {
            Some(reason) => Ok(Some(reason)),
            None => Err(error.into()),
        },
    }
}

impl HoldingThreads {
    /// Starts to open everything that is planned. Setting `stop` ends the opening.
    ///
    /// # Errors
    /// [`HoldingError::Thread`] if a thread cannot be started.
    pub fn start(plan: &HoldingPlan, stop: &Arc<AtomicBool>) -> Result<Self, HoldingError> {
        let threads = plan.threads.clamp(1, plan.rings.len().max(1));
        let start = |index| HoldingThread::start(index, threads, plan, stop);
        (0..threads).map(start).collect::<Result<_, _>>().map(Self)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Waits until each has opened what it can.
    ///
    /// # Errors
    /// That of the first thread that had to give up.
    pub fn opened(&mut self) -> Result<Opened, HoldingError> {
        let mut all = Opened::default();
        for thread in &mut self.0 {
            if let Answer::Opened(part) = thread.answer()? {
                all.add(part);
            }
        }
        Ok(all)
    }

    /// How many connections have ended, or have bytes that nobody asked for.
    ///
    /// # Errors
    /// As [`Self::opened`].
    pub fn count_lost(&mut self) -> Result<u32, HoldingError> {
        let mut sum = 0;
        self.order(Order::CountLost, |answer| {
            if let Answer::Lost(lost) = answer {
                sum += lost;
            }
        })?;
        Ok(sum)
    }

    /// Resets all connections.
    ///
    /// # Errors
    /// As [`Self::opened`].
    pub fn reset(mut self) -> Result<(), HoldingError> {
        self.order(Order::Reset, drop)?;
        for HoldingThread { orders, answers: _, mut body } in self.0 {
            drop(orders);
            joined(&mut body)?;
        }
        Ok(())
    }

    fn order(&mut self, order: Order, mut take: impl FnMut(Answer)) -> Result<(), HoldingError> {
        for thread in &self.0 {
            // One that has given up says why instead of an answer.
            thread.orders.send(order).ok();
        }
        self.0.iter_mut().try_for_each(|thread| thread.answer().map(&mut take))
    }
}

impl HoldingThread {
    /// Starts thread `index` of `of`, which has every `of`-th ring.
    fn start(
        index: usize,
        of: usize,
        plan: &HoldingPlan,
        stop: &Arc<AtomicBool>,
    ) -> Result<Self, HoldingError> {
        let (plan, stop) = (plan.clone(), Arc::clone(stop));
        let (orders, orders_out) = mpsc::channel();
        let (answers_in, answers) = mpsc::channel();
        let body = move || hold(&plan, (index, of), &stop, &orders_out, &answers_in);
        let body = thread::Builder::new().name(format!("hold-{index}")).spawn(body);
        Ok(Self { orders, answers, body: Some(body.map_err(HoldingError::Thread)?) })
    }

    fn answer(&mut self) -> Result<Answer, HoldingError> {
        let gone = |_| joined(&mut self.body).err().unwrap_or(HoldingError::Panicked);
        self.answers.recv().map_err(gone)
    }
}

/// Waits until the thread has ended; it does when nobody can give it orders any more.
fn joined(body: &mut Option<Body>) -> Result<(), HoldingError> {
    body.take().map_or(Ok(()), |body| body.join().unwrap_or(Err(HoldingError::Panicked)))
}

type Body = JoinHandle<Result<(), HoldingError>>;

/// The life of a thread: opens, then does what it is told until nobody can tell it any more.
fn hold(
    plan: &HoldingPlan,
    (index, of): (usize, usize),
    stop: &AtomicBool,
    orders: &Receiver<Order>,
    answers: &Sender<Answer>,
) -> Result<(), HoldingError> {
    let payload = Payload::new(MESSAGE, SEED);
    let (mut shares, mut opened) = (Vec::new(), Opened::default());
    for (number, &wanted) in plan.rings.iter().enumerate().skip(index).step_by(of) {
        let before = &plan.rings[..number];
        let spec = ShareSpec {
            target: plan.target,
            // Rings that are filled at the same time use different addresses at the same time.
            sources: plan.sources.clone().starting_at(number * APART),
            first: before.iter().copied().map(u64::from).sum(),
            payload: &payload,
            stop,
        };
        let mut share = Share::new(wanted, spec)?;
        opened.add(share.open()?);
        shares.push(share);
        if opened.ended_early.is_some() {
            break;
        }
    }
    answers.send(Answer::Opened(opened)).ok();
    for order in orders {
        answers.send(order.carry_out(&mut shares)?).ok();
    }
    Ok(())
}

impl Order {
    fn carry_out(self, shares: &mut [Share<'_>]) -> Result<Answer, HoldingError> {
        match self {
            Self::CountLost => {
                let lost = shares.iter_mut().map(Share::count_lost);
                Ok(Answer::Lost(lost.sum::<Result<u32, _>>()?))
            }
            Self::Reset => {
                shares.iter_mut().try_for_each(Share::reset)?;
                Ok(Answer::Reset)
            }
        }
    }
}

const SEED: u64 = 62;
/// Of the sources that two successive rings begin with.
const APART: usize = 31;
