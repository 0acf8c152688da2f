//! Which CPUs the embedded server gets and which the generator.

use std::fs;

/// The CPUs of the embedded server and those of the generator, from `allowed`: half each, the
/// server's first, by physical core so that the two do not share one where it can be helped.
/// With a single CPU both get it.
#[must_use]
pub fn split_cpus(allowed: &[usize]) -> (Vec<usize>, Vec<usize>) {
    split(allowed, first_sibling)
}

/// CPUs as the server's `--cpus` takes them: `0,1,2`.
#[must_use]
pub fn joined(cpus: &[usize]) -> String {
    cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

fn split(allowed: &[usize], core_of: impl Fn(usize) -> usize) -> (Vec<usize>, Vec<usize>) {
    let mut cpus = allowed.to_vec();
    cpus.sort_by_key(|&cpu| (core_of(cpu), cpu));
    if cpus.len() < 2 {
        return (cpus.clone(), cpus);
    }
    let generator = cpus.split_off(cpus.len() / 2);
    (cpus, generator)
}

/// The lowest CPU on the same physical core names that core. Where the kernel does not say
/// (Documentation/ABI/stable/sysfs-devices-system-cpu), every CPU counts as a core.
fn first_sibling(cpu: usize) -> usize {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    let siblings = fs::read_to_string(path).unwrap_or_default();
    let first = siblings.split([',', '-']).next().unwrap_or_default();
    first.trim().parse().unwrap_or(cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_go_to_server_and_generator() {
        let cases: [(&[usize], &[usize], &[usize]); 5] = [
            (&[], &[], &[]),
            (&[3], &[3], &[3]),
            (&[0, 1], &[0], &[1]),
            (&[4, 2, 0], &[0], &[2, 4]),
            (&[0, 1, 2, 3], &[0, 1], &[2, 3]),
        ];
        for (allowed, server, generator) in cases {
            let expected = (server.to_vec(), generator.to_vec());
            assert_eq!(split(allowed, |cpu| cpu), expected, "{allowed:?}");
        }
    }

    #[test]
    fn hyperthreads_of_a_core_stay_together() {
        let halves = split(&[0, 1, 2, 3], |cpu| cpu % 2);
        assert_eq!(halves, (vec![0, 2], vec![1, 3]));
    }

    #[test]
    fn all_cpus_here_are_given_out() {
        let (server, generator) = split_cpus(&[0, 1]);
        assert_eq!(server.len() + generator.len(), 2);
    }

    #[test]
    fn a_list_reads_like_the_option() {
        assert_eq!(joined(&[0, 2, 5]), "0,2,5");
        assert_eq!(joined(&[]), "");
    }
}
