//! Whether generator threads and threads of the server may want the same CPU.
//!
//! A generator thread that spins there keeps a server thread from running for a slice of the
//! scheduler, some milliseconds that would be measured as the server's; so it spins only where the
//! server cannot run, and gives way elsewhere.

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
    /// Of the processes that listen on `addr`. A process that is not visible (on another host, in
    /// another namespace, of another user) is assumed to run on any CPU.
    pub(crate) fn of(addr: SocketAddr) -> Self {
        // What cannot be read is not visible either.
        let servers = ServerProcess::holders(addr, None).unwrap_or_default();
        let pids = servers.iter().map(|server| server.pid).collect();
        let threads: Vec<Cpus> = servers.iter().flat_map(threads_of).collect();
        let threads = if threads.is_empty() { vec![online()] } else { threads };
        Self { pids, threads }
    }

    /// Of process `pid`, whose workers stay on `cpus`; its main thread only waits for signals.
    pub(crate) fn of_workers(pid: u32, cpus: &[usize]) -> Self {
        Self { pids: vec![pid], threads: vec![cpus.iter().copied().collect()] }
    }

    /// The visible processes of the server.
    pub(crate) fn pids(&self) -> &[u32] {
        &self.pids
    }

    /// Whether a thread of the server may run on one of the CPUs `own`.
    pub(crate) fn overlaps(&self, own: &[usize]) -> bool {
        self.threads.iter().any(|cpus| own.iter().any(|cpu| cpus.contains(cpu)))
    }

    /// The CPUs of `allowed` that no thread of a visible server may run on.
    pub(crate) fn free_of(&self, allowed: &[usize]) -> Vec<usize> {
        let taken = |cpu: &usize| self.threads.iter().any(|cpus| cpus.contains(cpu));
        allowed.iter().copied().filter(|cpu| !taken(cpu)).collect()
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

    fn server(threads: &[&[usize]]) -> CpuContention {
        let cpus = |list: &&[usize]| list.iter().copied().collect();
        CpuContention { pids: vec![], threads: threads.iter().map(cpus).collect() }
    }

    #[test]
    fn a_cpu_is_shared_if_any_thread_of_the_server_may_run_on_it() {
        assert!(server(&[&[0, 1]]).overlaps(&[1]));
        assert!(server(&[&[0], &[1]]).overlaps(&[1]));
        assert!(!server(&[&[0], &[2]]).overlaps(&[1]));
    }

    #[test]
    fn what_the_server_may_not_use_is_free() {
        assert_eq!(server(&[&[0], &[2]]).free_of(&[0, 1, 2, 3]), [1, 3]);
        assert!(server(&[&[0, 1]]).free_of(&[0, 1]).is_empty());
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
        let local = CpuContention::of(listener.local_addr().unwrap());
        let pinned = local.threads.contains(&BTreeSet::from([first]));
        assert!(pinned && local.threads.len() > 1, "{local:?}");
        assert!(local.overlaps(&[first]) && local.pids() == [std::process::id()], "{local:?}");
        drop(stop);
        thread.join().unwrap();
    }

    #[test]
    fn a_server_that_is_not_visible_may_run_on_any_cpu() {
        let remote = CpuContention::of(SocketAddr::from(([192, 0, 2, 1], 7)));
        assert_eq!(remote.threads, [online()]);
        assert!(remote.pids().is_empty());
        assert!(!online().is_empty());
    }
}
