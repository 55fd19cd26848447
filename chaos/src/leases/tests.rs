use super::*;
use crate::seeds::{repeated, seeds};

/// Seeds of an ordinary test run.
const SEEDS: u64 = 300;

fn all_hold(options: Options) -> Report {
    let mut sum = Report::default();
    for seed in seeds(SEEDS) {
        let report = run(seed, options).unwrap_or_else(|failure| {
            panic!("seed {}: {}; repeat it: make sim SEED={}", failure.seed, failure.what, failure.seed)
        });
        sum.entries += report.entries;
        sum.renewals += report.renewals;
        sum.downs += report.downs;
        sum.expired += report.expired;
        sum.elections += report.elections;
        sum.lapses += report.lapses;
    }
    println!("{:?}: {sum:?}", options.faults);
    sum
}

#[test]
fn no_lease_overlaps_its_successor_whatever_goes_wrong() {
    let sum = all_hold(Options::default());
    let tame = sum.expired < 500 || sum.lapses < 500 || sum.renewals < 10_000;
    assert!(repeated().is_some() || !tame, "the faults are too tame to prove anything: {sum:?}");
}

#[test]
fn elections_and_a_slow_log_fence_no_healthy_node() {
    let sum = all_hold(Options { faults: Faults::Elections, ..Options::default() });
    assert_eq!((sum.expired, sum.lapses), (0, 0));
    assert!(repeated().is_some() || sum.elections > 1_000, "{sum:?}");
}

#[test]
fn a_node_with_a_full_disk_is_called_down_and_nobody_else() {
    let sum = all_hold(Options { faults: Faults::FullDisk, ..Options::default() });
    let runs = seeds(SEEDS).count();
    assert_eq!((sum.expired, sum.lapses), (runs, runs));
}

#[test]
fn a_seed_repeats_exactly() {
    for seed in 1..=5 {
        assert_eq!(run(seed, Options::default()), run(seed, Options::default()));
    }
}

/// A mutant must be caught by the ordinary seeds.
fn caught(mutant: Mutant) {
    for seed in 1..=SEEDS {
        if let Err(failure) = run(seed, Options { mutant, ..Options::default() }) {
            println!("{mutant:?} is caught by seed {seed}: {}", failure.what);
            assert!(failure.what.contains("believes in epoch"), "{}", failure.what);
            return;
        }
    }
    panic!("{mutant:?} survives {SEEDS} seeds")
}

#[test]
fn a_renewal_that_is_deduplicated_is_caught() {
    caught(Mutant::RenewalDeduplicated);
}

#[test]
fn a_lease_counted_from_the_reply_is_caught() {
    caught(Mutant::CountedFromTheReply);
}

#[test]
fn an_expiry_without_compare_and_set_is_caught() {
    caught(Mutant::ExpiryWithoutCompareAndSet);
}

#[test]
fn a_leader_that_acknowledges_before_it_synced_is_caught() {
    caught(Mutant::AcknowledgedBeforeSync);
}
