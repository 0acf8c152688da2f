//! Deterministic simulation of the echo core: a simulated kernel does everything that a real one
//! may do, rare things often, all drawn from one seed per run. See docs/simulation.md.
//!
//! `SIM_SEEDS=n` runs that many seeds; `SIM_SEED=x` runs one and prints all that happens, and
//! `SIM_STOP=y` with it stops that one at step y. `SIM_SCRIPT=file` does the same with a run that a
//! fuzzer wrote (fuzz/README.md).

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use self::sim::coverage::Coverage;
use self::sim::simulation::Simulation;

#[path = "sim/mod.rs"]
mod sim;

/// How many seeds a plain `cargo test` runs.
const SEEDS: u64 = 5_000;

/// How many seeds are stopped at each of their steps.
const STOPPED_SEEDS: u64 = 8;

#[test]
fn every_seed_comes_to_a_good_end() {
    if let Some(seed) = number("SIM_SEED") {
        return replay(Simulation::new(seed, true));
    }
    if let Some(path) = std::env::var_os("SIM_SCRIPT") {
        let script = std::fs::read(path).expect("SIM_SCRIPT names a file");
        return replay(Simulation::scripted(script, true));
    }
    let seeds = number("SIM_SEEDS").unwrap_or(SEEDS);
    let started = Instant::now();
    let coverage = run_all(seeds);
    let seconds = started.elapsed().as_secs_f64();
    let rate = seeds as f64 / seconds;
    print_line(&format!("{seeds} seeds in {seconds:.2} s: {rate:.0} seeds/s, with{coverage}"));
    if seeds >= SEEDS {
        coverage.assert_complete();
    }
}

#[test]
fn a_stop_at_any_step_leaves_nothing() {
    for seed in 0..STOPPED_SEEDS {
        for step in 0..Simulation::new(seed, false).steps() {
            let print_seed = PrintSeedOnPanic { seed, stop: Some(step) };
            Simulation::new(seed, false).stop_at(step).run();
            drop(print_seed);
        }
    }
}

fn replay(world: Simulation) {
    match number("SIM_STOP") {
        Some(step) => world.stop_at(u32::try_from(step).expect("a step")).run(),
        None => {
            let mut world = world;
            world.run();
        }
    }
}

/// Prints how to repeat a run, if it panics.
struct PrintSeedOnPanic {
    seed: u64,
    stop: Option<u32>,
}

impl Drop for PrintSeedOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            let stop = self.stop.map(|step| format!(" SIM_STOP={step}")).unwrap_or_default();
            let command = "cargo test --test sim good_end -- --nocapture";
            print_line(&format!("seed {0} failed: SIM_SEED={0}{stop} {command}", self.seed));
        }
    }
}

/// Runs the seeds below `seeds`, on every core; returns how often what occurred.
fn run_all(seeds: u64) -> Coverage {
    let (next, coverage) = (AtomicU64::new(0), Coverage::default());
    let failed = AtomicBool::new(false);
    let work = || {
        while !failed.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return;
            }
            let print_seed = (PrintSeedOnPanic { seed, stop: None }, StopOthers(&failed));
            let mut world = Simulation::new(seed, false);
            world.run();
            coverage.add(world.coverage());
            drop(print_seed);
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    coverage
}

/// Stops the other threads after a panic.
struct StopOthers<'a>(&'a AtomicBool);

impl Drop for StopOthers<'_> {
    fn drop(&mut self) {
        self.0.store(thread::panicking(), Ordering::Relaxed);
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// To the terminal, past the capture of the test harness.
fn print_line(line: &str) {
    writeln!(std::io::stderr(), "sim: {line}").expect("stderr is open");
}
