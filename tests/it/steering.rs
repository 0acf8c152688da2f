//! `--steer`: a connection goes to the worker on the CPU that received it; over loopback that is
//! the CPU of the client. `--napi`: over loopback there is no card to poll, and nothing changes.

use std::io::Read;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::thread;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tempfile::TempDir;
use uring_echo::ring::{Ring, RingError, Setup};
use uring_echo::stamp::{FRAME_LEN, Stamp};

use crate::support::{ENGINES, Server, addr_field, connect, program, round_trip};

const WAYS: [&str; 2] = ["incoming-cpu", "cbpf"];

/// The CPUs of this process, two at most: first to last.
fn cpus() -> Vec<usize> {
    let allowed = sched_getaffinity(None).expect("a thread");
    (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).take(2).collect()
}

/// The same for `--cpus`, each alone: CPU n of a list serves worker n, whatever its number.
fn list(cpus: &[usize]) -> String {
    cpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn reversed(cpus: &[usize]) -> Vec<usize> {
    cpus.iter().rev().copied().collect()
}

/// The workers that accepted connections of a client on `cpu`.
fn workers(addr: SocketAddr, cpu: usize) -> Vec<u16> {
    let client = move || {
        let mut only = CpuSet::new();
        only.set(cpu);
        sched_setaffinity(None, &only).expect("a CPU of this process");
        let accepted = (0..40).map(|_| {
            let mut stream = connect(addr);
            let mut frame = [0; FRAME_LEN];
            stream.read_exact(&mut frame).expect("a stamp");
            Stamp::decode(&frame).expect("a stamp").worker
        });
        accepted.collect()
    };
    thread::spawn(client).join().expect("no panic")
}

fn assert_steered(server: &Server, cpus: &[usize]) {
    for (worker, cpu) in (0..).zip(cpus) {
        assert_eq!(workers(server.addr(), *cpu), vec![worker; 40], "CPU {cpu} of {cpus:?}");
    }
}

#[test]
fn a_connection_goes_to_the_worker_on_its_cpu() {
    for (engine, way) in ENGINES.into_iter().flat_map(|engine| WAYS.map(|way| (engine, way))) {
        for cpus in [cpus(), reversed(&cpus())] {
            let args = ["--stamp", "--steer", way, "--cpus", &list(&cpus)];
            let Some(server) = Server::start(engine, &args) else { return };
            assert_steered(&server, &cpus);
        }
    }
}

#[test]
fn addresses_are_steered_each() {
    let cpus = cpus();
    for way in WAYS {
        let listen = ["--listen", "127.0.0.1:0", "--listen", "[::1]:0"];
        let args = ["--stamp", "--steer", way, "--cpus", &list(&cpus)];
        let server = Server::start("epoll", &[&listen[..], &args].concat()).expect("everywhere");
        assert_steered(&server, &cpus);
        let second = server.wait_for_log("listening").expect("the second address");
        let addr = addr_field(&second);
        for (worker, cpu) in (0..).zip(&cpus) {
            assert_eq!(workers(addr, *cpu), vec![worker; 40], "CPU {cpu}");
        }
    }
}

#[test]
fn a_successor_steers_as_it_was_told_and_not_as_its_predecessor() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("door").to_string_lossy().into_owned();
    let cpus = cpus();
    let start = |listen: &str, args: &[&str]| {
        let common = ["--stamp", "--takeover", &path, "--listen", listen];
        Server::start("epoll", &[&common, args].concat()).expect("epoll is everywhere")
    };
    let mut serving = start("127.0.0.1:0", &["--steer", "cbpf", "--cpus", &list(&cpus)]);
    let addr = serving.addr().to_string();
    let mut succeed = |args: &[&str]| {
        let next = start(&addr, args);
        serving.wait_for_log("a successor has taken over: draining").expect("a line");
        std::mem::replace(&mut serving, next).wait_clean_exit();
    };
    let backwards = reversed(&cpus);
    succeed(&["--steer", "incoming-cpu", "--cpus", &list(&backwards)]);
    succeed(&["--workers", &cpus.len().to_string()]);
    let by_hash = workers(addr.parse().expect("an address"), cpus[0]);
    let all: Vec<u16> = (0..).take(cpus.len()).collect();
    assert!(all.iter().all(|worker| by_hash.contains(worker)), "by hash: {by_hash:?}");
    succeed(&["--steer", "incoming-cpu", "--cpus", &list(&backwards)]);
    assert_steered(&serving, &backwards);
}

#[test]
fn inherited_queues_that_a_filter_cannot_name_are_refused_and_the_old_one_serves_on() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("door").to_string_lossy().into_owned();
    let cpus = cpus();
    if cpus.len() < 2 {
        return eprintln!("SKIPPED: one CPU");
    }
    let args = ["--stamp", "--takeover", &path, "--steer", "cbpf", "--cpus", &list(&cpus)];
    let serving = Server::start("epoll", &args).expect("epoll is everywhere");
    let mut next = program();
    next.args(["serve", "--engine", "epoll", "--listen", &serving.addr().to_string()]).args(args);
    let refused = next.output().expect("runs");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("--steer cbpf: the listening sockets are inherited"), "{said}");
    assert_steered(&serving, &cpus);
}

#[test]
fn a_ring_that_polls_the_card_echoes_over_loopback_too() {
    let setup = Setup { napi: NonZeroU32::new(50), ..Setup::CALLS };
    if let Err(error @ RingError::Napi { .. }) = Ring::new(&setup) {
        return eprintln!("SKIPPED: {error}");
    }
    let args = ["--workers", "2", "--napi", "50", "--busy-poll", "off"];
    let Some(server) = Server::start("uring", &args) else { return };
    assert_eq!(server.fields("starting")["napi_us"], 50);
    for _ in 0..20 {
        round_trip(&mut connect(server.addr()), b"polled");
    }
    assert!(server.end().success());
}
