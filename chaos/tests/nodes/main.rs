//! The real cluster under simulation: three nodes of `tandem_cluster` with all that is theirs (openraft, the log, the
//! archive, RPC over TLS, leases, elections), on simulated machines, in one thread and by simulated time.
//!
//! What is simulated: time, the machines' clocks, the network, power. A seed draws what goes wrong and what clients ask. It
//! does not draw everything: openraft's election timeouts, keys, and the order in which tasks that are ready at one instant
//! run are not its own, so a seed repeats what goes wrong, and not always what comes of it. Start reading at [`run::run`].

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "small numbers")]
#![allow(clippy::print_stdout, reason = "it tells its figures")]
#![allow(clippy::disallowed_methods, reason = "the seed to repeat comes from the environment")]

mod checks;
mod clients;
mod faults;
mod machine;
mod record;
mod run;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use run::{Failure, Mutant, Options, Report, run};
use world::World;

/// Seeds of an ordinary test run; `NODES_SEEDS` says otherwise.
const SEEDS: u64 = 80;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Runs seeds on all cores: what failed, and how the others went. A failure is told at once.
fn run_seeds(seeds: std::ops::RangeInclusive<u64>) -> (Vec<Failure>, Vec<Report>) {
    let next = AtomicU64::new(*seeds.start());
    let work = || {
        let mut ended = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > *seeds.end() {
                return ended;
            }
            let result = run(seed, Options::default());
            if let Err(failure) = &result {
                println!("{failure}");
            }
            ended.push(result);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let ended: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let (mut failed, mut held) = (Vec::new(), Vec::new());
    for result in ended {
        match result {
            Ok(report) => held.push(report),
            Err(failure) => failed.push(failure),
        }
    }
    (failed, held)
}

#[test]
fn everything_holds_on_real_nodes_whatever_goes_wrong() {
    let seeds = match number("SEED") {
        Some(seed) => seed..=seed,
        None => 1..=number("NODES_SEEDS").unwrap_or(SEEDS),
    };
    let begun = Instant::now();
    let (failed, held) = run_seeds(seeds);
    let mut faults = faults::Count::default();
    held.iter().for_each(|report| faults.add(report.faults));
    let sum = |of: fn(&Report) -> usize| held.iter().map(of).sum::<usize>();
    println!(
        "{} seeds in {:?}: {} operations, {} of them open, {} calls, {} entries, recovered in {} ms at most, {faults:?}",
        held.len(),
        begun.elapsed(),
        sum(|report| report.operations),
        sum(|report| report.open),
        sum(|report| report.calls),
        sum(|report| report.applied as usize),
        held.iter().map(|report| report.recovered_ms).max().unwrap_or(0),
    );
    assert!(failed.is_empty(), "{} seeds failed", failed.len());
}

#[test]
fn three_nodes_form_a_cluster() {
    World::formed(1, 3).unwrap();
}

/// A mutant must be caught by the ordinary seeds, by one of these checks.
fn caught(mutant: Mutant, by: &[&str]) {
    for seed in 1..=SEEDS {
        if let Err(failure) = run(seed, Options { mutant, ..Options::default() }) {
            println!("{mutant:?} is caught by seed {seed}: {}: {:.300}", failure.check, failure.what);
            assert!(by.contains(&failure.check), "{failure}");
            return;
        }
    }
    panic!("{mutant:?} survives {SEEDS} seeds")
}

#[test]
fn a_log_that_is_acknowledged_before_its_sync_is_caught() {
    caught(Mutant::AcknowledgedBeforeSync, &["linear", "once", "recovery", "replicas"]);
}

#[test]
fn a_read_without_a_quorum_is_caught() {
    caught(Mutant::ReadWithoutQuorum, &["linear"]);
}

#[test]
fn a_lease_that_is_counted_for_too_long_is_caught() {
    caught(Mutant::LeaseCountedTooLong, &["leases"]);
}
