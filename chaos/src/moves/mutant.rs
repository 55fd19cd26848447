//! Rules of calls that move, broken on purpose.

use tandem_state::{Batch, CallEpoch, Command, State};

/// A broken rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// All rules hold.
    None,
    /// What a node says leaves whether or not its lease holds.
    AuthorityNotAsked,
    /// Authority is asked for the node alone, and not for the call.
    LeaseAloneAsked,
    /// Authority is asked when a message is made, not when it leaves.
    AuthorityAskedTooEarly,
    /// A call that is handed over is not silenced meanwhile.
    FreezeLeftOut,
    /// Who takes a call over counts on in the block of numbers of its first owner.
    NumbersReused,
    /// A call ends whoever says so, under whichever epoch.
    EndOfAnyEpoch,
}

/// Numbers of proposals as no node gives them.
const SEQ: u64 = 1 << 40;

impl Mutant {
    /// The entry as a replica understands it.
    pub(super) fn read(self, state: &State, batch: &Batch) -> Batch {
        let mut batch = batch.clone();
        if self != Mutant::EndOfAnyEpoch {
            return batch;
        }
        for (proposal, nth) in batch.proposals.iter_mut().zip(0..) {
            let Command::EndCall { call, epoch, .. } = &mut proposal.command else { continue };
            let Some(owned) = state.calls.get(call).filter(|owned| owned.epoch != *epoch) else { continue };
            let Some(owner) = state.nodes.get(&owned.owner) else { continue };
            *epoch = owned.epoch;
            (proposal.origin.node, proposal.origin.incarnation) = (owner.id, owner.incarnation);
            (proposal.origin.seq, proposal.origin.low_water) = (SEQ + state.position * 1_000 + nth, 0);
        }
        batch
    }

    /// The ownership by which the numbers of a call that comes here are chosen.
    pub(super) fn numbered(self, epoch: CallEpoch) -> CallEpoch {
        if self == Mutant::NumbersReused { CallEpoch(1) } else { epoch }
    }

    /// A command of a call as it goes to the log, where the machine knows no better than [`Mutant::numbered`].
    pub(super) fn proposed(self, had: CallEpoch, mut command: Command) -> Command {
        if self != Mutant::NumbersReused {
            return command;
        }
        if let Command::Checkpoint { epoch, .. }
        | Command::EndCall { epoch, .. }
        | Command::MoveCall { epoch, .. } = &mut command
        {
            *epoch = had;
        }
        command
    }
}
