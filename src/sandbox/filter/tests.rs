//! What the filter answers, by running its programs as the kernel does (seccomp(2), the classic BPF
//! of linux/filter.h).

use super::*;
use crate::stamp::Engine;

const ENGINES: [Engine; 3] = [Engine::Uring, Engine::Epoll, Engine::TokioUring];

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;
const ANSWER: u32 = libc::SECCOMP_RET_ERRNO | libc::EACCES.cast_unsigned();

/// `struct seccomp_data` in words: the call, the architecture, the instruction pointer, arguments.
fn data(number: i64, arguments: [u64; 6]) -> [u32; 16] {
    let low = |value: u64| u32::try_from(value & 0xffff_ffff).expect("half a word");
    let architecture = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };
    let mut words = [0; 16];
    (words[0], words[1]) = (u32::try_from(number).expect("a call"), architecture);
    for (index, argument) in arguments.into_iter().enumerate() {
        (words[4 + 2 * index], words[5 + 2 * index]) = (low(argument), low(argument >> 32));
    }
    words
}

fn run(program: &BpfProgram, data: &[u32; 16]) -> u32 {
    const LOAD: u16 = 0x20;
    const AND: u16 = 0x54;
    const JUMP: u16 = 0x05;
    const RETURN: u16 = 0x06;
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let step = &program[at];
        at += 1;
        match step.code {
            LOAD => accumulator = data[step.k as usize / 4],
            AND => accumulator &= step.k,
            JUMP => at += step.k as usize,
            RETURN => return step.k,
            code => {
                let holds = match code {
                    0x15 => accumulator == step.k,
                    0x25 => accumulator > step.k,
                    0x35 => accumulator >= step.k,
                    0x45 => accumulator & step.k != 0,
                    _ => panic!("instruction {code:#x}"),
                };
                at += usize::from(if holds { step.jt } else { step.jf });
            }
        }
    }
}

/// The stricter answer of the two programs: a smaller one is stricter, but for KILL_PROCESS.
fn answer(engine: Engine, number: i64, arguments: [u64; 6]) -> u32 {
    answer_to(plain(engine), number, arguments)
}

fn plain(engine: Engine) -> Uses {
    Uses { engine, takeover: false, admin: None }
}

fn answer_to(uses: Uses, number: i64, arguments: [u64; 6]) -> u32 {
    let data = data(number, arguments);
    let answers = programs(uses).expect("programs").map(|program| run(&program, &data));
    answers.into_iter().min_by_key(|answer| (answer & 0xffff_0000).cast_signed()).expect("two")
}

#[test]
fn what_a_serving_process_has_no_use_for_ends_it() {
    let forbidden = [
        ("start programs", vec![libc::SYS_execve, libc::SYS_execveat]),
        ("start processes and threads", vec![libc::SYS_clone, libc::SYS_clone3]),
        ("signal others", vec![libc::SYS_kill, libc::SYS_tkill, libc::SYS_rt_sigqueueinfo]),
        ("signal by descriptor", vec![libc::SYS_pidfd_send_signal, libc::SYS_pidfd_open]),
        ("take descriptors of others", vec![libc::SYS_pidfd_getfd, libc::SYS_recvmsg]),
        ("look into others", vec![libc::SYS_ptrace, libc::SYS_process_vm_readv]),
        ("write into others", vec![libc::SYS_process_vm_writev, libc::SYS_process_madvise]),
        ("make sockets", vec![libc::SYS_socket, libc::SYS_socketpair]),
        ("connect", vec![libc::SYS_connect, libc::SYS_bind, libc::SYS_listen]),
        ("change files", vec![libc::SYS_fchmod, libc::SYS_fchmodat, libc::SYS_fchownat]),
        ("truncate", vec![libc::SYS_truncate, libc::SYS_ftruncate, libc::SYS_fallocate]),
        ("rename", vec![libc::SYS_renameat2, libc::SYS_linkat, libc::SYS_symlinkat]),
        ("remove", vec![libc::SYS_unlinkat, libc::SYS_mkdirat, libc::SYS_mknodat]),
        ("open by other means", vec![libc::SYS_openat2, libc::SYS_open_by_handle_at]),
        ("leave namespaces", vec![libc::SYS_unshare, libc::SYS_setns, libc::SYS_chroot]),
        ("mount", vec![libc::SYS_mount, libc::SYS_umount2, libc::SYS_pivot_root]),
        ("become another user", vec![libc::SYS_setuid, libc::SYS_setgid, libc::SYS_capset]),
        ("keys", vec![libc::SYS_keyctl, libc::SYS_add_key, libc::SYS_request_key]),
        ("kernel interfaces", vec![libc::SYS_bpf, libc::SYS_perf_event_open]),
        ("page faults", vec![libc::SYS_userfaultfd, libc::SYS_memfd_create]),
        ("modules", vec![libc::SYS_init_module, libc::SYS_finit_module, libc::SYS_kexec_load]),
        ("more rings", vec![libc::SYS_io_uring_setup, libc::SYS_io_setup]),
        ("limits", vec![libc::SYS_prlimit64, libc::SYS_setpriority, libc::SYS_ioctl]),
        ("the machine", vec![libc::SYS_reboot, libc::SYS_sethostname, libc::SYS_clock_settime]),
        ("other filters", vec![libc::SYS_seccomp, libc::SYS_landlock_create_ruleset]),
    ];
    for uses in each_use() {
        for (group, calls) in &forbidden {
            for call in calls {
                assert_eq!(answer_to(uses, *call, [0; 6]), KILL, "{uses:?}: {group} ({call})");
            }
        }
    }
}

