//! Whether spinning generator threads would leave a thread of the server without a CPU.
//!
//! A spinning generator thread never gives up its CPU by itself. Where a thread of the server can
//! run nowhere else, it would get turns of some milliseconds, and accepts with it; so the generator
//! then yields whenever it has nothing to do.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::{fs, io};

use uring_echo::sys::procfs;
use uring_echo::values::{CpuList, cpu_list};

use crate::sys::processes::ServerProcess;

/// CPUs by number.
type Cpus = BTreeSet<usize>;

/// The CPUs that each thread of the server may run on.
#[derive(Debug)]
pub(crate) struct CpuContention(Vec<Cpus>);

impl CpuContention {
    /// Of whoever listens at `addr`, or of process `pid` where that is known. Who cannot be seen
    /// (on another host, in another namespace, somebody else's process) may run on any CPU.
    pub(crate) fn of(addr: SocketAddr, pid: Option<u32>) -> Self {
        let threads = ServerProcess::holders(addr, pid)
            .map(|servers| servers.iter().flat_map(threads_of).collect::<Vec<Cpus>>());
        match threads {
            Ok(threads) if !threads.is_empty() => Self(threads),
            Ok(_) | Err(_) => Self(vec![online()]),
        }
    }

    /// Whether `threads` spinning threads on the CPUs `own` leave somebody without one: each other,
    /// or a thread of the server.
    pub(crate) fn starve(&self, own: &[usize], threads: usize) -> bool {
        let own: Cpus = own.iter().copied().collect();
        threads > own.len() || self.0.iter().any(|cpus| cpus.union(&own).count() <= threads)
    }
}

/// A thread that ends while it is looked at needs no CPU.
fn threads_of(server: &ServerProcess) -> Vec<Cpus> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{}/task", server.pid)) else { return Vec::new() };
    let status =
        |task: io::Result<fs::DirEntry>| fs::read_to_string(task.ok()?.path().join("status")).ok();
    tasks.filter_map(|task| procfs::allowed_cpus(&status(task)?)).map(set).collect()
}

/// All that are running; none, which starves, where the kernel does not say.
fn online() -> Cpus {
    let list = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    cpu_list(list.trim()).map(set).unwrap_or_default()
}

fn set(list: CpuList) -> Cpus {
    list.0.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::mpsc;
    use std::thread;

    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    use super::*;

    fn starve(server: &[&[usize]], own: &[usize], threads: usize) -> bool {
        let cpus = |list: &&[usize]| list.iter().copied().collect();
        CpuContention(server.iter().map(cpus).collect()).starve(own, threads)
    }

    #[test]
    fn spinning_needs_a_cpu_that_the_server_can_do_without() {
        assert!(!starve(&[&[0, 1]], &[0, 1], 1));
        assert!(starve(&[&[0, 1]], &[0, 1], 2));
        assert!(starve(&[&[0]], &[0], 1));
        assert!(!starve(&[&[0]], &[1], 1), "apart");
        assert!(!starve(&[&[0, 1]], &[1], 1), "the server can go to 0");
        assert!(starve(&[&[0, 1], &[1]], &[1], 1), "one thread of it cannot");
        assert!(!starve(&[&[1]], &[0, 1], 1), "the generator can go to 0");
        assert!(starve(&[&[0]], &[2, 3], 3), "among themselves");
        assert!(!starve(&[&[0, 1, 2, 3]], &[2, 3], 2));
    }

    #[test]
    fn a_server_here_is_seen_with_the_cpus_of_its_threads() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let allowed = sched_getaffinity(None).unwrap();
        let first = (0..CpuSet::MAX_CPU).find(|&cpu| allowed.is_set(cpu)).unwrap();
        let (pinned, is_pinned) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            let mut only = CpuSet::new();
            only.set(first);
            sched_setaffinity(None, &only).unwrap();
            pinned.send(()).unwrap();
            ended.recv().unwrap_err();
        });
        is_pinned.recv().unwrap();
        let seen = CpuContention::of(listener.local_addr().unwrap(), None);
        assert!(seen.0.contains(&BTreeSet::from([first])) && seen.0.len() > 1, "{seen:?}");
        assert!(seen.starve(&[first], 1));
        drop(end);
        thread.join().unwrap();
    }

    #[test]
    fn who_cannot_be_seen_may_run_anywhere() {
        let elsewhere = CpuContention::of(SocketAddr::from(([192, 0, 2, 1], 7)), None);
        assert_eq!(elsewhere.0, [online()]);
        assert!(!online().is_empty());
    }
}
