//! What the leader does: it gathers, stamps, commits and answers; and how somebody becomes it.

use tandem_state::{Batch, Command, NodeId, Outcome, Proposal};

use super::{Happening, World};
use crate::world::Workload;
use crate::world::mutant::stamp;

impl<W: Workload> World<W> {
    pub(super) fn arrive(&mut self, proposal: Proposal) {
        if self.office.leader().is_none() {
            return;
        }
        if let Some(term) = self.office.gather(proposal) {
            self.after(1, 25, Happening::Commit(term));
        }
    }

    pub(super) fn commit(&mut self, term: u64) {
        let Some(leader) = self.office.leader_of(term) else { return };
        let up = self.nodes.values().filter(|node| node.up).count();
        if up * 2 <= self.nodes.len() {
            self.after(50, 50, Happening::Commit(term));
            return;
        }
        let stamp = stamp(self.agenda.now_ms(), self.node(leader).clock_offset_ms);
        let proposals = self.office.take();
        let position = self.history.log.len() + 1;
        let count = proposals.len();
        self.trace.line(
            self.agenda.now_ms(),
            format_args!("position {position}: {count} proposals stamped {}", stamp.0),
        );
        self.history.log.push(Batch { stamp, proposals });
        let alive: Vec<_> =
            self.nodes.values().filter(|node| node.up).map(|n| (n.id, n.incarnation)).collect();
        for (id, incarnation) in alive {
            let slow = self.node(id).slow_until_ms > self.agenda.now_ms();
            let most = if slow { 900 } else { 15 };
            self.after(1, most, Happening::Advance(id, incarnation));
        }
    }

    pub(super) fn tick(&mut self) {
        if let Some(leader) = self.office.leader()
            && self.node(leader).announced
            && !self.is_peace()
        {
            self.propose(leader, Command::Tick);
        }
        self.after(200, 500, Happening::Tick);
    }

    pub(super) fn elect(&mut self, term: u64) {
        if !self.office.is_vacant(term) {
            return;
        }
        let up: Vec<NodeId> = self.nodes.values().filter(|node| node.up).map(|node| node.id).collect();
        let Some(leader) = self.office.elect(&up, self.nodes.len(), &mut self.random) else {
            self.after(100, 300, Happening::Elect(term));
            return;
        };
        self.elections += 1;
        let offset = self.node(leader).clock_offset_ms;
        self.trace.line(
            self.agenda.now_ms(),
            format_args!("n{} leads term {term}, its clock {offset:+} ms", leader.0),
        );
        if self.node(leader).announced {
            let to = stamp(self.agenda.now_ms(), offset);
            self.propose(leader, Command::StepTime { to });
        }
        for command in std::mem::take(&mut self.genesis) {
            self.propose(leader, command);
        }
    }

    pub(super) fn answer_all(&mut self, proposals: &[Proposal], outcomes: &[Outcome]) {
        for (proposal, outcome) in proposals.iter().zip(outcomes) {
            let origin = proposal.origin;
            let late = self.random.chance(25);
            if late || self.random.chance(930) || self.is_peace() {
                let most = if late { 800 } else { 20 };
                let answer = Happening::Answer(origin.node, origin.incarnation, origin.seq, outcome.clone());
                self.after(1, most, answer);
            }
        }
    }
}
