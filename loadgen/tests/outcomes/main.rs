//! Every outcome of an attempt, caused by a server with the matching behaviour, over real sockets
//! and each transport.

mod server;
#[path = "../common/stamp.rs"]
mod stamp;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser;
use loadgen::cli::{Cli, Command};
use loadgen::commands::run::options;
use loadgen::generate::aggregation::Aggregate;
use loadgen::generate::connection::Method;
use loadgen::generate::recorder::Recording;
use loadgen::generate::{Delivery, GenerateError, GeneratorPlan, GeneratorThreads};
use loadgen::model::load::TransportChoice;
use loadgen::model::outcome::{Outcome, Phase};
use loadgen::observe::ListenerQueue;
use uring_echo::stamp::ClockDomain;

use server::{Server, full_queue, never_accepting, refusing};

fn plan(target: SocketAddr, method: Method, messages: u32, args: &str) -> GeneratorPlan {
    let line = ["loadgen", "run"].into_iter().chain(args.split_whitespace());
    let Command::Run(run) = Cli::try_parse_from(line).expect(args).command else {
        panic!("{args}")
    };
    GeneratorPlan {
        config: options::resolve(&run).expect(args),
        target,
        method,
        messages,
        clock_domain: ClockDomain::current().unwrap(),
        clock_offset: None,
        cpus: Vec::new(),
        yields: true,
    }
}

const TRANSPORTS: [TransportChoice; 2] = [TransportChoice::Uring, TransportChoice::Epoll];

/// Runs a plan to its end or until it fails; prints that it skips and returns `None` where there is
/// no io_uring for the transport.
fn try_to_run(
    mut plan: GeneratorPlan,
    transport: TransportChoice,
    stop_when: impl Fn() -> bool,
) -> Option<Result<Recording, GenerateError>> {
    plan.config.transport = transport;
    let (plan, stop) = (Arc::new(plan), Arc::new(AtomicBool::new(false)));
    let threads = match GeneratorThreads::start(&plan, &stop) {
        Err(GenerateError::Ring { error }) if std::env::var_os("REQUIRE_URING").is_none() => {
            eprintln!("SKIPPED, io_uring is not available: {error}");
            return None;
        }
        threads => threads.unwrap(),
    };
    let mut aggregate = Aggregate::new(plan.threads());
    loop {
        match threads.next(Duration::from_millis(5)) {
            Delivery::Interval(interval) => aggregate.absorb(&interval),
            Delivery::Nothing => {}
            Delivery::Over => break,
        }
        stop.fetch_or(stop_when(), Ordering::Relaxed);
    }
    aggregate.finish();
    Some(threads.join().map(|()| aggregate.all().clone()))
}

/// The outcomes that occurred.
fn outcomes(all: &Recording) -> Vec<(Outcome, u64)> {
    let counted = Outcome::ALL.map(|outcome| (outcome, all.counts().outcome(outcome)));
    counted.into_iter().filter(|(_, count)| *count > 0).collect()
}

/// Runs a plan to its end over each transport that is available.
fn check(
    target: SocketAddr,
    method: Method,
    messages: u32,
    args: &str,
    expected: &[(Outcome, u64)],
) -> Vec<Recording> {
    let plan = plan(target, method, messages, args);
    let run = |transport| Some(try_to_run(plan.clone(), transport, || false)?.unwrap());
    let runs: Vec<Recording> = TRANSPORTS.into_iter().filter_map(run).collect();
    for all in &runs {
        assert_eq!(all.counts().attempted, all.counts().finished(), "an attempt without outcome");
        assert_eq!(outcomes(all), expected, "{args}");
    }
    runs
}

fn samples(all: &Recording, phase: Phase) -> u64 {
    all.histogram(phase).len()
}

#[test]
fn stamped_connections_complete_with_exact_delays() {
    let server = Server::stamping("127.0.0.1:0");
    let (addr, completed) = (server.addr(), Outcome::Completed);
    for messages in [0, 1, 3] {
        let args = "--rate 500 --connections 60";
        for all in check(addr, Method::Stamp, messages, args, &[(completed, 60)]) {
            for phase in
                [Phase::AcceptDelay, Phase::AcceptResponse, Phase::Connect, Phase::FirstByte]
            {
                assert_eq!(samples(&all, phase), 60);
            }
            assert_eq!(samples(&all, Phase::EchoRtt), u64::from(60 * messages));
            assert_eq!(all.counts().bytes_sent, u64::from(60 * 64 * messages));
            assert_eq!(all.counts().bytes_received, u64::from(60 * 64 * messages));
            let after = samples(&all, Phase::PostConnectWait);
            assert_eq!(after + all.counts().accepted_before_return, 60);
        }
    }
}

