//! The table of cases.

use std::time::Duration;

use super::{Outcome, Target, crowd, cycles, resets, stop, streams, trickle};

/// One thing that breaks echo servers.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// What it is called on the command line and in results.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// How long it may take before it has failed.
    pub limit: Duration,
    /// Does it: `Ok` with what happened, or why it did not pass.
    pub run: fn(&Target) -> Outcome,
}

/// All of them, in the order in which they are run.
#[must_use]
pub const fn all() -> &'static [Case] {
    CASES
}

const SHORT: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(120);

const fn case(
    name: &'static str,
    about: &'static str,
    limit: Duration,
    run: fn(&Target) -> Outcome,
) -> Case {
    Case { name, about, limit, run }
}

const CASES: &[Case] = &[
    case("half-close-0", "end of stream after nothing", SHORT, |t| streams::half_close(t, 0)),
    case("half-close-1", "end of stream after 1 byte", SHORT, |t| streams::half_close(t, 1)),
    case("half-close-64k", "end of stream right behind 64 KiB", SHORT, |t| {
        streams::half_close(t, 64 << 10)
    }),
    case("half-close-16m", "end of stream right behind 16 MiB", SHORT, |t| {
        streams::half_close(t, 16 << 20)
    }),
    case("slow-reader", "16 MiB to a reader that first stops", SHORT, streams::slow_reader),
    case("one-byte-at-a-time", "every byte a segment", SHORT, streams::one_byte_at_a_time),
    case("pipelined", "1,000 small messages without waiting", SHORT, streams::pipelined),
    case("slow-beside-normal", "readers that stop, beside others", LONG, crowd::slow_beside_normal),
    case("trickle-readers", "2,000 that read 64 KiB per 1.5 s", LONG, trickle::trickle_readers),
    case("reset-after-connect", "RST before anything is sent", SHORT, resets::after_connect),
    case("reset-after-send", "RST behind a message", SHORT, resets::after_send),
    case("reset-mid-stream", "RST while both directions are full", SHORT, resets::mid_stream),
    case("reset-half-closed", "RST after end of stream, echo owed", SHORT, resets::half_closed),
    case("reset-after-echo", "RST with nothing owed", SHORT, resets::after_echo),
    case("vanish", "connect and close at once", SHORT, resets::vanish),
    case("burst", "20,000 connects at once", LONG, crowd::burst),
    case("cycles", "10,000 times connect, echo, close", LONG, cycles::cycles),
    case("stop-continue", "the server is held and let go", SHORT, stop::stop_continue),
];
