//! The descriptor table is grown before a run, not in it. Alone in its process, since other tests'
//! descriptors would be in the same table.

use std::fs;
use std::net::UdpSocket;

use uring_echo::sys::descriptors::grow_table;

/// Slots of this process's descriptor table; see proc_pid_status(5).
fn table() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("this process");
    let size = status.lines().find_map(|line| line.strip_prefix("FDSize:")).expect("a field");
    size.trim().parse().expect("a number")
}

#[test]
fn sockets_fit_the_table_that_was_grown_for_them() {
    grow_table(1000).expect("within the limit");
    let grown = table();
    assert!(grown >= 1000, "{grown} slots");
    let open = || UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let sockets: Vec<UdpSocket> = std::iter::repeat_with(open).take(900).collect();
    assert_eq!(table(), grown, "{} sockets grew the table", sockets.len());
}
