//! The means by which tables measure: the two clients, both on the clients' CPU.

use std::marker::PhantomData;
use std::process::Command;
use std::time::Duration;
use std::{env, fmt};

use anyhow::{Context, Result, ensure};
use loadgen::model::result::RunResult;
use serde::de::DeserializeOwned;

use crate::builds::Programs;
use crate::candidate::Program;
use crate::child::{Child, Ended};
use crate::client::ClientResult;
use crate::cpu_meter::CpuMeter;
use crate::crowd::CrowdResult;
use crate::loadgen_result::LoadgenResult;
use crate::server::{Place, Server};
use crate::syscalls::Counter;

/// Beyond the time a client was told to run.
const TIMEOUT: Duration = Duration::from_secs(30);
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

/// Marks an error that says nothing about the server.
#[derive(Debug)]
pub(crate) struct GeneratorFailed;

impl fmt::Display for GeneratorFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("loadgen failed")
    }
}

impl Bench {
    /// `loadgen run ADDR` with these arguments.
    ///
    /// # Errors
    /// [`GeneratorFailed`]: what the server does wrong is in the result.
    pub(crate) fn loadgen(&self, server: &Server, args: &str) -> Result<LoadgenResult> {
        self.run_loadgen(server, args).context(GeneratorFailed)
    }

    fn run_loadgen(&self, server: &Server, args: &str) -> Result<LoadgenResult> {
        let mut command = Command::new(self.programs.path(Program::Built("loadgen"))?);
        command.arg("run").arg(server.addr.to_string()).args(args.split_whitespace());
        command.args(["--quiet", "--json", "-", "--cpus"]).arg(self.client_cpu.to_string());
        let meter = CpuMeter::begin(server.id(), self.client_cpu);
        let ended = Child::spawn(command, None)?.finish(TIMEOUT);
        let (readings, ended) = (meter.finish()?, ended?);
        let result = LoadgenResult { result: result(&ended, &[0, INVALID])?, cores: None };
        let cores = result.window().and_then(|window| readings.cores(window));
        Ok(LoadgenResult { cores, ..result })
    }

    /// Another of loadgen's commands, which reports failures in its result.
    ///
    /// # Errors
    /// [`GeneratorFailed`].
    pub(crate) fn loadgen_command(
        &self,
        name: &str,
        server: &Server,
        args: &str,
        timeout: Duration,
    ) -> Result<RunResult> {
        let mut command = Command::new(self.programs.path(Program::Built("loadgen"))?);
        command.arg(name).arg(server.addr.to_string()).args(args.split_whitespace());
        command.args(["--json", "-"]);
        // It has no flag for its CPU, so it is started where it belongs.
        let ended = Child::spawn(command, Some(self.client_cpu)).and_then(|it| it.finish(timeout));
        ended.and_then(|ended| result(&ended, &[0, 1])).context(GeneratorFailed)
    }

    /// Starts the harness's own client; it is connected when this returns.
    ///
    /// # Errors
    /// What it says of the server, which did not take its connections.
    pub(crate) fn client(&self, server: &Server, args: &str) -> Result<Client<ClientResult>> {
        start("client", server, args, Some(self.client_cpu))
    }

    /// Starts a thread for each connection, on whatever CPUs; all are connected when this returns.
    ///
    /// # Errors
    /// As [`Self::client`].
    pub(crate) fn crowd(&self, server: &Server, args: &str) -> Result<Client<CrowdResult>> {
        start("crowd", server, args, None)
    }
}

/// A part of this program as a process, on `cpu` alone if one is given.
fn start<T>(part: &str, server: &Server, args: &str, cpu: Option<usize>) -> Result<Client<T>> {
    let mut command = Command::new(env::current_exe()?);
    command.arg(part).arg(server.addr.to_string()).args(args.split_whitespace());
    command.args(["--watch", &server.id().to_string()]);
    let mut child = Child::spawn(command, cpu)?;
    child.wait_for("ready", TIMEOUT)?;
    Ok(Client(child, PhantomData))
}

/// A client of the harness's own, running.
pub(crate) struct Client<T>(Child, PhantomData<T>);

impl<T: DeserializeOwned> Client<T> {
    /// Its last message has come back, its connections are open still (for `--settle`).
    pub(crate) fn wait_for_last(&mut self) -> Result<()> {
        self.0.wait_for("done", TIMEOUT)
    }

    /// # Errors
    /// What it says of the server: a wrong byte, or a connection that was lost.
    pub(crate) fn finish(self) -> Result<T> {
        Ok(serde_json::from_str(output(&self.0.finish(TIMEOUT)?, &[0])?)?)
    }
}

fn result(ended: &Ended, fine: &[i32]) -> Result<RunResult> {
    Ok(RunResult::parse(output(ended, fine)?.as_bytes())?)
}

/// What a client printed on stdout.
fn output<'a>(ended: &'a Ended, fine: &[i32]) -> Result<&'a str> {
    let as_wanted = ended.status.code().is_some_and(|code| fine.contains(&code));
    ensure!(as_wanted, "the client failed ({}): {}", ended.status, ended.stderr);
    Ok(&ended.stdout)
}
