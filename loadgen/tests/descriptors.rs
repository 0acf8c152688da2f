//! Running out of descriptors is an outcome. In a process of its own: the limit is the process's.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Parser;
use loadgen::cli::{Cli, Command};
use loadgen::config::RunConfig;
use loadgen::connection::Method;
use loadgen::dispatch::{Crew, Delivery, DispatchError, Plan};
use loadgen::record::Outcome;
use loadgen::totals::Totals;
use rustix::process::{Resource, getrlimit, setrlimit};
use uring_echo::stamp::ClockDomain;

#[test]
fn attempts_without_a_descriptor_have_their_own_outcome() {
    let idle = TcpListener::bind("127.0.0.1:0").unwrap();
    let words = "loadgen run --burst 300 --timeout 200ms".split(' ');
    let Command::Run(args) = Cli::try_parse_from(words).unwrap().command;
    let plan = Arc::new(Plan {
        config: RunConfig::resolve(*args).unwrap(),
        target: idle.local_addr().unwrap(),
        method: Method::Diag,
        messages: 0,
        clock_domain: ClockDomain::current().unwrap(),
        cpus: Vec::new(),
        yields: true,
    });
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = Some(100);
    setrlimit(Resource::Nofile, limit).unwrap();

    let crew = match Crew::start(&plan, &Arc::new(AtomicBool::new(false))) {
        Err(DispatchError::Ring(error)) if std::env::var_os("REQUIRE_URING").is_none() => {
            eprintln!("SKIPPED, io_uring is not available: {error}");
            return;
        }
        crew => crew.unwrap(),
    };
    let mut totals = Totals::new(1);
    loop {
        match crew.next(Duration::from_secs(1)) {
            Delivery::Interval(interval) => totals.absorb(&interval),
            Delivery::Nothing => {}
            Delivery::Over => break,
        }
    }
    crew.join().unwrap();
    let counts = *totals.all().counts();
    let (waited, without) = (Outcome::NeverAccepted, Outcome::FdLimit);
    assert_eq!(counts.attempted, 300);
    assert_eq!(counts.outcome(waited) + counts.outcome(without), 300);
    assert!(counts.outcome(without) >= 200, "{counts:?}");
    let mfile = rustix::io::Errno::MFILE.raw_os_error();
    let errnos: Vec<_> = totals.all().errnos().iter().collect();
    assert_eq!(errnos, [(without, mfile, counts.outcome(without))]);
}
