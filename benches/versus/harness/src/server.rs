//! A candidate that has been started and serves.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::builds::Programs;
use crate::candidate::Candidate;
use crate::child::Child;
use crate::stop;

const TIMEOUT: Duration = Duration::from_secs(5);
const POLL_EVERY: Duration = Duration::from_millis(5);
const NGINX_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// What the load will ask of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Accept,
    Echo,
}

/// The CPUs that a server and its clients have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cpus {
    /// One each.
    OneEach,
    /// All together, nobody pinned.
    All,
}

/// Where servers run and keep their files.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) cpu: usize,
    pub(crate) folder: PathBuf,
}

/// Ends with its process when dropped.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    child: Child,
}

impl Server {
    /// Starts `candidate` on the servers' CPU, or on all, and waits until it serves.
    ///
    /// # Errors
    /// Its program is not there, ended early or does not serve in time: with its own words.
    pub(crate) fn start(
        candidate: &Candidate,
        work: Work,
        cpus: Cpus,
        programs: &Programs,
        place: &Place,
    ) -> Result<Self> {
        let program = programs.path(candidate.program)?;
        let addr = free_address()?;
        let filling = Filling { addr, work, place };
        if let Some(text) = candidate.config {
            fs::write(place.config(), filling.fill(text))?;
        }
        let mut command = Command::new(program);
        let (args, cpu) = match cpus {
            Cpus::OneEach => (candidate.args, Some(place.cpu)),
            Cpus::All => (candidate.free, None),
        };
        command.args(args.iter().map(|arg| filling.fill(arg)));
        let child = Child::spawn(command, cpu)?;
        let mut server = Self { addr, child };
        if candidate.announces {
            server.child.wait_for("listening", TIMEOUT)?;
        } else {
            server.wait_for_connection()?;
        }
        Ok(server)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// An error if it is gone, with its last words.
    pub(crate) fn check(&mut self) -> Result<()> {
        if self.child.has_ended() {
            bail!("the server ended: {}", self.child.last_stderr());
        }
        Ok(())
    }

    fn wait_for_connection(&mut self) -> Result<()> {
        let until = Instant::now() + TIMEOUT;
        while TcpStream::connect(self.addr).is_err() {
            self.check()?;
            if Instant::now() >= until {
                bail!(
                    "nobody serves {} after {TIMEOUT:?}: {}",
                    self.addr,
                    self.child.last_stderr()
                );
            }
            stop::check()?;
            thread::sleep(POLL_EVERY);
        }
        // It may have been somebody else who answered: then ours could not have the port.
        self.check()
    }
}

impl Place {
    fn config(&self) -> PathBuf {
        self.folder.join("server.conf")
    }
}

/// What stands for the words in braces.
struct Filling<'a> {
    addr: SocketAddr,
    work: Work,
    place: &'a Place,
}

impl Filling<'_> {
    fn fill(&self, text: &str) -> String {
        let work = if self.work == Work::Accept { "accept" } else { "echo" };
        // A module of its own where nginx is packaged in parts.
        let module = if Path::new(NGINX_MODULE).exists() {
            format!("load_module {NGINX_MODULE};")
        } else {
            String::new()
        };
        text.replace("{addr}", &self.addr.to_string())
            .replace("{port}", &self.addr.port().to_string())
            .replace("{cpu}", &self.place.cpu.to_string())
            .replace("{work}", work)
            .replace("{config}", &self.place.config().display().to_string())
            .replace("{folder}", &self.place.folder.display().to_string())
            .replace("{nginx-stream-module}", &module)
    }
}

/// A loopback address whose port was free a moment ago.
fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("looking for a free port")?;
    Ok(listener.local_addr()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_braces_are_filled_in() {
        let place = Place { cpu: 3, folder: PathBuf::from("/f") };
        let addr = "127.0.0.1:81".parse().expect("an address");
        let filling = Filling { addr, work: Work::Echo, place: &place };
        let text = filling.fill("{addr} {port} {cpu} {work} {config} {folder}");
        assert_eq!(text, "127.0.0.1:81 81 3 echo /f/server.conf /f");
    }
}
