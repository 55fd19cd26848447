//! Rules of leases broken on purpose.

use tandem_state::{Batch, Command, State};

/// A broken rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// All rules hold.
    None,
    /// A renewal without an answer is sent again as the same command, and counts from when it was sent last.
    RenewalDeduplicated,
    /// A lease counts from when its renewal was applied.
    CountedFromTheReply,
    /// A lease ends whatever was renewed since.
    ExpiryWithoutCompareAndSet,
    /// The leader takes for committed what it has only written down.
    AcknowledgedBeforeSync,
}

impl Mutant {
    /// The entry as a replica without compare-and-set understands it.
    pub(crate) fn read(self, state: &State, batch: &Batch) -> Batch {
        let mut batch = batch.clone();
        if self == Mutant::ExpiryWithoutCompareAndSet {
            for proposal in &mut batch.proposals {
                if let Command::ExpireLease { node, last_renewal, .. } = &mut proposal.command {
                    *last_renewal = state.leases.get(node).map_or(0, |lease| lease.last_renewal);
                }
            }
        }
        batch
    }
}
