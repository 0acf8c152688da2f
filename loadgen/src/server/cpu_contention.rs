//! Whether spinning generator threads would leave a thread of the server without a CPU.
//!
//! A spinning generator thread never blocks. A server thread that may run on no other CPU would
//! have to share it in scheduler slices of some milliseconds, and accepts would be delayed by that
//! much; in that case the generator threads yield whenever they are idle.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::{fs, io};

use uring_echo::sys::procfs;
use uring_echo::values::{CpuList, cpu_list};

use crate::sys::processes::ServerProcess;

/// CPU numbers.
type Cpus = BTreeSet<usize>;

/// The processes of a server, and the CPUs that each of their threads may run on.
#[derive(Debug)]
pub(crate) struct CpuContention {
    pids: Vec<u32>,
    threads: Vec<Cpus>,
}

impl CpuContention {
    /// Of the processes that listen on `addr`, or of process `pid` where that is known. A process
    /// that is not visible (on another host, in another namespace, of another user) is assumed to
    /// run on any CPU.
    pub(crate) fn of(addr: SocketAddr, pid: Option<u32>) -> Self {
        // What cannot be read is not visible either.
        let servers = ServerProcess::holders(addr, pid).unwrap_or_default();
        let pids = servers.iter().map(|server| server.pid).collect();
        let threads: Vec<Cpus> = servers.iter().flat_map(threads_of).collect();
        let threads = if threads.is_empty() { vec![online()] } else { threads };
        Self { pids, threads }
    }

    /// The visible processes of the server.
    pub(crate) fn pids(&self) -> &[u32] {
        &self.pids
    }

    /// Whether a thread of the server may run on one of the CPUs `own`.
    pub(crate) fn overlaps(&self, own: &[usize]) -> bool {
        self.threads.iter().any(|cpus| own.iter().any(|cpu| cpus.contains(cpu)))
    }

    /// Whether `threads` spinning generator threads on the CPUs `own` leave a thread without a CPU:
    /// one of their own, or one of the server.
    pub(crate) fn starves_a_thread(&self, own: &[usize], threads: usize) -> bool {
        let own: Cpus = own.iter().copied().collect();
        threads > own.len() || self.threads.iter().any(|cpus| cpus.union(&own).count() <= threads)
    }
}

/// The allowed CPUs of each thread. A thread that ends during the reading is left out.
fn threads_of(server: &ServerProcess) -> Vec<Cpus> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{}/task", server.pid)) else { return Vec::new() };
    let status =
        |task: io::Result<fs::DirEntry>| fs::read_to_string(task.ok()?.path().join("status")).ok();
    tasks.filter_map(|task| procfs::allowed_cpus(&status(task)?)).map(set).collect()
}

/// All CPUs that are online. Empty where the kernel does not say, which then counts as contention.
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

    fn starves(server: &[&[usize]], own: &[usize], threads: usize) -> bool {
        let cpus = |list: &&[usize]| list.iter().copied().collect();
        let contention = CpuContention { pids: vec![], threads: server.iter().map(cpus).collect() };
        contention.starves_a_thread(own, threads)
    }

    #[test]
    fn spinning_starves_a_thread_unless_each_has_a_cpu() {
        assert!(!starves(&[&[0, 1]], &[0, 1], 1));
        assert!(starves(&[&[0, 1]], &[0, 1], 2));
        assert!(starves(&[&[0]], &[0], 1));
        assert!(!starves(&[&[0]], &[1], 1), "separate CPUs");
        assert!(!starves(&[&[0, 1]], &[1], 1), "the server can run on 0");
        assert!(starves(&[&[0, 1], &[1]], &[1], 1), "one server thread cannot run on 0");
        assert!(!starves(&[&[1]], &[0, 1], 1), "the generator can run on 0");
        assert!(starves(&[&[0]], &[2, 3], 3), "more generator threads than CPUs");
        assert!(!starves(&[&[0, 1, 2, 3]], &[2, 3], 2));
    }

    #[test]
    fn the_cpus_of_the_threads_of_a_local_server_are_read() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let allowed = sched_getaffinity(None).unwrap();
        let first = (0..CpuSet::MAX_CPU).find(|&cpu| allowed.is_set(cpu)).unwrap();
        let (pinned, is_pinned) = mpsc::channel();
        let (stop, stopped) = mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            let mut only = CpuSet::new();
            only.set(first);
            sched_setaffinity(None, &only).unwrap();
            pinned.send(()).unwrap();
            stopped.recv().unwrap_err();
        });
        is_pinned.recv().unwrap();
        let local = CpuContention::of(listener.local_addr().unwrap(), None);
        let pinned = local.threads.contains(&BTreeSet::from([first]));
        assert!(pinned && local.threads.len() > 1, "{local:?}");
        assert!(local.overlaps(&[first]) && local.pids() == [std::process::id()], "{local:?}");
        assert!(local.starves_a_thread(&[first], 1));
        drop(stop);
        thread.join().unwrap();
    }

    #[test]
    fn a_server_that_is_not_visible_may_run_on_any_cpu() {
        let remote = CpuContention::of(SocketAddr::from(([192, 0, 2, 1], 7)), None);
        assert_eq!(remote.threads, [online()]);
        assert!(remote.pids().is_empty());
        assert!(!online().is_empty());
    }
}
