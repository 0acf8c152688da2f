//! Divides the CPUs between the embedded server and the generator.

use std::fs;

/// The CPUs of the embedded server and those of the generator, from `allowed`: half each, in the
/// order of physical cores, so that the two share a core only where the number of CPUs forces it.
/// A single CPU is given to both.
#[must_use]
pub fn split_cpus(allowed: &[usize]) -> (Vec<usize>, Vec<usize>) {
    split(allowed, first_sibling)
}

/// CPUs in the format of the server's `--cpus`: `0,1,2`.
#[must_use]
pub fn format_cpus(cpus: &[usize]) -> String {
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

/// The lowest CPU on the same physical core, which identifies that core. Where the kernel does not
/// say (Documentation/ABI/stable/sysfs-devices-system-cpu), every CPU counts as a core.
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
    fn server_and_generator_get_half_of_the_cpus_each() {
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
    fn every_cpu_is_assigned() {
        let (server, generator) = split_cpus(&[0, 1]);
        assert_eq!(server.len() + generator.len(), 2);
    }

    #[test]
    fn cpus_are_formatted_as_the_server_option_takes_them() {
        assert_eq!(format_cpus(&[0, 2, 5]), "0,2,5");
        assert_eq!(format_cpus(&[]), "");
    }
}
