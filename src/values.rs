//! Values of command-line flags: sizes, counts, rates, durations, CPU lists, addresses.
//!
//! Both programs read a value of one kind by the same rule, and each error says what is allowed.
//! The functions with limits return a parser for clap, as in
//! `value_parser = values::size::<u32>(1..=64)`.

use std::net::{SocketAddr, ToSocketAddrs};
use std::ops::RangeInclusive;
use std::time::Duration;

/// A value that is not what its flag takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?}: expected {expected}")]
pub struct ValueError {
    /// What was typed.
    pub text: String,
    /// What is allowed, with an example.
    pub expected: String,
}

impl ValueError {
    fn new(text: &str, expected: impl Into<String>) -> Self {
        Self { text: text.to_owned(), expected: expected.into() }
    }
}

/// Bytes: a whole number, with `k`, `m` or `g` for KiB, MiB or GiB. `64k` is 65,536.
pub fn size<T: TryFrom<u64>>(
    allowed: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<T, ValueError> + Clone {
    let most = *allowed.end();
    let [least, most_shown] = [*allowed.start(), most].map(|bytes| with_suffix(bytes, KIB));
    // Only suffixes that some allowed value has.
    let suffixes = if most >= KIB.pow(3) { "k, m, g: KiB, MiB, GiB" } else { "k, m: KiB, MiB" };
    let expected =
        format!("bytes from {least} to {most_shown}, such as 65536, 64k or 16m ({suffixes})");
    move |text| scaled(text, KIB, &allowed).ok_or_else(|| ValueError::new(text, &*expected))
}

/// A count: a whole number, with `k`, `m` or `g` for a thousand, a million or a billion. `20k` is
/// 20,000.
pub fn count<T: TryFrom<u64>>(
    allowed: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<T, ValueError> + Clone {
    let [least, most] = [allowed.start(), allowed.end()].map(|&count| with_suffix(count, THOUSAND));
    let expected =
        format!("a whole number from {least} to {most}, such as 500, 20k or 1m (k, m: thousands)");
    move |text| scaled(text, THOUSAND, &allowed).ok_or_else(|| ValueError::new(text, &*expected))
}

/// A rate per second: a number, with `k`, `m` or `g` as in [`count`]. `2.5k` is 2,500.
pub fn rate(allowed: RangeInclusive<f64>) -> impl Fn(&str) -> Result<f64, ValueError> + Clone {
    let (least, most) = (*allowed.start(), *allowed.end());
    let expected = format!("a rate per second from {least} to {most}, such as 0.5, 3000 or 2.5k");
    move |text| {
        let (digits, factor) = split_suffix(text, THOUSAND);
        #[allow(clippy::cast_precision_loss, reason = "powers of a thousand up to a billion")]
        let rate = digits.replace('_', "").parse::<f64>().map(|value| value * factor as f64);
        let in_range = rate.ok().filter(|rate| allowed.contains(rate));
        in_range.ok_or_else(|| ValueError::new(text, &*expected))
    }
}

/// Whether a duration may be zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zero {
    /// Zero has a meaning for this flag.
    Allowed,
    /// Zero makes no sense for this flag.
    Refused,
}

/// The longest duration a flag takes: a year, whose nanoseconds fit into 64 bits many times.
pub const DURATION_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// A duration: numbers with units, such as `500ms`, `10s`, `2m` or `1h30m`.
///
/// A capital `M` is refused as ambiguous: it stands for months, but `1M` is mostly typed for a
/// minute.
pub fn duration(zero: Zero) -> impl Fn(&str) -> Result<Duration, ValueError> + Clone {
    move |text| {
        let error = |expected: &str| ValueError::new(text, expected);
        if text.contains('M') {
            return Err(error("m for minutes or months in full: M could mean either"));
        }
        let parsed = humantime::parse_duration(text);
        let duration =
            parsed.map_err(|_| error("a duration with its unit, such as 500ms, 10s or 2m"))?;
        if zero == Zero::Refused && duration.is_zero() {
            return Err(error("a duration longer than zero, such as 500ms, 10s or 2m"));
        }
        if duration > DURATION_MAX {
            return Err(error("a duration of at most a year"));
        }
        Ok(duration)
    }
}

/// CPU numbers in the order in which they were listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuList(pub Vec<usize>);

impl CpuList {
    /// The numbers in ascending order, each once.
    #[must_use]
    pub fn sorted(mut self) -> Vec<usize> {
        self.0.sort_unstable();
        self.0.dedup();
        self.0
    }
}

/// CPU numbers stay below this (`CPU_SETSIZE`, sched_setaffinity(2)).
const CPU_COUNT_MAX: usize = 1024;

/// A list of CPU numbers and ranges, such as `0-3,8` (cpuset(7)).
///
/// # Errors
/// [`ValueError`] for anything else, for descending ranges and for numbers of 1024 and more.
pub fn cpu_list(text: &str) -> Result<CpuList, ValueError> {
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let [first, last] = [first, last].map(|number| number.trim().parse::<usize>().ok());
        match (first, last) {
            (Some(first), Some(last)) if first <= last && last < CPU_COUNT_MAX => {
                cpus.extend(first..=last);
            }
            _ => {
                let expected =
                    format!("CPU numbers below {CPU_COUNT_MAX} and ascending ranges, as in 0-3,8");
                return Err(ValueError::new(text, expected));
            }
        }
    }
    Ok(CpuList(cpus))
}

