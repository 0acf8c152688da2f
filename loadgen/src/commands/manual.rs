//! `loadgen completions` and `loadgen man`: what a package installs beside the program.

use std::io;

use crate::cli;
use crate::cli::manual::{CompletionsArgs, ManArgs};
use crate::render::output::{self, OutputError};

/// Why a manual was not written.
#[derive(Debug, thiserror::Error)]
pub enum ManualError {
    /// The folder cannot be made.
    #[error(transparent)]
    Folder(#[from] OutputError),
    /// A page cannot be written.
    #[error("writing manual pages into {folder}")]
    Page {
        /// Where to.
        folder: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Prints the script that completes commands and flags in a shell.
///
/// # Errors
/// What writing to stdout failed with.
pub fn completions(args: &CompletionsArgs) -> io::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut cli::command(), "loadgen", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}

/// Writes a page for the program and one for each subcommand.
///
/// # Errors
/// [`ManualError`].
pub fn pages(args: &ManArgs) -> Result<(), ManualError> {
    output::make_folder(&args.folder)?;
    clap_mangen::generate_to(cli::command(), &args.folder).map_err(|source| {
        let folder = args.folder.display().to_string();
        ManualError::Page { folder, source }
    })
}
