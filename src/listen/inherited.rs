//! Listening sockets that others opened: matched to the addresses asked for.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use socket2::SockRef;

use super::{AddressListeners, ListenError, ListenerBuilder, UNSENT_MAX, at};

/// Why inherited sockets are not taken.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// They listen elsewhere than `--listen` says.
    #[error(
        "--listen {} does not name what is inherited: {}; name the same addresses, or start \
         without what they are inherited from",
        list(wanted),
        list(inherited)
    )]
    Addresses {
        /// What was asked for.
        wanted: Vec<SocketAddr>,
        /// What the sockets listen on.
        inherited: Vec<SocketAddr>,
    },
    /// A socket does not do what a listener does.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

fn list(addrs: &[SocketAddr]) -> String {
    addrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Groups `sockets` by address, in the order of `wanted`; port 0 matches any. All of them have to
/// be wanted: one that is closed loses its queue.
///
/// # Errors
/// [`AdoptError`].
pub fn adopt(
    sockets: Vec<OwnedFd>,
    wanted: &[SocketAddr],
    backlog: i32,
) -> Result<Vec<AddressListeners>, AdoptError> {
    let mut groups: Vec<AddressListeners> = Vec::new();
    for socket in sockets {
        let addr = prepare(&socket, backlog)?;
        match groups.iter_mut().find(|group| group.addr == addr) {
            Some(group) => group.sockets.push(socket),
            None => groups.push(AddressListeners { addr, sockets: vec![socket] }),
        }
    }
    let inherited: Vec<_> = groups.iter().map(|group| group.addr).collect();
    let mut adopted = Vec::new();
    for asked in wanted {
        let named = groups.iter().position(|group| is_named(group.addr, *asked));
        if let Some(at) = named {
            adopted.push(groups.remove(at));
        }
    }
    if !groups.is_empty() || adopted.len() < wanted.len() {
        return Err(AdoptError::Addresses { wanted: wanted.to_vec(), inherited });
    }
    Ok(adopted)
}

/// Whether `asked` means the address of an inherited socket.
fn is_named(inherited: SocketAddr, asked: SocketAddr) -> bool {
    inherited == asked || (asked.port() == 0 && inherited.ip() == asked.ip())
}

/// Connections that may wait at an admin endpoint.
const ADMIN_BACKLOG: i32 = 64;

/// The listener of the admin endpoint: the inherited one if it is at `addr`, so that nobody who
/// asks is turned away, or a new one.
pub(crate) fn admin_listener(
    addr: SocketAddr,
    inherited: Option<OwnedFd>,
) -> Result<TcpListener, ListenError> {
    let there = |socket: &OwnedFd| {
        let bound = SockRef::from(socket).local_addr().ok().and_then(|bound| bound.as_socket());
        bound.is_some_and(|bound| is_named(bound, addr))
    };
    if let Some(socket) = inherited.filter(there) {
        return Ok(socket.into());
    }
    let mut opened = ListenerBuilder::plain().open(addr, ADMIN_BACKLOG, 1)?;
    Ok(opened.sockets.remove(0).into())
}

/// Gives it the options of our own listeners, and the backlog asked for; returns its address.
fn prepare(socket: &OwnedFd, backlog: i32) -> Result<SocketAddr, ListenError> {
    let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
    let socket = SockRef::from(socket);
    let bound = socket.local_addr().map_err(at("getsockname", unknown))?;
    let addr = bound.as_socket().unwrap_or(unknown);
    let options = || {
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_notsent_lowat(UNSENT_MAX)
    };
    options().map_err(at("setsockopt", addr))?;
    socket.listen(backlog).map_err(at("listen", addr))?;
    Ok(addr)
}

#[cfg(test)]
mod tests {
    use super::super::ListenerBuilder;
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn queues_are_grouped_by_address_and_none_is_left_out() {
        let mut builder = ListenerBuilder::plain();
        let one = builder.open(addr("127.0.0.1:0"), 5, 3).expect("open");
        let two = builder.open(addr("[::1]:0"), 5, 1).expect("open");
        let wanted = [two.addr, addr("127.0.0.1:0")];
        let first = one.addr;
        let all: Vec<_> = one.sockets.into_iter().chain(two.sockets).collect();
        let adopted = adopt(all, &wanted, 5).expect("the same addresses");
        assert_eq!(adopted.iter().map(|a| a.sockets.len()).collect::<Vec<_>>(), [1, 3]);
        let sockets = adopted.into_iter().flat_map(|address| address.sockets).collect();
        let refused = adopt(sockets, &[first], 5).expect_err("one is not named").to_string();
        assert!(refused.contains(&wanted[0].to_string()), "{refused}");
    }
}
