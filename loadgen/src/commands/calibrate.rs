//! `loadgen calibrate`: what the instrument itself costs here.

use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::cli::calibrate::CalibrateArgs;
use crate::evidence::floor;
use crate::observe;
use crate::render::output::{self, Output, OutputError};
use crate::render::terminal;

/// Why there is no calibration.
#[derive(Debug, thiserror::Error)]
pub enum CalibrateError {
    /// There is no place for it.
    #[error("neither XDG_CACHE_HOME nor HOME names a folder: say where to keep it with --out FILE")]
    NoCache,
    /// /proc does not say which machine this is.
    #[error("/proc/sys/kernel/random/boot_id cannot be read: what is measured would be nobody's")]
    NoMachine,
    /// A file cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The system refused something.
    #[error("measuring the instrument's floor")]
    System(#[from] io::Error),
}

/// Measures, keeps and prints the floor.
///
/// # Errors
/// [`CalibrateError`].
pub fn execute(args: &CalibrateArgs) -> Result<(), CalibrateError> {
    let machine = floor::machine().ok_or(CalibrateError::NoMachine)?;
    let kept = args.out.clone().or_else(|| floor::path(&machine));
    let kept: PathBuf = kept.ok_or(CalibrateError::NoCache)?;
    if let Some(folder) = kept.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        output::make_folder(folder)?;
    }
    let json_alone = args.json.as_ref().is_some_and(|path| path.as_os_str() == "-");
    let also = args.json.as_ref().filter(|_| !json_alone);
    let files = std::iter::once(&kept).chain(also).map(|path| Output::open(path));
    let files = files.collect::<Result<Vec<_>, _>>()?;
    let measured_at = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let floor = observe::floor::measure(machine, measured_at)?;
    let json = format!("{:#}\n", serde_json::to_value(&floor).expect("plain data"));
    let style = output::style_of_stdout();
    output::print(&if json_alone { json.clone() } else { terminal::floor(&floor, style) })?;
    let written = files.into_iter().map(|file| file.write(&json)).collect::<Result<Vec<_>, _>>()?;
    if !json_alone {
        output::print(&terminal::afterwards(&[], &written, style))?;
    }
    Ok(())
}
