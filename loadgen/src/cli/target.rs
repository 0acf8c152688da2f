//! Which server is meant, for every command that connects to one.

use std::time::Duration;

use clap::Args;

use super::values::parse_duration;

/// Flags about the server's address, as typed.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct TargetArgs {
    /// Only IPv4 addresses of the server's name
    #[arg(short = '4', long, conflicts_with = "ipv6", help_heading = "Server")]
    pub ipv4: bool,

    /// Only IPv6 addresses of the server's name
    #[arg(short = '6', long, help_heading = "Server")]
    pub ipv6: bool,

    /// Wait up to this long until somebody listens at the address
    #[arg(long, value_name = "D", value_parser = parse_duration, requires = "addr")]
    #[arg(help_heading = "Server")]
    pub wait_for_server: Option<Duration>,
}
