//! The schedule: the instants at which connections are intended.
//!
//! There is one plan, which depends on the configuration and the seed alone, and every thread of
//! every shard takes its share of it: none twice, and together all. An offset counts nanoseconds
//! from the start of the run. After a stall of one second in the generator or the server, one
//! second of arrivals is therefore overdue, and their lateness is measured; a schedule that waited
//! for the stall would hide it (coordinated omission).
//!
//! **Every offset must be attempted**, late or not; one that cannot be attempted has an outcome
//! too. Offsets before the warm-up's end are attempted as well, and recorded as excluded.

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

use crate::model::load::Arrivals;
use crate::model::result::Shard;
use crate::plan::config::{RunConfig, Shape, Stop};
use crate::sys::time::nanos;

/// One share of the arrivals: an iterator over nanoseconds from the start of the run, ascending.
#[derive(Debug, Clone)]
pub struct Schedule {
    instants: Instants,
}

/// A share of the plan: of its arrivals, counted from 0, number `index` and every `of`-th after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanShare {
    /// Number of the share, from 0.
    pub index: u32,
    /// The number of shares, at least 1.
    pub of: u32,
}

impl Schedule {
    /// The arrivals of one thread of this process; `None` for a closed loop, where the end of one
    /// connection is the arrival of the next.
    pub fn for_thread(config: &RunConfig, thread: PlanShare) -> Option<Self> {
        assert!(thread.index < thread.of, "thread {} of {}", thread.index, thread.of);
        let share = config.shard.divided(thread);
        let warmup_ns = nanos(config.warmup);
        let instants = match config.shape {
            Shape::Closed { .. } => return None,
            Shape::Rate { per_second, arrivals: Arrivals::Poisson } => {
                Instants::Poisson(Poisson::new(per_second, config, share, warmup_ns))
            }
            Shape::Rate { per_second, arrivals: Arrivals::Constant } => {
                let formula = Formula::Constant { rate_micro: rate_micro(per_second) };
                Instants::Formula(EveryNth::new(formula, config.stop, warmup_ns, share))
            }
            Shape::Burst { count, every } => {
                let (count, every_ns) = (count.get().into(), every.map(nanos));
                let formula = Formula::Burst { count, every_ns };
                Instants::Formula(EveryNth::new(formula, config.stop, warmup_ns, share))
            }
        };
        Some(Self { instants })
    }
}

/// Arrivals that were not taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Untaken {
    /// Of the warm-up.
    pub warmup: u64,
    /// Of the measured part.
    pub measured: u64,
}

impl Untaken {
    /// Adds arrival `at`.
    #[must_use]
    pub fn and(mut self, at: u64, warmup_ns: u64) -> Self {
        *if at < warmup_ns { &mut self.warmup } else { &mut self.measured } += 1;
        self
    }
}

impl Schedule {
    /// How many arrivals are left. Of a long Poisson stream most are estimated from its rate.
    pub fn count(self, warmup_ns: u64) -> Untaken {
        match self.instants {
            Instants::Formula(every_nth) => every_nth.count(warmup_ns),
            Instants::Poisson(poisson) => poisson.count(),
        }
    }
}

impl Iterator for Schedule {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        match &mut self.instants {
            Instants::Formula(every_nth) => every_nth.next(),
            Instants::Poisson(poisson) => poisson.next(),
        }
    }
}

impl PlanShare {
    /// All of it.
    pub const WHOLE: Self = Self { index: 0, of: 1 };

    /// As the result file has it; `None` for all of the plan.
    pub fn as_shard(self) -> Option<Shard> {
        (self.of > 1).then_some(Shard { index: self.index, count: self.of })
    }

    /// Share `inner` of this share.
    #[must_use]
    pub fn divided(self, inner: Self) -> Self {
        Self { index: self.index + self.of * inner.index, of: self.of * inner.of }
    }

