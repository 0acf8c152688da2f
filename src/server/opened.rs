//! What is there before anything runs: listening sockets, opened or inherited.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use socket2::SockRef;

use super::{ServerError, steering};
use crate::admin::Listener;
use crate::config::Config;
use crate::engine::limits::grow_descriptor_table;
use crate::engine::{self, EngineError};
use crate::listen::{AddressListeners, ListenError, ListenerBuilder, admin_listener, adopt};
use crate::stamp::{AcceptMode, Engine};
use crate::takeover::{Door, Inheritance, Origin, Predecessor, inherit};

/// What is there before anything runs.
pub(super) struct Opened {
    pub(super) listening: Vec<AddressListeners>,
    pub(super) admin: Option<TcpListener>,
    pub(super) origin: Option<Origin>,
    pub(super) predecessor: Option<Predecessor>,
    pub(super) door: Option<Door>,
    pub(super) kept_open: bool,
    pub(super) degraded: Option<String>,
}

impl Opened {
    pub(super) fn open(config: &Config) -> Result<Self, ServerError> {
        let inheritance = inherit(config.takeover.as_deref())?;
        grow_descriptor_table(config);
        let mut builder = match config.engine {
            Engine::Uring | Engine::TokioUring => {
                ListenerBuilder::by_completion().map_err(EngineError::from)?
            }
            Engine::Epoll => ListenerBuilder::plain(),
        };
        let Inheritance { sockets, origin, predecessor, door, admin, kept_open } = inheritance;
        engine::check_inherited(config, origin.is_some())?;
        let listening = match origin {
            Some(_) => adopt(sockets, &config.listen, config.backlog)?,
            None => open_listeners(config, &mut builder)?,
        };
        steering::steer(config, &listening, origin)?;
        let admin = config.admin.map(|addr| admin_listener(addr, admin)).transpose()?;
        let degraded = builder.degraded;
        Ok(Self { listening, admin, origin, predecessor, door, kept_open, degraded })
    }
}

fn open_listeners(
    config: &Config,
    builder: &mut ListenerBuilder,
) -> Result<Vec<AddressListeners>, ListenError> {
    let queues = match config.accept {
        AcceptMode::Reuseport => config.workers.get(),
        AcceptMode::Shared => 1,
    };
    config.listen.iter().map(|addr| builder.open(*addr, config.backlog, queues)).collect()
}

/// The addresses, and each worker's listeners: of every address its own queue, several where there
/// are more queues than workers, or one that it shares where there are fewer. No queue is left out.
pub(super) fn share_out(
    listening: Vec<AddressListeners>,
    workers: usize,
) -> (Vec<SocketAddr>, Vec<Vec<Arc<OwnedFd>>>) {
    let mut addrs = Vec::new();
    let mut shares = vec![Vec::new(); workers];
    for address in listening {
        addrs.push(address.addr);
        let queues: Vec<_> = address.sockets.into_iter().map(Arc::new).collect();
        for (worker, share) in shares.iter_mut().enumerate() {
            let own = queues.iter().skip(worker).step_by(workers);
            let shared = queues.get(worker % queues.len()).filter(|_| worker >= queues.len());
            share.extend(own.chain(shared).cloned());
        }
    }
    (addrs, shares)
}

/// Every listener, with its address and its place among those of this address.
pub(super) fn named(shares: &[Vec<Arc<OwnedFd>>]) -> Vec<Listener> {
    let mut named: Vec<Listener> = Vec::new();
    for socket in each_once(shares) {
        let listening = socket.upgrade().and_then(|socket| {
            SockRef::from(&*socket).local_addr().ok().and_then(|addr| addr.as_socket())
        });
        let Some(addr) = listening else { continue };
        let queue = named.iter().filter(|other| other.addr == addr).count();
        named.push(Listener { socket, addr, queue });
    }
    named
}

/// Every listener once, however many workers share it.
pub(super) fn each_once(shares: &[Vec<Arc<OwnedFd>>]) -> Vec<Weak<OwnedFd>> {
    let mut all: Vec<Weak<OwnedFd>> = Vec::new();
    for listener in shares.iter().flatten().map(Arc::downgrade) {
        if !all.iter().any(|known| known.ptr_eq(&listener)) {
            all.push(listener);
        }
    }
    all
}
