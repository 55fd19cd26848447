//! A simulated cluster over a model log: everything that happens is drawn from one seed, so a run repeats exactly.
//!
//! What is real: `tandem_state` (its `apply`, snapshots and hashes). What is modelled: the log (a committed entry is
//! never lost, what was not committed dies with its leader), the network (delay, loss, duplicates, reordering), the
//! nodes' processes (crash, restart from a snapshot and the log under a higher incarnation), their clocks (jumps)
//! and pace (slow replicas). A [`Workload`] says what the nodes propose. Start reading at [`run`], then
//! [`cluster`]; what must hold is in [`checks`].

pub mod checks;
pub mod client;
pub mod cluster;
pub mod history;
pub mod mutant;
pub mod random;
pub mod replica;
pub mod trace;
pub mod workload;

pub use cluster::World;
pub use history::History;
pub use mutant::Mutant;
pub use random::Random;
pub use workload::{View, Workload};

use workload::Mixed;

/// How a run ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Over every line of the trace and the last state: equal for equal runs.
    pub trace_hash: u64,
    /// What happened, if it was asked for.
    pub trace: Vec<String>,
    /// Log entries committed.
    pub entries: usize,
    /// Proposals acknowledged.
    pub acknowledged: usize,
    /// Proposals that were in the log more than once.
    pub repeated: usize,
    /// CDRs written.
    pub cdrs: usize,
    /// Crashes of nodes.
    pub crashes: u32,
    /// Changes of leader.
    pub elections: u32,
}

/// How a run ended badly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Repeats it.
    pub seed: u64,
    /// What must hold and did not, by the name of its file in `checks`.
    pub check: &'static str,
    /// Where.
    pub what: String,
    /// What happened, if it was asked for.
    pub trace: Vec<String>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "seed {}: {} does not hold: {}\n  repeat it: make sim SEED={}",
            self.seed, self.check, self.what, self.seed
        )
    }
}

/// What a run may be told besides its seed.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How long nodes work and faults come, in simulated milliseconds; the cluster is then given peace to finish.
    pub length_ms: u64,
    /// A rule broken on purpose.
    pub mutant: Mutant,
    /// Keep the trace.
    pub trace: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { length_ms: 3_000, mutant: Mutant::None, trace: false }
    }
}

/// Runs one seed with the mixed workload.
pub fn run(seed: u64, options: Options) -> Result<Report, Box<Failure>> {
    run_with(seed, options, Mixed::default())
}

/// Runs one seed with a workload.
pub fn run_with<W: Workload>(seed: u64, options: Options, workload: W) -> Result<Report, Box<Failure>> {
    World::new(seed, options, workload).run()
}

#[cfg(test)]
mod tests;
