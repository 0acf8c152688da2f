//! `uring-echo ping`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use clap::Parser;

use super::report;
use crate::ping::{self, Pong};
use crate::values::{self, Zero};

#[derive(Debug, Parser)]
pub(super) struct PingArgs {
    /// The server's address. Of a name with several, each is tried in turn.
    #[arg(env = "URING_ECHO_LISTEN", default_value = "127.0.0.1:7777")]
    addr: String,
    /// Only IPv4 addresses of the name.
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    ipv4: bool,
    /// Only IPv6 addresses of the name.
    #[arg(short = '6', long)]
    ipv6: bool,
    /// Give up after this long, at each address.
    #[arg(long, value_name = "D", default_value = "2s")]
    #[arg(value_parser = values::duration(Zero::Refused))]
    timeout: Duration,
}

pub(super) fn run(args: &PingArgs) -> Result<()> {
    // The variable may name several, of which the first one is pinged.
    let first = args.addr.split(',').next().unwrap_or_default();
    let mut addrs: Vec<_> = values::target_addrs(first)?.into_iter().map(reachable).collect();
    addrs.retain(|addr| !(args.ipv4 && addr.is_ipv6() || args.ipv6 && addr.is_ipv4()));
    ensure!(!addrs.is_empty(), "{} has no address of the family asked for", args.addr);
    let (addr, answer) = first_answer(&addrs, args.timeout)?;
    let text = format!("{addr} echoed {} bytes in {:?}\n", answer.bytes, answer.round_trip);
    report::print(&text)
}

/// Tells what every address failed with.
fn first_answer(addrs: &[SocketAddr], timeout: Duration) -> Result<(SocketAddr, Pong)> {
    let (mut failures, mut full) = (Vec::new(), false);
    for &addr in addrs {
        match ping::ping(addr, timeout) {
            Ok(answer) => return Ok((addr, answer)),
            Err(error) => {
                full |= error.is_full();
                failures.push(format!("{addr}: {error}"));
            }
        }
    }
    let text = format!("pinging {}", failures.join("; "));
    Err(if full { Full(text).into() } else { anyhow!(text) })
}

/// Somebody listens at one of the addresses, and did not serve.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Full(String);

/// Where a server that listens on a wildcard is reached from the same host.
fn reachable(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn an_address_that_does_not_answer_is_passed_over() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let echoing = listener.local_addr().expect("bound");
        let nobody = SocketAddr::from(([127, 0, 0, 2], echoing.port()));
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut message = [0; 1024];
            let len = stream.read(&mut message).expect("a message");
            stream.write_all(&message[..len]).expect("an echo");
        });
        let (addr, _) = first_answer(&[nobody, echoing], Duration::from_secs(9)).expect("echoed");
        assert_eq!(addr, echoing);
        let error =
            first_answer(&[nobody], Duration::from_secs(9)).expect_err("nobody").to_string();
        assert!(error.contains("refused") && error.contains("127.0.0.2"), "{error}");
    }
}
