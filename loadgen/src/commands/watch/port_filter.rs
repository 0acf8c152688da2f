//! Which connections to a port are those of the watched listeners, where the port has others too.

use std::io;
use std::net::SocketAddr;

use crate::observe::{Listener, ListenerTable, covering, takes};

/// Knows the listeners of the port as of its last look.
pub(super) struct PortFilter {
    table: ListenerTable,
    server: SocketAddr,
    ours: Vec<Listener>,
    /// All of them, where they are not all watched.
    all: Option<Vec<Listener>>,
}

impl PortFilter {
    pub(super) fn open(server: SocketAddr) -> io::Result<Self> {
        let table = ListenerTable::open()?;
        let mut filter = Self { table, server, ours: Vec::new(), all: None };
        filter.look()?;
        Ok(filter)
    }

    /// Looks which listeners there are; once a second.
    pub(super) fn look(&mut self) -> io::Result<()> {
        let all = self.table.on_port(self.server.port())?;
        self.ours = covering(&all, self.server);
        self.all = (self.ours.len() < all.len()).then_some(all);
        Ok(())
    }

    /// Whether a connection that ends at `local` came to a watched listener.
    pub(super) fn is_ours(&self, local: SocketAddr) -> bool {
        self.all.as_ref().is_none_or(|all| takes(all, &self.ours, local))
    }

    /// Whether there are watched listeners of IPv4, and of IPv6.
    pub(super) fn families(&self) -> (bool, bool) {
        let any = |v4: bool| self.ours.iter().any(|one| one.addr.is_ipv4() == v4);
        (any(true), any(false))
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn of_several_listeners_on_a_port_the_connections_of_the_watched_one_are_taken() {
        let one = TcpListener::bind("127.0.0.21:0").unwrap();
        let server = one.local_addr().unwrap();
        let mut filter = PortFilter::open(server).unwrap();
        let other = SocketAddr::new("127.0.0.22".parse().unwrap(), server.port());
        assert!(filter.is_ours(server) && filter.is_ours(other), "it is the only one");
        assert_eq!(filter.families(), (true, false));
        let _second = TcpListener::bind(other).unwrap();
        filter.look().unwrap();
        assert!(filter.is_ours(server) && !filter.is_ours(other));
    }
}
