//! Where the instrument's own floor is kept between runs: a file per machine in the user's cache.

use std::env;
use std::fs;
use std::path::PathBuf;

use super::environment;
use crate::model::floor::{Floor, Machine};

/// This machine, since its boot; `None` where /proc does not tell.
#[must_use]
pub fn machine() -> Option<Machine> {
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let environment = environment::read();
    let (kernel, cpu) = (environment.kernel, environment.cpu);
    Some(Machine { boot_id: boot_id.trim().to_owned(), kernel, cpu })
}

/// The file of a machine: `$XDG_CACHE_HOME/loadgen`, else `~/.cache/loadgen` (XDG Base Directory
/// Specification); `None` without a home.
#[must_use]
pub fn path(machine: &Machine) -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    let plain = machine.boot_id.chars().filter(char::is_ascii_alphanumeric).collect::<String>();
    Some(cache.join("loadgen").join(format!("floor-{plain}.json")))
}

/// What was measured on this machine since its boot, if it was.
#[must_use]
pub fn stored() -> Option<Floor> {
    let machine = machine()?;
    let text = fs::read(path(&machine)?).ok()?;
    of_machine(&text, &machine)
}

fn of_machine(text: &[u8], machine: &Machine) -> Option<Floor> {
    serde_json::from_slice::<Floor>(text).ok().filter(|floor| floor.machine == *machine)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::floor::Cost;

    #[test]
    fn a_floor_of_another_machine_is_none_of_this_one() {
        let here = machine().unwrap();
        let cost = Cost::default();
        let floor = Floor {
            machine: here.clone(),
            measured_at: String::new(),
            clock_read: cost,
            connect: cost,
            accept_delay: cost,
            lookup: None,
            diag_resolution: None,
            timer_wakeup: cost,
        };
        let text = serde_json::to_vec(&floor).unwrap();
        assert_eq!(of_machine(&text, &here), Some(floor));
        assert_eq!(of_machine(&text, &Machine { boot_id: "other".into(), ..here.clone() }), None);
        assert_eq!(of_machine(b"{", &here), None);
    }
}
