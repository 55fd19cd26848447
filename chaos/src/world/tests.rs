use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::*;
use crate::seeds::repeated;

mod machines;

/// Seeds of an ordinary test run.
const SEEDS: u64 = 200;

type RunOne = fn(u64, Options) -> Result<Report, Box<Failure>>;

/// Runs seeds on all cores; what failed, in order of seeds, and the sum of what happened.
fn run_seeds(seeds: u64, options: Options, run: RunOne) -> (Vec<Failure>, Vec<Report>) {
    let next = AtomicU64::new(1);
    let work = || {
        let (mut failed, mut held) = (Vec::new(), Vec::new());
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > seeds {
                return (failed, held);
            }
            match run(seed, options) {
                Ok(report) => held.push(report),
                Err(failure) => failed.push(*failure),
            }
        }
    };
    let (mut failed, mut held) = (Vec::new(), Vec::new());
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for thread in running {
            let (more_failed, more_held) = thread.join().unwrap();
            failed.extend(more_failed);
            held.extend(more_held);
        }
    });
    failed.sort_by_key(|failure| failure.seed);
    (failed, held)
}

#[test]
fn everything_holds_for_hundreds_of_seeds() {
    if let Some(seed) = repeated() {
        let result = run(seed, Options { trace: true, ..Options::default() });
        let trace = result.as_ref().map_or_else(|failure| &failure.trace, |report| &report.trace);
        trace.iter().for_each(|line| println!("{line}"));
        assert!(result.is_ok(), "{}", result.unwrap_err());
        return;
    }
    let (failed, held) = run_seeds(SEEDS, Options::default(), run);
    for failure in &failed {
        println!("{failure}");
    }
    assert!(failed.is_empty(), "{} of {SEEDS} seeds failed", failed.len());
    let sum = |of: fn(&Report) -> usize| held.iter().map(of).sum::<usize>();
    println!(
        "{} seeds: {} entries, {} proposals acknowledged, {} in the log again, {} CDRs, {} crashes, {} elections",
        held.len(),
        sum(|r| r.entries),
        sum(|r| r.acknowledged),
        sum(|r| r.repeated),
        sum(|r| r.cdrs),
        sum(|r| r.crashes as usize),
        sum(|r| r.elections as usize),
    );
    assert!(
        sum(|r| r.repeated) > 1000 && sum(|r| r.cdrs) > 1000,
        "the faults are too tame to prove anything"
    );
}

#[test]
fn a_seed_repeats_exactly() {
    let options = Options { trace: true, ..Options::default() };
    for seed in 1..=5 {
        let (first, again) = (run(seed, options).unwrap(), run(seed, options).unwrap());
        assert_eq!(first, again);
        assert!(!first.trace.is_empty());
        let quiet = run(seed, Options::default()).unwrap();
        assert_eq!(quiet.trace_hash, first.trace_hash);
    }
    assert_ne!(run(1, options).unwrap().trace_hash, run(2, options).unwrap().trace_hash);
}

/// A mutant must be caught by the ordinary seeds; answers by which check it was, the first time.
fn caught(mutant: Mutant) -> &'static str {
    for seed in 1..=SEEDS {
        if let Err(failure) = run(seed, Options { mutant, ..Options::default() }) {
            println!("{mutant:?} is caught by seed {seed}: {}: {}", failure.check, failure.what);
            return failure.check;
        }
    }
    panic!("{mutant:?} survives {SEEDS} seeds")
}

#[test]
fn a_retry_that_is_applied_again_is_caught() {
    assert_eq!(caught(Mutant::RetryNotDeduplicated), "an acknowledged proposal is applied exactly once");
}

#[test]
fn a_window_that_is_trimmed_too_early_is_caught() {
    assert_eq!(caught(Mutant::WindowTrimmedTooEarly), "an outcome still waited for is kept");
}

#[test]
fn time_that_goes_back_is_caught() {
    assert_eq!(caught(Mutant::TimeGoesBack), "time never goes back");
}

#[test]
fn a_replica_with_its_own_time_is_caught() {
    assert_eq!(caught(Mutant::OneReplicaHasItsOwnTime), "replicas are equal");
}

#[test]
fn a_snapshot_without_its_windows_is_caught() {
    assert_eq!(caught(Mutant::SnapshotWithoutWindows), "replicas are equal");
}

#[test]
fn an_entry_that_is_skipped_after_a_restart_is_caught() {
    caught(Mutant::EntrySkippedAfterRestart);
}
