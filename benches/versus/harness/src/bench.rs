//! The means by which tables measure: the two clients, both on the clients' CPU.

use std::collections::BTreeMap;
use std::env;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::Value;

use crate::builds::Programs;
use crate::candidate::Program;
use crate::child::{Child, Ended};
use crate::client::Seen;
use crate::meter::{Meter, Window, time_of_day};
use crate::server::{Place, Server};
use crate::syscalls::Counter;

/// Beyond the time a client was told to run.
const PATIENCE: Duration = Duration::from_secs(30);
/// loadgen's exit status when it declares its own run invalid.
const INVALID: i32 = 4;

/// What all measurements share.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) programs: Programs,
    pub(crate) place: Place,
    pub(crate) client_cpu: usize,
    pub(crate) counter: Counter,
}

/// The numbers of one candidate in one round.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Measured {
    pub(crate) values: BTreeMap<&'static str, f64>,
    /// Why loadgen does not vouch for them.
    pub(crate) invalid: Option<String>,
    pub(crate) notes: Vec<String>,
}

impl Measured {
    pub(crate) fn with(mut self, key: &'static str, value: Option<f64>) -> Self {
        self.values.extend(value.map(|value| (key, value)));
        self
    }
}

/// What loadgen printed, and what the server used meanwhile.
pub(crate) struct Loaded {
    pub(crate) result: Value,
    pub(crate) invalid: Option<String>,
    /// CPUs that the server used while the load was on.
    pub(crate) cores: Option<f64>,
}

impl Loaded {
    /// The number at a JSON pointer.
    pub(crate) fn number(&self, pointer: &str) -> Option<f64> {
        self.result.pointer(pointer)?.as_f64()
    }

    /// `above` divided by the number at `below`; nothing where that is zero.
    pub(crate) fn per(&self, above: f64, below: &str) -> Option<f64> {
        self.number(below).filter(|count| *count > 0.0).map(|count| above / count)
    }
}

impl Bench {
    /// `loadgen run ADDR` with these arguments.
    pub(crate) fn loadgen(&self, server: &Server, args: &str) -> Result<Loaded> {
        let mut command = Command::new(self.programs.path(Program::Built("loadgen"))?);
        command.arg("run").arg(server.addr.to_string()).args(args.split_whitespace());
        command.args(["--quiet", "--json", "-", "--cpus"]).arg(self.client_cpu.to_string());
        let meter = Meter::begin(server.id(), self.client_cpu);
        let ended = Child::spawn(command, None)?.finish(PATIENCE);
        let (looks, ended) = (meter.finish()?, ended?);
        let result = parsed(&ended, &[0, INVALID])?;
        let reasons = (ended.status.code() == Some(INVALID)).then(|| reasons(&result));
        let invalid = together([reasons, losses(&result)]);
        let cores = window(&result).and_then(|window| looks.cores(window));
        Ok(Loaded { result, invalid, cores })
    }

    /// Another of loadgen's commands, which reports failures in its result.
    pub(crate) fn loadgen_command(
        &self,
        name: &str,
        server: &Server,
        args: &str,
        patience: Duration,
    ) -> Result<Value> {
        let mut command = Command::new(self.programs.path(Program::Built("loadgen"))?);
        command.arg(name).arg(server.addr.to_string()).args(args.split_whitespace());
        command.args(["--json", "-"]);
        // It has no flag for its CPU, so it is started where it belongs.
        parsed(&Child::spawn(command, Some(self.client_cpu))?.finish(patience)?, &[0, 1])
    }

    /// Starts the harness's own client; it is connected when this returns.
    pub(crate) fn client(&self, server: &Server, args: &str) -> Result<Client> {
        let mut command = Command::new(env::current_exe()?);
        command.arg("client").arg(server.addr.to_string()).args(args.split_whitespace());
        command.args(["--watch", &server.id().to_string()]);
        let mut child = Child::spawn(command, Some(self.client_cpu))?;
        child.wait_for("ready", PATIENCE)?;
        Ok(Client(child))
    }
}

/// The harness's own client, running.
pub(crate) struct Client(Child);

impl Client {
    /// Its last message has come back, its connections are open still (for `--settle`).
    pub(crate) fn wait_for_last(&mut self) -> Result<()> {
        self.0.wait_for("done", PATIENCE)
    }

