//! The values of options: numbers with suffixes, durations, lists.

use std::time::Duration;

use ipnet::IpNet;

/// A list of CPU numbers, ascending and without repetition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuList(pub Vec<usize>);

/// CPU numbers stay below this (`CPU_SETSIZE`, sched_setaffinity(2)).
const CPU_MAX: usize = 1024;

/// Longest accepted duration: a year, so that nanoseconds always fit in 64 bits.
const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

pub(super) fn parse_rate(text: &str) -> Result<f64, String> {
    let (digits, factor) = split_suffix(text, 1000);
    let value: f64 = digits.parse().map_err(|_| not_a("rate", text))?;
    #[expect(clippy::cast_precision_loss, reason = "factors are 1, 1000 and 1000000")]
    let rate = value * factor as f64;
    if (0.001..=10_000_000.0).contains(&rate) {
        return Ok(rate);
    }
    Err("a rate is between 0.001 and 10m connections per second".into())
}

pub(super) fn parse_count(text: &str) -> Result<u64, String> {
    parse_scaled(text, 1000)?.filter_zero("a count is at least 1")
}

pub(super) fn parse_count_u32(text: &str) -> Result<u32, String> {
    u32::try_from(parse_count(text)?).map_err(|_| format!("{text} is too large"))
}

pub(super) fn parse_messages(text: &str) -> Result<u32, String> {
    u32::try_from(parse_scaled(text, 1000)?).map_err(|_| format!("{text} is too large"))
}

pub(super) fn parse_size(text: &str) -> Result<u32, String> {
    const SIZE_MAX: u64 = 16 << 20;
    let size = parse_scaled(text, 1024)?.filter_zero("a message has at least 1 byte")?;
    if size > SIZE_MAX {
        return Err("a message has at most 16m bytes".into());
    }
    u32::try_from(size).map_err(|_| format!("{text} is too large"))
}

/// A whole number with an optional `k` or `m`, which stand for `unit` and its square.
pub(super) fn parse_scaled(text: &str, unit: u64) -> Result<u64, String> {
    let (digits, factor) = split_suffix(text, unit);
    let value: u64 = digits.replace('_', "").parse().map_err(|_| not_a("whole number", text))?;
    value.checked_mul(factor).ok_or_else(|| format!("{text} is too large"))
}

fn split_suffix(text: &str, unit: u64) -> (&str, u64) {
    match text.char_indices().next_back() {
        Some((at, 'k' | 'K')) => (&text[..at], unit),
        Some((at, 'm' | 'M')) => (&text[..at], unit * unit),
        _ => (text, 1),
    }
}

pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let duration = parse_duration_or_zero(text)?;
    if duration.is_zero() {
        return Err("a duration longer than zero is needed".into());
    }
    Ok(duration)
}

pub(super) fn parse_duration_or_zero(text: &str) -> Result<Duration, String> {
    let parsed = humantime::parse_duration(text);
    let duration = parsed.map_err(|e| format!("{e}; durations look like 500ms, 10s or 2m"))?;
    if duration > DURATION_MAX {
        return Err("at most a year".into());
    }
    Ok(duration)
}

pub(super) fn parse_source(text: &str) -> Result<IpNet, String> {
    let alone = text.parse::<std::net::IpAddr>().map(IpNet::from);
    alone.or_else(|_| text.parse()).map_err(|_| not_a("CIDR such as 127.0.0.0/24", text))
}

pub(super) fn parse_label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err("a label looks like key=value".into()),
    }
}

/// Parses `0-3,5` (the kernel's cpulist format, cpuset(7)).
pub(crate) fn parse_cpus(text: &str) -> Result<CpuList, String> {
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let low: usize = low.trim().parse().map_err(|_| not_a("CPU list such as 0-3,5", text))?;
        let high: usize = high.trim().parse().map_err(|_| not_a("CPU list such as 0-3,5", text))?;
        if low > high || high >= CPU_MAX {
            return Err(format!("CPU range {part}: numbers ascend and stay below {CPU_MAX}"));
        }
        cpus.extend(low..=high);
    }
    cpus.sort_unstable();
    cpus.dedup();
    Ok(CpuList(cpus))
}

fn not_a(what: &str, text: &str) -> String {
    format!("'{text}' is not a {what}")
}

/// Zero is refused where it would mean a run that does nothing.
trait FilterZero: Sized {
    fn filter_zero(self, message: &str) -> Result<Self, String>;
}

impl FilterZero for u64 {
    fn filter_zero(self, message: &str) -> Result<Self, String> {
        if self == 0 { Err(message.into()) } else { Ok(self) }
    }
}
