//! The `uring-echo` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    uring_echo::cli::main(std::env::args_os())
}
