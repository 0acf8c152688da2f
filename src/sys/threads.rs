//! Starting threads; one that cannot be started is an error that names the limit it ran into.

use std::io;
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
/// # Errors
/// [`ThreadError`]; EAGAIN means that some limit of threads is reached (pthread_create(3)).
pub fn spawn<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, ThreadError> {
    thread::Builder::new().name(name.to_owned()).spawn(run).map_err(|source| {
        let hint = match Errno::from_io_error(&source) {
            Some(Errno::AGAIN) => format!("; {}", reached_limit()),
            _ => String::new(),
        };
        ThreadError { name: name.to_owned(), source, hint }
    })
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
