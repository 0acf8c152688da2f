#!/usr/bin/env python3
"""Writes docker/seccomp.json, and the ConfigMap that brings it to the nodes of a cluster:
seccomp.py [--check | --against DEFAULT_JSON]

What may be called is listed under what needs it; what engines allow by default and this profile
does not, under the reason. With --check nothing is written: the files have to be what this writes.
With --against, the default profile of an engine (moby's seccomp/default.json) is read, and every
departure from it has to be one of those listed here.
"""

import json
import pathlib
import sys
import textwrap

FOLDER = pathlib.Path(__file__).parent
PROFILE = FOLDER / "seccomp.json"
CONFIG_MAP = FOLDER.parent / "deploy/kubernetes/seccomp/profile.yaml"
CONFIG_MAP_HEAD = """\
# Written by docker/seccomp.py.
apiVersion: v1
kind: ConfigMap
metadata:
  name: uring-echo-seccomp
  namespace: uring-echo-nodes
data:
  uring-echo.json: |
"""
EPERM, ENOSYS = 1, 38

# Denied by default, allowed here.
ADDED = {
    "what this profile is for: engines from 25.0 on deny io_uring": """
        io_uring_enter io_uring_register io_uring_setup""",
}

# Allowed by default and here. Where libraries choose among an older and a newer call, both.
KEPT = {
    "connections, and waiting for them": """
        accept accept4 bind connect epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2
        epoll_wait eventfd eventfd2 getpeername getsockname getsockopt listen poll ppoll recvfrom
        recvmsg sendmmsg sendmsg sendto setsockopt shutdown socketpair""",
    "results are written, /proc, /sys and the files of a name's resolution are read": """
        access close close_range dup dup2 dup3 faccessat faccessat2 fcntl fdatasync flock fstat
        fsync ftruncate getcwd getdents64 ioctl lseek lstat mkdir mkdirat newfstatat open openat
        openat2 pipe pipe2 pread64 preadv pwrite64 pwritev read readlink readlinkat readv rename
        renameat renameat2 rmdir stat statx umask unlink unlinkat write writev""",
    "memory": "brk madvise membarrier mmap mprotect mremap munmap",
    "threads, loadgen's embedded server and holders, and who all of them are": """
        arch_prctl execve exit exit_group fork futex futex_waitv get_robust_list getcpu getegid
        geteuid getgid getpgid getpgrp getpid getppid getpriority getresgid getresuid getrlimit
        getrusage getsid gettid getuid kill pidfd_open pidfd_send_signal prctl prlimit64 rseq
        sched_getaffinity sched_setaffinity sched_yield set_robust_list set_tid_address setpgid
        setpriority setrlimit setsid sysinfo uname vfork wait4 waitid""",
    "the server's sandbox, which takes away more": """
        landlock_add_rule landlock_create_ruleset landlock_restrict_self seccomp""",
    "signals, time and randomness": """
        clock_getres clock_gettime clock_nanosleep getrandom gettimeofday nanosleep pause
        restart_syscall rt_sigaction rt_sigpending rt_sigprocmask rt_sigreturn rt_sigsuspend
        rt_sigtimedwait sigaltstack tgkill time""",
    "the engine's runtime, which starts a program under its profile": """
        capget capset chdir chown execveat fchdir fchown fstatfs getgroups setgid
        setgroups setresgid setresuid setuid statfs""",
}

