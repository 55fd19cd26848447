//! Leases under simulation: the real machines and the real `apply` over a model log, with clocks of different speed.
//!
//! What is modelled: nodes that crash, restart and are paused; clocks that drift within the bound; messages that are late,
//! lost, doubled and out of order; leaders that change and take along what they had not committed; replicas that apply
//! late. One thing must hold at every real instant: while a node may believe that its lease holds, no replica has applied
//! its end. Start reading at [`run`], then [`world`].

mod mutant;
mod node;
mod world;

pub use mutant::Mutant;
use world::Idle;
pub(crate) use world::{Happening, Work, World};

/// What a run is told besides its seed.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How long things go wrong, in real milliseconds; then there is peace.
    pub length_ms: u64,
    /// A rule broken on purpose.
    pub mutant: Mutant,
    /// What goes wrong.
    pub faults: Faults,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Faults {
    /// Everything that may.
    All,
    /// Leaders die or are replaced and the log is slow, as in an avalanche; no node is at fault.
    Elections,
    /// One node's disk is full from some time on, and nothing else.
    FullDisk,
}

impl Default for Options {
    fn default() -> Self {
        Options { length_ms: 30_000, mutant: Mutant::None, faults: Faults::All }
    }
}

/// How a run ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// Log entries.
    pub entries: usize,
    /// Renewals that were applied.
    pub renewals: usize,
    /// Nodes called down, for any reason.
    pub downs: usize,
    /// Of these, leases that expired.
    pub expired: usize,
    /// Changes of leader.
    pub elections: usize,
    /// How often a node that runs stopped believing in its lease.
    pub lapses: usize,
}

/// How a run ended badly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Repeats it.
    pub seed: u64,
    /// What did not hold, and where.
    pub what: String,
}

/// Runs one seed.
pub fn run(seed: u64, options: Options) -> Result<Report, Failure> {
    World::new(seed, options, Idle).run().map(|(report, _)| report).map_err(|what| Failure { seed, what })
}

#[cfg(test)]
mod tests;
