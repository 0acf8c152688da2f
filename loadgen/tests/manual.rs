//! Completions and manual pages of both programs, and what `--help` says.

use std::path::Path;
use std::process::Command;

const LOADGEN: &str = env!("CARGO_BIN_EXE_loadgen");
const SHELLS: [&str; 5] = ["bash", "elvish", "fish", "powershell", "zsh"];

fn output(args: &[&str]) -> String {
    let output = Command::new(LOADGEN).args(args).output().expect("loadgen starts");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// The subcommands that `--help` lists.
fn subcommands() -> Vec<String> {
    let help = output(&["--help"]);
    let list = help.split("Commands:").nth(1).expect("a list of commands");
    let names = list.lines().skip(1).take_while(|line| !line.trim().is_empty());
    // The rest of a long description is indented further.
    let names = names.filter(|line| !line.starts_with("   "));
    let first_words = names.filter_map(|line| line.split_whitespace().next());
    let names: Vec<String> = first_words.filter(|name| *name != "help").map(Into::into).collect();
    assert!(names.len() >= 8, "{names:?}");
    names
}

#[test]
fn completions_know_every_subcommand_in_every_shell() {
    for shell in SHELLS {
        let script = output(&["completions", shell]);
        for name in subcommands() {
            assert!(script.contains(&name), "{shell}: {name}");
        }
        assert!(script.contains("max-in-flight"), "{shell}");
    }
}

#[test]
fn bash_accepts_the_completions() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("loadgen");
    std::fs::write(&script, output(&["completions", "bash"])).unwrap();
    let completed = Command::new("bash")
        .arg("-c")
        .arg(
            "source \"$1\"; COMP_WORDS=(loadgen r); COMP_CWORD=1; _loadgen loadgen r loadgen; \
              echo \"${COMPREPLY[@]}\"",
        )
        .args(["bash".as_ref(), script.as_os_str()])
        .output();
    let Ok(completed) = completed else {
        eprintln!("SKIPPED: no bash");
        return;
    };
    let words = String::from_utf8_lossy(&completed.stdout).into_owned();
    assert!(words.split_whitespace().any(|word| word == "run"), "{words} {completed:?}");
}

#[test]
fn there_is_a_manual_page_for_each_subcommand() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man/man1");
    output(&["man", &pages.display().to_string()]);
    let read = |name: &str| std::fs::read_to_string(pages.join(name)).expect(name);
    let manual = read("loadgen.1");
    assert!(manual.contains(".TH loadgen 1") && manual.contains("INVALID"), "{manual}");
    for name in subcommands() {
        assert!(read(&format!("loadgen-{name}.1")).contains(".SH NAME"), "{name}");
    }
    let refused = Command::new(LOADGEN).args(["man", "/proc/nothing"]).output().unwrap();
    let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("/proc/nothing"), "{stderr}");
}

#[test]
fn help_reads_like_a_manual_and_fits_100_columns() {
    let help = output(&["--help"]);
    for part in ["Questions and commands:", "Exit status:", "INVALID", "--observe diag", "130"] {
        assert!(help.contains(part), "{part}: {help}");
    }
    for name in subcommands() {
        let help = output(&[&name, "--help"]);
        let widest = help.lines().max_by_key(|line| line.chars().count()).unwrap_or_default();
        assert!(widest.chars().count() <= 100, "{name}: {widest}");
        let (_, examples) = help.split_once("Examples:").unwrap_or_else(|| panic!("{help}"));
        assert!(examples.contains(&format!("loadgen {name}")), "{name}: {examples}");
        assert!(examples.contains("Exit status:"), "{name}: {examples}");
    }
    assert!(Path::new(LOADGEN).is_file());
}
