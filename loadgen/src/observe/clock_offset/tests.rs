use proptest::prelude::*;

use super::*;

/// One connection of a simulated client, as the truth has it.
#[derive(Clone, Copy, Debug)]
struct Simulated {
    /// Since the last one.
    pause_ns: u64,
    /// connect → accept, and accept → stamp at the client: nothing binds one to the other.
    forward_ns: u64,
    back_ns: u64,
    /// How fast the server's clock is meanwhile.
    drift_ppb: i64,
}

fn simulated() -> impl Strategy<Value = Simulated> {
    let drift = i64::try_from(MAX_DRIFT_PPB).unwrap();
    let delays = (8_000_u64..60_000_000, 5_000_u64..60_000_000);
    (1_000_u64..900_000_000, delays, -drift..=drift).prop_map(
        |(pause_ns, (forward_ns, back_ns), drift_ppb)| Simulated {
            pause_ns,
            forward_ns,
            back_ns,
            drift_ppb,
        },
    )
}

/// A server's clock beside the client's.
#[derive(Debug)]
struct Clocks {
    client_ns: u64,
    /// In thousandths of a millionth of a nanosecond, so that drift is not rounded away.
    offset: i128,
}

const FRACTIONS: i128 = 1_000_000_000;

impl Clocks {
    fn new(ahead_ns: i64) -> Self {
        Self { client_ns: DAY, offset: i128::from(ahead_ns) * FRACTIONS }
    }

    fn pass(&mut self, ns: u64, drift_ppb: i64) {
        self.client_ns += ns;
        // The rate is one of the server's time; in the client's it is a ten-thousandth less.
        self.offset += i128::from(ns) * i128::from(drift_ppb) * 9_998 / 10_000;
    }

    fn offset_ns(&self) -> i64 {
        i64::try_from(self.offset.div_euclid(FRACTIONS)).unwrap()
    }

    /// A connection from call to stamp, with the true accept by the client's clock, and the offset.
    fn connect(&mut self, with: Simulated) -> (StampedAccept, u64, i64) {
        self.pass(with.pause_ns, with.drift_ppb);
        let called_ns = self.client_ns;
        self.pass(with.forward_ns, with.drift_ppb);
        let (truth_ns, offset_ns) = (self.client_ns, self.offset_ns());
        let accepted_ns = truth_ns.checked_add_signed(offset_ns).unwrap();
        self.pass(with.back_ns, with.drift_ppb);
        (StampedAccept { called_ns, accepted_ns, arrived_ns: self.client_ns }, truth_ns, offset_ns)
    }
}

const DAY: u64 = 86_400_000_000_000;

proptest! {
    #[test]
    fn bounds_contain_the_truth_in_every_case(
        ahead_ns in -80_000_000_000_000_i64..80_000_000_000_000,
        connections in prop::collection::vec(simulated(), 1..200),
    ) {
        let mut clocks = Clocks::new(ahead_ns);
        let mut known: Option<OffsetBounds> = None;
        for connection in connections {
            let (stamped, truth_ns, offset_ns) = clocks.connect(connection);
            let bounds = known.get_or_insert_with(|| OffsetBounds::of(stamped));
            let bracket = bounds.narrow(stamped).unwrap();
            // One nanosecond is that of a reading.
            prop_assert!(bracket.earliest_ns <= truth_ns + 1, "{bracket:?} {truth_ns}");
            prop_assert!(bracket.latest_ns + 1 >= truth_ns, "{bracket:?} {truth_ns}");
            prop_assert!(stamped.called_ns <= bracket.earliest_ns);
            prop_assert!(bracket.latest_ns <= stamped.arrived_ns);
            prop_assert!(bounds.offset_ns().abs_diff(offset_ns) <= bounds.half_width_ns() + 1);
        }
    }

    /// In whatever order stamps come in, and however absurd, nothing panics.
    #[test]
    fn no_stamp_is_too_strange(stamps in prop::collection::vec(any::<(u64, u64, u64)>(), 1..20)) {
        let mut known: Option<OffsetBounds> = None;
        for (called_ns, accepted_ns, waited_ns) in stamps {
            let called_ns = called_ns / 2;
            let arrived_ns = called_ns + waited_ns / 2;
            let stamped = StampedAccept { called_ns, accepted_ns, arrived_ns };
            let bounds = known.get_or_insert_with(|| OffsetBounds::of(stamped));
            if let Ok(bracket) = bounds.narrow(stamped) {
                prop_assert!(called_ns <= bracket.earliest_ns);
                prop_assert!(bracket.latest_ns <= arrived_ns);
            }
        }
    }
}

