//! The values of options, by the rules of [`uring_echo::values`] and with the limits of each.

use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use uring_echo::values::{ValueError, Zero, count, duration, rate, size};

use super::sweep::{Over, Rates};
use crate::model::outcome::Phase;
use crate::model::result::Shard;

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

/// Rates: numbers, and ranges `low..high:step` whose ends are both included.
pub(super) fn parse_rates(text: &str) -> Result<Rates, String> {
    let mut rates: Vec<f64> = Vec::new();
    for part in text.split(',') {
        for rate in rates_of(part.trim())? {
            if !rates.contains(&rate) {
                rates.push(rate);
            }
        }
        if rates.len() > RATES_MAX {
            return Err(format!("{text:?}: more than {RATES_MAX} rates"));
        }
    }
    Ok(Rates(rates))
}

/// More are a step that was mistyped.
const RATES_MAX: usize = 1000;

fn rates_of(part: &str) -> Result<Vec<f64>, String> {
    let parse = |text: &str| parse_rate(text).map_err(|error| error.to_string());
    let Some((low, rest)) = part.split_once("..") else { return Ok(vec![parse(part)?]) };
    let (high, step) = rest
        .split_once(':')
        .ok_or_else(|| format!("{part:?}: a range needs its step, as in 1k..10k:1k"))?;
    let (low, high, step) = (parse(low)?, parse(high)?, parse(step)?);
    if low > high {
        return Err(format!("{part:?}: a range ascends, as in 1k..10k:1k"));
    }
    // Not by adding up: 0.1 + 0.1 + 0.1 is more than 0.3.
    let nth = |n: u16| low + step * f64::from(n);
    let within = |rate: &f64| *rate <= high * (1.0 + 1e-9);
    let enough = u16::try_from(RATES_MAX).unwrap_or(u16::MAX);
    Ok((0..=enough).map(nth).take_while(within).collect())
}

/// A flag and the values to give it, `backlog=5,128`.
pub(super) fn parse_over(text: &str) -> Result<Over, String> {
    let wrong = || format!("{text:?}: expected FLAG=V1,V2, such as backlog=5,128,4096");
    let (flag, list) = text.split_once('=').ok_or_else(wrong)?;
    let flag = flag.trim_start_matches("--");
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let mut values: Vec<String> = Vec::new();
    for value in list.split(',').map(str::to_owned) {
        if !values.contains(&value) {
            values.push(value);
        }
    }
    let sound = !flag.is_empty() && flag.chars().all(plain) && values.iter().all(|v| !v.is_empty());
    if sound { Ok(Over { flag: flag.into(), values }) } else { Err(wrong()) }
}

/// A phase by its name.
pub(super) fn parse_phase(text: &str) -> Result<Phase, String> {
    let named = Phase::ALL.into_iter().find(|phase| phase.name() == text);
    named.ok_or_else(|| {
        let names = Phase::ALL.map(Phase::name).join(", ");
        format!("{text:?}: expected one of {names}")
    })
}

/// Part `I` of `N`, from 0.
pub(super) fn parse_shard(text: &str) -> Result<Shard, String> {
    let wrong = || format!("{text:?}: expected I/N with I from 0 to N-1, such as 0/3");
    let (index, count) = text.split_once('/').ok_or_else(wrong)?;
    let (index, count) = (index.parse().ok(), count.parse::<u16>().ok().map(u32::from));
    let (index, count) = index.zip(count).ok_or_else(wrong)?;
    if index < count { Ok(Shard { index, count }) } else { Err(wrong()) }
}

/// An instant that is still to come: a date, or how far ahead it lies.
pub(super) fn parse_instant(text: &str) -> Result<SystemTime, String> {
    let now = SystemTime::now();
    if let Some(ahead) = text.strip_prefix('+') {
        let ahead = parse_duration(ahead).map_err(|error| error.to_string())?;
        return now.checked_add(ahead).ok_or_else(|| format!("{text:?}: that is too far ahead"));
    }
    let instant = humantime::parse_rfc3339(text).map_err(|_| {
        format!("{text:?}: expected an instant such as 2030-01-01T12:00:00Z, or +5s from now")
    })?;
    match now.duration_since(instant) {
        Ok(over) => {
            let over = humantime::format_duration(Duration::from_secs(over.as_secs()));
            Err(format!("{text:?} was {over} ago"))
        }
        Err(_) => Ok(instant),
    }
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
