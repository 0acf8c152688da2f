//! What a process and its descendants have used, from the kernel's clocks and /proc.

use std::fs;

use anyhow::{Context, Result};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// CPU time in nanoseconds of `pid` (its process clock, which counts ended threads too), of its
/// descendants, and of those of them that have ended (these only to a clock tick).
///
/// # Errors
/// `pid` is not there. A descendant that ends while it is read is no error.
pub(crate) fn cpu_ns(pid: u32) -> Result<u64> {
    let own = own_cpu_ns(pid).with_context(|| format!("reading the CPU time of {pid}"))?;
    Ok(own + descendants(pid).into_iter().filter_map(|child| own_cpu_ns(child).ok()).sum::<u64>())
}

/// The same without the descendants that live: a few system calls, however many threads there are.
pub(crate) fn own_cpu_ns(pid: u32) -> Result<u64> {
    let clock = clock_getcpuclockid(Pid::from_raw(pid.try_into()?))?;
    let time = std::time::Duration::from(clock_gettime(clock)?);
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let tick_ns = 1_000_000_000 / rustix::param::clock_ticks_per_second();
    let ended = ended_children_ticks(&stat).context("stat has too few fields")? * tick_ns;
    Ok(u64::try_from(time.as_nanos())? + ended)
}

/// cutime + cstime of /proc/PID/stat, the 16th and 17th field; the second may hold spaces.
fn ended_children_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(13);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn descendants(pid: u32) -> Vec<u32> {
    let mut found = children(pid);
    let mut next = 0;
    while let Some(&child) = found.get(next) {
        found.extend(children(child));
        next += 1;
    }
    found
}

fn children(pid: u32) -> Vec<u32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists = tasks.flatten().map(|task| fs::read_to_string(task.path().join("children")));
    lists
        .flatten()
        .flat_map(|list| list.split_whitespace().flat_map(str::parse).collect::<Vec<u32>>())
        .collect()
}

/// Resident memory of `pid` in bytes.
///
/// # Errors
/// `pid` is not there.
pub(crate) fn resident_bytes(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    kib_field(&status, "VmRSS:").context("status has no VmRSS").map(|kib| kib * 1024)
}

fn kib_field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use nix::time::ClockId;

    use super::*;

    #[test]
    fn names_with_spaces_and_brackets_do_not_shift_fields() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 5 6 0 0 10 20 30 40 20 0 1 0";
        assert_eq!(ended_children_ticks(stat), Some(70));
    }

    #[test]
    fn fields_in_kib_are_found_by_name() {
        let status = "Name:\tx\nVmHWM:\t  99 kB\nVmRSS:\t  21880 kB\n";
        assert_eq!(kib_field(status, "VmRSS:"), Some(21_880));
        assert_eq!(kib_field(status, "VmSwap:"), None);
    }

    #[test]
    fn this_process_has_used_something() {
        let pid = std::process::id();
        assert!(cpu_ns(pid).expect("our own") > 0);
        assert!(resident_bytes(pid).expect("our own") > 0);
    }

    #[test]
    fn threads_that_have_ended_still_count() {
        let before = cpu_ns(std::process::id()).expect("our own");
        let spin = || {
            while clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock").tv_nsec()
                < 20_000_000
            {}
        };
        std::thread::spawn(spin).join().expect("a thread");
        assert!(cpu_ns(std::process::id()).expect("our own") - before >= 20_000_000);
    }
}
