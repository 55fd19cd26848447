//! Calls that move from node to node, under simulation.
//!
//! What is real: `apply`, the machines of leases, the machine of a call with its takeover, its planned moves and its end, the
//! table of transactions. Nodes, their log and their clocks are those of [`crate::leases`], with more going wrong: they are cut
//! off from the log and not from their phones, they are emptied, what they say is late, doubled or lost. What is modelled
//! thinly, because it is a shell around I/O in the crate `actors`: the endpoint, the follower, how a call is taken over, and
//! the gate that asks for authority last, before a message leaves. Phones are modelled too: they repeat, refuse
//! what comes out of order, hold, hang up, and speak to whom they were told last. Not modelled: registrations, connections
//! (all flows are datagrams, so every node can reach every phone), several targets, media, crashes of single actors.
//!
//! What must hold is in [`witness`] and [`checks`]. Start reading at [`run`], then [`work`].

mod checks;
mod endpoint;
mod mutant;
mod people;
mod phone;
mod process;
mod shell;
mod takeover;
mod wire;
mod witness;
mod work;

pub use mutant::Mutant;
use work::Calls;

use crate::leases::{self, Faults, World};

/// What a run is told besides its seed.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How long things go wrong, in real milliseconds; then there is peace.
    pub length_ms: u64,
    /// A rule broken on purpose.
    pub mutant: Mutant,
}

impl Default for Options {
    fn default() -> Self {
        Options { length_ms: 25_000, mutant: Mutant::None }
    }
}

/// How a run ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// Calls that the log had.
    pub calls: usize,
    /// Of these, answered.
    pub answered: usize,
    /// Changes of owner.
    pub moved: usize,
    /// Of these, on purpose, as far as their owners heard.
    pub handed_over: usize,
    /// Calls with which another node went on.
    pub taken_over: usize,
    /// Of these, calls that waited and came back to the node that was lost.
    pub waited: usize,
    /// Messages by which nodes acted for calls.
    pub acts: usize,
    /// Messages that were not allowed to leave.
    pub fenced: usize,
    /// Proposals whose outcome was not known.
    pub unknown: usize,
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
    let leases =
        leases::Options { length_ms: options.length_ms, mutant: leases::Mutant::None, faults: Faults::All };
    let world = World::new(seed, leases, Calls::new(options.mutant)).run();
    let (_, work) = world.map_err(|what| Failure { seed, what })?;
    Ok(Report { acts: work.witness.acts, ..work.report })
}

#[cfg(test)]
mod tests;
