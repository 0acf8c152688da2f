//! `uring-echo doctor`.

use anyhow::Result;
use clap::Parser;

use super::report;
use super::serve::EngineArg;
use crate::config::Config;
use crate::doctor::{self, Finding, Standing};

#[derive(Debug, Parser)]
pub(super) struct DoctorArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// The engine that the server is to run with.
    #[arg(long, value_enum, env = "URING_ECHO_ENGINE", default_value = "uring")]
    engine: EngineArg,
    /// Print a seccomp profile for container engines, which allows what the two programs need,
    /// io_uring included.
    #[arg(long)]
    seccomp_profile: bool,
}

pub(super) fn run(args: &DoctorArgs) -> Result<()> {
    if args.seccomp_profile {
        return report::print(doctor::SECCOMP_PROFILE);
    }
    let (engine, fall_back_to_epoll) = (args.engine.engine(), args.engine.falls_back());
    let findings = doctor::examine(&Config { engine, fall_back_to_epoll, ..Config::default() });
    if args.json {
        report::print(&format!("{}\n", serde_json::to_string_pretty(&findings)?))?;
    } else {
        report::print(&findings.iter().map(line).collect::<String>())?;
    }
    let broken = findings.iter().any(|finding| finding.standing == Standing::Broken);
    anyhow::ensure!(!broken, "the server would not run here");
    Ok(())
}

fn line(Finding { subject, standing, found }: &Finding) -> String {
    let sign = match standing {
        Standing::Fine => "✓",
        Standing::Less => "!",
        Standing::Broken => "✗",
    };
    format!("{sign} {subject:<13} {}\n", found.replace('\n', "\n                "))
}
