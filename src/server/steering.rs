//! `--steer`: what it needs of a configuration, and the listeners told.

use rustix::system::uname;

use crate::config::{Config, Steer};
use crate::listen::{AddressListeners, ListenError};
use crate::stamp::AcceptMode;
use crate::takeover::Origin;

/// Why connections cannot be steered as asked.
#[derive(Debug, thiserror::Error)]
pub enum SteerError {
    /// Something that it needs is not there.
    #[error("--steer {way}: {reason}")]
    Needs {
        /// The value of the flag.
        way: &'static str,
        /// What is missing, and the remedy.
        reason: String,
    },
    /// A listener did not take it.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

impl SteerError {
    fn needs(way: Steer, reason: String) -> Self {
        Self::Needs { way: way.name(), reason }
    }
}

/// The first Linux whose choice among sockets of one address heeds SO_INCOMING_CPU.
const HEEDS_INCOMING_CPU: (u32, u32) = (6, 2);

/// Refuses what cannot be done with this configuration, or on this kernel.
///
/// # Errors
/// What is missing, and the remedy.
pub(super) fn check(config: &Config) -> Result<(), SteerError> {
    let way = config.steer;
    if way == Steer::Off {
        return Ok(());
    }
    let refuse = |reason: String| Err(SteerError::needs(way, reason));
    if config.accept == AcceptMode::Shared {
        return refuse("needs a queue for each worker: --accept reuseport".to_owned());
    }
    let (cpus, workers) = (cpus(config), config.workers.get());
    if cpus.len() < workers {
        return refuse(format!(
            "needs --cpus with a CPU of its own for each of {workers} workers, and has {}",
            cpus.len()
        ));
    }
    let own = &cpus[..workers];
    if let Some(twice) = own.iter().enumerate().find(|(at, cpu)| own[..*at].contains(cpu)) {
        return refuse(format!("CPU {} has two workers: name each once in --cpus", twice.1));
    }
    let release = uname().release().to_string_lossy().into_owned();
    if way == Steer::IncomingCpu && version(&release).is_some_and(|v| v < HEEDS_INCOMING_CPU) {
        return refuse(format!("needs Linux 6.2 or newer, this is {release}; use --steer cbpf"));
    }
    Ok(())
}

/// Tells the listeners of every address, which may be those of a predecessor that told them
/// something else.
///
/// # Errors
/// Inherited listeners that cannot be told, or what setsockopt(2) says.
pub(super) fn steer(
    config: &Config,
    listening: &[AddressListeners],
    origin: Option<Origin>,
) -> Result<(), SteerError> {
    let way = config.steer;
    let (cpus, workers) = (cpus(config), config.workers.get());
    // A predecessor whose successor refuses to start goes on with what it told them.
    for address in listening.iter().filter(|_| origin.is_some() && way != Steer::Off) {
        inherited(way, address.sockets.len(), workers)?;
    }
    for address in listening {
        // What a service manager told its sockets is left to it.
        if origin == Some(Origin::Takeover) || (origin.is_some() && way != Steer::Off) {
            address.forget_cpus()?;
        }
        match way {
            Steer::Off => {}
            Steer::IncomingCpu => address.prefer_cpus(&cpus)?,
            Steer::Cbpf => address.filter_by_cpu(&cpus)?,
        }
    }
    Ok(())
}

/// Whether listeners that others opened can be steered by.
fn inherited(way: Steer, queues: usize, workers: usize) -> Result<(), SteerError> {
    let refuse = |reason: String| Err(SteerError::needs(way, reason));
    if way == Steer::Cbpf && queues > 1 {
        return refuse(
            "the listening sockets are inherited, and in which order they began to listen, by \
             which a filter names them, is not known; use --steer incoming-cpu"
                .to_owned(),
        );
    }
    if queues != workers {
        return refuse(format!(
            "{queues} inherited queues for {workers} workers; it needs one for each: as many \
             --workers as the predecessor had, or as there are sockets"
        ));
    }
    Ok(())
}

/// The CPUs of the workers, in turn.
fn cpus(config: &Config) -> Vec<u32> {
    let cpus = config.cpus.iter().flatten();
    cpus.map(|cpu| u32::try_from(*cpu).unwrap_or(u32::MAX)).collect()
}

/// `6.1.0-18-amd64` is 6.1; `None` for something else.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(['.', '-', '+']).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;

    fn refusal(workers: usize, cpus: &[usize], accept: AcceptMode) -> Option<String> {
        let config = Config {
            workers: NonZeroUsize::new(workers).expect("some"),
            cpus: (!cpus.is_empty()).then(|| cpus.to_vec()),
            steer: Steer::Cbpf,
            accept,
            ..Config::default()
        };
        check(&config).err().map(|error| error.to_string())
    }

    #[test]
    fn each_worker_needs_a_queue_and_a_cpu_of_its_own() {
        let own = AcceptMode::Reuseport;
        assert_eq!(refusal(2, &[4, 1, 4], own), None, "the third is nobody's");
        for (workers, cpus, accept, said) in [
            (2, &[0, 1][..], AcceptMode::Shared, "--accept reuseport"),
            (2, &[], own, "each of 2 workers, and has 0"),
            (3, &[0, 1], own, "each of 3 workers, and has 2"),
            (2, &[5, 5], own, "CPU 5 has two workers"),
        ] {
            let refused = refusal(workers, cpus, accept).expect("refused");
            assert!(refused.starts_with("--steer cbpf: ") && refused.contains(said), "{refused}");
        }
    }

    #[test]
    fn inherited_listeners_are_told_one_by_one() {
        assert!(inherited(Steer::IncomingCpu, 2, 2).is_ok());
        assert!(inherited(Steer::Cbpf, 1, 1).is_ok(), "one is in any order");
        for (way, queues) in [(Steer::IncomingCpu, 3), (Steer::Cbpf, 2)] {
            assert!(inherited(way, queues, 2).is_err());
        }
    }

    #[test]
    fn releases_have_versions() {
        for (release, expected) in [
            ("6.1.0-18-amd64", Some((6, 1))),
            ("6.18.44", Some((6, 18))),
            ("6.2-rc1", Some((6, 2))),
            ("unknown", None),
        ] {
            assert_eq!(version(release), expected);
        }
    }
}
