//! Starting threads; one that cannot be started is an error that names the limit it ran into.

use std::hint;
use std::io;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::cgroup::{Groups, Limit, PIDS_MAX};
use super::procfs;

/// A thread that the system refused.
#[derive(Debug, thiserror::Error)]
#[error("starting the thread {name}: {source}{hint}")]
pub struct ThreadError {
    name: String,
    source: io::Error,
    /// The likely cause and what to do, or nothing.
    hint: String,
}

/// Starts a thread; its name is cut to 15 bytes by the kernel.
///
/// Returns when it runs and has allocated: glibc gives a thread its arena at its first allocation,
/// for which it may read `/sys/devices/system/cpu/online`, and a filter of system calls that comes
/// in the middle of that ends the process.
///
/// # Errors
/// [`ThreadError`]; EAGAIN means that some limit of threads is reached (pthread_create(3)).
pub fn spawn<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, ThreadError> {
    let (running, runs) = mpsc::sync_channel(1);
    let body = move || {
        let first = hint::black_box(Box::new(0u64));
        // Who started it waits, or has given up.
        let _ = running.send(first);
        run()
    };
    let started = thread::Builder::new().name(name.to_owned()).spawn(body).map_err(|source| {
        let limit = match Errno::from_io_error(&source) {
            Some(Errno::AGAIN) => format!("; {}", reached_limit()),
            _ => String::new(),
        };
        ThreadError { name: name.to_owned(), source, hint: limit }
    })?;
    // An error means that it has panicked, which who joins it is told.
    let _ = runs.recv();
    Ok(started)
}

/// The limit of threads that is reached, as far as this process can tell.
fn reached_limit() -> String {
    let full = |limit: &Limit| {
        let current = limit.file.with_file_name("pids.current");
        procfs::value::<u64>(&current.to_string_lossy()).is_some_and(|now| now >= limit.value)
    };
    if let Some(limit) = Groups::read().limits(PIDS_MAX).into_iter().find(full) {
        return format!(
            "the pids limit of the control group is reached ({}: {}): docker run --pids-limit, \
             systemd TasksMax=, podPidsLimit of the kubelet, or fewer --workers",
            limit.file.display(),
            limit.value
        );
    }
    match getrlimit(Resource::Nproc).current {
        Some(limit) => format!(
            "RLIMIT_NPROC allows this user {limit} threads in all (ulimit -u, LimitNPROC=): raise \
             it or use fewer --workers"
        ),
        None => "no limit of the control group or of this user is reached: see the sysctls \
                 kernel.threads-max and kernel.pid_max"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_has_its_name_and_its_result() {
        let named = spawn("counted", || thread::current().name().map(str::to_owned));
        let name = named.expect("a thread").join().expect("no panic");
        assert_eq!(name.as_deref(), Some("counted"));
    }
}