    /// This share of `total`; all shares add up to it exactly.
    pub fn of_total(self, total: u64) -> u64 {
        let (index, of) = (u64::from(self.index), u64::from(self.of));
        total / of + u64::from(index < total % of)
    }
}

#[derive(Debug, Clone)]
enum Instants {
    Formula(EveryNth),
    Poisson(Poisson),
}

/// The instant of arrival `k` of the plan as a function of `k`.
#[derive(Debug, Clone, Copy)]
enum Formula {
    /// Equal gaps. The rate is in millionths of a connection per second: integers do not drift.
    Constant { rate_micro: u64 },
    /// All connections of a burst at one instant; without an interval there is one burst.
    Burst { count: u64, every_ns: Option<u64> },
}

impl Formula {
    /// When arrival `k` is due; `None` after the last arrival.
    fn at(self, k: u64) -> Option<u64> {
        match self {
            Self::Constant { rate_micro } => {
                let ns = u128::from(k) * 1_000_000_000_000_000 / u128::from(rate_micro);
                u64::try_from(ns).ok()
            }
            Self::Burst { count, every_ns: None } => (k < count).then_some(0),
            Self::Burst { count, every_ns: Some(every_ns) } => (k / count).checked_mul(every_ns),
        }
    }

    /// The number of the first arrival due at or after `ns`.
    fn first_at_or_after(self, ns: u64) -> u64 {
        match self {
            Self::Constant { rate_micro } => {
                // at(k) rounds down, so the first k may exceed the quotient rounded down by one.
                let k = u128::from(ns) * u128::from(rate_micro) / 1_000_000_000_000_000;
                let k = u64::try_from(k).unwrap_or(u64::MAX);
                (k..).find(|&k| self.at(k).is_none_or(|at| at >= ns)).unwrap_or(u64::MAX)
            }
            Self::Burst { count, every_ns } => {
                every_ns.map_or(0, |every| ns.div_ceil(every.max(1)).saturating_mul(count))
            }
        }
    }
}

/// One of `n` shares: every `n`-th arrival of a formula.
#[derive(Debug, Clone)]
struct EveryNth {
    formula: Formula,
    next: u64,
    stride: u64,
    /// The first arrival after the last one.
    end: u64,
}

impl EveryNth {
    fn new(formula: Formula, stop: Stop, warmup_ns: u64, share: PlanShare) -> Self {
        let measured_from = formula.first_at_or_after(warmup_ns);
        let end = match (stop, formula) {
            (Stop::Connections(n), _) => measured_from.saturating_add(n),
            (Stop::After(_), Formula::Burst { count, every_ns: None }) => count,
            (Stop::After(d), _) => formula.first_at_or_after(warmup_ns.saturating_add(nanos(d))),
        };
        Self { formula, next: share.index.into(), stride: share.of.into(), end }
    }

    fn count(&self, warmup_ns: u64) -> Untaken {
        let before = |end: u64| end.saturating_sub(self.next).div_ceil(self.stride);
        let warmup = before(self.formula.first_at_or_after(warmup_ns).min(self.end));
        Untaken { warmup, measured: before(self.end) - warmup }
    }

    fn next(&mut self) -> Option<u64> {
        if self.next >= self.end {
            return None;
        }
        let at = self.formula.at(self.next);
        self.next = self.next.saturating_add(self.stride);
        at
    }
}

/// Exponential gaps. Everybody draws the whole plan, some 10 ns an arrival, and keeps every `n`-th:
/// independent streams would be another plan for every number of threads and of shards.
#[derive(Debug, Clone)]
struct Poisson {
    random: Pcg64,
    gap_mean_ns: f64,
    now_ns: f64,
    warmup_ns: u64,
    end: PoissonEnd,
    /// Arrivals of others before the next of this share.
    others: u32,
    of: u32,
}

#[derive(Debug, Clone, Copy)]
enum PoissonEnd {
    At(u64),
    /// Measured arrivals still to come, over all shares; those of the warm-up are not included.
    Left(u64),
}

