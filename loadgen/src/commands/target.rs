//! Which server is meant: an address as typed becomes one to connect to.

use std::net::{SocketAddr, ToSocketAddrs};

use ipnet::IpNet;

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
    /// Sources and target cannot talk to each other.
    #[error("--source {source_net} and the server {target} are of different address families")]
    SourceFamily {
        /// The network as typed.
        source_net: IpNet,
        /// The resolved server.
        target: SocketAddr,
    },
}

/// The first address of the sources' family, else the first one.
///
/// # Errors
/// [`TargetError`].
pub(super) fn lookup(addr: &str, sources: &[IpNet]) -> Result<SocketAddr, TargetError> {
    let unresolved = |cause: String| TargetError::Unresolved { addr: addr.to_owned(), cause };
    let found: Vec<SocketAddr> =
        addr.to_socket_addrs().map_err(|e| unresolved(e.to_string()))?.collect();
    let wanted = |a: &&SocketAddr| sources.first().is_some_and(|s| same_family(s, a));
    let chosen = found.iter().find(wanted).or_else(|| found.first());
    let chosen = chosen.copied().ok_or_else(|| unresolved("no address".into()))?;
    match sources.iter().find(|net| !same_family(net, &chosen)) {
        Some(&source_net) => Err(TargetError::SourceFamily { source_net, target: chosen }),
        None => Ok(chosen),
    }
}

fn same_family(net: &IpNet, addr: &SocketAddr) -> bool {
    net.addr().is_ipv4() == addr.is_ipv4()
}
