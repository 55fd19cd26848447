//! Faults on purpose. [`world`] simulates a cluster's replicated state from a seed: nodes that crash, replies that
//! are lost, clocks that jump; and what must hold through all of it.
//!
//! [`leases`] does the same for the machines of leases, on clocks of different speed.
//!
//! A failing seed is repeated exactly by `make sim SEED=n`, with a trace to read.

pub mod leases;
pub mod world;
