//! Faults on purpose. [`world`] simulates a cluster's replicated state from a seed: nodes that crash, replies that
//! are lost, clocks that jump; and what must hold through all of it.
//!
//! [`leases`] does the same for the machines of leases, on clocks of different speed.
//!
//! [`moves`] gives those nodes calls: the real machine of a call and the real transactions, with phones that listen.
//!
//! [`oracle`] judges histories: is there one order of the operations that explains every answer?
//!
//! A failing seed is repeated exactly by `make sim SEED=n`, by [`world`] with a trace to read.
//!
//! `tests/nodes` runs the real cluster on simulated machines; there a seed repeats what goes wrong, not every step.

pub mod agenda;
pub mod leases;
pub mod moves;
pub mod office;
pub mod oracle;
#[cfg(test)]
mod seeds;
pub mod world;
