//! Client addresses, used in rotation: each has its own range of local ports.

use std::io;
use std::net::{IpAddr, UdpSocket};

use ipnet::IpNet;
use rustix::io::Errno;

use crate::plan::config::RunConfig;

/// The most addresses used, over all networks; more would only cost memory.
pub const SOURCES_MAX: usize = 65_536;

/// Client addresses in rotation.
#[derive(Debug, Clone)]
pub struct Sources {
    addrs: Vec<IpAddr>,
    next: usize,
}

/// An address to which a socket on this machine cannot be bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "--source: binding a socket to {addr} failed ({errno}): it is probably no address of this \
     machine; add it to an interface (ip address add {addr} dev lo), leave it out, or use some of \
     127.0.0.0/8, which needs no set-up"
)]
pub struct UnusableSource {
    /// The first such address.
    pub addr: IpAddr,
    /// The error of bind(2).
    pub errno: Errno,
}

impl Sources {
    /// Expands networks into their host addresses, of each network at most an equal share of
    /// [`SOURCES_MAX`]. Linux allows all of 127.0.0.0/8 without configuring an address.
    pub fn expand(networks: &[IpNet]) -> Self {
        let share = SOURCES_MAX / networks.len().max(1);
        let addrs = networks.iter().flat_map(|net| net.hosts().take(share.max(1))).collect();
        Self { addrs, next: 0 }
    }

    /// The addresses of a process. Each shard has its own, as long as there are enough: every
    /// `count`-th of them; else all use all.
    pub fn of(config: &RunConfig) -> Self {
        let Self { addrs, next } = Self::expand(&config.sources);
        let (index, of) = (config.shard.index as usize, config.shard.of as usize);
        if addrs.len() < of {
            return Self { addrs, next }.starting_at(index);
        }
        Self { addrs: addrs.into_iter().skip(index).step_by(of).collect(), next }
    }

    /// Binds a socket to every address once, which takes about 20 µs each.
    ///
    /// # Errors
    /// [`UnusableSource`] names the first address for which that fails.
    pub fn check(&self) -> Result<(), UnusableSource> {
        let unusable = |addr: IpAddr, error: &io::Error| UnusableSource {
            addr,
            errno: Errno::from_io_error(error).unwrap_or(Errno::ADDRNOTAVAIL),
        };
        self.addrs.iter().try_for_each(|&addr| {
            UdpSocket::bind((addr, 0)).map(drop).map_err(|error| unusable(addr, &error))
        })
    }

    /// Starts the rotation at `index`, so that threads do not use the same address at the same
    /// time.
    #[must_use]
    pub fn starting_at(mut self, index: usize) -> Self {
        self.next = index.checked_rem(self.addrs.len()).unwrap_or(0);
        self
    }

    /// The number of addresses; with 0 the kernel chooses the address.
    pub fn len(&self) -> usize {
        self.addrs.len()
    }

    /// Whether there are no addresses, so that the kernel chooses.
    pub fn is_empty(&self) -> bool {
        self.addrs.is_empty()
    }

    /// The address for the next connection; with `None` the kernel chooses it.
    pub fn next_source(&mut self) -> Option<IpAddr> {
        let addr = *self.addrs.get(self.next)?;
        self.next = (self.next + 1) % self.addrs.len();
        Some(addr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(networks: &[&str]) -> Sources {
        let nets: Vec<IpNet> = networks.iter().map(|n| n.parse().unwrap()).collect();
        Sources::expand(&nets)
    }

    #[test]
    fn without_networks_the_kernel_chooses() {
        let mut none = sources(&[]).starting_at(3);
        assert!(none.is_empty());
        assert_eq!(none.next_source(), None);
    }

    #[test]
    fn addresses_of_every_network_rotate() {
        let mut rotation = sources(&["127.1.0.0/30", "127.2.0.9/32"]);
        let used: Vec<String> =
            (0..4).filter_map(|_| rotation.next_source()).map(|a| a.to_string()).collect();
        assert_eq!(used, ["127.1.0.1", "127.1.0.2", "127.2.0.9", "127.1.0.1"]);
    }

    #[test]
    fn shards_have_addresses_of_their_own_if_there_are_enough() {
        let of = |shard: &str, net: &str| {
            let args = format!("127.0.0.1:1 --shard {shard} --source {net}");
            let mut all = Sources::of(&crate::testing::config(&args));
            let used = (0..all.len()).filter_map(|_| all.next_source());
            used.map(|addr| addr.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(of("0/2", "127.1.0.0/30"), ["127.1.0.1"]);
        assert_eq!(of("1/2", "127.1.0.0/30"), ["127.1.0.2"]);
        assert_eq!(of("1/3", "127.1.0.0/30"), ["127.1.0.2", "127.1.0.1"]);
    }

    #[test]
    fn large_networks_get_an_equal_share_of_the_maximum() {
        let rotation = sources(&["127.0.0.0/8", "10.0.0.0/8"]);
        assert_eq!(rotation.len(), SOURCES_MAX);
        let local = rotation.addrs.iter().filter(|a| a.is_loopback()).count();
        assert_eq!(local, SOURCES_MAX / 2);
        assert_eq!(sources(&["::1/128"]).len(), 1);
        assert_eq!(sources(&["fd00::/64"]).len(), SOURCES_MAX);
    }

    #[test]
    fn the_first_address_not_on_this_machine_is_named() {
        sources(&[]).check().unwrap();
        sources(&["127.1.0.0/24", "::1/128"]).check().unwrap();
        let error = sources(&["127.1.0.0/30", "203.0.113.0/24"]).check().unwrap_err();
        assert_eq!(
            (error.addr.to_string().as_str(), error.errno),
            ("203.0.113.1", Errno::ADDRNOTAVAIL)
        );
        assert!(error.to_string().contains("ip address add 203.0.113.1"), "{error}");
    }

    #[test]
    fn the_rotation_starts_at_an_index_modulo_the_addresses() {
        let mut second = sources(&["127.1.0.0/24"]).starting_at(255);
        assert_eq!(second.next_source().unwrap().to_string(), "127.1.0.2");
    }
}
