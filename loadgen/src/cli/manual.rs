//! `loadgen completions` and `loadgen man`.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

/// Arguments of `loadgen completions`, as typed.
#[derive(Debug, Clone, Args)]
#[command(after_help = COMPLETIONS_EXAMPLES)]
pub struct CompletionsArgs {
    /// Whose completions
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Arguments of `loadgen man`, as typed.
#[derive(Debug, Clone, Args)]
#[command(after_help = MAN_EXAMPLES)]
pub struct ManArgs {
    /// Folder for loadgen.1 and a page for each subcommand
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
}

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  loadgen completions bash > /etc/bash_completion.d/loadgen
  loadgen completions zsh > ~/.zfunc/_loadgen
  loadgen completions fish > ~/.config/fish/completions/loadgen.fish

Exit status: 0 printed, 2 usage.";

const MAN_EXAMPLES: &str = "\
Examples:
  loadgen man ~/.local/share/man/man1 && man loadgen-run

Exit status: 0 written, 1 the folder cannot be written, 2 usage.";
