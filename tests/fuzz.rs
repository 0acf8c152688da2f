//! The fuzz targets without a fuzzer: on the corpus (fuzz/corpus/) and on random bytes. See
//! fuzz/README.md.

use std::fs;
use std::io::Write;
use std::path::Path;

use self::sim::random::Random;

#[path = "../fuzz/src/flags.rs"]
pub mod flags;
#[path = "../fuzz/src/shard.rs"]
pub mod shard;
#[allow(dead_code, reason = "the seeded runs of tests/sim.rs use the rest")]
#[path = "sim/mod.rs"]
mod sim;
#[path = "../fuzz/src/stamp.rs"]
pub mod stamp;
#[path = "../fuzz/src/token.rs"]
pub mod token;

#[test]
fn tokens() {
    exercise("token", token::run, 5000, 64);
}

#[test]
fn stamps() {
    exercise("stamp", stamp::run, 5000, 128);
}

#[test]
fn shards() {
    exercise("shard", shard::run, 2000, 3000);
}

#[test]
fn flag_values() {
    exercise("flags", flags::run, 1000, 12);
}

/// Runs the target on its corpus and on `runs` inputs of up to `most` bytes.
fn exercise(target: &str, run: fn(&[u8]), runs: u64, most: u32) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut known = 0;
    for entry in fs::read_dir(&corpus).expect("a corpus") {
        let path = entry.expect("an entry").path();
        let print_input = PrintInputOnPanic(format!("{target}: {}", path.display()));
        run(&fs::read(&path).expect("a file"));
        drop(print_input);
        known += 1;
    }
    assert!(known > 0, "{} is empty", corpus.display());
    for seed in 0..runs {
        let print_input = PrintInputOnPanic(format!("{target}: random input {seed}"));
        run(&random_bytes(seed, most));
        drop(print_input);
    }
}

fn random_bytes(seed: u64, most: u32) -> Vec<u8> {
    let mut random = Random::new(seed);
    let len = random.below(most + 1);
    (0..len).map(|_| u8::try_from(random.below(256)).expect("a byte")).collect()
}

/// Prints which input it was, if it panics.
struct PrintInputOnPanic(String);

impl Drop for PrintInputOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            writeln!(std::io::stderr(), "fuzz: {}", self.0).expect("stderr is open");
        }
    }
}
