//! What the cluster agreed on: the committed entries, what the first replica made of each, and what clients were told.

use std::collections::BTreeMap;

use tandem_state::archive::{ArchiveRecord, Fact};
use tandem_state::{Applied, Batch, Cdr, Event, Incarnation, NodeId, Outcome, Proposal};

/// A request: node, incarnation, sequence number.
pub type Request = (NodeId, Incarnation, u64);

/// The request of a proposal.
pub fn request(proposal: &Proposal) -> Request {
    (proposal.origin.node, proposal.origin.incarnation, proposal.origin.seq)
}

/// Everything that checks look at.
#[derive(Debug, Default)]
pub struct History {
    /// The log; position 1 is the first.
    pub log: Vec<Batch>,
    /// What the first replica that got there made of each entry.
    pub applied: Vec<Applied>,
    /// State hashes by position, of the first replica that got there.
    pub hashes: BTreeMap<u64, [u8; 32]>,
    /// What clients were told.
    pub acknowledged: BTreeMap<Request, Outcome>,
}

impl History {
    /// The entry at a position.
    pub fn entry(&self, position: u64) -> Option<&Batch> {
        self.log.get(usize::try_from(position.checked_sub(1)?).ok()?)
    }

    /// Every proposal of the log with its outcome and position, in order.
    pub fn outcomes(&self) -> impl Iterator<Item = (u64, &Proposal, &Outcome)> {
        let entries = self.log.iter().zip(&self.applied).zip(1..);
        entries.flat_map(|((entry, applied), position)| {
            let both = entry.proposals.iter().zip(&applied.outcomes);
            both.map(move |(proposal, outcome)| (position, proposal, outcome))
        })
    }

    /// The first time that each request was in the log.
    pub fn first_outcomes(&self) -> BTreeMap<Request, (u64, &Proposal, &Outcome)> {
        let mut first = BTreeMap::new();
        for (position, proposal, outcome) in self.outcomes() {
            first.entry(request(proposal)).or_insert((position, proposal, outcome));
        }
        first
    }

    /// All events, in order.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.applied.iter().flat_map(|applied| &applied.events)
    }

    /// All records of the archive, in order.
    pub fn archive(&self) -> impl Iterator<Item = &ArchiveRecord> {
        self.applied.iter().flat_map(|applied| &applied.archive)
    }

    /// All CDRs, in order.
    pub fn cdrs(&self) -> impl Iterator<Item = &Cdr> {
        self.archive().filter_map(|record| match &record.fact {
            Fact::Cdr(cdr) => Some(&**cdr),
            Fact::Event(_) | Fact::Audit(_) => None,
        })
    }
}
