//! From text to an objective. Total: any text gives an objective or an error that says what is
//! allowed.

use std::str::FromStr;

use uring_echo::values::{ValueError, Zero, duration};

use super::{AbortCondition, Attempts, Metric, Objective, Relation, Statistic};
use crate::model::outcome::{Outcome, Phase};

/// A text that is no objective.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no objective: {cause}")]
pub struct SloError {
    /// What was typed.
    pub text: String,
    /// What is wrong, and what is allowed.
    pub cause: String,
}

/// A text that is no condition to abort on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AbortError {
    /// What stands before `@`.
    #[error(transparent)]
    Condition(#[from] SloError),
    /// What stands behind it.
    #[error("the delay after @ is wrong: {0}")]
    Delay(#[from] ValueError),
}

/// Longer operators before those that they begin with.
const RELATIONS: [(&str, Relation); 6] = [
    ("<=", Relation::LessOrEqual),
    (">=", Relation::GreaterOrEqual),
    ("==", Relation::Equal),
    ("!=", Relation::NotEqual),
    ("<", Relation::Less),
    (">", Relation::Greater),
];

/// Nanoseconds of the units of a bound.
const UNITS: [(&str, f64); 6] =
    [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("μs", 1e3), ("ms", 1e6), ("s", 1e9)];

const SHAPE: &str = "expected a value, a relation and a bound, such as accept_delay.p99<5ms, \
    completed>99.9% or never_accepted==0";

impl FromStr for Objective {
    type Err = SloError;

    fn from_str(text: &str) -> Result<Self, SloError> {
        parse(text).map_err(|cause| SloError { text: text.to_owned(), cause })
    }
}

impl FromStr for AbortCondition {
    type Err = AbortError;

    fn from_str(text: &str) -> Result<Self, AbortError> {
        let (condition, delay) = text.rsplit_once('@').unwrap_or((text, "0s"));
        let delay = duration(Zero::Allowed)(delay.trim())?;
        let after_ns = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
        Ok(Self { text: text.to_owned(), condition: condition.parse()?, after_ns })
    }
}

fn parse(text: &str) -> Result<Objective, String> {
    let at = text.find(['<', '>', '=', '!']).ok_or(SHAPE)?;
    let (name, rest) = text.split_at(at);
    let found = RELATIONS.iter().find_map(|(sign, it)| Some((*it, rest.strip_prefix(sign)?)));
    let (relation, bound) = found.ok_or("the relations are < <= > >= == and !=")?;
    let (metric, bound) = match (name.trim(), bound.trim()) {
        ("", _) | (_, "") => return Err(SHAPE.into()),
        (name, bound) => match name.split_once('.') {
            Some((phase, statistic)) => of_phase(phase, statistic, bound)?,
            None => of_attempts(name, bound)?,
        },
    };
    Ok(Objective { text: text.trim().to_owned(), metric, relation, bound })
}

fn of_phase(phase: &str, statistic: &str, bound: &str) -> Result<(Metric, f64), String> {
    let phase = find(phase, Phase::ALL, Phase::name, "phase")?;
    if statistic == "count" {
        return Ok((Metric::Samples(phase), count(bound)?));
    }
    let statistic = match statistic {
        "min" => Some(Statistic::Min),
        "mean" => Some(Statistic::Mean),
        "max" => Some(Statistic::Max),
        "stdev" => Some(Statistic::Stdev),
        other => other.parse().ok().map(Statistic::Quantile),
    };
    let statistic = statistic.ok_or(
        "the statistics are min, mean, max, stdev, count and percentiles from p0 to p100, such as \
         p99 or p99.9",
    )?;
    Ok((Metric::Time(phase, statistic), time(bound)?))
}

fn of_attempts(name: &str, bound: &str) -> Result<(Metric, f64), String> {
    let attempts = match name {
        "attempted" => Attempts::All,
        "failed" => Attempts::Failed,
        other => Attempts::Ended(find(other, Outcome::ALL, Outcome::name, "outcome")?),
    };
    let Some(percent) = bound.strip_suffix('%') else {
        return Ok((Metric::Count(attempts), count(bound)?));
    };
    let percent = number(percent.trim_end()).filter(|percent| *percent <= 100.0);
    let percent = percent.ok_or_else(|| format!("{bound:?} is no share from 0% to 100%"))?;
    Ok((Metric::Share(attempts), percent / 100.0))
}

fn find<T: Copy, const N: usize>(
    wanted: &str,
    all: [T; N],
    name: fn(T) -> &'static str,
    what: &str,
) -> Result<T, String> {
    let found = all.iter().copied().find(|it| name(*it) == wanted);
    found.ok_or_else(|| {
        let mut names = all.map(name).join(", ");
        if what == "outcome" {
            names += ", attempted and failed; times are PHASE.STATISTIC, such as accept_delay.p99";
        }
        format!("there is no {what} {wanted:?}; there are {names}")
    })
}

fn time(text: &str) -> Result<f64, String> {
    let unit = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (digits, unit) = text.split_at(unit);
    let factor = UNITS.iter().find(|(name, _)| *name == unit.trim()).map(|(_, factor)| factor);
    let value = number(digits).zip(factor).map(|(value, factor)| value * factor);
    value.ok_or_else(|| {
        format!("{text:?} is no duration with its unit, such as 800ns, 250us, 1.5ms or 2s")
    })
}

fn count(text: &str) -> Result<f64, String> {
    let parsed = uring_echo::values::count::<u64>(0..=u64::MAX)(text);
    #[expect(clippy::cast_precision_loss, reason = "no run has 2^53 attempts")]
    parsed.map(|count| count as f64).map_err(|_| {
        format!("{text:?} is no count, such as 0, 500 or 20k, and no share, such as 99.9%")
    })
}

/// Digits with at most one point: no sign, no exponent, no infinity.
fn number(text: &str) -> Option<f64> {
    let plain = text.len() <= DIGITS_MAX && text.chars().all(|c| c.is_ascii_digit() || c == '.');
    text.parse().ok().filter(|_| plain)
}

/// Longer numbers are mistakes, and these cannot reach infinity.
const DIGITS_MAX: usize = 20;
