//! From numbers to a choice or a refusal.

use super::*;

const MILLION: u32 = 1_000_000;

/// A machine with 2 CPUs, 24 GiB and RLIMIT_NOFILE 20,000.
fn room() -> Room {
    Room {
        nofile: 20_000,
        nofile_most: Some(1 << 20),
        cpus: 2,
        ports: 28_232,
        memory: vec![MemoryLeft { bound: MemoryBound::Machine, left: 23 << 30 }],
        files: None,
        conntrack: None,
    }
}

fn wanted(connections: u32) -> Wanted {
    Wanted { connections, both_ends: true, holders: HolderKind::Rings }
}

fn by_processes(connections: u32) -> Wanted {
    Wanted { holders: HolderKind::Processes, ..wanted(connections) }
}

/// Rings, the largest share of one, and threads.
fn rings(connections: u32, room: &Room) -> (usize, u32, u32) {
    let Ok(Holders::Rings(shares, threads)) = holders(wanted(connections), room) else {
        panic!("{connections} fit");
    };
    assert_eq!(shares.iter().sum::<u32>(), connections);
    (shares.len(), shares.into_iter().max().unwrap_or_default(), threads)
}

#[test]
fn connections_are_shared_out_to_rings_within_the_limit() {
    assert_eq!(rings(1, &room()), (1, 1, 1));
    assert_eq!(rings(10_000, &room()), (2, 5_000, 2), "a ring for each CPU");
    assert_eq!(rings(MILLION, &room()), (50, 20_000, 2));
    let large = Room { nofile: 1 << 20, cpus: 64, ..room() };
    assert_eq!(rings(MILLION, &large), (64, 15_625, 64));
    let few = Room { nofile: 500, ..room() };
    assert_eq!(rings(3_000, &few), (6, 500, 2));
}

