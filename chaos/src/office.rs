//! Who leads the model log, and what the leader has gathered but not committed: that is gone with its office.

use tandem_state::{NodeId, Proposal};

use crate::world::Random;

/// See the module.
#[derive(Debug, Default)]
pub struct Office {
    term: u64,
    leader: Option<NodeId>,
    gathered: Vec<Proposal>,
}

impl Office {
    /// Who leads.
    pub fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// The present term, or the next one while nobody leads.
    pub fn term(&self) -> u64 {
        self.term
    }

    /// Takes a proposal; the first of a batch says in which term that is to be committed.
    pub fn gather(&mut self, proposal: Proposal) -> Option<u64> {
        self.gathered.push(proposal);
        (self.gathered.len() == 1).then_some(self.term)
    }

    /// Who may commit what was gathered in a term.
    pub fn leader_of(&self, term: u64) -> Option<NodeId> {
        self.leader.filter(|_| term == self.term)
    }

    /// What was gathered, to be committed.
    pub fn take(&mut self) -> Vec<Proposal> {
        std::mem::take(&mut self.gathered)
    }

    /// The leader loses its office, and so much with it. `None` when there was none.
    pub fn depose(&mut self) -> Option<usize> {
        self.leader.take()?;
        self.term += 1;
        Some(self.take().len())
    }

    /// Whether a term still has nobody who leads it.
    pub fn is_vacant(&self, term: u64) -> bool {
        self.leader.is_none() && term == self.term
    }

    /// One of those who can lead does from now on, if they are more than half of all nodes.
    pub fn elect(&mut self, able: &[NodeId], nodes: usize, random: &mut Random) -> Option<NodeId> {
        if able.len() * 2 <= nodes {
            return None;
        }
        self.leader = random.pick(able).copied();
        self.leader
    }
}
