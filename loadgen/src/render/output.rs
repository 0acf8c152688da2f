//! Output files: opened before the measurement, written after it.
//!
//! What cannot be written is known before anything was measured. A file appears whole or not at
//! all: it is written beside its place under a name that nobody else has (`O_EXCL`, no symbolic
//! link is followed) and renamed when it is complete.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::terminal::Style;

/// A file that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// It could not be opened; nothing was measured yet.
    #[error("{path} cannot be written: {cause}", path = path.display())]
    Open {
        /// Which file or folder.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// Writing it failed after the measurement.
    #[error("{path} was not written: {cause}", path = path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

/// A file to be written.
#[derive(Debug)]
pub struct Output {
    path: PathBuf,
    sink: Sink,
}

#[derive(Debug)]
enum Sink {
    /// Renamed to the path once it is complete.
    Beside(NamedTempFile),
    /// A pipe or a device: written to as it is.
    Special(File),
}

impl Output {
    /// Opens a file to be written to `path`, which stays as it is until then.
    ///
    /// # Errors
    /// [`OutputError::Open`].
    pub fn open(path: &Path) -> Result<Self, OutputError> {
        let sink = if is_special(path) { special(path) } else { beside(path) };
        let path = path.to_owned();
        match sink {
            Ok(sink) => Ok(Self { path, sink }),
            Err(cause) => Err(OutputError::Open { path, cause }),
        }
    }

    /// Where it will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a file is there that this one replaces.
    pub fn replaces(&self) -> bool {
        matches!(self.sink, Sink::Beside(_)) && self.path.exists()
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// [`OutputError::Write`]; an older file is still there then.
    pub fn write(self, text: &str) -> Result<PathBuf, OutputError> {
        let written = match self.sink {
            Sink::Special(mut file) => file.write_all(text.as_bytes()),
            Sink::Beside(file) => complete(file, &self.path, text),
        };
        match written {
            Ok(()) => Ok(self.path),
            Err(cause) => Err(OutputError::Write { path: self.path, cause }),
        }
    }
}

/// Makes a folder for results.
///
/// # Errors
/// [`OutputError::Open`].
pub fn make_folder(path: &Path) -> Result<(), OutputError> {
    fs::create_dir_all(path).map_err(|cause| OutputError::Open { path: path.into(), cause })
}

/// Prints to stdout. A reader that went away wants no more: that is no error.
///
/// # Errors
/// What writing failed with.
pub fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let printed = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    match printed {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Colour where stdout is a terminal that can do it and nobody objects (no-color.org).
pub fn style_of_stdout() -> Style {
    Style { color: io::stdout().is_terminal() && wants_color() }
}

/// Whether a terminal is to be coloured: it can do it and nobody objects (no-color.org).
pub fn wants_color() -> bool {
    let objection = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
    !objection && !dumb
}

/// The files of a process and of devices are written to; a rename would replace their names.
fn is_special(path: &Path) -> bool {
    let of_the_system = ["/dev", "/proc"].iter().any(|folder| path.starts_with(folder));
    of_the_system || fs::metadata(path).is_ok_and(|there| !there.is_file() && !there.is_dir())
}

/// Opened for reading too, so that a pipe without a reader does not block (fifo(7)).
fn special(path: &Path) -> io::Result<Sink> {
    let both = OpenOptions::new().read(true).write(true).open(path);
    let file = both.or_else(|_| OpenOptions::new().write(true).open(path))?;
    Ok(Sink::Special(file))
}

fn beside(path: &Path) -> io::Result<Sink> {
    if path.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let file = tempfile::Builder::new()
        .prefix(".loadgen-")
        .suffix(".part")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder.unwrap_or_else(|| Path::new(".")))?;
    Ok(Sink::Beside(file))
}

fn complete(mut file: NamedTempFile, path: &Path, text: &str) -> io::Result<()> {
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_appears_whole_and_replaces_an_older_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        let first = Output::open(&path).unwrap();
        assert!(!first.replaces() && !path.exists());
        first.write("one").unwrap();
        let second = Output::open(&path).unwrap();
        assert!(second.replaces());
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
        second.write("two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(names(folder.path()), ["a.json"]);
    }

    #[test]
    fn what_is_not_written_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        drop(Output::open(&folder.path().join("a")).unwrap());
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn a_symbolic_link_is_replaced_and_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (link, victim) = (folder.path().join("link"), folder.path().join("victim"));
        fs::write(&victim, "precious").unwrap();
        symlink(&victim, &link).unwrap();
        Output::open(&link).unwrap().write("result").unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        assert_eq!(fs::read_to_string(&link).unwrap(), "result");
    }

    #[test]
    fn what_cannot_be_written_is_known_at_once() {
        for path in ["/nowhere/at/all.json", "/proc/nothing"] {
            let error = Output::open(Path::new(path)).unwrap_err().to_string();
            assert!(error.starts_with(path), "{error}");
        }
        let folder = tempfile::tempdir().unwrap();
        let error = Output::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("is a directory"), "{error}");
        assert!(make_folder(Path::new("/proc/nothing")).is_err());
    }

    #[test]
    fn a_full_device_is_an_error_and_stays_a_device() {
        let full = Output::open(Path::new("/dev/full")).unwrap();
        let error = full.write("result").unwrap_err().to_string();
        assert!(error.contains("/dev/full was not written"), "{error}");
        assert!(is_special(Path::new("/dev/full")));
    }
}
