//! The seccomp filter: the [table of calls](super::calls), anything else ends the process.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, apply_filter_all_threads,
};

use super::calls::{ANSWERED, Call, Uses, When, allowed};

/// Applies it to all threads, for good.
pub(super) fn apply(uses: Uses) -> Result<(), String> {
    let programs = programs(uses).map_err(|error| error.to_string())?;
    programs.iter().try_for_each(|program| {
        apply_filter_all_threads(program).map_err(|error| match error {
            seccompiler::Error::Seccomp(error) => format!("seccomp(2): {error}"),
            other => other.to_string(),
        })
    })
}

/// In the order in which they are to be applied: the second one does not allow a third. Of two
/// filters the stricter answer counts.
fn programs(uses: Uses) -> Result<[BpfProgram; 2], BackendError> {
    let errno = SeccompAction::Errno(libc::EACCES.cast_unsigned());
    let answering = program(ANSWERED.iter().copied(), errno, SeccompAction::Allow)?;
    let calls = allowed(uses).chain(ANSWERED.iter().copied());
    Ok([answering, program(calls, SeccompAction::Allow, SeccompAction::KillProcess)?])
}

fn program(
    calls: impl Iterator<Item = Call>,
    listed: SeccompAction,
    other: SeccompAction,
) -> Result<BpfProgram, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for Call { number, when } in calls {
        let more = alternatives(when)?;
        // A call without rules is listed whatever its arguments.
        match rules.get_mut(&number) {
            Some(known) if known.is_empty() || more.is_empty() => known.clear(),
            Some(known) => known.extend(more),
            None => drop(rules.insert(number, more)),
        }
    }
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, other, listed, architecture)?.try_into()
}

/// The rules any of which allows a call; none for "always".
fn alternatives(when: When) -> Result<Vec<SeccompRule>, BackendError> {
    let rule = |conditions| SeccompRule::new(conditions);
    match when {
        When::Always => Ok(Vec::new()),
        When::OneOf(argument, values) => {
            values.iter().map(|&value| rule(vec![is(argument, value)?])).collect()
        }
        When::Is(argument, value) => Ok(vec![rule(vec![is(argument, value)?])?]),
        When::Without(argument, bits) => Ok(vec![rule(vec![has_none_of(argument, bits)?])?]),
        When::Connected => {
            let (flags, address) = (3, 4);
            let no_address =
                SeccompCondition::new(address, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)?;
            Ok(vec![rule(vec![has_none_of(flags, libc::MSG_FASTOPEN)?, no_address])?])
        }
        When::Abort => {
            let own = i32::try_from(std::process::id()).unwrap_or(i32::MAX);
            Ok(vec![rule(vec![is(0, own)?, is(2, libc::SIGABRT)?])?])
        }
    }
}

fn is(argument: u8, value: i32) -> Result<SeccompCondition, BackendError> {
    let value = u64::from(value.cast_unsigned());
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

fn has_none_of(argument: u8, bits: i32) -> Result<SeccompCondition, BackendError> {
    let mask = SeccompCmpOp::MaskedEq(u64::from(bits.cast_unsigned()));
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, mask, 0)
}

#[cfg(test)]
mod tests;
