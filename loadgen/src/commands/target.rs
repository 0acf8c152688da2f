//! Which server is meant: an address as typed becomes one to connect to.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::cli::target::TargetArgs;
use crate::render::progress::say;
use crate::sys::addresses;

/// An address that no connection can be made to.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The address has no meaning.
    #[error(
        "cannot resolve '{addr}' ({cause}): give host:port, such as 127.0.0.1:7777 or [::1]:80"
    )]
    Unresolved {
        /// The address as typed.
        addr: String,
        /// What the resolver said.
        cause: String,
    },
    /// Port 0 lets a server choose its port, so it names none.
    #[error("'{addr}' names no port: nothing listens on port 0; give the one the server printed")]
    PortZero {
        /// The address as typed.
        addr: String,
    },
    /// The name has addresses, but none of the family asked for.
    #[error(
        "'{addr}' has no {family} address, only {found}: leave {flag} out or give another name"
    )]
    NoSuchFamily {
        /// The address as typed.
        addr: String,
        /// IPv4 or IPv6.
        family: &'static str,
        /// What asked for the family.
        flag: &'static str,
        /// The addresses of the name.
        found: String,
    },
    /// Sources and target cannot talk to each other.
    #[error("--source {source_net} and the server {target} are of different address families")]
    SourceFamily {
        /// The network as typed.
        source_net: IpNet,
        /// The resolved server.
        target: SocketAddr,
    },
    /// `--wait-for-server` was in vain.
    #[error("nobody listens at {addr} after {waited:?} of waiting: {causes}")]
    WaitedInVain {
        /// The address as typed.
        addr: String,
        /// `--wait-for-server`.
        waited: Duration,
        /// What connecting to each address failed with.
        causes: String,
    },
}

impl TargetError {
    /// Whether another address or other flags would have helped: a server that did not come is no
    /// usage error.
    pub fn is_usage(&self) -> bool {
        !matches!(self, Self::WaitedInVain { .. })
    }
}

/// The address to connect to. Of several, the first that takes a connection now; if none does, the
/// first. What was passed over is told on stderr. With `--wait-for-server` it waits for one.
///
/// # Errors
/// [`TargetError`].
pub(super) fn find(
    addr: &str,
    sources: &[IpNet],
    args: TargetArgs,
) -> Result<SocketAddr, TargetError> {
    let candidates = candidates(addr, sources, args)?;
    match (&candidates[..], args.wait_for_server) {
        ([only], None) => Ok(*only),
        (_, None) => Ok(first_that_answers(addr, &candidates)),
        (_, Some(patience)) => wait_for(addr, &candidates, patience),
    }
}

/// The addresses that may be meant, in the resolver's order; at least one.
fn candidates(
    addr: &str,
    sources: &[IpNet],
    args: TargetArgs,
) -> Result<Vec<SocketAddr>, TargetError> {
    let unresolved = |cause: String| TargetError::Unresolved { addr: addr.to_owned(), cause };
    let mut found: Vec<SocketAddr> = Vec::new();
    let resolved = addr.to_socket_addrs().map_err(|error| unresolved(error.to_string()))?;
    for one in resolved.map(addresses::connected_to) {
        // A hosts file may name one twice.
        if !found.contains(&one) {
            found.push(one);
        }
    }
    let Some(&first) = found.first() else { return Err(unresolved("no address".into())) };
    if first.port() == 0 {
        return Err(TargetError::PortZero { addr: addr.to_owned() });
    }
    of_family(addr, &mut found, args)?;
    let target = found[0];
    let other = |net: &&IpNet, addr: &SocketAddr| net.addr().is_ipv4() != addr.is_ipv4();
    found.retain(|addr| !sources.iter().any(|net| other(&net, addr)));
    match sources.iter().find(|net| other(net, &target)) {
        Some(&source_net) if found.is_empty() => {
            Err(TargetError::SourceFamily { source_net, target })
        }
        _ => Ok(found),
    }
}

/// Keeps the addresses of the family that was asked for.
fn of_family(addr: &str, found: &mut Vec<SocketAddr>, args: TargetArgs) -> Result<(), TargetError> {
    let (family, flag) = match (args.ipv4, args.ipv6) {
        (true, _) => ("IPv4", "-4"),
        (_, true) => ("IPv6", "-6"),
        (false, false) => return Ok(()),
    };
    let all: Vec<String> = found.iter().map(ToString::to_string).collect();
    found.retain(|one| one.is_ipv4() == args.ipv4);
    if found.is_empty() {
        let (addr, found) = (addr.to_owned(), all.join(", "));
        return Err(TargetError::NoSuchFamily { addr, family, flag, found });
    }
    Ok(())
}