#[test]
fn connections_observed_by_diag_complete_with_brackets() {
    for addr in ["127.0.0.1:0", "[::1]:0"] {
        let server = Server::echoing(addr);
        for messages in [0, 2] {
            let args = "--rate 500 --connections 40 --arrivals poisson";
            let expected = [(Outcome::Completed, 40)];
            for all in check(server.addr(), Method::Diag, messages, args, &expected) {
                assert_eq!(samples(&all, Phase::AcceptDelay), 40);
                assert_eq!(samples(&all, Phase::DiagResolution), 40);
            }
        }
    }
}

#[test]
fn diag_observes_the_accept_of_a_server_that_closes_at_once() {
    let server = Server::closing("127.0.0.1:0");
    let expected = [(Outcome::Completed, 30)];
    for all in check(server.addr(), Method::Diag, 0, "--rate 500 --connections 30", &expected) {
        assert_eq!(samples(&all, Phase::AcceptDelay), 30);
    }
}

/// Nobody reset anything: the client sees the end of the stream.
#[test]
fn a_server_that_closes_in_good_order_before_the_echo_has_closed_early() {
    let server = Server::finishing("127.0.0.1:0");
    let args = "--rate 300 --connections 20";
    for all in check(server.addr(), Method::None, 1, args, &[(Outcome::ClosedEarly, 20)]) {
        assert_eq!((all.errnos().iter().count(), all.counts().censored), (0, 0));
    }
}

#[test]
fn whatever_becomes_of_a_connection_its_accept_is_a_sample() {
    let server = Server::greeting_after("127.0.0.1:0", Duration::from_millis(50));
    let args = "--rate 800 --connections 400";
    let expected = [(Outcome::EchoMismatch, 400)];
    for all in check(server.addr(), Method::Diag, 1, args, &expected) {
        assert_eq!((samples(&all, Phase::AcceptDelay), all.counts().not_observed), (400, 0));
    }
}

#[test]
fn an_accept_beside_the_return_of_connect_is_not_put_on_one_side() {
    let server = Server::echoing("127.0.0.1:0");
    let args = "--rate 1k --connections 200";
    for all in check(server.addr(), Method::Diag, 0, args, &[(Outcome::Completed, 200)]) {
        let counts = all.counts();
        let after = samples(&all, Phase::PostConnectWait);
        let before = counts.accepted_before_return;
        assert_eq!(after + before + counts.accept_order_undetermined, 200);
        // The first look comes after the return, so nothing that it finds was seen before it.
        assert_eq!(before, 0, "{counts:?}");
    }
}

#[test]
fn large_messages_are_echoed_completely() {
    let server = Server::stamping("127.0.0.1:0");
    let args = "--concurrency 4 --connections 8 --size 1m --close fin";
    for all in check(server.addr(), Method::Stamp, 2, args, &[(Outcome::Completed, 8)]) {
        assert_eq!(all.counts().bytes_received, 16 << 20);
    }
}

#[test]
fn a_closed_loop_is_divided_over_threads_and_sources() {
    let server = Server::echoing("127.0.0.1:0");
    let args = "--concurrency 10 --connections 200 --threads 3 --source 127.8.0.0/28";
    for all in check(server.addr(), Method::Diag, 1, args, &[(Outcome::Completed, 200)]) {
        assert_eq!(samples(&all, Phase::EchoRtt), 200);
    }
}

#[test]
fn the_warm_up_is_attempted_and_excluded() {
    let server = Server::stamping("127.0.0.1:0");
    let args = "--rate 500 --connections 50 --warmup 100ms";
    for all in check(server.addr(), Method::Stamp, 1, args, &[(Outcome::Completed, 50)]) {
        assert_eq!(all.counts().warmup_excluded, 50);
    }
}

#[test]
fn a_connection_without_a_listener_is_refused_with_its_errno() {
    let closed = refusing();
    for method in [Method::Stamp, Method::Diag, Method::None] {
        let args = "--rate 500 --connections 20";
        for all in check(closed.addr, method, 1, args, &[(Outcome::Refused, 20)]) {
            let refused = rustix::io::Errno::CONNREFUSED.raw_os_error();
            assert_eq!(all.errnos().iter().collect::<Vec<_>>(), [(Outcome::Refused, refused, 20)]);
        }
    }
}

#[test]
fn a_full_accept_queue_is_a_connect_timeout_and_its_waits_are_censored() {
    let full = full_queue();
    for method in [Method::Stamp, Method::Diag] {
        let args = "--burst 5 --timeout 300ms";
        for all in check(full.addr, method, 1, args, &[(Outcome::ConnectTimeout, 5)]) {
            assert_eq!((all.counts().censored, samples(&all, Phase::AcceptResponse)), (5, 5));
            assert!(all.histogram(Phase::AcceptResponse).min() >= 299_000_000);
        }
    }
}

