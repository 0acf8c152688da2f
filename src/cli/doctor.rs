//! `uring-echo doctor`.

use anyhow::Result;
use clap::Parser;

use super::report;
use super::serve::ServeArgs;
use crate::doctor::{self, Finding, Standing};

#[derive(Debug, Parser)]
pub(super) struct DoctorArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Print a seccomp profile for container engines, which allows what the two programs need,
    /// io_uring included.
    #[arg(long)]
    seccomp_profile: bool,
    /// The server that is to run: tried as far as it can be without serving.
    #[command(flatten)]
    serve: ServeArgs,
}

pub(super) fn run(args: &DoctorArgs) -> Result<()> {
    if args.seccomp_profile {
        return report::print(doctor::SECCOMP_PROFILE);
    }
    let findings = doctor::examine(&args.serve.resolve()?);
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