# Kept, but only with some arguments; of a call that is here several times one has to fit. The
# default allows all families but AF_VSOCK and AF_ALG. What a ring opens is seen by no filter: the
# server restricts its rings itself.
NEW_NAMESPACES = 0x7E02_0000  # every CLONE_NEW* that clone(2) takes
NONE_OF = {"index": 0, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
IS = {"index": 0, "op": "SCMP_CMP_EQ"}
LIMITED = [
    ("clone", "threads and children, no new namespaces", NONE_OF | {"value": NEW_NAMESPACES}),
    ("socket", "AF_UNIX: the log of a service manager, takeover", IS | {"value": 1}),
    ("socket", "AF_INET", IS | {"value": 2}),
    ("socket", "AF_INET6", IS | {"value": 10}),
    ("socket", "AF_NETLINK: loadgen asks for socket states", IS | {"value": 16}),
]

# Allowed by default, not needed here.
WITHHELD = {
    "nothing links, changes owners, modes or times, or makes devices": """
        chmod creat fallocate fchmod fchmodat fchmodat2 fchownat futimesat lchown link linkat
        mknod mknodat symlink symlinkat truncate utime utimensat utimes""",
    "files are written in one piece, by write(2)": """
        cachestat copy_file_range fadvise64 preadv2 pwritev2 readahead sendfile splice sync
        sync_file_range syncfs tee vmsplice""",
    "extended attributes, mounts, handles and notifications of files": """
        fanotify_mark fgetxattr flistxattr fremovexattr fsetxattr getxattr getxattrat
        inotify_add_watch inotify_init inotify_init1 inotify_rm_watch lgetxattr listmount listxattr
        listxattrat llistxattr lremovexattr lsetxattr name_to_handle_at removexattr removexattrat
        setxattr setxattrat statmount""",
    "the asynchronous I/O before io_uring": """
        io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit""",
    "System V and POSIX message queues, semaphores and shared memory": """
        ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink msgctl msgget
        msgrcv msgsnd semctl semget semop semtimedop shmat shmctl shmdt shmget""",
    "memory is not locked, shared by descriptor, tagged or given keys": """
        map_shadow_stack memfd_create memfd_secret mincore mlock mlock2 mlockall mseal msync munlock
        munlockall pkey_alloc pkey_free pkey_mprotect remap_file_pages""",
    "no process looks into another one, or changes its scheduling class or its user": """
        ioprio_get ioprio_set process_mrelease process_vm_readv process_vm_writev
        ptrace sched_get_priority_max sched_get_priority_min sched_getattr sched_getparam
        sched_getscheduler sched_rr_get_interval sched_setattr sched_setparam sched_setscheduler
        setfsgid setfsuid setregid setreuid uretprobe""",
    "no clock is set; timers and signals do not come through descriptors or queues": """
        adjtimex alarm clock_adjtime getitimer pselect6 recvmmsg rt_sigqueueinfo rt_tgsigqueueinfo
        select setitimer signalfd signalfd4 timer_create timer_delete timer_getoverrun
        timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime times tkill""",
    "successors of futex(2) that no library here calls yet": """
        futex_requeue futex_wait futex_wake""",
    "no library here asks for another personality": "modify_ldt personality",
    "calls of 32-bit and of other architectures: only 64-bit programs are in the image": """
        _llseek _newselect chown32 clock_adjtime64 clock_getres_time64 clock_gettime64
        clock_nanosleep_time64 epoll_ctl_old epoll_wait_old fadvise64_64 fchown32 fcntl64 fstat64
        fstatat64 fstatfs64 ftruncate64 futex_time64 get_thread_area getdents getegid32 geteuid32
        getgid32 getgroups32 getresgid32 getresuid32 getuid32 io_pgetevents_time64 lchown32
        lstat64 mmap2 mq_timedreceive_time64 mq_timedsend_time64 ppoll_time64 pselect6_time64 recv
        recvmmsg_time64 riscv_hwprobe rt_sigtimedwait_time64 sched_rr_get_interval_time64
        semtimedop_time64 send sendfile64 set_thread_area setfsgid32 setfsuid32 setgid32
        setgroups32 setregid32 setresgid32 setresuid32 setreuid32 setuid32 sigprocmask sigreturn
        socketcall stat64 statfs64 timer_gettime64 timer_settime64 timerfd_gettime64
        timerfd_settime64 truncate64 ugetrlimit utimensat_time64 waitpid""",
}

# Its flags lie behind a pointer. Told that it is missing, libraries take clone(2), as by default.
MISSING = ("clone3", "flags behind a pointer cannot be looked at; libraries then take clone")


def main(arguments):
    text = written(profile())
    files = {PROFILE: text, CONFIG_MAP: CONFIG_MAP_HEAD + textwrap.indent(text, " " * 4)}
    if len(arguments) == 2 and arguments[0] == "--against":
        compare(json.loads(pathlib.Path(arguments[1]).read_text(encoding="utf-8")))
    elif arguments not in ([], ["--check"]):
        sys.exit(__doc__)
    for path, content in files.items():
        if not arguments:
            path.write_text(content, encoding="utf-8")
        elif path.read_text(encoding="utf-8") != content:
            sys.exit(f"{path} is not what {pathlib.Path(__file__).name} writes: run it")


def profile():
    listed = names(ADDED, KEPT, WITHHELD)
    twice = sorted({call for call in listed if listed.count(call) > 1})
    assert not twice, f"listed twice: {twice}"
    rules = [
        {"comment": why, "names": sorted(calls.split()), "action": "SCMP_ACT_ALLOW"}
        for why, calls in (ADDED | KEPT).items()
    ]
    rules += [
        {"comment": why, "names": [call], "action": "SCMP_ACT_ALLOW", "args": [condition]}
        for call, why, condition in LIMITED
    ]
    call, why = MISSING
    missing = {"names": [call], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS}
    rules.append({"comment": why} | missing)
    return {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": EPERM, "syscalls": rules}


def names(*groups):
    return [call for group in groups for calls in group.values() for call in calls.split()]


def written(value):
    """JSON with the names of a rule side by side: as text it is to be read, too."""
    rules = ",\n".join(textwrap.indent(rule_text(rule), " " * 4) for rule in value["syscalls"])
    head = json.dumps({k: v for k, v in value.items() if k != "syscalls"}, indent=2)[:-2]
    return f'{head},\n  "syscalls": [\n{rules}\n  ]\n}}\n'


def rule_text(rule):
    fields = []
    for key, value in rule.items():
        text = json.dumps(value)
        if key == "names" and len(text) > 80:
            lines = textwrap.fill(text[1:-1], 90, break_on_hyphens=False)
            text = f"[\n{textwrap.indent(lines, ' ' * 4)}\n  ]"
        fields.append(f"  {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(fields) + "\n}"


def compare(default):
    """Every call that is allowed without a capability is kept or withheld; nothing else is kept."""
    limited = [call for call, _, _ in LIMITED]
    of_default = set()
    for rule in default["syscalls"]:
        if rule["action"] == "SCMP_ACT_ALLOW" and not rule.get("includes", {}).get("caps"):
            if rule.get("includes", {}).get("arches", ["amd64"])[:1] == ["amd64"]:
                of_default |= set(rule["names"])
    kept = set(names(KEPT)) | set(limited)
    unlisted = sorted(of_default - kept - set(names(WITHHELD)))
    more = sorted(kept - of_default)
    needless = sorted(set(names(ADDED)) & of_default)
    for what, calls in [
        ("allowed by the default, neither kept nor withheld here", unlisted),
        ("kept here, not allowed by the default", more),
        ("added here, allowed by the default", needless),
    ]:
        print(f"{what}: {' '.join(calls) or 'none'}")
    sys.exit(1 if unlisted or more else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
