//! `loadgen watch` held to the truth: plain blocking servers record when they accept, clients when
//! they are connected, and a watch of another process must tell the same. Each case runs in a
//! network namespace of its own, the watch as an unprivileged user where nothing else is said.

mod inside;
mod namespaces;
mod traffic;

use std::net::SocketAddr;
use std::time::Duration;

use loadgen::model::watch::Watch;

use crate::inside::{As, inside};
use crate::traffic::{Case, Load, Service, Truth, Watched, listen, run};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The case that most others vary: 400 connections a second, at random.
fn case(service: Service) -> Case {
    Case {
        listen: "127.0.0.1:0",
        connect: &["127.0.0.1"],
        workers: vec![service],
        load: Load { rate: 400.0, length: ms(2000) },
        neighbour: false,
        args: "",
    }
}

/// Mean within 5 %, p99 within 10 % or the resolution.
fn check(truth: &Truth, seen: &Watched, expected_mode: &str) {
    let watch = seen.part();
    assert_eq!(watch.mode, expected_mode, "{watch:?}");
    check_mean(truth, watch);
    let delay = &seen.result.histograms["accept_delay"];
    assert_eq!(delay.count, truth.waits.len() as u64, "every accept once: {watch:?}");
    assert_eq!(watch.accepts, delay.count, "{watch:?}");
    let (told, known) = (delay.p99.expect("p99"), truth.percentile(99));
    let allowed = (known / 10).max(watch.resolution_ns);
    assert!(told.abs_diff(known) <= allowed, "p99 {told} of {known}: {watch:?}");
    let (told, known) = (delay.max.expect("max"), truth.percentile(100));
    assert!(told.abs_diff(known) <= allowed, "max {told} of {known}: {watch:?}");
}

fn check_mean(truth: &Truth, watch: &Watch) {
    let mean = watch.mean_wait_ns.expect("the arrivals are known");
    let known = truth.mean();
    // The accept is recorded some microseconds after it.
    let allowed = known / 20 + 20_000;
    assert!(mean.abs_diff(known) <= allowed, "mean {mean} of {known}: {watch:?}");
}

#[test]
fn stalls_of_5_ms() {
    inside("stalls_of_5_ms", As::Nobody, || {
        let case = Case {
            args: "--interval 1ms",
            ..case(Service::Stalls { length: ms(5), every: ms(20) })
        };
        run(&case, |truth, seen| check(truth, seen, "fifo"));
    });
}

#[test]
fn stalls_of_20_ms() {
    inside("stalls_of_20_ms", As::Nobody, || {
        let case = case(Service::Stalls { length: ms(20), every: ms(80) });
        run(&case, |truth, seen| check(truth, seen, "fifo"));
    });
}

/// A listener on `[::]`, which IPv4 and IPv6 clients come to.
#[test]
fn stalls_of_100_ms_of_a_dual_stack_listener() {
    inside("stalls_of_100_ms_of_a_dual_stack_listener", As::Nobody, || {
        let service = Service::Stalls { length: ms(100), every: ms(400) };
        let case = Case { listen: "[::]:0", connect: &["127.0.0.1", "::1"], ..case(service) };
        run(&case, |truth, seen| check(truth, seen, "fifo"));
    });
}

#[test]
fn exponential_service_over_ipv6() {
    inside("exponential_service_over_ipv6", As::Nobody, || {
        let load = Load { rate: 130.0, length: ms(3000) };
        let service = Service::Exponential(ms(5));
        let case = Case {
            load,
            listen: "[::1]:0",
            connect: &["::1"],
            args: "--interval 1ms",
            ..case(service)
        };
        run(&case, |truth, seen| check(truth, seen, "fifo"));
    });
}

#[test]
fn a_blocked_event_loop() {
    inside("a_blocked_event_loop", As::Nobody, || {
        let case = case(Service::Stalls { length: ms(600), every: ms(800) });
        run(&case, |truth, seen| check(truth, seen, "fifo"));
    });
}

/// What a full queue drops is counted; the waits are those of the connections that it took.
#[test]
fn an_overflowing_backlog() {
    inside("an_overflowing_backlog", As::Nobody, || {
        let blocked = Service::Blocked { first: ms(600), backlog: 8 };
        let case = Case { load: Load { rate: 100.0, length: ms(2000) }, ..case(blocked) };
        run(&case, |truth, seen| {
            let watch = seen.part();
            assert_eq!((watch.limit, watch.depth_max), (8, 9), "{watch:?}");
            assert!(watch.drops >= truth.dropped && truth.dropped > 10, "{watch:?}");
            check(truth, seen, "fifo");
        });
    });
}

/// Its arrivals are not known then: no mean is claimed, and the true one lies within the bounds.
#[test]
fn a_busy_neighbour() {
    inside("a_busy_neighbour", As::Nobody, || {
        let stalls = Service::Stalls { length: ms(50), every: ms(200) };
        run(&Case { neighbour: true, ..case(stalls) }, |truth, seen| {
            let watch = seen.part();
            assert!(["depth", "sampled"].contains(&watch.mode.as_str()), "{watch:?}");
            assert_eq!(watch.mean_wait_ns, None);
            let (low, high) = watch.mean_wait_range_ns.expect("bounds");
            assert!((low..=high).contains(&truth.mean()), "{} in {watch:?}", truth.mean());
            check_longest(truth, seen);
        });
    });
}