fn exchange(called_ns: u64, forward_ns: u64, back_ns: u64, ahead_ns: u64) -> StampedAccept {
    let accepted_ns = called_ns + forward_ns + ahead_ns;
    StampedAccept { called_ns, accepted_ns, arrived_ns: called_ns + forward_ns + back_ns }
}

#[test]
fn the_fastest_of_each_direction_decide_and_drift_widens() {
    let mut bounds = OffsetBounds::of(exchange(DAY, 10_000, 900_000, 5_000_000_000));
    assert_eq!(bounds.half_width_ns(), 455_000);
    // A tenth of a second later drift may be 10 µs.
    let late = exchange(DAY + 100_000_000, 700_000, 30_000, 5_000_000_000);
    let bracket = bounds.narrow(late).unwrap();
    assert_eq!(bracket.width_ns(), 30_000 + 10_000 + 10_069);
    assert_eq!(bounds.half_width_ns(), bracket.half_width_ns());
    let truth_ns = DAY + 100_000_000 + 700_000;
    assert!(bracket.earliest_ns <= truth_ns && truth_ns <= bracket.latest_ns);
}

#[test]
fn a_clock_that_was_set_contradicts_what_was_known_once() {
    for step_ns in [-3_000_000_i64, 3_000_000] {
        let mut bounds = OffsetBounds::of(exchange(DAY, 20_000, 20_000, 5_000_000_000));
        let ahead_ns = 5_000_000_000_u64.checked_add_signed(step_ns).unwrap();
        let after = exchange(DAY + 1_000_000, 20_000, 20_000, ahead_ns);
        let error = bounds.narrow(after).unwrap_err();
        assert!((2_900_000..3_000_000).contains(&error.by_ns), "{error}");
        let next = exchange(DAY + 2_000_000, 20_000, 20_000, ahead_ns);
        assert!(bounds.narrow(next).is_ok());
        let late = exchange(DAY + 3_000_000_000, 20_000, 20_000, ahead_ns);
        let before = OffsetBounds::of(exchange(DAY, 20_000, 20_000, 5_000_000_000));
        assert_eq!(OffsetBounds::of(late).drift_since(before), None, "a step is no drift");
    }
}

const STEADY: Simulated =
    Simulated { pause_ns: 10_000_000, forward_ns: 50_000, back_ns: 30_000, drift_ppb: 0 };

#[test]
fn a_drift_beyond_the_limit_is_found_out() {
    let mut clocks = Clocks::new(1_000_000_000);
    let fast = Simulated { drift_ppb: 500_000, ..STEADY };
    let mut bounds = OffsetBounds::of(clocks.connect(fast).0);
    let contradicted = (0..100).any(|_| bounds.narrow(clocks.connect(fast).0).is_err());
    assert!(contradicted, "a second at 500 ppm is 400 µs more than is allowed for");
}

#[test]
fn the_drift_of_a_run_is_told_with_its_bound() {
    for drift_ppb in [-70_000, 0, 40_000] {
        let mut clocks = Clocks::new(-3_000_000_000);
        let steady = Simulated { drift_ppb, ..STEADY };
        let first = OffsetBounds::of(clocks.connect(steady).0);
        let mut bounds = first;
        assert_eq!(bounds.drift_since(first), None);
        for _ in 0..1000 {
            bounds.narrow(clocks.connect(steady).0).unwrap();
        }
        let drift = bounds.drift_since(first).expect("ten seconds are enough");
        let truth = f64::from(i32::try_from(drift_ppb).unwrap()) / 1e3;
        assert!((drift.ppm - truth).abs() <= drift.bound_ppm, "{drift:?} {truth}");
        assert!(drift.bound_ppm < 10.0, "{drift:?}");
    }
}
