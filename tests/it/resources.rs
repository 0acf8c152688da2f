//! What a connection costs the process, and that all of it is freed.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use socket2::SockRef;
use uring_echo::sys::procfs;

use crate::support::{
    ENGINES, Server, connect, on_each_engine, pattern, program, round_trip, wait_until,
};

/// The usage of a process (proc_pid_status(5)).
#[derive(Debug, PartialEq, Eq)]
struct Usage {
    descriptors: usize,
    /// Slots of the descriptor table: grows when a descriptor does not fit, never shrinks.
    table: u64,
    rss_kib: u64,
}

impl Usage {
    fn of(server: &Server) -> Self {
        let proc = format!("/proc/{}", server.pid().as_raw_nonzero());
        let status = fs::read_to_string(format!("{proc}/status")).expect("it runs");
        let field = |name| {
            let value = procfs::field(&status, name).expect("a field");
            value.trim_end_matches(" kB").parse().expect("a number")
        };
        Self {
            descriptors: fs::read_dir(format!("{proc}/fd")).expect("it runs").count(),
            table: field("FDSize"),
            rss_kib: field("VmRSS"),
        }
    }
}

fn reset_on_close(stream: &TcpStream) {
    SockRef::from(stream).set_linger(Some(Duration::ZERO)).expect("a socket");
}

/// Connect, echo, close; every other one with a reset.
fn cycle(server: &Server, round: u64) {
    let mut stream = connect(server.addr());
    round_trip(&mut stream, &pattern(round, 64));
    if round.is_multiple_of(2) {
        reset_on_close(&stream);
    }
}

#[test]
fn ten_thousand_cycles_leave_nothing_behind() {
    on_each_engine(&["--workers", "1"], |server| {
        let at_rest = Usage::of(server).descriptors;
        let cycles = |count| {
            (0..count).for_each(|round| cycle(server, round));
            wait_until("all are closed", || Usage::of(server).descriptors == at_rest);
            Usage::of(server)
        };
        // Enough for every buffer of the pool to have been touched once.
        let before = cycles(2000);
        let after = cycles(10_000);
        assert_eq!(after.table, before.table);
        let grown = after.rss_kib.saturating_sub(before.rss_kib);
        assert!(grown < 2 << 10, "{grown} KiB more: {before:?}, {after:?}");
    });
}

#[test]
fn connections_do_not_grow_the_descriptor_table() {
    on_each_engine(&["--workers", "2"], |server| {
        let mut warm = connect(server.addr());
        round_trip(&mut warm, b"warm");
        let before = Usage::of(server);
        let mut streams: Vec<TcpStream> = (0..2000).map(|_| connect(server.addr())).collect();
        streams.iter_mut().for_each(|stream| round_trip(stream, b"open"));
        let during = Usage::of(server);
        assert_eq!(during.table, before.table);
        let each = if server.has_direct_descriptors() { 0 } else { 1 };
        assert_eq!(during.descriptors, before.descriptors + 2000 * each);
    });
}

#[test]
fn the_maximum_is_reached_and_released_ten_thousand_times() {
    on_each_engine(&["--workers", "1", "--max-connections", "2"], |server| {
        let mut open = [connect(server.addr()), connect(server.addr())];
        open.iter_mut().for_each(|stream| round_trip(stream, b"full"));
        for round in 0..10_000 {
            let mut next = connect(server.addr());
            next.write_all(&pattern(round as u64, 16)).expect("the kernel takes it");
            if round % 2 == 0 {
                reset_on_close(&open[round % 2]);
            }
            open[round % 2] = next;
            let mut echo = [0; 16];
            open[round % 2].read_exact(&mut echo).expect("served once there is room");
            assert_eq!(echo.as_slice(), pattern(round as u64, 16));
        }
    });
}

/// A server that may open 64 descriptors.
fn start_with_few_descriptors(engine: &str) -> Option<Server> {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 64; exec \"$0\" \"$@\""]).arg(program().get_program());
    command.args(["serve", "--listen", "127.0.0.1:0", "--log", "json"]);
    command.args(["--engine", engine, "--workers", "2"]);
    command.env_remove("RUST_LOG").stdin(Stdio::null());
    Server::spawn(command)
}

#[test]
fn more_clients_than_descriptors_are_served_in_turn() {
    for engine in ENGINES {
        let Some(server) = start_with_few_descriptors(engine) else { return };
        let mut clients: Vec<TcpStream> = (0..500).map(|_| connect(server.addr())).collect();
        for (index, stream) in clients.iter_mut().enumerate() {
            stream.write_all(&pattern(index as u64, 300)).expect("the kernel takes it");
        }
        // Each queue keeps its order: whoever is ahead of this one is served and gone.
        for (index, mut stream) in clients.into_iter().enumerate() {
            let mut echo = [0; 300];
            stream.read_exact(&mut echo).expect("served in its turn");
            assert_eq!(echo.as_slice(), pattern(index as u64, 300));
        }
        wait_until("every descriptor is back", || Usage::of(&server).descriptors < 64);
        server.signal(Signal::TERM);
        server.wait_clean_exit();
    }
}
