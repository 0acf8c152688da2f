//! Addresses of this machine, and what connecting to one means.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Whether the address is one of this machine: only then can a socket be bound to it.
pub(crate) fn is_local(ip: IpAddr) -> bool {
    UdpSocket::bind(SocketAddr::new(ip, 0)).is_ok()
}

/// The address that a connection to `addr` leads to. Servers print the wildcard address that they
/// listen on, and connecting to it is connecting to this host, by loopback (ip(7), ipv6(7)); but no
/// connection carries that address.
pub(crate) fn connected_to(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() && is_local(Ipv6Addr::LOCALHOST.into()) => {
            Ipv6Addr::LOCALHOST.into()
        }
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.to_ipv4_mapped() == Some(Ipv4Addr::UNSPECIFIED) => {
            Ipv4Addr::LOCALHOST.into()
        }
        _ => return addr,
    };
    SocketAddr::new(ip, addr.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_address_leads_to_this_host() {
        let leads_to = |addr: &str| connected_to(addr.parse().unwrap()).to_string();
        assert_eq!(leads_to("0.0.0.0:80"), "127.0.0.1:80");
        assert_eq!(leads_to("[::ffff:0.0.0.0]:80"), "127.0.0.1:80");
        assert!(["[::1]:80", "127.0.0.1:80"].contains(&leads_to("[::]:80").as_str()));
        for other in ["127.0.0.2:80", "[::1]:80", "[::ffff:127.0.0.1]:80", "192.0.2.1:7"] {
            assert_eq!(leads_to(other), other);
        }
    }

    #[test]
    fn only_own_addresses_are_local() {
        assert!(is_local([127, 0, 0, 9].into()) && !is_local([192, 0, 2, 1].into()));
    }
}
