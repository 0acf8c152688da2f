//! The plan: at which instants connections are wanted.
//!
//! Every offset counts nanoseconds from the start of the run and depends on nothing but the
//! configuration, the seed and the thread. A generator or server that stalls for a second
//! therefore finds a second of arrivals overdue instead of a plan that waited for it, and their
//! lateness is measured (this is what avoids coordinated omission).
//!
//! **Every offset must be attempted**, late or not; one that cannot is an outcome, not a gap.
//! Offsets before the warm-up's end are attempted too, and recorded as excluded.

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

use crate::model::load::Arrivals;
use crate::plan::config::{RunConfig, Shape, Stop};
use crate::sys::time::nanos;

/// One thread's arrivals: an iterator over nanoseconds from the start of the run, ascending.
#[derive(Debug, Clone)]
pub struct Schedule {
    arrivals: Pattern,
}

/// Which of the generator's threads this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThreadShare {
    /// Number of this thread, from 0.
    pub index: u16,
    /// How many there are, at least 1.
    pub of: u16,
}

impl Schedule {
    /// The arrivals of one thread; `None` in a closed loop, where connections follow each other.
    pub fn for_thread(config: &RunConfig, thread: ThreadShare) -> Option<Self> {
        assert!(thread.index < thread.of, "thread {} of {}", thread.index, thread.of);
        let warmup_ns = nanos(config.warmup);
        let arrivals = match config.shape {
            Shape::Closed { .. } => return None,
            Shape::Rate { per_second, arrivals: Arrivals::Poisson } => {
                let lane = Poisson::new(per_second, config, thread, warmup_ns);
                Pattern::Poisson(lane)
            }
            Shape::Rate { per_second, arrivals: Arrivals::Constant } => {
                let grid = Grid::Constant { rate_micro: rate_micro(per_second) };
                Pattern::Grid(Lane::new(grid, config.stop, warmup_ns, thread))
            }
            Shape::Burst { count, every } => {
                let grid = Grid::Burst { count: count.get().into(), every_ns: every.map(nanos) };
                Pattern::Grid(Lane::new(grid, config.stop, warmup_ns, thread))
            }
        };
        Some(Self { arrivals })
    }
}

impl Iterator for Schedule {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        match &mut self.arrivals {
            Pattern::Grid(lane) => lane.next(),
            Pattern::Poisson(poisson) => poisson.next(),
        }
    }
}

impl ThreadShare {
    /// This thread's part of `total`; the parts of all threads add up to it exactly.
    pub fn of_total(self, total: u64) -> u64 {
        let (index, of) = (u64::from(self.index), u64::from(self.of));
        total / of + u64::from(index < total % of)
    }
}

#[derive(Debug, Clone)]
enum Pattern {
    Grid(Lane),
    Poisson(Poisson),
}

/// A plan in which the instant of arrival `k` (over all threads) is a formula.
#[derive(Debug, Clone, Copy)]
enum Grid {
    /// The rate in millionths of a connection per second: integers do not drift.
    Constant { rate_micro: u64 },
    /// All of a burst at once; without a distance there is only the first.
    Burst { count: u64, every_ns: Option<u64> },
}

impl Grid {
    /// When arrival `k` is due; `None` past the last one.
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

