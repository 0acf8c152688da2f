//! Instructions of one operation each, counted by callgrind: the same number every time.
//!
//! `cargo bench -p micro --bench instructions`; see benches/README.md for what it needs.

#![allow(
    missing_docs,
    unused_qualifications,
    reason = "the harness makes modules and items of its own, without docs and with full names"
)]

use std::hint::black_box;

use gungraun::Callgrind;
use gungraun::prelude::*;
use loadgen::generate::aggregation::Aggregate;
use loadgen::generate::recorder::Recorder;
use loadgen::model::outcome::Phase;
use micro::{Crowded, Operation, Worker, codecs};
use uring_echo::ring::Token;
use uring_echo::stamp::{FRAME_LEN, Stamp, StampError};

// What is made for an operation is handed back: to drop it is no part of the operation.

#[library_benchmark]
#[bench::connection(Worker::warm(), Worker::connection)]
#[bench::echo(Worker::warm(), Worker::echo)]
#[bench::gather_16(Worker::warm(), Worker::gather)]
#[bench::look_at_the_clock(Worker::warm(), Worker::look_at_the_clock)]
fn shard(mut worker: Box<Worker>, operation: Operation) -> Box<Worker> {
    operation(&mut worker);
    worker
}

#[library_benchmark]
#[bench::park_and_wake(Crowded::warm())]
fn pool(mut crowded: Box<Crowded>) -> Box<Crowded> {
    crowded.pass_on();
    crowded
}

#[library_benchmark]
fn token() -> Option<Token> {
    codecs::token(black_box(7))
}

#[library_benchmark]
#[bench::encode(codecs::stamp())]
fn stamp(stamp: Stamp) -> [u8; FRAME_LEN] {
    black_box(stamp).encode()
}

#[library_benchmark]
#[bench::decode(codecs::frame())]
fn frame(frame: [u8; FRAME_LEN]) -> Result<Stamp, StampError> {
    Stamp::decode(black_box(&frame))
}

#[library_benchmark]
#[bench::one_sample(Box::new(codecs::recorder()))]
fn record(mut recorder: Box<Recorder>) -> Box<Recorder> {
    recorder.record(Phase::AcceptDelay, black_box(8_400));
    recorder
}

#[library_benchmark]
#[bench::one_second(Box::new(codecs::second()))]
fn hlog(totals: Box<Aggregate>) -> (Box<Aggregate>, String) {
    let log = codecs::write_hlog(&totals);
    (totals, log)
}

library_benchmark_group!(name = core, benchmarks = [shard, pool]);
library_benchmark_group!(name = bytes, benchmarks = [token, stamp, frame, record, hlog]);
gungraun::main!(
    // A model of caches would add numbers that say little of a machine with others.
    config = LibraryBenchmarkConfig::default().tool(Callgrind::with_args(["--cache-sim=no"])),
    library_benchmark_groups = [core, bytes]
);