impl Poisson {
    fn new(rate: f64, config: &RunConfig, share: PlanShare, warmup_ns: u64) -> Self {
        let end = match config.stop {
            Stop::After(d) => PoissonEnd::At(warmup_ns.saturating_add(nanos(d))),
            Stop::Connections(n) => PoissonEnd::Left(n),
        };
        Self {
            random: Pcg64::seed_from_u64(config.seed),
            gap_mean_ns: 1e9 / rate,
            now_ns: 0.0,
            warmup_ns,
            end,
            others: share.index,
            of: share.of,
        }
    }

    fn count(mut self) -> Untaken {
        let mut untaken = Untaken::default();
        for _ in 0..COUNTED_MAX / self.of {
            let Some(at) = self.next() else { return untaken };
            untaken = untaken.and(at, self.warmup_ns);
        }
        match self.end {
            PoissonEnd::Left(left) => {
                let (others, of) = (u64::from(self.others), u64::from(self.of));
                untaken.measured += left.saturating_sub(others).div_ceil(of);
            }
            PoissonEnd::At(end_ns) => {
                #[expect(clippy::cast_precision_loss, reason = "an estimate")]
                let left = (end_ns as f64 - self.now_ns) / self.gap_mean_ns / f64::from(self.of);
                #[expect(clippy::cast_possible_truncation, reason = "a float cast saturates")]
                #[expect(clippy::cast_sign_loss, reason = "the stream has not ended")]
                let left = left.round() as u64;
                untaken.measured += left;
            }
        }
        untaken
    }

    fn next(&mut self) -> Option<u64> {
        for _ in 0..self.others {
            self.draw()?;
        }
        self.others = self.of - 1;
        self.draw()
    }

    /// The next arrival of the plan.
    fn draw(&mut self) -> Option<u64> {
        if matches!(self.end, PoissonEnd::Left(0)) {
            return None;
        }
        // In (0, 1], so that the logarithm is finite.
        let uniform = 1.0 - self.random.random::<f64>();
        self.now_ns -= uniform.ln() * self.gap_mean_ns;
        #[expect(clippy::cast_possible_truncation, reason = "a float cast saturates")]
        #[expect(clippy::cast_sign_loss, reason = "offsets only grow from 0")]
        let at = self.now_ns as u64;
        match &mut self.end {
            PoissonEnd::At(end) if at >= *end => return None,
            PoissonEnd::Left(left) if at >= self.warmup_ns => *left -= 1,
            _ => {}
        }
        Some(at)
    }
}

/// Poisson arrivals drawn to be counted, some tens of milliseconds' work.
const COUNTED_MAX: u32 = 1_000_000;