/// The longest wait, and how many were longer than 10 ms.
fn check_longest(truth: &Truth, seen: &Watched) {
    let watch = seen.part();
    let delay = &seen.result.histograms["accept_delay"];
    let (told, known) = (delay.max.expect("max"), truth.percentile(100));
    let allowed = (known / 10).max(watch.resolution_ns);
    assert!(told.abs_diff(known) <= allowed, "{told} of {known}: {watch:?}");
    let limit = 10_000_000_u64.max(watch.resolution_ns);
    let long = truth.waits.iter().filter(|ns| **ns >= limit).count() as f64;
    let told = delay.histogram().expect("a histogram").count_between(limit, u64::MAX) as f64;
    // What a dump does not meet is guessed from what others met.
    let allowed = if watch.mode == "sampled" { 0.4 } else { 0.1 };
    assert!((told - long).abs() <= allowed * long, "{told} of {long}: {watch:?}");
}

/// Dumps at random instants name no mean and need no count of arrivals. How many there are in a
/// second is bounded by what one costs, which grows with the machine's table of sockets.
#[test]
fn dumps_beside_a_busy_neighbour() {
    inside("dumps_beside_a_busy_neighbour", As::Nobody, || {
        let stalls = Service::Stalls { length: ms(160), every: ms(200) };
        let load = Load { rate: 300.0, length: ms(12_000) };
        let case = Case { neighbour: true, load, args: "--mode sampled", ..case(stalls) };
        run(&case, |truth, seen| {
            let watch = seen.part();
            assert_eq!((watch.mode.as_str(), watch.mean_wait_ns), ("sampled", None), "{watch:?}");
            assert!(watch.dumps_that_met.is_some_and(|dumps| dumps > 30), "{watch:?}");
            assert_eq!(watch.below_resolution, 0);
            let told = seen.result.histograms["accept_delay"].min.expect("min");
            assert!(told >= watch.resolution_ns * 999 / 1000, "{told}: {watch:?}");
            check_longest(truth, seen);
        });
    });
}

/// The group is alone in its namespace, so that its mean is known; the stuck worker is found.
#[test]
fn one_stuck_worker_of_four() {
    inside("one_stuck_worker_of_four", As::Nobody, || {
        let stalls = Service::Stalls { length: ms(20), every: ms(100) };
        let workers = vec![Service::Stuck, stalls, stalls, stalls];
        run(&Case { workers, ..case(stalls) }, |truth, seen| {
            let watch = seen.part();
            check_mean(truth, watch);
            let stuck: Vec<_> = watch.members.iter().filter(|one| one.waits == 0).collect();
            let [stuck] = stuck[..] else { panic!("{watch:?}") };
            assert_eq!(Some(stuck.inode), truth.stuck, "{watch:?}");
            assert_eq!(u64::from(stuck.depth), truth.still_waiting, "{watch:?}");
            let advice = &seen.result.verdict.advice;
            assert!(advice.iter().any(|one| one.code == "listener_stuck"), "{advice:?}");
        });
    });
}

/// With the tracepoint each arrival is known to the nanosecond, whoever else is busy.
#[test]
fn the_tracepoint_beside_a_busy_neighbour() {
    inside("the_tracepoint_beside_a_busy_neighbour", As::Root, || {
        let stalls = Service::Stalls { length: ms(5), every: ms(20) };
        let case = Case { neighbour: true, args: "--interval 1ms", ..case(stalls) };
        run(&case, |truth, seen| {
            let watch = seen.part();
            if let Some(refused) = &watch.trace_refused {
                return eprintln!("SKIPPED: {refused}");
            }
            assert_eq!(watch.resolution_ns, watch.interval_ns, "{watch:?}");
            check(truth, seen, "trace");
        });
    });
}

/// Which member of a group got a connection the tracepoint does not tell: each is looked up.
#[test]
fn the_tracepoint_and_a_group() {
    inside("the_tracepoint_and_a_group", As::Root, || {
        let stalls = Service::Stalls { length: ms(30), every: ms(120) };
        run(&Case { workers: vec![stalls; 3], ..case(stalls) }, |truth, seen| {
            let watch = seen.part();
            if let Some(refused) = &watch.trace_refused {
                return eprintln!("SKIPPED: {refused}");
            }
            assert_eq!(watch.members.len(), 3, "{watch:?}");
            check(truth, seen, "trace");
        });
    });
}

/// Another listener of the same port at another address has its own connections.
#[test]
fn the_tracepoint_and_one_address_of_many() {
    inside("the_tracepoint_and_one_address_of_many", As::Root, || {
        let stalls = Service::Stalls { length: ms(20), every: ms(80) };
        let case = Case { listen: "127.0.0.2:0", connect: &["127.0.0.2"], ..case(stalls) };
        let other = |watched: SocketAddr| {
            let other = SocketAddr::new("127.0.0.3".parse().unwrap(), watched.port());
            traffic::at_once(listen(&other.to_string(), 128), 1000.0)
        };
        traffic::run_beside(&case, other, |truth, seen| {
            if let Some(refused) = &seen.part().trace_refused {
                return eprintln!("SKIPPED: {refused}");
            }
            check(truth, seen, "trace");
        });
    });
}

#[test]
fn the_tracepoint_is_refused_to_nobody_with_what_it_takes() {
    inside("the_tracepoint_is_refused_to_nobody_with_what_it_takes", As::Nobody, || {
        let listener = listen("127.0.0.1:0", 128);
        let addr = listener.local_addr().unwrap().to_string();
        let output = std::process::Command::new(inside::loadgen())
            .args(["watch", &addr, "--mode", "trace", "--duration", "1s"])
            .output()
            .expect("loadgen starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        for part in ["sock:inet_sock_set_state", "os error", "root", "--mode auto"] {
            assert!(said.contains(part), "{part}: {said}");
        }
    });
}