/// The addresses of `HOST:PORT` that can be connected to: none has port 0, which only a listener
/// can ask for.
///
/// # Errors
/// As [`socket_addrs`]; [`ValueError`] for port 0.
pub fn target_addrs(text: &str) -> Result<Vec<SocketAddr>, ValueError> {
    let addrs = socket_addrs(text)?;
    if addrs.iter().any(|addr| addr.port() == 0) {
        return Err(ValueError::new(text, "the port of a server: nothing listens on port 0"));
    }
    Ok(addrs)
}

/// The addresses of `HOST:PORT`, at least one, from DNS and the hosts file where HOST is a name.
///
/// # Errors
/// [`ValueError`] if it has another form or the name has no address.
pub fn socket_addrs(text: &str) -> Result<Vec<SocketAddr>, ValueError> {
    let error = |cause: &str| {
        ValueError::new(text, format!("HOST:PORT, for instance 127.0.0.1:7777 ({cause})"))
    };
    let addrs = text.to_socket_addrs().map_err(|cause| error(&cause.to_string()))?;
    let addrs: Vec<_> = addrs.collect();
    if addrs.is_empty() { Err(error("no address")) } else { Ok(addrs) }
}

const KIB: u64 = 1024;
const THOUSAND: u64 = 1000;
const SUFFIXES: [(char, u32); 3] = [('k', 1), ('m', 2), ('g', 3)];

/// A whole number within `allowed`, with a suffix for a power of `unit`.
fn scaled<T: TryFrom<u64>>(text: &str, unit: u64, allowed: &RangeInclusive<u64>) -> Option<T> {
    let (digits, factor) = split_suffix(text, unit);
    let value = digits.replace('_', "").parse::<u64>().ok()?.checked_mul(factor)?;
    Some(value).filter(|value| allowed.contains(value))?.try_into().ok()
}

/// Splits off a suffix in either case; with it comes the power of `unit` that it stands for.
fn split_suffix(text: &str, unit: u64) -> (&str, u64) {
    let last = text.chars().next_back();
    let suffix =
        SUFFIXES.iter().find(|(name, _)| last.is_some_and(|c| c.eq_ignore_ascii_case(name)));
    suffix.map_or((text, 1), |(_, power)| (&text[..text.len() - 1], unit.pow(*power)))
}

