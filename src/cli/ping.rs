//! `uring-echo ping`.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;

use super::report;
use crate::ping;
use crate::values::{self, Zero};

#[derive(Debug, Parser)]
pub(super) struct PingArgs {
    /// The server's address.
    addr: String,
    /// Give up after this long.
    #[arg(long, value_name = "D", default_value = "2s")]
    #[arg(value_parser = values::duration(Zero::Refused))]
    timeout: Duration,
}

pub(super) fn run(args: &PingArgs) -> Result<()> {
    let addr = values::socket_addrs(&args.addr)?[0];
    let answer = ping::ping(addr, args.timeout).with_context(|| format!("pinging {addr}"))?;
    let text = format!("{addr} echoed {} bytes in {:?}\n", answer.bytes, answer.round_trip);
    report::print(&text)
}
