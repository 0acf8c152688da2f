//! The values of options, by the rules of [`uring_echo::values`] and with the limits of each.

use std::time::Duration;

use ipnet::IpNet;
use uring_echo::values::{ValueError, Zero, count, duration, rate, size};

use crate::model::outcome::Phase;

/// Connections per second.
pub(super) fn parse_rate(text: &str) -> Result<f64, ValueError> {
    rate(0.001..=10_000_000.0)(text)
}

pub(super) fn parse_count(text: &str) -> Result<u64, ValueError> {
    count(1..=u64::MAX)(text)
}

pub(super) fn parse_count_u32(text: &str) -> Result<u32, ValueError> {
    count(1..=u32::MAX.into())(text)
}

/// Echo round trips of a connection.
pub(super) fn parse_messages(text: &str) -> Result<u32, ValueError> {
    count(0..=u32::MAX.into())(text)
}

/// Bytes of a message.
pub(super) fn parse_size(text: &str) -> Result<u32, ValueError> {
    size(1..=16 << 20)(text)
}

pub(super) fn parse_duration(text: &str) -> Result<Duration, ValueError> {
    duration(Zero::Refused)(text)
}

pub(super) fn parse_duration_or_zero(text: &str) -> Result<Duration, ValueError> {
    duration(Zero::Allowed)(text)
}

/// A phase by its name.
pub(super) fn parse_phase(text: &str) -> Result<Phase, String> {
    let named = Phase::ALL.into_iter().find(|phase| phase.name() == text);
    named.ok_or_else(|| {
        let names = Phase::ALL.map(Phase::name).join(", ");
        format!("{text:?}: expected one of {names}")
    })
}

/// A network, or a single address.
pub(super) fn parse_source(text: &str) -> Result<IpNet, String> {
    let alone = text.parse::<std::net::IpAddr>().map(IpNet::from);
    let network = alone.or_else(|_| text.parse());
    network.map_err(|_| format!("{text:?}: expected an address or a CIDR such as 127.0.0.0/24"))
}

pub(super) fn parse_label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err(format!("{text:?}: expected KEY=VALUE")),
    }
}
