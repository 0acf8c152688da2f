//! The fuzz targets of loadgen without a fuzzer: on the corpus (fuzz/corpus/), on each of its texts
//! with one byte changed, and on random ones. See fuzz/README.md.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

use rand::{Rng, RngExt, SeedableRng};
use rand_pcg::Pcg64;

#[path = "../../fuzz/src/hlog.rs"]
pub mod hlog;
#[path = "../../fuzz/src/result.rs"]
pub mod result;
#[path = "../../fuzz/src/slo.rs"]
pub mod slo;

#[test]
fn objectives() {
    exercise("slo", slo::run, 20_000, 24);
}

#[test]
fn interval_logs() {
    exercise("hlog", hlog::run, 200, 64);
}

/// A result is large and hardly any byte of it can be changed at will, so that its numbers are.
#[test]
fn results() {
    const COPIES: u64 = 60;
    for text in corpus("result") {
        told("result", result::run, &text);
        for seed in 0..COPIES {
            told("result", result::run, &damaged(&text, seed));
        }
    }
}

/// A few numbers changed, bits flipped or parts cut out: mostly a file that can still be read.
fn damaged(text: &[u8], seed: u64) -> Vec<u8> {
    let mut random = Pcg64::seed_from_u64(seed);
    let mut copy = text.to_vec();
    for _ in 0..random.random_range(1..6) {
        let at = random.random_range(0..copy.len().max(1));
        match random.random_range(0..10) {
            0 => copy.truncate(at),
            1 => copy.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << (at % 8)),
            2 => drop(copy.drain(at.min(copy.len())..(at + 9).min(copy.len()))),
            _ => renumber(&mut copy, &mut random),
        }
    }
    copy
}

/// Another number in the place of one.
fn renumber(copy: &mut Vec<u8>, random: &mut impl Rng) {
    const NUMBERS: [&str; 8] =
        ["0", "1", "-1", "4294967295", "18446744073709551615", "1e300", "0.5", "null"];
    let begins: Vec<usize> = (1..copy.len())
        .filter(|at| copy[*at].is_ascii_digit() && matches!(copy[*at - 1], b':' | b','))
        .collect();
    if begins.is_empty() {
        return;
    }
    let begin = begins[random.random_range(0..begins.len())];
    let digits = copy[begin..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = NUMBERS[random.random_range(0..NUMBERS.len())];
    copy.splice(begin..begin + digits, number.bytes());
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