    pub(crate) fn finish(self) -> Result<Seen> {
        Ok(serde_json::from_value(parsed(&self.0.finish(PATIENCE)?, &[0])?)?)
    }
}

fn parsed(ended: &Ended, fine: &[i32]) -> Result<Value> {
    let Some(code) = ended.status.code().filter(|code| fine.contains(code)) else {
        bail!("the client failed ({}): {}", ended.status, ended.stderr);
    };
    serde_json::from_str(&ended.stdout)
        .with_context(|| format!("the client (exit {code}) printed no JSON: {}", ended.stderr))
}

fn reasons(result: &Value) -> String {
    let reasons = result.pointer("/verdict/reasons").and_then(Value::as_array);
    let words = reasons.into_iter().flatten().filter_map(Value::as_str);
    words.collect::<Vec<_>>().join("; ")
}

/// Attempts that did not end well, by the way in which they ended.
fn losses(result: &Value) -> Option<String> {
    let outcomes = result.get("outcomes")?.as_object()?;
    let well = |name: &str| matches!(name, "attempted" | "completed");
    let count = |count: &Value| count.as_u64().filter(|count| *count > 0);
    let lost: Vec<String> = outcomes
        .iter()
        .filter(|(name, _)| !well(name))
        .filter_map(|(name, value)| Some(format!("{} {name}", count(value)?)))
        .collect();
    let short = outcomes.get("attempted") != outcomes.get("completed");
    (short || !lost.is_empty()).then(|| format!("lost: {}", lost.join(", ")))
}

/// From the first attempt to the last end: what came before the intervals were preparations.
fn window(result: &Value) -> Option<Window> {
    let started = time_of_day(result.get("started_at")?.as_str()?)?;
    let elapsed = result.pointer("/evidence/elapsed_ns")?.as_u64()?;
    let intervals = result.get("intervals")?.as_array()?.iter();
    let length = intervals.filter_map(|it| it.get("length_ns")?.as_u64()).sum();
    Some(Window { begin: started + elapsed.saturating_sub(length), length })
}

/// All that is there, as one text.
pub(crate) fn together<const N: usize>(reasons: [Option<String>; N]) -> Option<String> {
    let reasons: Vec<String> = reasons.into_iter().flatten().collect();
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_end_well_is_named() {
        let of = |refused, completed| {
            serde_json::json!({"outcomes": {
                "attempted": 5, "completed": completed, "refused": refused, "shed": 0,
            }})
        };
        assert_eq!(losses(&of(2, 3)).as_deref(), Some("lost: 2 refused"));
        assert_eq!(losses(&of(0, 5)), None);
    }

    #[test]
    fn the_load_ends_with_the_run() {
        let result = serde_json::json!({
            "started_at": "2026-11-23T00:00:01.000Z", "evidence": {"elapsed_ns": 700},
            "intervals": [{"length_ns": 400}, {"length_ns": 200}],
        });
        assert_eq!(window(&result), Some(Window { begin: 1_000_000_100, length: 600 }));
    }

    fn loaded(text: &str) -> Loaded {
        let result = serde_json::from_str(text).expect("JSON");
        Loaded { result, invalid: None, cores: None }
    }

    #[test]
    fn numbers_are_read_by_pointer() {
        let loaded = loaded(r#"{"histograms":{"accept_delay":{"p50":8200,"p99":null}}}"#);
        assert_eq!(loaded.number("/histograms/accept_delay/p50"), Some(8200.0));
        assert_eq!(loaded.number("/histograms/accept_delay/p99"), None);
    }

    #[test]
    fn nothing_is_divided_by_zero() {
        let loaded = loaded(r#"{"outcomes":{"attempted":0,"completed":300}}"#);
        assert_eq!(loaded.per(900.0, "/outcomes/attempted"), None);
        assert_eq!(loaded.per(900.0, "/outcomes/completed"), Some(3.0));
    }

    #[test]
    fn a_verdict_is_given_in_its_own_words() {
        let result = serde_json::json!({"verdict": {"valid": false, "reasons": ["a: b", "c"]}});
        assert_eq!(reasons(&result), "a: b; c");
    }
}
