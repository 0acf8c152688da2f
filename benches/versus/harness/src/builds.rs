//! The programs: built by cargo from this repository, by a script, or found on the machine.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::candidate::Program;

/// The folder of this workspace.
pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Where each program is, or why it is not there.
#[derive(Debug, Default)]
pub(crate) struct Programs {
    found: BTreeMap<String, PathBuf>,
    folder: PathBuf,
}

impl Programs {
    /// Builds the project's own binaries, the peers and the C peer; what does not build is missed
    /// when it is asked for.
    ///
    /// # Errors
    /// The project itself does not build, or there is no cargo.
    pub(crate) fn build(folder: PathBuf) -> Result<Self> {
        let mut programs = Self { found: BTreeMap::new(), folder };
        programs.cargo(&workspace().join("../../Cargo.toml"), &["--bins", "--all-features"])?;
        if !["uring-echo", "loadgen"].iter().all(|name| programs.found.contains_key(*name)) {
            bail!("uring-echo and loadgen did not build; cargo says why above");
        }
        let peers = ["--workspace", "--exclude", "versus", "--keep-going"];
        programs.cargo(&workspace().join("Cargo.toml"), &peers)?;
        programs.script("c-uring-echo");
        Ok(programs)
    }

    /// Takes all programs from `built`, which holds them by name.
    pub(crate) fn from_folder(built: &Path) -> Result<Self> {
        let entries =
            fs::read_dir(built).with_context(|| format!("reading {}", built.display()))?;
        let files = entries.flatten().filter(|entry| entry.path().is_file());
        let named =
            |entry: fs::DirEntry| (entry.file_name().to_string_lossy().into_owned(), entry.path());
        Ok(Self { found: files.map(named).collect(), folder: PathBuf::new() })
    }

    fn cargo(&mut self, manifest: &Path, args: &[&str]) -> Result<()> {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args([
                "build",
                "--release",
                "--locked",
                "--quiet",
                "--message-format=json-render-diagnostics",
            ])
            .arg("--manifest-path")
            .arg(manifest)
            .args(args)
            .stderr(Stdio::inherit())
            .output()
            .context("running cargo build")?;
        self.found.extend(executables(&String::from_utf8_lossy(&output.stdout)));
        Ok(())
    }

    /// Its compiler's complaints are of no use to whoever has no liburing.
    fn script(&mut self, folder: &str) {
        let out = self.folder.join(folder);
        let script = workspace().join(folder).join("build");
        let status = Command::new(script).arg(&out).stderr(Stdio::null()).status();
        if status.is_ok_and(|status| status.success()) {
            self.found.insert(folder.to_owned(), out);
        }
    }

    /// # Errors
    /// It did not build or is not installed.
    pub(crate) fn path(&self, program: Program) -> Result<PathBuf> {
        match program {
            Program::Harness => Ok(env::current_exe()?),
            Program::System(name) => {
                find(name, env::var_os("PATH").as_deref()).context("not installed")
            }
            Program::Built(name) => self.found.get(name).cloned().context("did not build"),
            Program::Script { folder } => {
                self.found.get(folder).cloned().context("did not build (C compiler, liburing)")
            }
        }
    }
}

#[derive(Deserialize)]
struct Message {
    target: Option<Target>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// The binaries that cargo's messages (a JSON object per line) tell of.
fn executables(messages: &str) -> BTreeMap<String, PathBuf> {
    let parsed = messages.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok());
    parsed.filter_map(|message| Some((message.target?.name, message.executable?))).collect()
}

/// `name` in one of the folders of `path`, or where administrators' programs are.
pub(crate) fn find(name: &str, path: Option<&OsStr>) -> Option<PathBuf> {
    let usual = ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from);
    let folders = path.into_iter().flat_map(env::split_paths).chain(usual);
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_are_read_from_cargo_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"x"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"mio-echo"},"executable":"/t/mio-echo"}
not json
{"reason":"build-finished","success":true}"#;
        let found = executables(messages);
        assert_eq!(found.len(), 1);
        assert_eq!(found["mio-echo"], PathBuf::from("/t/mio-echo"));
    }

    #[test]
    fn programs_are_found_by_name() {
        assert!(find("sh", Some(OsStr::new("/bin:/usr/bin"))).is_some());
        assert_eq!(find("no-such-program", None), None);
    }
}
