#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "simulated times are positive and far below 2^52"
)]

use hdrhistogram::Histogram;
use proptest::prelude::*;

use super::*;
use crate::model::histogram::new_histogram;

const INTERVAL: u64 = 1_000_000;
const RESOLUTION: u64 = QueueWaits::resolution_ns(INTERVAL);
const SECOND: u64 = 1_000_000_000;

/// A generator of numbers that depend on a seed only.
struct Random(u64);

impl Random {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        ((self.0 >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    fn exponential(&mut self, mean: f64) -> u64 {
        (-self.unit().ln() * mean) as u64
    }
}

/// When each connection arrived and was accepted, ascending in both.
type Truth = Vec<(u64, u64)>;

/// How long the server takes to come back to accept.
#[derive(Clone, Copy, Debug)]
enum Service {
    Fixed(u64),
    Exponential(f64),
    /// Accepts at once, but for so long in every period.
    Stalls(u64, u64),
}

/// Connections that arrive at random to one server that accepts them one after the other; beyond
/// `limit` that wait, they are turned away.
fn simulate(service: Service, rate: f64, seconds: u64, limit: usize, seed: u64) -> Truth {
    let mut random = Random(seed);
    let (mut now, mut free_at) = (0, 0);
    let mut truth: Truth = Vec::new();
    let mut first_waiting = 0;
    while now < seconds * SECOND {
        now += random.exponential(1e9 / rate).max(1);
        while first_waiting < truth.len() && truth[first_waiting].1 <= now {
            first_waiting += 1;
        }
        if truth.len() - first_waiting > limit {
            continue;
        }
        let mut accepted = now.max(free_at) + 20_000;
        match service {
            Service::Fixed(ns) => free_at = accepted + ns,
            Service::Exponential(mean) => free_at = accepted + random.exponential(mean),
            Service::Stalls(length, every) => {
                if accepted % every < length {
                    accepted += length - accepted % every;
                }
                free_at = accepted + 5_000;
            }
        }
        truth.push((now, accepted));
    }
    truth
}

#[derive(Debug)]
struct Seen {
    histogram: Histogram<u64>,
    mean_ns: u64,
    waits: u64,
}

/// What is known of the arrivals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Nothing,
    Count,
    Instants,
}

impl Known {
    fn resolution(self) -> u64 {
        if self == Self::Instants { INTERVAL } else { RESOLUTION }
    }
}

/// Watches the queue with jittered ticks.
fn watch(truth: &Truth, known: Known, seed: u64) -> Seen {
    let mut random = Random(seed);
    let mut instants = Vec::new();
    let mut waits = match known {
        Known::Instants => QueueWaits::timed(INTERVAL),
        _ => QueueWaits::new(INTERVAL),
    };
    let mut histogram = new_histogram();
    let end = truth.iter().map(|(_, accepted)| *accepted).max().unwrap_or(0) + 2 * INTERVAL;
    let (mut now, mut arrived, mut accepted, mut before) = (0, 0, 0, 0);
    waits.sample(now, 0, NewArrivals::Counted(0), |_, _| {});
    while now < end {
        now += (INTERVAL as f64 * (0.75 + random.unit() / 2.0)) as u64;
        arrived += truth[arrived..].iter().take_while(|(at, _)| *at <= now).count();
        accepted += truth[accepted..].iter().take_while(|(_, at)| *at <= now).count();
        let depth = u32::try_from(arrived - accepted).unwrap();
        instants.clear();
        instants.extend(truth[before..arrived].iter().map(|(at, _)| *at));
        let new = match known {
            Known::Nothing => NewArrivals::Unknown,
            Known::Count => NewArrivals::Counted((arrived - before) as u64),
            Known::Instants => NewArrivals::Timed(&instants, 0),
        };
        before = arrived;
        waits.sample(now, depth, new, |wait, count| {
            let ns = match wait {
                Wait::Below => known.resolution() / 2,
                Wait::Took(ns) => ns,
            };
            histogram.saturating_record_n(ns, count);
        });
    }
    let mean_ns = mean_wait_ns(waits.depth_time(), truth.len() as u64).unwrap();
    Seen { waits: histogram.len(), histogram, mean_ns }
}

fn true_histogram(truth: &Truth) -> Histogram<u64> {
    let mut histogram = new_histogram();
    truth.iter().for_each(|(at, accepted)| histogram.saturating_record(accepted - at));
    histogram
}

/// Mean within 5 %, percentiles within 10 % or the resolution, and every wait counted once.
fn check(truth: &Truth, seed: u64, case: &str) {
    let known = true_histogram(truth);
    for with in [Known::Count, Known::Instants] {
        check_with(truth, &known, with, seed, &format!("{case}, {with:?} known"));
    }
}

fn check_with(truth: &Truth, known: &Histogram<u64>, with: Known, seed: u64, case: &str) {
    let seen = watch(truth, with, seed);
    assert_eq!(seen.waits, truth.len() as u64, "{case}");
    let (mean, true_mean) = (seen.mean_ns as f64, known.mean());
    let near = (mean - true_mean).abs() <= 0.05 * true_mean + 10_000.0;
    assert!(near, "{case}: mean {mean} of {true_mean}");
    for quantile in [0.5, 0.9, 0.99] {
        let truth_ns = known.value_at_quantile(quantile);
        let ns = seen.histogram.value_at_quantile(quantile);
        let allowed = (truth_ns / 10).max(with.resolution());
        assert!(ns.abs_diff(truth_ns) <= allowed, "{case}: {quantile}: {ns} of {truth_ns}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn waits_are_those_that_were(seed: u64, rate in 50.0..2_000.0_f64, ms in 2_u64..120) {
        let stall = Service::Stalls(ms * 1_000_000, ms * 5_000_000);
        check(&simulate(stall, rate, 20, usize::MAX, seed), seed, "stalls");
        let load = 0.2 + 0.6 * (rate / 2_000.0);
        let fixed = Service::Fixed((load * 1e9 / rate) as u64);
        check(&simulate(fixed, rate, 20, usize::MAX, seed), seed, "fixed");
        let exponential = Service::Exponential(load * 1e9 / rate);
        check(&simulate(exponential, rate, 20, usize::MAX, seed), seed, "exponential");
    }

    #[test]
    fn a_queue_that_overflows_is_told_by_what_it_took(seed: u64, limit in 1_usize..600) {
        let blocked = Service::Stalls(900_000_000, SECOND);
        check(&simulate(blocked, 2_000.0, 10, limit, seed), seed, "overflow");
    }

    #[test]
    fn any_samples_account_for_every_arrival(
        samples in prop::collection::vec((1..5_000_000_u64, 0..50_u32, 0..80_u64), 1..200),
    ) {
        let mut waits = QueueWaits::new(INTERVAL);
        let (mut now, mut told, mut last, mut first) = (0, 0, 0, None);
        for (gap, depth, arrived) in samples {
            now += gap;
            last = depth;
            first.get_or_insert(depth);
            waits.sample(now, depth, NewArrivals::Counted(arrived), |_, count| told += count);
        }
        let (arrived, left) = waits.counts();
        let there = u64::from(first.unwrap_or(0));
        prop_assert_eq!(there + arrived - left, u64::from(last));
        prop_assert!(told <= left && left <= told + there, "{} of {}", told, left);
        prop_assert_eq!(waits.longest_wait_ns(now).is_some(), last > 0);
    }
}

#[test]
fn waits_below_the_resolution_are_counted_and_not_measured() {
    let truth = simulate(Service::Fixed(0), 1_000.0, 20, usize::MAX, 7);
    let seen = watch(&truth, Known::Count, 3);
    assert_eq!(seen.waits, truth.len() as u64);
    assert!(seen.histogram.max() < RESOLUTION, "{}", seen.histogram.max());
    assert!(seen.mean_ns.abs_diff(20_000) < 4_000, "{}", seen.mean_ns);
}

#[test]
fn depth_alone_shows_stalls_but_not_what_passes_between_samples() {
    let truth = simulate(Service::Stalls(100_000_000, SECOND), 500.0, 20, usize::MAX, 11);
    let (known, seen) = (true_histogram(&truth), watch(&truth, Known::Nothing, 5));
    assert!(seen.waits < truth.len() as u64 / 2, "{} of {}", seen.waits, truth.len());
    let long = |histogram: &Histogram<u64>| histogram.count_between(10_000_000, SECOND) as f64;
    let share = long(&seen.histogram) / long(&known);
    assert!((0.95..1.05).contains(&share), "{share}");
}

#[test]
fn two_listeners_apart_show_which_one_is_stuck() {
    let healthy = simulate(Service::Fixed(0), 500.0, 5, usize::MAX, 1);
    let seen = watch(&healthy, Known::Nothing, 2);
    assert_eq!(seen.histogram.count_between(RESOLUTION, 300 * SECOND), 0);
    let mut stuck = QueueWaits::new(INTERVAL);
    for tick in 0..3_000_u64 {
        let depth = u32::try_from(tick / 100).unwrap();
        stuck.sample(tick * INTERVAL, depth, NewArrivals::Unknown, |wait, _| {
            panic!("{wait:?}: nobody left")
        });
    }
    let longest = stuck.longest_wait_ns(2_999 * INTERVAL).unwrap();
    assert!((2_899 * INTERVAL).abs_diff(longest) <= INTERVAL, "{longest}");
    stuck.reset();
    assert_eq!(stuck.longest_wait_ns(0), None);
}

#[test]
fn those_that_waited_before_the_first_sample_have_no_wait() {
    let mut waits = QueueWaits::new(INTERVAL);
    waits.sample(0, 3, NewArrivals::Counted(0), |_, _| panic!("nobody left"));
    waits.sample(INTERVAL, 0, NewArrivals::Counted(0), |wait, _| {
        panic!("{wait:?}: it is not known")
    });
    assert_eq!(waits.counts(), (0, 3));
}

#[test]
fn inspections_at_random_instants_stand_for_all_waits() {
    let mut random = Random(5);
    let (mut truth, mut seen) = (new_histogram(), new_histogram());
    for _ in 0..200_000 {
        let wait = random.exponential(20e6).max(1);
        truth.saturating_record(wait);
        // Inspections come every 32 ms on average.
        let exposure = wait as f64 / 32e6;
        if random.exponential(32e6) < wait {
            let weight = inspection_weight(exposure) + random.unit();
            seen.saturating_record_n(wait, weight as u64);
        }
    }
    for from in [8_000_000, 20_000_000, 60_000_000] {
        let share = |histogram: &Histogram<u64>| histogram.count_between(from, SECOND) as f64;
        let ratio = share(&seen) / share(&truth);
        assert!((0.95..1.05).contains(&ratio), "from {from}: {ratio}");
    }
}

#[test]
fn who_came_and_went_before_a_late_sample_is_not_told_a_wait_that_nobody_saw() {
    let mut waits = QueueWaits::timed(INTERVAL);
    waits.sample(0, 0, NewArrivals::Timed(&[], 0), |_, _| panic!("nobody left"));
    let instants = [INTERVAL, 2 * INTERVAL, 49 * INTERVAL];
    let mut told = Vec::new();
    let new = NewArrivals::Timed(&instants, 0);
    waits.sample(50 * INTERVAL, 1, new, |wait, count| told.push((wait, count)));
    assert_eq!(told, [(Wait::Below, 2)]);
    assert_eq!(waits.longest_wait_ns(50 * INTERVAL), Some(INTERVAL));
}
