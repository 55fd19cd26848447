//! What nodes do besides keeping their leases: the world calls it where something of it may change.

use tandem_state::{Applied, Batch, Command, NodeId, State};

use super::World;

/// The nodes' work, all of them together.
pub(crate) trait Work: Sized {
    /// What of it will happen.
    type Happening;
    /// After the faults: within it everything must be in order again.
    const PEACE_MS: u64;

    /// What is in the log from the beginning.
    fn genesis(&self) -> Vec<Command>;
    /// The world begins.
    fn begin(world: &mut World<Self>);
    /// Something happens.
    fn happen(world: &mut World<Self>, happening: Self::Happening) -> Result<(), String>;
    /// An entry as a replica reads it.
    fn read(&self, _: &State, entry: &Batch) -> Batch {
        entry.clone()
    }
    /// A replica applied an entry.
    fn applied(world: &mut World<Self>, id: NodeId, entry: &Batch, applied: &Applied) -> Result<(), String>;
    /// A node's new process knows its replica and nothing else.
    fn started(world: &mut World<Self>, id: NodeId);
    /// A node's process is gone.
    fn died(world: &mut World<Self>, id: NodeId);
    /// Chance strikes the work; false if it leaves it alone, and strikes elsewhere.
    fn fault(world: &mut World<Self>) -> bool;
    /// There was peace.
    fn settled(world: &World<Self>) -> Result<(), String>;
}

/// No work at all.
pub(crate) struct Idle;

impl Work for Idle {
    type Happening = ();
    const PEACE_MS: u64 = 12_000;

    fn genesis(&self) -> Vec<Command> {
        Vec::new()
    }

    fn begin(_: &mut World<Self>) {}

    fn happen(_: &mut World<Self>, (): ()) -> Result<(), String> {
        Ok(())
    }

    fn applied(_: &mut World<Self>, _: NodeId, _: &Batch, _: &Applied) -> Result<(), String> {
        Ok(())
    }

    fn started(_: &mut World<Self>, _: NodeId) {}

    fn died(_: &mut World<Self>, _: NodeId) {}

    fn fault(_: &mut World<Self>) -> bool {
        false
    }

    fn settled(_: &World<Self>) -> Result<(), String> {
        Ok(())
    }
}
