//! Who can take part: every candidate is started once and has to echo, before any is measured.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::bench::Bench;
use crate::builds::workspace;
use crate::candidate::{CANDIDATES, Candidate, Program};
use crate::machine::locked_versions;
use crate::report::Availability;
use crate::server::{Cpus, Server, Work};

const TIMEOUT: Duration = Duration::from_secs(2);
const MESSAGE: [u8; 1024] = [0x5a; 1024];

/// Starts each of those named (all if none is), and says loudly who is missing and why.
pub(crate) fn check(bench: &Bench, named: &[String]) -> Vec<(&'static Candidate, Availability)> {
    let wanted = |one: &&Candidate| named.is_empty() || named.iter().any(|it| it == one.name);
    let all = CANDIDATES.iter().filter(wanted);
    all.map(|candidate| {
        let missing = answer(bench, candidate).err().map(|error| format!("{error:#}"));
        if let Some(why) = &missing {
            eprintln!("NOT AVAILABLE: {}: {why}", candidate.name);
        }
        (candidate, availability(bench, candidate, missing))
    })
    .collect()
}

fn answer(bench: &Bench, candidate: &Candidate) -> Result<()> {
    let work = if candidate.echoes { Work::Echo } else { Work::Accept };
    let server = Server::start(candidate, work, Cpus::OneEach, &bench.programs, &bench.place)?;
    if !candidate.echoes {
        return Ok(());
    }
    let mut stream = TcpStream::connect(server.addr)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(&MESSAGE)?;
    let mut echo = [0; MESSAGE.len()];
    stream.read_exact(&mut echo).context("no echo came back")?;
    ensure!(echo == MESSAGE, "other bytes came back than were sent");
    Ok(())
}

fn availability(bench: &Bench, candidate: &Candidate, missing: Option<String>) -> Availability {
    let program = match candidate.program {
        Program::Built(name) | Program::System(name) | Program::Script { folder: name } => name,
        Program::Harness => "versus",
    };
    Availability {
        name: candidate.name,
        role: candidate.role,
        about: candidate.about,
        command: format!("{program} {}", candidate.args.join(" ")),
        version: version(bench, candidate),
        missing,
    }
}

/// Of a runtime the version that is locked, of a program what it says of itself.
fn version(bench: &Bench, candidate: &Candidate) -> Option<String> {
    match candidate.program {
        Program::Built("uring-echo") | Program::Harness => Some("this commit".to_owned()),
        Program::Built(name) => {
            let lock = std::fs::read_to_string(workspace().join("Cargo.lock")).ok()?;
            locked_versions(&lock).get(name.strip_suffix("-echo")?).cloned()
        }
        Program::Script { .. } => None,
        Program::System(name) => {
            let flag = if name == "socat" { "-V" } else { "-v" };
            let path = bench.programs.path(candidate.program).ok()?;
            let output = Command::new(path).arg(flag).output().ok()?;
            first_version(&String::from_utf8_lossy(&[output.stdout, output.stderr].concat()))
        }
    }
}

/// The first word that begins with a digit, or has one behind a slash, as in `nginx/1.22.1`.
fn first_version(text: &str) -> Option<String> {
    let words = text.split_whitespace().map(|word| word.rsplit('/').next().unwrap_or(word));
    let mut versions = words.filter(|word| word.contains('.'));
    versions.find(|word| word.starts_with(|c: char| c.is_ascii_digit())).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        let said = |text| first_version(text);
        assert_eq!(said("nginx version: nginx/1.22.1\n").as_deref(), Some("1.22.1"));
        assert_eq!(
            said("HAProxy version 2.6.12-1 2026/10/17 - https://x/").as_deref(),
            Some("2.6.12-1")
        );
        assert_eq!(
            said("socat by Gerhard\nsocat version 1.7.4.4 on 06").as_deref(),
            Some("1.7.4.4")
        );
        assert_eq!(said("nothing"), None);
    }
}