/// An admin endpoint gives no thread any of it.
fn each_use() -> impl Iterator<Item = Uses> {
    ENGINES
        .into_iter()
        .flat_map(|engine| [None, Some(5)].map(|admin| Uses { admin, ..plain(engine) }))
}

#[test]
fn an_admin_endpoint_takes_its_own_connections_and_asks_for_its_own_options() {
    let uses = Uses { admin: Some(5), ..plain(Engine::Uring) };
    let is = |call, arguments, expected: u32| {
        assert_eq!(answer_to(uses, call, arguments), expected, "{call}: {arguments:?}");
    };
    is(libc::SYS_accept4, [5, 0, 0, 0, 0, 0], ALLOW);
    is(libc::SYS_accept4, [6, 0, 0, 0, 0, 0], KILL);
    let option = |name: i32| [7, 6, u64::from(name.cast_unsigned()), 0, 0, 0];
    is(libc::SYS_getsockopt, option(libc::TCP_INFO), ALLOW);
    is(libc::SYS_getsockopt, option(libc::SO_MEMINFO), ALLOW);
    is(libc::SYS_getsockopt, option(libc::SO_PEERCRED), KILL);
    is(libc::SYS_getsockopt, option(libc::TCP_ULP), KILL);
    assert_eq!(answer(Engine::Uring, libc::SYS_getsockopt, option(libc::TCP_INFO)), KILL);
    assert_eq!(answer(Engine::Uring, libc::SYS_accept4, [5, 0, 0, 0, 0, 0]), KILL);
}

#[test]
fn everything_that_is_not_listed_ends_the_process() {
    for engine in ENGINES {
        let calls =
            allowed(Uses { engine, takeover: false, admin: None }).chain(ANSWERED.iter().copied());
        let listed: Vec<i64> = calls.map(|call| call.number).collect();
        for number in (0..700).filter(|number| !listed.contains(number)) {
            assert_eq!(answer(engine, number, [0; 6]), KILL, "{engine:?}: {number}");
        }
        // The calls of the 32-bit ABI on x86-64 have this bit.
        assert_eq!(answer(engine, 0x4000_0000 | libc::SYS_write, [0; 6]), KILL);
    }
}

#[test]
fn arguments_decide_where_a_call_has_other_uses() {
    let engine = Engine::Epoll;
    let with = |index: usize, value: i32| {
        let mut arguments = [0; 6];
        arguments[index] = u64::from(value.cast_unsigned());
        arguments
    };
    let is = |call, arguments, expected: u32| {
        assert_eq!(answer(engine, call, arguments), expected, "{call}: {arguments:?}");
    };
    is(libc::SYS_mmap, with(2, libc::PROT_READ | libc::PROT_WRITE), ALLOW);
    is(libc::SYS_mmap, with(2, libc::PROT_READ | libc::PROT_EXEC), KILL);
    is(libc::SYS_mprotect, with(2, libc::PROT_EXEC), KILL);
    is(libc::SYS_sendto, with(3, libc::MSG_NOSIGNAL), ALLOW);
    is(libc::SYS_sendto, with(3, libc::MSG_FASTOPEN | libc::MSG_NOSIGNAL), KILL);
    is(libc::SYS_sendto, [0, 0, 0, 0, 0x7fff_0000_0000, 16], KILL);
    is(libc::SYS_sendmsg, with(2, libc::MSG_FASTOPEN), KILL);
    is(libc::SYS_prctl, with(0, libc::PR_SET_NAME), ALLOW);
    is(libc::SYS_prctl, with(0, libc::PR_SET_DUMPABLE), KILL);
    is(libc::SYS_fcntl, with(1, libc::F_SETFL), KILL);
    let own = u64::from(std::process::id());
    let abort = u64::from(libc::SIGABRT.cast_unsigned());
    is(libc::SYS_tgkill, [own, own, abort, 0, 0, 0], ALLOW);
    is(libc::SYS_tgkill, [own, own, 9, 0, 0, 0], KILL);
    is(libc::SYS_tgkill, [1, 1, abort, 0, 0, 0], KILL);
}

#[test]
fn files_can_be_neither_read_nor_written() {
    for engine in ENGINES {
        let open = |flags: i32| {
            answer(engine, libc::SYS_openat, [0, 0, u64::from(flags.cast_unsigned()), 0, 0, 0])
        };
        assert_eq!(open(libc::O_RDONLY | libc::O_CLOEXEC), ANSWER);
        for writing in [libc::O_WRONLY, libc::O_RDWR, libc::O_CREAT, libc::O_TRUNC] {
            assert_eq!(open(writing), KILL, "{writing:#x}");
        }
    }
}

#[test]
fn an_engine_has_its_own_calls_only() {
    assert_eq!(answer(Engine::Uring, libc::SYS_accept4, [0; 6]), KILL);
    assert_eq!(answer(Engine::Uring, libc::SYS_io_uring_enter, [0; 6]), ALLOW);
    assert_eq!(answer(Engine::Epoll, libc::SYS_accept4, [0; 6]), ALLOW);
    assert_eq!(answer(Engine::Epoll, libc::SYS_io_uring_enter, [0; 6]), KILL);
}