#[test]
fn a_broadcast_address_is_unreachable() {
    let nowhere = "255.255.255.255:9".parse().unwrap();
    let args = "--rate 500 --connections 5";
    let errno = rustix::io::Errno::NETUNREACH.raw_os_error();
    for all in check(nowhere, Method::None, 1, args, &[(Outcome::Unreachable, 5)]) {
        assert_eq!(all.errnos().iter().collect::<Vec<_>>(), [(Outcome::Unreachable, errno, 5)]);
    }
}

#[test]
fn a_server_that_resets_is_a_reset_after_connect() {
    let server = Server::resetting("127.0.0.1:0");
    for (method, messages) in [(Method::None, 1), (Method::Stamp, 1)] {
        let args = "--rate 300 --connections 20";
        let expected = [(Outcome::ResetAfterConnect, 20)];
        check(server.addr(), method, messages, args, &expected);
    }
}

#[test]
fn a_server_that_never_accepts_is_never_accepted() {
    let idle = never_accepting(100);
    for (method, messages) in [(Method::Stamp, 1), (Method::Diag, 0), (Method::Diag, 1)] {
        let expected = [(Outcome::NeverAccepted, 5)];
        let args = "--burst 5 --timeout 200ms";
        for all in check(idle.addr, method, messages, args, &expected) {
            assert_eq!((all.counts().censored, samples(&all, Phase::Connect)), (5, 5));
        }
    }
}

#[test]
fn an_echo_in_place_of_a_stamp_is_stamp_invalid() {
    let server = Server::echoing("127.0.0.1:0");
    let args = "--rate 500 --connections 20";
    check(server.addr(), Method::Stamp, 1, args, &[(Outcome::StampInvalid, 20)]);
}

#[test]
fn a_stamp_from_before_the_connect_is_a_clock_error() {
    let server = Server::backdating("127.0.0.1:0");
    let args = "--rate 500 --connections 20";
    for all in check(server.addr(), Method::Stamp, 1, args, &[(Outcome::ClockError, 20)]) {
        assert_eq!(samples(&all, Phase::AcceptDelay), 0);
    }
}

#[test]
fn a_changed_byte_is_an_echo_mismatch() {
    let server = Server::corrupting("127.0.0.1:0");
    for method in [Method::None, Method::Diag] {
        let args = "--rate 500 --connections 20";
        let expected = [(Outcome::EchoMismatch, 20)];
        check(server.addr(), method, 1, args, &expected);
    }
}

#[test]
fn a_server_that_only_reads_is_an_echo_timeout() {
    let server = Server::discarding("127.0.0.1:0");
    for method in [Method::None, Method::Diag] {
        let args = "--burst 5 --timeout 500ms";
        let expected = [(Outcome::EchoTimeout, 5)];
        for all in check(server.addr(), method, 1, args, &expected) {
            let seen = if method == Method::Diag { 5 } else { 0 };
            assert_eq!((all.counts().censored, samples(&all, Phase::AcceptDelay)), (0, seen));
        }
    }
}

#[test]
fn a_source_that_is_not_local_ends_the_run() {
    let server = Server::echoing("127.0.0.1:0");
    let args = "--rate 500 --connections 20 --source 192.0.2.1";
    let plan = plan(server.addr(), Method::None, 0, args);
    for transport in TRANSPORTS {
        let Some(ended) = try_to_run(plan.clone(), transport, || false) else { continue };
        let error = ended.unwrap_err();
        assert!(matches!(error, GenerateError::Socket(_)), "{error:?}");
        assert!(error.to_string().contains("--source"), "{error}");
    }
}

#[test]
fn arrivals_over_the_cap_are_shed() {
    let idle = never_accepting(100);
    let args = "--burst 12 --max-in-flight 5 --timeout 200ms";
    let expected = [(Outcome::NeverAccepted, 5), (Outcome::Shed, 7)];
    check(idle.addr, Method::Diag, 0, args, &expected);
}

#[test]
fn a_connection_that_is_open_when_the_run_is_stopped_is_unfinished() {
    for transport in TRANSPORTS {
        let idle = never_accepting(100);
        let plan = plan(idle.addr, Method::Diag, 1, "--burst 5 --timeout 60s");
        let queue = RefCell::new(ListenerQueue::open(idle.addr).unwrap());
        let all_wait = || queue.borrow_mut().sample().unwrap().is_some_and(|q| q.queued == 5);
        let Some(all) = try_to_run(plan, transport, all_wait) else { continue };
        let all = all.unwrap();
        assert_eq!(outcomes(&all), [(Outcome::Unfinished, 5)]);
        assert_eq!(all.counts().censored, 5);
    }
}