/// Millionths of a connection per second; the command line allows 0.001 to 10 million.
fn rate_micro(per_second: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, reason = "a float cast saturates")]
    #[expect(clippy::cast_sign_loss, reason = "rates are positive")]
    let micro = (per_second * 1e6).round() as u64;
    micro.max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::config;

    fn by_thread(args: &str, of: u32) -> Vec<Vec<u64>> {
        let config = config(args);
        let schedule = |index| Schedule::for_thread(&config, PlanShare { index, of }).unwrap();
        (0..of).map(|index| schedule(index).collect()).collect()
    }

    fn merged(args: &str, of: u32) -> Vec<u64> {
        let mut all = by_thread(args, of).concat();
        all.sort_unstable();
        all
    }

    #[test]
    fn constant_arrivals_do_not_drift_over_ten_hours() {
        let config = config("--rate 3000 --duration 11h");
        let mut schedule = Schedule::for_thread(&config, PlanShare::WHOLE).unwrap();
        let ten_hours = 10 * 3600;
        let at = schedule.instants.skip_to(3000 * ten_hours);
        assert_eq!(at, Some(ten_hours * 1_000_000_000));
        assert_eq!(schedule.next(), Some(ten_hours * 1_000_000_000 + 333_333));
    }

    /// A thousand hosts whose clocks differ: what is offered lags behind the plan by at most the
    /// largest skew, at every instant, and nothing is added or lost.
    #[test]
    fn a_thousand_shards_are_one_plan_moved_by_no_more_than_their_skew() {
        const SHARDS: u32 = 1000;
        const SKEW_NS: u64 = 5_000_000;
        for shape in ["--rate 100k", "--rate 100k --arrivals poisson"] {
            let args = format!("{shape} --duration 20ms --seed 9");
            let (whole, plan) = (config(&args), merged(&args, 1));
            let mut offered = Vec::new();
            let mut exact = Vec::new();
            for index in 0..SHARDS {
                let shard = PlanShare { index, of: SHARDS };
                let config = RunConfig { shard, ..whole.clone() };
                let late_ns = u64::from(index) * 7919 % 1000 * SKEW_NS / 1000;
                for at_ns in Schedule::for_thread(&config, PlanShare::WHOLE).unwrap() {
                    exact.push(at_ns);
                    offered.push(at_ns + late_ns);
                }
            }
            exact.sort_unstable();
            offered.sort_unstable();
            assert_eq!(exact, plan, "{shape}");
            let late = offered.iter().zip(&plan).map(|(offered, planned)| offered - planned);
            assert!(late.max().is_some_and(|most| (1..SKEW_NS).contains(&most)), "{shape}");
        }
    }

    impl Instants {
        fn skip_to(&mut self, k: u64) -> Option<u64> {
            let Self::Formula(every_nth) = self else { panic!("Poisson arrivals have no formula") };
            every_nth.next = k;
            every_nth.next()
        }
    }

    #[test]
    fn constant_arrivals_interleave_over_the_threads() {
        let threads = by_thread("--rate 4 --duration 2s", 2);
        assert_eq!(threads[0], [0, 500_000_000, 1_000_000_000, 1_500_000_000]);
        assert_eq!(threads[1], [250_000_000, 750_000_000, 1_250_000_000, 1_750_000_000]);
    }

    #[test]
    fn the_arrivals_of_a_burst_share_an_instant_and_bursts_repeat() {
        let all = merged("--burst 3 --every 1s --duration 2500ms", 2);
        assert_eq!(all, [0, 0, 0, 1, 1, 1, 2, 2, 2].map(|s: u64| s * 1_000_000_000));
        assert_eq!(merged("--burst 3", 2), [0, 0, 0]);
        assert_eq!(merged("--burst 3 --duration 5s", 2), [0, 0, 0]);
        assert_eq!(merged("--burst 3 --every 1s --connections 4", 2).len(), 4);
    }

    #[test]
    fn a_closed_loop_has_no_schedule() {
        let config = config("--concurrency 3");
        assert!(Schedule::for_thread(&config, PlanShare::WHOLE).is_none());
    }

    #[test]
    fn poisson_gaps_have_the_mean_and_spread_of_an_exponential() {
        let all = merged("--rate 1000 --arrivals poisson --connections 100k --seed 7", 3);
        let gaps: Vec<f64> =
            all.windows(2).map(|w| f64::from(u32::try_from(w[1] - w[0]).unwrap())).collect();
        let n = f64::from(u32::try_from(gaps.len()).unwrap());
        let mean = gaps.iter().sum::<f64>() / n;
        let variance = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / n;
        assert!((mean / 1e6 - 1.0).abs() < 0.02, "mean {mean}");
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.03, "coefficient of variation");
    }

    #[test]
    fn the_seed_decides_poisson_arrivals_and_threads_differ() {
        let args = "--rate 100 --arrivals poisson --connections 50 --seed";
        assert_eq!(by_thread(&format!("{args} 1"), 2), by_thread(&format!("{args} 1"), 2));
        assert_ne!(by_thread(&format!("{args} 1"), 2), by_thread(&format!("{args} 2"), 2));
        let two = by_thread(&format!("{args} 1"), 2);
        assert_ne!(two[0], two[1]);
    }

    proptest! {
        #[test]
        fn as_many_connections_as_asked_for_are_measured_and_offsets_ascend(
            shape in prop_oneof![
                (1u32..100_000).prop_map(|r| format!("--rate {r}")),
                (1u32..100_000).prop_map(|r| format!("--rate 0.{r:06}1")),
                (1u32..100_000).prop_map(|r| format!("--rate {r} --arrivals poisson")),
                (1u32..50, 1u32..1000).prop_map(|(n, ms)| format!("--burst {n} --every {ms}ms")),
            ],
            connections in 1u64..500,
            warmup_us in 0u64..5_000,
            of in 1u32..9,
        ) {
            prop_assume!(!shape.starts_with("--rate 0.000"));
            let args = format!("{shape} --connections {connections} --warmup {warmup_us}us");
            let threads = by_thread(&args, of);
            for offsets in &threads {
                prop_assert!(offsets.is_sorted());
            }
            let measured = threads.iter().flatten().filter(|&&at| at >= warmup_us * 1000).count();
            prop_assert_eq!(measured as u64, connections);
        }

        #[test]
        fn shards_of_any_number_of_threads_are_together_exactly_the_plan_of_one(
            shape in prop_oneof![
                (1u32..20_000).prop_map(|r| format!("--rate {r}")),
                (1u32..20_000).prop_map(|r| format!("--rate {r} --arrivals poisson")),
                (10u32..50, 1u32..1000).prop_map(|(n, ms)| format!("--burst {n} --every {ms}ms")),
            ],
            stop in prop_oneof![
                (1u32..200).prop_map(|ms| format!("--duration {ms}ms")),
                (10u32..2000).prop_map(|n| format!("--connections {n}")),
            ],
            warmup_ms in 0u64..20,
            threads in prop::collection::vec(1u32..4, 1..9),
        ) {
            let args = format!("{shape} {stop} --warmup {warmup_ms}ms --seed 9");
            let shards = threads.len();
            let each = threads.iter().enumerate().flat_map(|(shard, &threads)| {
                by_thread(&format!("{args} --shard {shard}/{shards} 127.0.0.1:1"), threads)
            });
            let mut all: Vec<u64> = each.flatten().collect();
            all.sort_unstable();
            prop_assert_eq!(all, merged(&args, 1));
        }

        #[test]
        fn what_is_left_is_counted_as_it_would_be_taken(
            shape in prop_oneof![
                (1u32..20_000).prop_map(|r| format!("--rate {r}")),
                (1u32..20_000).prop_map(|r| format!("--rate {r} --arrivals poisson")),
                (1u32..50, 1u32..1000).prop_map(|(n, ms)| format!("--burst {n} --every {ms}ms")),
            ],
            taken in 0usize..300,
            warmup_ms in 0u64..50,
            index in 0u32..3,
        ) {
            let config = config(&format!("{shape} --duration 100ms --warmup {warmup_ms}ms"));
            let mut schedule = Schedule::for_thread(&config, PlanShare { index, of: 3 }).unwrap();
            schedule.by_ref().take(taken).for_each(drop);
            let warmup_ns = warmup_ms * 1_000_000;
            let each = schedule.clone();
            let expected = each.fold(Untaken::default(), |sum, at| sum.and(at, warmup_ns));
            prop_assert_eq!(schedule.count(warmup_ns), expected);
        }

        #[test]
        fn arrivals_fill_the_duration_and_do_not_exceed_it(
            rate in 1u64..20_000,
            ms in 1u64..2_000,
            warmup_ms in 0u64..100,
            of in 1u32..9,
        ) {
            let args = format!("--rate {rate} --duration {ms}ms --warmup {warmup_ms}ms");
            let all = merged(&args, of);
            let total_ms = ms + warmup_ms;
            prop_assert!(all.iter().all(|&at| at < total_ms * 1_000_000));
            prop_assert_eq!(all.len() as u64, (total_ms * rate).div_ceil(1000));
        }
    }
}