#[test]
fn what_descriptors_cannot_hold_is_refused_with_what_they_can() {
    let few = Room { nofile: 256, ..room() };
    let text = holders(wanted(MILLION), &few).expect_err("56 rings of 256").to_string();
    for part in ["RLIMIT_NOFILE 256", "hold 14336 connections", "fs.nr_open 1048576"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(holders(by_processes(MILLION), &room()), Ok(Holders::Processes(19_800)));
    assert!(holders(by_processes(MILLION), &few).is_err());
    let none = Room { nofile: 100, ..room() };
    assert!(holders(wanted(1), &none).is_err() && holders(by_processes(1), &none).is_err());
}

fn told(connections: u32, given: GivenToServer, room: &Room) -> String {
    server(connections, given, room).expect("it fits").args.join(" ")
}

#[test]
fn the_server_gets_workers_whose_tables_suffice_at_random() {
    let nothing = GivenToServer::default();
    assert_eq!(told(10_000, nothing, &room()), "", "two tables are enough");
    let million = "--workers 52 --busy-poll off --pool 2048k --credit 128k";
    assert_eq!(told(MILLION, nothing, &room()), million);
    let large = Room { nofile: 1 << 20, cpus: 8, ..room() };
    assert_eq!(told(100_000, nothing, &large), "");
    let choice = server(MILLION, nothing, &room()).expect("it fits");
    assert_eq!((choice.reasons.len(), choice.workers), (3, Some(52)));
    let few = Room { nofile: 600, ..room() };
    assert!(told(3_000, nothing, &few).starts_with("--workers 7"));
}

#[test]
fn what_the_user_gave_to_the_server_stays() {
    let given =
        GivenToServer { workers: Some(6), pool: true, busy_poll: true, ..Default::default() };
    assert_eq!(told(100_000, given, &room()), "");
    let text = server(120_000, given, &room()).expect_err("no room for chance").to_string();
    for part in ["--workers 6", "at random", "120000"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let one = GivenToServer { workers: Some(1), ..given };
    assert!(server(20_000, one, &room()).is_ok(), "nothing is left to chance");
    let shared = GivenToServer { shares_descriptors: true, ..given };
    assert_eq!(told(10_000, shared, &room()), "");
    assert!(server(20_000, shared, &room()).is_err(), "one table for all");
}

#[test]
fn the_largest_share_is_within_chance() {
    assert_eq!(largest_share(MILLION, 1), MILLION);
    assert_eq!(largest_share(MILLION, 50), 20_000 + 708);
    assert_eq!(largest_share(10, 4), 10, "not more than there are");
}

#[test]
fn sources_follow_the_ports() {
    let loopback: SocketAddr = "127.0.0.1:7".parse().expect("an address");
    let net = |count| sources(loopback, count, 28_232).map(|net| net.to_string());
    assert_eq!(net(1).as_deref(), Some("127.0.0.0/25"));
    assert_eq!(net(MILLION).as_deref(), Some("127.0.0.0/25"));
    assert_eq!(net(2 * MILLION).as_deref(), Some("127.0.0.0/24"));
    assert_eq!(net(u32::MAX), None, "more than 65,534 addresses");
    for elsewhere in ["192.0.2.1:7", "[::1]:7", "[::ffff:127.0.0.1]:7"] {
        assert_eq!(sources(elsewhere.parse().expect("an address"), MILLION, 28_232), None);
    }
}

#[test]
fn ports_are_checked() {
    assert_eq!(check_ports(28_232, 0, &room()), Ok(()));
    let text = check_ports(28_233, 0, &room()).expect_err("one too many").to_string();
    assert!(text.contains("1 source") && text.contains("--source"), "{text}");
    assert_eq!(check_ports(MILLION, 126, &room()), Ok(()));
}

#[test]
fn memory_is_checked_against_each_bound() {
    let need = check(wanted(MILLION), 300 << 20, &room()).expect("it fits");
    assert_eq!(need.kernel, 9_216_000_000);
    let need = check(by_processes(MILLION), 300 << 20, &room()).expect("it fits");
    assert_eq!(need.kernel, 10_240_000_000, "a descriptor each");
    assert!(check(wanted(3 * MILLION), 0, &room()).is_err());
    let far = Wanted { both_ends: false, ..wanted(3 * MILLION) };
    assert!(check(far, 0, &room()).is_ok(), "only one end is here");
    let group = MemoryBound::Group("/sys/fs/cgroup/x/memory.max".into());
    let left = MemoryLeft { bound: group, left: 1 << 30 };
    let small = Room { memory: vec![room().memory[0].clone(), left], ..room() };
    let text = check(wanted(MILLION), 0, &small).expect_err("1 GiB").to_string();
    for part in
        ["8.5 GiB of kernel memory", "memory.max) has left 1.0 GiB", "at most 101", "--memory"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    let NoRoom::Memory { fits, .. } = check(wanted(MILLION), 0, &small).expect_err("1 GiB") else {
        panic!("memory is short");
    };
    assert!(check(wanted(fits - 500), 0, &small).is_ok());
}

#[test]
fn files_and_tracked_connections_are_checked() {
    let few = Room { files: Some(1_500_000), ..room() };
    let text = check(wanted(MILLION), 0, &few).expect_err("two a connection").to_string();
    assert!(text.contains("2000000 open files") && text.contains("at most 750000"), "{text}");
    let tracked = Room { conntrack: Some(262_139), ..room() };
    let text = check(wanted(MILLION), 0, &tracked).expect_err("a full table").to_string();
    assert!(text.contains("262139 are free") && text.contains("unshare -n"), "{text}");
    assert!(check(wanted(262_139), 0, &tracked).is_ok());
}

#[test]
fn sizes_are_readable() {
    let sizes = [900 << 10, 5 << 20, (9 << 30) + (1 << 29)].map(size);
    assert_eq!(sizes, ["900 KiB", "5 MiB", "9.5 GiB"]);
}
