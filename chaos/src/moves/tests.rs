use super::*;
use crate::seeds::{repeated, seeds};

/// Seeds of an ordinary test run.
const SEEDS: u64 = 200;

#[test]
fn one_node_speaks_for_a_call_and_it_goes_on_until_its_phones_hang_up() {
    let mut sum = Report::default();
    for seed in seeds(SEEDS) {
        let report = run(seed, Options::default()).unwrap_or_else(|failure| {
            panic!("seed {}: {}; repeat it: make sim SEED={}", failure.seed, failure.what, failure.seed)
        });
        sum.calls += report.calls;
        sum.answered += report.answered;
        sum.moved += report.moved;
        sum.handed_over += report.handed_over;
        sum.taken_over += report.taken_over;
        sum.waited += report.waited;
        sum.acts += report.acts;
        sum.fenced += report.fenced;
        sum.unknown += report.unknown;
    }
    println!("{sum:?}");
    let tame = sum.answered < 1_000 || sum.handed_over < 300 || sum.taken_over < 1_000 || sum.fenced < 1_000;
    let tame = tame || sum.waited < 10;
    assert!(repeated().is_some() || !tame, "the faults are too tame to prove anything: {sum:?}");
}

#[test]
fn a_seed_repeats_exactly() {
    for seed in 1..=5 {
        assert_eq!(run(seed, Options::default()), run(seed, Options::default()));
    }
}

/// A mutant must be caught by the ordinary seeds, by what it breaks.
fn caught(mutant: Mutant, by: &[&str]) {
    for seed in 1..=SEEDS {
        if let Err(failure) = run(seed, Options { mutant, ..Options::default() }) {
            println!("{mutant:?} is caught by seed {seed}: {}", failure.what);
            assert!(by.iter().any(|what| failure.what.contains(what)), "{}", failure.what);
            return;
        }
    }
    panic!("{mutant:?} survives {SEEDS} seeds")
}

/// What a phone hears from a node whose turn is over.
const ACTS: &[&str] = &["acts for call", "no order explains", "comes after"];

#[test]
fn authority_that_is_not_asked_is_caught() {
    caught(Mutant::AuthorityNotAsked, ACTS);
}

#[test]
fn authority_that_is_asked_when_a_message_is_made_is_caught() {
    caught(Mutant::AuthorityAskedTooEarly, ACTS);
}

#[test]
fn authority_that_is_asked_for_the_node_alone_is_caught() {
    caught(Mutant::LeaseAloneAsked, ACTS);
}

#[test]
fn a_move_without_a_freeze_is_caught() {
    caught(Mutant::FreezeLeftOut, ACTS);
}

#[test]
fn numbers_that_a_successor_uses_again_are_caught() {
    caught(Mutant::NumbersReused, &["comes twice"]);
}

#[test]
fn an_end_under_any_epoch_is_caught() {
    caught(Mutant::EndOfAnyEpoch, &["while both talk"]);
}