/// The shortest way to write `value`.
fn with_suffix(value: u64, unit: u64) -> String {
    let fitting = SUFFIXES
        .iter()
        .rev()
        .find(|(_, power)| value >= unit.pow(*power) && value.is_multiple_of(unit.pow(*power)));
    fitting.map_or_else(
        || value.to_string(),
        |(name, power)| format!("{}{name}", value / unit.pow(*power)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts with what they mean, or with a part of what is said instead.
    fn check<T: PartialEq + std::fmt::Debug>(
        parse: impl Fn(&str) -> Result<T, ValueError>,
        table: impl IntoIterator<Item = (&'static str, Result<T, &'static str>)>,
    ) {
        for (text, expected) in table {
            match (parse(text), expected) {
                (Ok(value), Ok(expected)) => assert_eq!(value, expected, "{text}"),
                (Err(error), Err(part)) => {
                    assert!(error.to_string().contains(part), "{text}: {error}");
                    assert_eq!(error.text, text);
                }
                (outcome, expected) => panic!("{text}: {outcome:?}, expected {expected:?}"),
            }
        }
    }

    #[test]
    fn sizes() {
        let range = "from 1 to 16m, such as";
        let wrong =
            ["", "k", "0", "-1", "1.5m", "17m", "1t", "18446744073709551616", "9999999999g"];
        let right = [("100", 100), ("64k", 65_536), ("16M", 16 << 20), ("1_000", 1_000)];
        check(size::<u32>(1..=16 << 20), right.map(|(text, bytes)| (text, Ok(bytes))));
        check(size::<u32>(1..=16 << 20), wrong.map(|text| (text, Err(range))));
        check(size::<u64>(0..=u64::MAX), [("4g", Ok(4 << 30)), ("0", Ok(0))]);
        check(size::<u32>(0..=u64::MAX), [("4g", Err("bytes from 0"))]);
        let promised = size::<u32>(1..=16 << 20)("4g").unwrap_err().to_string();
        assert!(!promised.contains("g:") && promised.contains("to 16m"), "{promised}");
    }

    #[test]
    fn counts() {
        let parse = count::<u32>(1..=u64::from(u32::MAX));
        check(
            &parse,
            [("7", Ok(7)), ("20k", Ok(20_000)), ("1m", Ok(1_000_000)), ("2G", Ok(2_000_000_000))],
        );
        check(&parse, ["0", "5g", "1e3", "k", "two"].map(|text| (text, Err("such as 500, 20k"))));
    }

    #[test]
    fn rates() {
        let parse = rate(0.001..=10_000_000.0);
        check(&parse, [("3000", Ok(3000.0)), ("2.5k", Ok(2500.0)), ("0.5", Ok(0.5))]);
        check(&parse, ["0", "-5", "nan", "inf", "11m", "fast"].map(|text| (text, Err("0.001 to"))));
    }

    #[test]
    fn durations() {
        let right = [("500ms", 500), ("2m", 120_000), ("1h30m", 5_400_000), ("1 s", 1_000)];
        let right = right.map(|(text, ms)| (text, Ok(Duration::from_millis(ms))));
        check(duration(Zero::Refused), right);
        check(duration(Zero::Allowed), [("0s", Ok(Duration::ZERO))]);
        let wrong = [
            ("0s", "longer than zero"),
            ("5", "with its unit"),
            ("", "with its unit"),
            ("1M", "could mean either"),
            ("2years", "at most a year"),
        ];
        check(duration(Zero::Refused), wrong.map(|(text, part)| (text, Err(part))));
        let month = duration(Zero::Refused)("1month").expect("not ambiguous");
        assert!(month > Duration::from_secs(29 * 24 * 3600));
    }

    #[test]
    fn cpu_lists() {
        let right = [("0-2,5", vec![0, 1, 2, 5]), ("5,0-1", vec![5, 0, 1]), (" 3 ", vec![3])];
        check(cpu_list, right.map(|(text, cpus)| (text, Ok(CpuList(cpus)))));
        let wrong = ["", "2-1", "a", "1-", "0-1024", "0-99999999999"];
        check(cpu_list, wrong.map(|text| (text, Err("as in 0-3,8"))));
        assert_eq!(cpu_list("5,0-3,2").expect("a list").sorted(), [0, 1, 2, 3, 5]);
    }

    #[test]
    fn addresses() {
        let localhost = SocketAddr::from(([127, 0, 0, 1], 7));
        check(socket_addrs, [("127.0.0.1:7", Ok(vec![localhost]))]);
        check(target_addrs, [("127.0.0.1:7", Ok(vec![localhost])), ("[::1]:0", Err("port 0"))]);
        check(socket_addrs, ["nonsense", "127.0.0.1", ":7x"].map(|t| (t, Err("HOST:PORT"))));
    }
}
