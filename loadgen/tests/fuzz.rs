//! The fuzz targets of loadgen without a fuzzer: on the corpus (fuzz/corpus/), on each of its texts
//! with one byte changed, and on random ones. See fuzz/README.md.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

#[path = "../../fuzz/src/slo.rs"]
pub mod slo;

#[test]
fn objectives() {
    exercise("slo", slo::run, 20_000, 24);
}

/// Runs the target on its corpus, on changed texts of it and on `runs` inputs by chance.
fn exercise(target: &str, run: fn(&[u8]), runs: usize, most: usize) {
    let corpus = corpus(target);
    assert!(!corpus.is_empty(), "the corpus of {target} is empty");
    let mut random = Pcg64::seed_from_u64(1);
    for text in &corpus {
        told(target, run, text);
    }
    for at in 0..runs {
        let mut changed = corpus[at % corpus.len()].clone();
        let place = random.random_range(0..=changed.len());
        match random.random_range(0..3) {
            0 => changed.insert(place, random.random()),
            1 => changed.truncate(place),
            _ => changed.iter_mut().skip(place).take(1).for_each(|byte| *byte = random.random()),
        }
        told(target, run, &changed);
        let len = random.random_range(0..=most);
        let noise: Vec<u8> = std::iter::repeat_with(|| random.random()).take(len).collect();
        told(target, run, &noise);
    }
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let entries = fs::read_dir(folder).expect("a corpus");
    entries.map(|entry| fs::read(entry.expect("an entry").path()).expect("a file")).collect()
}

/// A panic names its input.
fn told(target: &str, run: fn(&[u8]), input: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(input))) {
        eprintln!("fuzz: {target}: {:?}", String::from_utf8_lossy(input));
        resume_unwind(panic);
    }
}
