//! One run: a cluster forms, its clients work while things go wrong, then there is peace, and everything is looked at.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::checks::{Checked, leases, linear, once, recovery, replicas};
use crate::clients::{Clients, genesis, put, read};
use crate::faults::{Count, Faults};
use crate::record::Record;
use crate::world::World;

/// A rule broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    None,
    /// Disks say that they synced and have not: log and vote are acknowledged before they are durable.
    AcknowledgedBeforeSync,
    /// A consistent read takes what its node has, without asking who leads.
    ReadWithoutQuorum,
    /// A node's clock is much slower than the others': it counts its lease for too long.
    LeaseCountedTooLong,
}

/// What a run is told besides its seed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    /// How long things go wrong, by simulated time.
    pub(crate) length: Duration,
    pub(crate) mutant: Mutant,
}

impl Default for Options {
    fn default() -> Options {
        Options { length: Duration::from_secs(12), mutant: Mutant::None }
    }
}

/// How a run ended well.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Report {
    pub(crate) operations: usize,
    pub(crate) open: usize,
    pub(crate) calls: usize,
    pub(crate) applied: u64,
    pub(crate) faults: Count,
    /// How long all nodes needed after the last mending, in simulated milliseconds.
    pub(crate) recovered_ms: u64,
}

/// How a run ended badly.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) seed: u64,
    /// The check, by its file.
    pub(crate) check: &'static str,
    pub(crate) what: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Failure { seed, check, what } = self;
        write!(f, "seed {seed}: {check} does not hold: {what}\n  run it alone: make sim SEED={seed}")
    }
}

pub(crate) fn run(seed: u64, options: Options) -> Result<Report, Failure> {
    let of = |check| move |what| Failure { seed, check, what };
    let mut world = World::formed(seed, 3).map_err(of("recovery"))?;
    let record = Record::new(&world.network);
    let quiet = Arc::new(AtomicBool::new(false));
    let reads_own_view = options.mutant == Mutant::ReadWithoutQuorum;
    let node = world.node(0).expect("it runs");
    let made = world.on(0, async move { put(&node, genesis()).await });
    assert!(matches!(made, Some(Ok(_))), "{made:?}");
    world.begin_clients(&Clients { record: record.clone(), quiet: Arc::clone(&quiet), reads_own_view });

    let faults = with_faults(seed, options, &mut world)?;
    let mended_us = world.network.now_us();
    recovery::recovers(&mut world, leases::no_two_brains).map_err(of("recovery"))?;
    let recovered_ms = (world.network.now_us() - mended_us) / 1_000;
    quiet.store(true, Ordering::Relaxed);
    // The clients' last proposals come to an end.
    world.pass(Duration::from_secs(2));

    world.no_node_failed().map_err(of("recovery"))?;
    let node = world.node(0).expect("it runs");
    let view = world.on(0, async move { read(&node).await });
    let view = view.ok_or_else(|| of("recovery")("no read after all was mended".into()))?;
    record.read_all(&view);
    let (operations, open) = linear::histories(&record).map_err(of("linear"))?;
    replicas::same_state(&mut world).map_err(of("replicas"))?;
    let archived = replicas::same_archive(&mut world).map_err(of("replicas"))?;
    let state = world.node(0).expect("it runs").view();
    once::applied_once(&record, &archived, &state).map_err(of("once"))?;
    let (calls, applied) = (record.kept().made.len(), state.position);
    Ok(Report { operations, open, calls, applied, faults, recovered_ms })
}

fn with_faults(seed: u64, options: Options, world: &mut World) -> Result<Count, Failure> {
    let mut faults = Faults::begin(seed, world);
    break_rule(options.mutant, world);
    for at_ms in 0..options.length.as_millis() as u64 {
        faults.until(at_ms, world);
        world.tick();
        let held: Checked = leases::no_two_brains(world);
        held.map_err(|what| Failure { seed, check: "leases", what })?;
        world.no_node_failed().map_err(|what| Failure { seed, check: "recovery", what })?;
    }
    faults.end(world);
    Ok(faults.count)
}

fn break_rule(mutant: Mutant, world: &World) {
    for machine in &world.machines {
        match mutant {
            Mutant::None | Mutant::ReadWithoutQuorum => {}
            Mutant::AcknowledgedBeforeSync => machine.host.faults().ignore_syncs(true),
            Mutant::LeaseCountedTooLong => {
                let slow = if machine.id.0 == 1 { -500_000 } else { 0 };
                machine.host.set_clocks(|clocks| clocks.drift_ppm = slow);
            }
        }
    }
}
