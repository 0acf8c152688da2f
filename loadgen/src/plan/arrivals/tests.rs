use super::*;
use crate::testing::config;

const ONLY_THREAD: PlanShare = PlanShare::WHOLE;

fn arrivals(args: &str) -> ThreadArrivals {
    let config = config(args);
    let mut arrivals = ThreadArrivals::new(&config, ONLY_THREAD, ArrivalsLeft::of(&config));
    arrivals.begin(1_000);
    arrivals
}

#[test]
fn an_open_loop_gives_each_arrival_once_it_is_due() {
    let mut arrivals = arrivals("--rate 1m --connections 2");
    assert_eq!((arrivals.take_due(999), arrivals.next_ns()), (None, Some(1_000)));
    assert_eq!(arrivals.take_due(5_000), Some(1_000));
    arrivals.vacated(5_000, Vacated::Served);
    assert_eq!(arrivals.take_due(5_000), Some(2_000));
    assert_eq!(arrivals.next_ns(), None);
}

#[test]
fn a_closed_loop_replaces_a_connection_at_the_instant_it_ended() {
    let mut arrivals = arrivals("--concurrency 2 --connections 3");
    assert_eq!((arrivals.take_due(1_000), arrivals.take_due(1_000)), (Some(1_000), Some(1_000)));
    assert_eq!(arrivals.next_ns(), None);
    arrivals.vacated(1_700, Vacated::Served);
    assert_eq!(arrivals.take_due(1_800), Some(1_700));
    arrivals.vacated(1_900, Vacated::Served);
    assert_eq!(arrivals.next_ns(), None);
}

#[test]
fn a_closed_loop_ends_by_time_or_by_measured_connections() {
    let mut timed = arrivals("--concurrency 1 --duration 1us --warmup 1us");
    assert_eq!(timed.take_due(1_000), Some(1_000));
    timed.vacated(2_999, Vacated::Served);
    assert_eq!(timed.take_due(2_999), Some(2_999));
    timed.vacated(3_000, Vacated::Served);
    assert_eq!(timed.next_ns(), None);
    let mut counted = arrivals("--concurrency 1 --connections 1 --warmup 1us");
    for at_ns in [1_000, 1_500, 2_000] {
        assert_eq!(counted.take_due(at_ns), Some(at_ns));
        counted.vacated(at_ns + 500, Vacated::Served);
    }
    assert_eq!(counted.next_ns(), None);
}

#[test]
fn a_thread_takes_what_another_has_left() {
    let config = config("--concurrency 2 --connections 10");
    let left = ArrivalsLeft::of(&config);
    let mut threads = [0, 1].map(|index| {
        let mut arrivals = ThreadArrivals::new(&config, PlanShare { index, of: 2 }, left.clone());
        arrivals.begin(0);
        arrivals
    });
    assert_eq!(threads[1].take_due(0), Some(0), "which is slow");
    for at_ns in 0..9 {
        assert_eq!(threads[0].take_due(at_ns), Some(at_ns));
        threads[0].vacated(at_ns + 1, Vacated::Served);
    }
    assert_eq!(threads[0].take_due(9), None);
    threads[1].vacated(9, Vacated::Served);
    assert_eq!(threads[1].take_due(9), None);
}

#[test]
fn refusals_are_followed_by_pauses_and_order_is_kept() {
    let mut arrivals = arrivals("--concurrency 2 --duration 1h");
    assert_eq!((arrivals.take_due(1_000), arrivals.take_due(1_000)), (Some(1_000), Some(1_000)));
    arrivals.vacated(2_000, Vacated::Refused);
    arrivals.vacated(3_000, Vacated::Served);
    assert_eq!(arrivals.take_due(4_000), Some(3_000));
    assert_eq!(arrivals.next_ns(), Some(2_000 + PAUSE_MIN_NS));
    let mut refused = 0;
    let mut now_ns = 2_000 + PAUSE_MIN_NS;
    while now_ns < 7_000_000_000 {
        let next_ns = arrivals.take_due(now_ns).unwrap();
        refused += 1;
        arrivals.vacated(next_ns, Vacated::Refused);
        now_ns = arrivals.next_ns().unwrap();
    }
    assert!((50..200).contains(&refused), "{refused}");
}

#[test]
fn a_schedule_ends_with_its_time_and_what_was_not_begun_is_counted() {
    let mut arrivals = arrivals("--rate 1k --duration 100ms --warmup 10ms");
    let end_ns = 1_000 + 110_000_000;
    assert_eq!(arrivals.take_due(end_ns), Some(1_000));
    assert_eq!(arrivals.end_if_over(end_ns), None, "what is due may still begin");
    let late_ns = end_ns + LATE_MIN_NS;
    let untaken = Untaken { warmup: 9, measured: 100 };
    assert_eq!(arrivals.end_if_over(late_ns), Some(untaken));
    assert_eq!((arrivals.next_ns(), arrivals.end_if_over(late_ns)), (None, None));
}

#[test]
fn a_schedule_that_was_begun_in_time_leaves_nothing() {
    let mut arrivals = arrivals("--rate 1k --duration 2ms");
    assert!(arrivals.take_due(10_000_000).is_some() && arrivals.take_due(10_000_000).is_some());
    assert_eq!(arrivals.end_if_over(u64::MAX), None);
}

#[test]
fn there_are_no_arrivals_after_the_end() {
    let mut arrivals = arrivals("--concurrency 2");
    arrivals.end();
    arrivals.vacated(2_000, Vacated::Served);
    assert_eq!(arrivals.take_due(u64::MAX), None);
}
