//! The means by which tables measure: the two clients, both on the clients' CPU.

use std::collections::BTreeMap;
use std::env;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::Value;

use crate::builds::Programs;
use crate::candidate::Program;
use crate::child::{Child, Ended};
use crate::client::Seen;
use crate::process;
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
    pub(crate) server_cpu_ns: f64,
    pub(crate) wall_ns: f64,
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
        let (cpu, begun) = (process::cpu_ns(server.id())?, Instant::now());
        let ended = Child::spawn(command, None)?.finish(PATIENCE)?;
        let wall_ns = begun.elapsed().as_nanos() as f64;
        let server_cpu_ns = (process::cpu_ns(server.id())? - cpu) as f64;
        let result = parsed(&ended, &[0, INVALID])?;
        let invalid = (ended.status.code() == Some(INVALID)).then(|| reasons(&result));
        Ok(Loaded { result, invalid, server_cpu_ns, wall_ns })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(text: &str) -> Loaded {
        let result = serde_json::from_str(text).expect("JSON");
        Loaded { result, invalid: None, server_cpu_ns: 900.0, wall_ns: 1000.0 }
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
