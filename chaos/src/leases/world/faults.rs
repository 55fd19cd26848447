//! What goes wrong, by chance.

use tandem_state::NodeId;

use super::{Happening, Work, World};
use crate::leases::Faults;

impl<W: Work> World<W> {
    pub(super) fn fault(&mut self) {
        if self.is_peace() {
            return;
        }
        let (low, high) = match self.options.faults {
            Faults::Elections => {
                self.depose();
                (1_500, 4_000)
            }
            Faults::FullDisk => {
                let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
                let until_ms = self.options.length_ms;
                if let Some(id) = self.random.pick(&ids).copied() {
                    self.node(id).full_until_ms = until_ms;
                }
                (until_ms, until_ms)
            }
            Faults::All => {
                if !W::fault(self) {
                    self.any_fault();
                }
                (200, 2_500)
            }
        };
        self.after(low, high, Happening::Fault);
    }

    fn any_fault(&mut self) {
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        let Some(id) = self.random.pick(&ids).copied() else { return };
        let now_ms = self.agenda.now_ms();
        match self.random.between(0, 9) {
            0 => self.crash(id),
            1 => self.say_goodbye(id),
            2..=4 => self.depose(),
            5 | 6 => {
                let until = now_ms + self.random.between(200, 5_000);
                self.pause(id, until);
            }
            _ => {
                let until = now_ms + self.random.between(500, 6_000);
                self.node(id).slow_until_ms = until;
            }
        }
    }

    pub(crate) fn crash(&mut self, id: NodeId) {
        (self.node(id).up, self.node(id).held) = (false, false);
        W::died(self, id);
        if self.office.leader() == Some(id) {
            self.depose();
        }
        self.after(50, 6_000, Happening::Restart(id));
    }

    /// A node's process is stopped.
    pub(crate) fn pause(&mut self, id: NodeId, until_ms: u64) {
        self.node(id).paused_until_ms = until_ms;
        if self.office.leader() == Some(id) && self.random.chance(700) {
            self.depose();
        }
    }

    /// A node is cut off from the log; its phones still reach it.
    pub(crate) fn cut_off(&mut self, id: NodeId, until_ms: u64) {
        self.node(id).cut_until_ms = until_ms;
        if self.office.leader() == Some(id) {
            self.depose();
        }
    }

    fn say_goodbye(&mut self, id: NodeId) {
        if !self.node(id).up {
            return;
        }
        if let Some(goodbye) = self.node(id).leave() {
            self.send_own(id, goodbye);
        }
        self.crash(id);
    }
}