    /// The first arrival due at or after `ns`.
    fn first_at_or_after(self, ns: u64) -> u64 {
        match self {
            Self::Constant { rate_micro } => {
                // at(k) rounds down, so the first k may be one above the quotient's floor.
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

/// Every `of`-th arrival of a grid.
#[derive(Debug, Clone)]
struct Lane {
    grid: Grid,
    next: u64,
    stride: u64,
    /// First arrival that is not wanted any more.
    end: u64,
}

impl Lane {
    fn new(grid: Grid, stop: Stop, warmup_ns: u64, thread: ThreadShare) -> Self {
        let measured_from = grid.first_at_or_after(warmup_ns);
        let end = match (stop, grid) {
            (Stop::Connections(n), _) => measured_from.saturating_add(n),
            (Stop::After(_), Grid::Burst { count, every_ns: None }) => count,
            (Stop::After(d), _) => grid.first_at_or_after(warmup_ns.saturating_add(nanos(d))),
        };
        Self { grid, next: thread.index.into(), stride: thread.of.into(), end }
    }

    fn next(&mut self) -> Option<u64> {
        if self.next >= self.end {
            return None;
        }
        let at = self.grid.at(self.next);
        self.next = self.next.saturating_add(self.stride);
        at
    }
}

/// Exponential gaps. Independent streams of rate/n add up to one of the whole rate.
#[derive(Debug, Clone)]
struct Poisson {
    random: Pcg64,
    gap_mean_ns: f64,
    now_ns: f64,
    warmup_ns: u64,
    end: PoissonEnd,
}

#[derive(Debug, Clone, Copy)]
enum PoissonEnd {
    At(u64),
    /// Measured arrivals still to come; those of the warm-up do not count.
    Left(u64),
}

impl Poisson {
    fn new(rate: f64, config: &RunConfig, thread: ThreadShare, warmup_ns: u64) -> Self {
        let end = match config.stop {
            Stop::After(d) => PoissonEnd::At(warmup_ns.saturating_add(nanos(d))),
            Stop::Connections(n) => PoissonEnd::Left(thread.of_total(n)),
        };
        // Consecutive multiples of the golden ratio's fraction lie far apart in 64 bits.
        let lane = (u64::from(thread.index) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Self {
            random: Pcg64::seed_from_u64(config.seed.wrapping_add(lane)),
            gap_mean_ns: 1e9 * f64::from(thread.of) / rate,
            now_ns: 0.0,
            warmup_ns,
            end,
        }
    }

    fn next(&mut self) -> Option<u64> {
        if matches!(self.end, PoissonEnd::Left(0)) {
            return None;
        }
        // In (0, 1]: the logarithm is finite.
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

    fn lanes(args: &str, of: u16) -> Vec<Vec<u64>> {
        let config = config(args);
        let lane = |index| Schedule::for_thread(&config, ThreadShare { index, of }).unwrap();
        (0..of).map(|index| lane(index).collect()).collect()
    }

    fn merged(args: &str, of: u16) -> Vec<u64> {
        let mut all = lanes(args, of).concat();
        all.sort_unstable();
        all
    }

    #[test]
    fn constant_arrivals_do_not_drift_over_ten_hours() {
        let config = config("--rate 3000 --duration 11h");
        let mut schedule = Schedule::for_thread(&config, ThreadShare { index: 0, of: 1 }).unwrap();
        let ten_hours = 10 * 3600;
        let at = schedule.arrivals.skip_to(3000 * ten_hours);
        assert_eq!(at, Some(ten_hours * 1_000_000_000));
        assert_eq!(schedule.next(), Some(ten_hours * 1_000_000_000 + 333_333));
    }

    impl Pattern {
        fn skip_to(&mut self, k: u64) -> Option<u64> {
            let Self::Grid(lane) = self else { panic!("only a grid can be entered anywhere") };
            lane.next = k;
            lane.next()
        }
    }

    #[test]
    fn constant_arrivals_interleave_over_the_threads() {
        let lanes = lanes("--rate 4 --duration 2s", 2);
        assert_eq!(lanes[0], [0, 500_000_000, 1_000_000_000, 1_500_000_000]);
        assert_eq!(lanes[1], [250_000_000, 750_000_000, 1_250_000_000, 1_750_000_000]);
    }

    #[test]
    fn bursts_share_an_instant_and_repeat() {
        let all = merged("--burst 3 --every 1s --duration 2500ms", 2);
        assert_eq!(all, [0, 0, 0, 1, 1, 1, 2, 2, 2].map(|s: u64| s * 1_000_000_000));
        assert_eq!(merged("--burst 3", 2), [0, 0, 0]);
        assert_eq!(merged("--burst 3 --duration 5s", 2), [0, 0, 0]);
        assert_eq!(merged("--burst 3 --every 1s --connections 4", 2).len(), 4);
    }

    #[test]
    fn a_closed_loop_has_no_plan() {
        let config = config("--concurrency 3");
        assert!(Schedule::for_thread(&config, ThreadShare { index: 0, of: 1 }).is_none());
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
        assert_eq!(lanes(&format!("{args} 1"), 2), lanes(&format!("{args} 1"), 2));
        assert_ne!(lanes(&format!("{args} 1"), 2), lanes(&format!("{args} 2"), 2));
        let two = lanes(&format!("{args} 1"), 2);
        assert_ne!(two[0], two[1]);
    }

    proptest! {
        #[test]
        fn connections_are_measured_exactly_and_offsets_ascend(
            shape in prop_oneof![
                (1u32..100_000).prop_map(|r| format!("--rate {r}")),
                (1u32..100_000).prop_map(|r| format!("--rate 0.{r:06}1")),
                (1u32..100_000).prop_map(|r| format!("--rate {r} --arrivals poisson")),
                (1u32..50, 1u32..1000).prop_map(|(n, ms)| format!("--burst {n} --every {ms}ms")),
            ],
            connections in 1u64..500,
            warmup_us in 0u64..5_000,
            of in 1u16..9,
        ) {
            prop_assume!(!shape.starts_with("--rate 0.000"));
            let args = format!("{shape} --connections {connections} --warmup {warmup_us}us");
            let lanes = lanes(&args, of);
            for lane in &lanes {
                prop_assert!(lane.is_sorted());
            }
            let measured = lanes.iter().flatten().filter(|&&at| at >= warmup_us * 1000).count();
            prop_assert_eq!(measured as u64, connections);
        }

        #[test]
        fn a_duration_bounds_the_plan_and_fills_it(
            rate in 1u64..20_000,
            ms in 1u64..2_000,
            warmup_ms in 0u64..100,
            of in 1u16..9,
        ) {
            let args = format!("--rate {rate} --duration {ms}ms --warmup {warmup_ms}ms");
            let all = merged(&args, of);
            let total_ms = ms + warmup_ms;
            prop_assert!(all.iter().all(|&at| at < total_ms * 1_000_000));
            prop_assert_eq!(all.len() as u64, (total_ms * rate).div_ceil(1000));
        }
    }
}
