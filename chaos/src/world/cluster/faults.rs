//! What goes wrong: crashes, leader changes, clock jumps, slowness; and the peace afterwards.

use tandem_state::{Command, Incarnation, NodeId};

use super::{Found, Happening, World, record};
use crate::world::Workload;
use crate::world::client::Client;

impl<W: Workload> World<W> {
    pub(super) fn fault(&mut self) {
        if self.is_peace() {
            return;
        }
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        let Some(id) = self.random.pick(&ids).copied() else { return };
        match self.random.between(0, 9) {
            0..=2 => self.crash(id),
            3 => {
                if let Some(leader) = self.office.leader() {
                    self.crash(leader);
                }
            }
            4 | 5 => self.depose(),
            6 | 7 => self.jump_clock(id),
            _ => self.slow_down(id),
        }
        self.after(100, 900, Happening::Fault);
    }

    fn crash(&mut self, id: NodeId) {
        if !self.node(id).up {
            return;
        }
        self.trace.line(self.agenda.now_ms(), format_args!("n{} crashes", id.0));
        self.crashes += 1;
        let node = self.node(id);
        (node.up, node.announced) = (false, false);
        node.client = Client::default();
        self.workload.died(id);
        if self.office.leader() == Some(id) {
            self.depose();
        }
        self.after(50, 2_500, Happening::Restart(id));
    }

    /// The leader loses its office, and with it what it had not committed.
    fn depose(&mut self) {
        let Some(lost) = self.office.depose() else { return };
        self.trace.line(self.agenda.now_ms(), format_args!("the leader is gone, with {lost} proposals"));
        self.after(20, 700, Happening::Elect(self.office.term()));
    }

    fn jump_clock(&mut self, id: NodeId) {
        let by = i64::try_from(self.random.between(0, 6_000)).unwrap_or(0) - 3_000;
        self.node(id).clock_offset_ms = by;
        self.trace.line(self.agenda.now_ms(), format_args!("the clock of n{} is off by {by:+} ms", id.0));
    }

    fn slow_down(&mut self, id: NodeId) {
        let until = self.agenda.now_ms() + self.random.between(500, 3_000);
        self.node(id).slow_until_ms = until;
        self.trace.line(self.agenda.now_ms(), format_args!("the replica of n{} is slow until {until}", id.0));
    }

    pub(super) fn restart(&mut self, id: NodeId) -> Result<(), Found> {
        if self.node(id).up {
            return Ok(());
        }
        if self.node(id).incarnation > Incarnation(0) {
            if self.random.chance(250) {
                self.install(id);
            }
            self.node(id).replica.restart()?;
        }
        let node = self.node(id);
        node.incarnation.0 += 1;
        node.up = true;
        let (incarnation, position) = (node.incarnation, node.replica.state.position);
        let what = format_args!("n{} starts as incarnation {incarnation} at position {position}", id.0);
        self.trace.line(self.agenda.now_ms(), what);
        self.propose(id, Command::NodeStarted { node: record(id, incarnation) });
        self.after(1, 20, Happening::Advance(id, incarnation));
        self.after(1, 60, Happening::Turn(id, incarnation));
        Ok(())
    }

    /// A node that is behind gets the snapshot of one that is not, as if the log had been purged meanwhile.
    fn install(&mut self, id: NodeId) {
        let ahead = self.nodes.values().filter(|node| node.up).max_by_key(|node| node.replica.state.position);
        let Some(ahead) = ahead else { return };
        let (from, snapshot, archive) =
            (ahead.id, ahead.replica.state.encode_snapshot(), ahead.replica.archive.clone());
        if ahead.replica.state.position <= self.nodes.get(&id).map_or(0, |node| node.replica.state.position) {
            return;
        }
        self.trace.line(self.agenda.now_ms(), format_args!("n{} installs the snapshot of n{}", id.0, from.0));
        self.node(id).replica.install(snapshot, archive);
    }

    /// All nodes run, clocks are right, nothing more goes wrong.
    pub(super) fn make_peace(&mut self) {
        self.trace.line(self.agenda.now_ms(), format_args!("peace"));
        let down: Vec<NodeId> = self.nodes.values().filter(|node| !node.up).map(|node| node.id).collect();
        for id in down {
            self.after(0, 10, Happening::Restart(id));
        }
        for node in self.nodes.values_mut() {
            (node.slow_until_ms, node.clock_offset_ms) = (0, 0);
        }
        let term = self.office.term();
        self.after(100, 200, Happening::Elect(term));
    }
}