/// Tells which one it is and what became of those before it.
fn first_that_answers(addr: &str, candidates: &[SocketAddr]) -> SocketAddr {
    match try_each(candidates) {
        Ok((chosen, failures)) => {
            let why = if failures.is_empty() { String::new() } else { format!("{failures}; ") };
            say(&format!("{addr}: {why}connecting to {chosen}"));
            chosen
        }
        Err(failures) => {
            say(&format!("{addr}: {failures}; going on with the first"));
            candidates[0]
        }
    }
}

fn wait_for(
    addr: &str,
    candidates: &[SocketAddr],
    patience: Duration,
) -> Result<SocketAddr, TargetError> {
    let began = Instant::now();
    loop {
        match try_each(candidates) {
            Ok((chosen, _)) => {
                say(&format!("{chosen} listens after {:.1?}", began.elapsed()));
                return Ok(chosen);
            }
            Err(causes) if began.elapsed() >= patience => {
                let (addr, waited) = (addr.to_owned(), patience);
                return Err(TargetError::WaitedInVain { addr, waited, causes });
            }
            Err(_) => thread::sleep(RETRY.min(patience)),
        }
    }
}

/// The first address that takes a connection, with what the others before it failed with; or what
/// all failed with.
fn try_each(candidates: &[SocketAddr]) -> Result<(SocketAddr, String), String> {
    let mut failures = Vec::new();
    for candidate in candidates {
        match answers(candidate) {
            Ok(()) => return Ok((*candidate, failures.join(", "))),
            Err(error) => failures.push(format!("{candidate} failed ({error})")),
        }
    }
    Err(failures.join(", "))
}

fn answers(candidate: &SocketAddr) -> io::Result<()> {
    let stream = TcpStream::connect_timeout(candidate, CONNECT_TIMEOUT)?;
    // Without a listener a socket can meet itself: simultaneous open (RFC 9293 §3.5).
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(())
}

/// How long one of several addresses may take to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How often a server that is waited for is tried.
const RETRY: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn found(addr: &str, sources: &[&str], args: TargetArgs) -> Result<String, String> {
        let sources: Vec<IpNet> = sources.iter().map(|net| net.parse().unwrap()).collect();
        let all = candidates(addr, &sources, args).map_err(|error| error.to_string())?;
        Ok(all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    }

    const ANY: TargetArgs = TargetArgs { ipv4: false, ipv6: false, wait_for_server: None };

    #[test]
    fn an_address_is_of_the_family_asked_for() {
        let (v4, v6) = (TargetArgs { ipv4: true, ..ANY }, TargetArgs { ipv6: true, ..ANY });
        assert_eq!(found("127.0.0.1:7", &[], ANY).unwrap(), "127.0.0.1:7");
        assert_eq!(found("127.0.0.1:7", &[], v4).unwrap(), "127.0.0.1:7");
        let error = found("127.0.0.1:7", &[], v6).unwrap_err();
        assert!(error.contains("no IPv6 address") && error.contains("leave -6 out"), "{error}");
        let error = found("[::1]:7", &["127.0.0.0/8"], ANY).unwrap_err();
        assert!(error.contains("different address families"), "{error}");
        assert!(found("127.0.0.1:7", &["127.0.0.0/8", "::1/128"], ANY).is_err());
    }

    #[test]
    fn a_wildcard_address_is_this_host() {
        assert_eq!(found("0.0.0.0:7", &[], ANY).unwrap(), "127.0.0.1:7");
        assert!(["[::1]:7", "127.0.0.1:7"].contains(&found("[::]:7", &[], ANY).unwrap().as_str()));
    }

    #[test]
    fn port_0_is_no_target() {
        for addr in ["127.0.0.1:0", "[::1]:0", "localhost:0"] {
            let error = found(addr, &[], ANY).unwrap_err();
            assert!(error.contains(addr) && error.contains("port 0"), "{error}");
        }
    }

    #[test]
    fn the_first_address_that_answers_is_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let candidates = [SocketAddr::from(([127, 0, 0, 2], port)), listener.local_addr().unwrap()];
        let (chosen, failures) = try_each(&candidates).unwrap();
        assert_eq!(chosen, candidates[1]);
        assert!(failures.starts_with(&format!("127.0.0.2:{port} failed")), "{failures}");
        drop(listener);
        assert_eq!(first_that_answers("name:1", &candidates), candidates[0]);
    }

    #[test]
    fn a_server_is_waited_for_and_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let patience = Duration::from_millis(10);
        let wait = TargetArgs { wait_for_server: Some(patience), ..ANY };
        assert_eq!(find(&addr.to_string(), &[], wait).unwrap(), addr);
        drop(listener);
        let error = find(&addr.to_string(), &[], wait).unwrap_err().to_string();
        assert!(error.contains("10ms of waiting") && error.contains("refused"), "{error}");
    }
}
