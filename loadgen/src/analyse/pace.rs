//! Whether an open loop kept the pace that was planned.

use crate::model::load::{Arrivals, Load};
use crate::model::outcome::Phase;
use crate::model::result::RunResult;

/// Planned and achieved connects per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// As planned.
    pub target: f64,
    /// Connects called, over the time they took.
    pub achieved: f64,
}

impl Pace {
    /// Pace of an open loop; `None` for other shapes and without connects.
    pub fn of(result: &RunResult) -> Option<Self> {
        let load = result.load.as_ref()?;
        let rate = load.rate.filter(|_| load.shape == "rate")?;
        let called = result.samples(Phase::GeneratorLag);
        if called == 0 {
            return None;
        }
        let planned_s = planned_seconds(result, load, rate);
        let taken_s = since_warmup(result.generator.last_called_ns, load).max(planned_s);
        let target = match load.arrivals {
            // The drawn arrivals are the plan: their number differs from the rate by chance.
            Some(Arrivals::Poisson) => approx(result.outcomes.attempted) / planned_s,
            Some(Arrivals::Constant) | None => rate,
        };
        Some(Self { target, achieved: approx(called) / taken_s })
    }
}

/// Length of the plan: a limited number of arrivals ends one gap after the last.
fn planned_seconds(result: &RunResult, load: &Load, rate: f64) -> f64 {
    match load.duration_ns {
        Some(ns) => approx(ns) / 1e9,
        None => since_warmup(result.generator.last_intended_ns, load) + rate.recip(),
    }
}

fn since_warmup(ns: u64, load: &Load) -> f64 {
    approx(ns.saturating_sub(load.warmup_ns)) / 1e9
}

#[expect(clippy::cast_precision_loss, reason = "rates need no more than 53 bits")]
fn approx(n: u64) -> f64 {
    n as f64
}
