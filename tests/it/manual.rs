//! Completions and manual pages.

use std::process::Command;

const SERVER: &str = env!("CARGO_BIN_EXE_uring-echo");

#[test]
fn completions_and_manual_pages_know_the_subcommands_and_flags() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = Command::new(SERVER).args(["completions", shell]).output().expect("it starts");
        let script = String::from_utf8(output.stdout).expect("text");
        assert!(output.status.success(), "{shell}: {script}");
        for word in ["serve", "doctor", "ping", "busy-poll", "drain-timeout"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    let pages = folder.path().join("man1");
    let status = Command::new(SERVER).arg("man").arg(&pages).status().expect("it starts");
    assert!(status.success());
    let page = std::fs::read_to_string(pages.join("uring-echo-serve.1")).expect("the page");
    assert!(page.contains("URING_ECHO_BACKLOG"), "{page}");
    for name in ["uring-echo.1", "uring-echo-ping.1", "uring-echo-doctor.1"] {
        assert!(pages.join(name).is_file(), "{name}");
    }
    let refused = Command::new(SERVER).args(["man", "/proc/nothing"]).output().expect("it starts");
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("/proc/nothing"), "{stderr}");
}
