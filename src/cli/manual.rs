//! `uring-echo completions` and `uring-echo man`: what a package installs beside the program.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{CommandFactory, Parser};
use clap_complete::Shell;

use super::{Cli, report};

#[derive(Debug, Parser)]
pub(super) struct CompletionsArgs {
    /// Whose completions.
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Parser)]
pub(super) struct ManArgs {
    /// Folder for uring-echo.1 and a page for each subcommand.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Prints the script that completes commands and flags in a shell.
pub(super) fn completions(args: &CompletionsArgs) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "uring-echo", &mut script);
    report::print(&String::from_utf8_lossy(&script))
}

/// Writes a page for the program and one for each subcommand.
pub(super) fn pages(args: &ManArgs) -> Result<()> {
    let folder = args.folder.display();
    fs::create_dir_all(&args.folder).with_context(|| format!("making the folder {folder}"))?;
    clap_mangen::generate_to(Cli::command(), &args.folder)
        .with_context(|| format!("writing manual pages into {folder}"))
}
