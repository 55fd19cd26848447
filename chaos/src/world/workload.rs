//! What nodes do when all is well: a workload proposes commands and is told what became of them.
//!
//! The simulator brings the faults. A workload keeps what a node's process keeps in memory, and forgets it when it
//! is told that the process died; so the pure machines of calls and registrations can stand behind this trait.

mod calls;
mod machines;
mod mixed;
mod phones;

use tandem_state::{Applied, ClusterTime, Command, Incarnation, NodeId, Outcome, State};

use super::history::History;
use super::random::Random;
pub use machines::Machines;
pub use mixed::Mixed;

/// What a node sees when it acts.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// Which node.
    pub node: NodeId,
    /// Its process.
    pub incarnation: Incarnation,
    /// Simulated milliseconds since the world began: every node's steady clock.
    pub steady_ms: u64,
    /// Cluster time as it believes; may be a little off in both directions.
    pub now: ClusterTime,
    /// Its replica, which may be behind.
    pub state: &'a State,
}

/// A workload.
pub trait Workload {
    /// What the first leader configures before the work begins.
    fn genesis(&mut self) -> Vec<Command>;

    /// What a node proposes now. Called every few simulated milliseconds once its start was acknowledged.
    fn turn(&mut self, view: View<'_>, random: &mut Random) -> Vec<Command>;

    /// Whether it wants [`Workload::rest`].
    fn works_in_peace(&self) -> bool {
        false
    }

    /// What a node proposes when the working time is over, so that what it had begun can come to its end.
    fn rest(&mut self, view: View<'_>, random: &mut Random) -> Vec<Command> {
        let _ = (view, random);
        Vec::new()
    }

    /// A node's replica applied an entry.
    fn applied(&mut self, view: View<'_>, applied: &Applied, random: &mut Random) -> Vec<Command> {
        let _ = (view, applied, random);
        Vec::new()
    }

    /// A proposal of a node was answered.
    fn answered(&mut self, node: NodeId, command: &Command, outcome: &Outcome) {
        let _ = (node, command, outcome);
    }

    /// A node's process died: what it kept in memory is gone.
    fn died(&mut self, node: NodeId) {
        let _ = node;
    }

    /// What must hold at the end beyond what the simulator checks.
    fn check(&self, history: &History) -> Result<(), String> {
        let _ = history;
        Ok(())
    }
}
