//! `--private-network`: what cannot be combined with it, how large its hash table is, and what came
//! of it.

use std::net::SocketAddr;

use super::HoldError;
use super::choice::tell;
use crate::cli::hold::HoldArgs;
use crate::model::hold::PrivateNetwork;
use crate::plan::holding::{Room, hash_buckets, hash_table_bytes, size};
use crate::render::units;
use crate::server::option_value;
use crate::sys::private_network;

/// Enters it if that was asked for. Nothing may run in this process yet but the calling thread.
pub(super) fn enter(args: &HoldArgs) -> Result<Option<PrivateNetwork>, HoldError> {
    if !args.private_network {
        return Ok(None);
    }
    if let Some(what) = outside(args) {
        return Err(HoldError::Outside { what });
    }
    let room = Room::read().map_err(HoldError::Room)?;
    let buckets = hash_buckets(args.connections, private_network::hash_buckets(), room.left());
    let private_network::PrivateNetwork { hash_buckets, shared_because } =
        private_network::enter(buckets)?;
    let network = PrivateNetwork { hash_buckets, shared_because };
    tell(&format!("private network: {}", description(&network)));
    Ok(Some(network))
}

/// What was typed that is on the network outside.
fn outside(args: &HoldArgs) -> Option<String> {
    let listen = option_value(&args.server_args, "listen");
    let is_outside = |addr: &SocketAddr| !addr.ip().is_loopback() && !addr.ip().is_unspecified();
    let listen = listen.and_then(|addr| addr.parse().ok()).filter(is_outside);
    let source = args.source.iter().find(|net| !net.addr().is_loopback());
    let addr = args.addr.as_ref().map(|addr| format!("the server {addr}"));
    addr.or_else(|| listen.map(|addr| format!("--listen {addr}")))
        .or_else(|| source.map(|net| format!("--source {net}")))
}

fn description(network: &PrivateNetwork) -> String {
    let buckets = network.hash_buckets.map(|buckets| units::count(buckets) + " ");
    let buckets = buckets.unwrap_or_default();
    match &network.shared_because {
        None => {
            let bytes = hash_table_bytes(network.hash_buckets.unwrap_or(0));
            format!("a network namespace with {buckets}hash buckets of its own ({})", size(bytes))
        }
        Some(why) => format!(
            "a network namespace that shares the {buckets}hash buckets of the machine: {why}; \
             the more sockets, the slower they open"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(args: &str) -> HoldArgs {
        crate::testing::hold_args(&format!("--private-network {args}"))
    }

    #[test]
    fn what_is_outside_is_found() {
        let of = |args: &str| outside(&typed(args));
        for inside in ["", "--source 127.1.0.0/24", "-- --listen 127.0.0.1:0", "-- --listen=[::]:0"]
        {
            assert_eq!(of(inside), None, "{inside}");
        }
        assert_eq!(of("127.0.0.1:7").as_deref(), Some("the server 127.0.0.1:7"));
        assert_eq!(of("--source 10.0.0.0/24").as_deref(), Some("--source 10.0.0.0/24"));
        let listen = of("-- --listen 192.0.2.1:7").expect("no address of a loopback");
        assert_eq!(listen, "--listen 192.0.2.1:7");
    }

    #[test]
    fn whose_hash_table_it_is_is_told() {
        let own = PrivateNetwork { hash_buckets: Some(4 << 20), shared_because: None };
        let text = description(&own);
        assert!(text.ends_with("with 4,194,304 hash buckets of its own (32 MiB)"), "{text}");
        let shared = PrivateNetwork { hash_buckets: None, shared_because: Some("old".into()) };
        let text = description(&shared);
        assert!(text.contains("shares the hash buckets of the machine: old"), "{text}");
    }
}
