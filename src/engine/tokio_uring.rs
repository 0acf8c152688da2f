//! The engine on the crate `tokio-uring`: one task per listener and one per connection, without the
//! [shard](crate::echo::Shard).
//!
//! docs/engines.md lists what the crate cannot do. One limit shapes this module: an operation in
//! flight cannot be cancelled. It is therefore always awaited, and ended early, where necessary, by
//! shutting its socket down.

mod connection;
mod counters;
mod listener;
mod worker;

use std::rc::Rc;
use std::sync::mpsc;

use tokio_uring::Runtime;

use self::worker::Worker;
use super::context::WorkerContext;
use super::error::{EngineError, Unsupported};
use crate::config::{BusyPoll, Config, SandboxMode};
use crate::echo::Stats;
use crate::ring::{RingError, Setup, retry_no_memory};

/// See [`adapt`](super::adapt).
pub(super) fn adapt(config: &Config) -> Result<(Config, Vec<String>), Unsupported> {
    if let Some(reason) = refusal(config) {
        return Err(Unsupported { engine: config.engine.name(), reason });
    }
    let mut missing = Vec::new();
    if config.busy_poll == BusyPoll::Auto {
        missing.push("tokio-uring sleeps in epoll_wait: no busy poll".to_owned());
    }
    if config.sandbox == SandboxMode::Auto {
        missing.push("tokio-uring makes its rings without restrictions".to_owned());
    }
    Ok((Config { busy_poll: BusyPoll::Off, ..config.clone() }, missing))
}

/// A setting that was asked for explicitly and is not supported, with what to use instead.
fn refusal(config: &Config) -> Option<String> {
    let default = Config::default();
    if let BusyPoll::For(_) | BusyPoll::Always = config.busy_poll {
        let mode = config.busy_poll;
        return Some(format!("--busy-poll {mode}: the runtime sleeps in epoll_wait; use off"));
    }
    if (config.pool, config.credit) != (default.pool, default.credit) {
        let instead = "each connection has one buffer of its own; size it with --buffer";
        return Some(format!("--pool and --credit: there is no pool, {instead}"));
    }
    if config.napi.is_some() {
        return Some("--napi: its rings cannot be told; use --engine uring".to_owned());
    }
    if config.takeover.is_some() {
        return Some(super::NO_TAKEOVER.to_owned());
    }
    if config.min_drain != default.min_drain {
        let instead = "a write that takes nothing within --write-timeout ends the connection";
        return Some(format!("--min-drain: it is not told how much a peer took; {instead}"));
    }
    if config.sandbox == SandboxMode::Require {
        let instead = "--sandbox auto applies the other restrictions";
        return Some(format!("--sandbox require: its rings cannot be restricted; {instead}"));
    }
    None
}

/// Runs one worker until it has drained or is stopped.
pub(super) fn run(
    context: WorkerContext,
    ready: &mpsc::Sender<Vec<String>>,
) -> Result<Stats, EngineError> {
    let runtime = runtime(&context.limits.ring)?;
    let worker = Rc::new(Worker::new(context)?);
    runtime.block_on(worker.serve(ready))
}

/// A runtime whose ring has the sizes that engine `uring` would use.
fn runtime(sizes: &Setup) -> Result<Runtime, RingError> {
    let mut ring = tokio_uring::uring_builder();
    ring.setup_cqsize(sizes.completions);
    let mut builder = tokio_uring::builder();
    builder.entries(sizes.submissions).uring_builder(&ring);
    retry_no_memory(|| Runtime::new(&builder))
        .map_err(|error| RingError::setup("a tokio-uring runtime", error, sizes.locked_bytes()))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::*;

    fn bytes(n: u32) -> NonZeroU32 {
        NonZeroU32::new(n).expect("not zero")
    }

    #[test]
    fn what_it_cannot_do_is_refused_by_name_with_a_way_out() {
        let config = Config::default();
        let spinning = BusyPoll::For(Duration::from_micros(50));
        for (config, named, instead) in [
            (Config { busy_poll: spinning, ..config.clone() }, "--busy-poll 50", "off"),
            (Config { busy_poll: BusyPoll::Always, ..config.clone() }, "--busy-poll always", "off"),
            (Config { pool: bytes(1 << 20), ..config.clone() }, "--pool", "--buffer"),
            (Config { credit: bytes(16384), ..config.clone() }, "--credit", "--buffer"),
            (Config { min_drain: bytes(1), ..config.clone() }, "--min-drain", "--write-timeout"),
            (Config { sandbox: SandboxMode::Require, ..config }, "--sandbox", "auto"),
        ] {
            let text = adapt(&config).expect_err("refused").to_string();
            assert!(text.contains(named) && text.contains(instead), "{text}");
        }
    }

    #[test]
    fn what_it_does_without_is_told() {
        let config = Config { sandbox: SandboxMode::Auto, ..Config::default() };
        let (fitted, without) = adapt(&config).expect("fits");
        assert_eq!((fitted.busy_poll, without.len()), (BusyPoll::Off, 2));
        let config = Config { busy_poll: BusyPoll::Off, ..Config::default() };
        assert_eq!(adapt(&config).expect("fits").1, Vec::<String>::new());
    }
}
