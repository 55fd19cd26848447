use super::*;
use crate::seeds::repeated;
use crate::world::workload::Machines;

fn run_machines(seed: u64, options: Options) -> Result<Report, Box<Failure>> {
    run_with(seed, options, Machines::default())
}

#[test]
fn calls_and_registrations_of_the_real_machines_end_well_for_hundreds_of_seeds() {
    if let Some(seed) = repeated() {
        let result = run_machines(seed, Options { trace: true, ..Options::default() });
        let trace = result.as_ref().map_or_else(|failure| &failure.trace, |report| &report.trace);
        trace.iter().for_each(|line| println!("{line}"));
        assert!(result.is_ok(), "{}", result.unwrap_err());
        return;
    }
    let (failed, held) = run_seeds(SEEDS, Options::default(), run_machines);
    for failure in &failed {
        println!("{failure}");
    }
    assert!(failed.is_empty(), "{} of {SEEDS} seeds failed", failed.len());
    let sum = |of: fn(&Report) -> usize| held.iter().map(of).sum::<usize>();
    println!(
        "{} seeds: {} entries, {} CDRs, {} crashes",
        held.len(),
        sum(|r| r.entries),
        sum(|r| r.cdrs),
        sum(|r| r.crashes as usize),
    );
    assert!(sum(|r| r.cdrs) > 2_000, "too few calls to prove anything");
}

#[test]
fn a_seed_of_the_machines_repeats_exactly() {
    for seed in 1..=3 {
        assert_eq!(run_machines(seed, Options::default()), run_machines(seed, Options::default()));
    }
}
