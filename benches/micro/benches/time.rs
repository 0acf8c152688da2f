//! Time of one operation each: `cargo bench -p micro --bench time`.

#![allow(missing_docs, reason = "the harness makes items of its own and gives them no docs")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use loadgen::model::outcome::Phase;
use micro::{Crowded, Operation, Worker, codecs};
use uring_echo::stamp::Stamp;

fn shard(criterion: &mut Criterion) {
    let operations: [(&str, Operation); 4] = [
        ("connection", Worker::connection),
        ("echo", Worker::echo),
        ("gather_16", Worker::gather),
        ("look_at_the_clock", Worker::look_at_the_clock),
    ];
    let mut group = criterion.benchmark_group("shard");
    for (name, operation) in operations {
        let mut worker = Worker::warm();
        group.bench_function(name, |bencher| bencher.iter(|| operation(&mut worker)));
    }
    let mut crowded = Crowded::warm();
    group.bench_function("park_and_wake", |bencher| bencher.iter(|| crowded.pass_on()));
}

fn bytes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("bytes");
    group.bench_function("token", |bencher| bencher.iter(|| codecs::token(black_box(7))));
    let (stamp, frame) = (codecs::stamp(), codecs::frame());
    group.bench_function("stamp_encode", |bencher| bencher.iter(|| black_box(&stamp).encode()));
    group.bench_function("stamp_decode", |bencher| {
        bencher.iter(|| Stamp::decode(black_box(&frame)));
    });
    let mut recorder = codecs::recorder();
    group.bench_function("record", |bencher| {
        bencher.iter(|| recorder.record(Phase::AcceptDelay, black_box(8_400)));
    });
    let totals = codecs::second();
    group.bench_function("hlog_second", |bencher| bencher.iter(|| codecs::write_hlog(&totals)));
}

criterion_group!(all, shard, bytes);
criterion_main!(all);
