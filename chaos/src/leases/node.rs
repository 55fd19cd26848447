//! One simulated node: its clock, its process, its replica and the machines of its lease.

use std::collections::BTreeMap;

use tandem_state::lease::{Belief, Holder, Standing, Terms, Watcher};
use tandem_state::{Applied, Batch, Command, Incarnation, NodeId, State};

use super::Mutant;

/// As a cluster begins with them.
pub(crate) const TERMS: Terms =
    Terms { lease_ms: 1_800, renew_ms: 400, margin_ms: 200, election_ms: 700, commit_ms: 250 };

/// A node.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) up: bool,
    /// Its process is stopped until then; its clock goes on.
    pub(crate) paused_until_ms: u64,
    pub(crate) slow_until_ms: u64,
    /// It hears nothing of the log until then, nor the log of it.
    pub(crate) cut_until_ms: u64,
    /// Its disk is full until then: it applies nothing, and says and hears all else.
    pub(crate) full_until_ms: u64,
    pub(crate) state: State,
    /// How often its timers were set: an older one that fires means nothing.
    pub(crate) armed: u64,
    pub(crate) held: bool,
    holder: Holder,
    watcher: Watcher,
    /// Boot time when the world began, and its speed in parts of a million.
    boot_ms: u64,
    speed_ppm: u64,
    mutant: Mutant,
    /// By [`Mutant::RenewalDeduplicated`]: the attempt that is sent, and the last one that it stands for.
    same_as: BTreeMap<u64, u64>,
    /// By [`Mutant::CountedFromTheReply`].
    from_reply: Option<(u64, u64)>,
}

impl Node {
    pub(crate) fn new(number: u64, state: State, boot_ms: u64, speed_ppm: u64, mutant: Mutant) -> Node {
        let id = NodeId(number);
        Node {
            id,
            incarnation: Incarnation(1),
            up: true,
            paused_until_ms: 0,
            slow_until_ms: 0,
            cut_until_ms: 0,
            full_until_ms: 0,
            state,
            armed: 0,
            held: false,
            holder: Holder::new(TERMS.lease_ms, TERMS.renew_ms),
            watcher: Watcher::new(id, TERMS.margin_ms),
            boot_ms,
            speed_ppm,
            mutant,
            same_as: BTreeMap::new(),
            from_reply: None,
        }
    }

    /// This node's clock at a real instant.
    pub(crate) fn clock(&self, real_ms: u64) -> u64 {
        self.boot_ms + real_ms * self.speed_ppm / 1_000_000
    }

    /// The real time that a span of its clock takes.
    pub(crate) fn real_span(&self, span_ms: u64) -> u64 {
        (span_ms * 1_000_000).div_ceil(self.speed_ppm)
    }

    pub(crate) fn is_alive(&self, incarnation: Incarnation) -> bool {
        self.up && self.incarnation == incarnation
    }

    /// Whether the other nodes hear of it.
    pub(crate) fn is_heard(&self, real_ms: u64) -> bool {
        self.up && self.paused_until_ms <= real_ms && self.cut_until_ms <= real_ms
    }

    /// A new process, which knows its replica and nothing else.
    pub(crate) fn restart(&mut self, real_ms: u64) {
        self.incarnation.0 += 1;
        (self.up, self.paused_until_ms, self.held) = (true, 0, false);
        self.holder = Holder::new(TERMS.lease_ms, TERMS.renew_ms);
        self.watcher = Watcher::new(self.id, TERMS.margin_ms);
        self.same_as.clear();
        self.from_reply = None;
        self.tell(real_ms);
    }

    /// Applies the next entry.
    pub(crate) fn apply(&mut self, real_ms: u64, batch: &Batch) -> Applied {
        let batch = self.mutant.read(&self.state, batch);
        let applied = self.state.apply_unchecked(self.state.position + 1, &batch);
        self.tell(real_ms);
        applied
    }

    /// Tells the machines what the replica says now.
    fn tell(&mut self, real_ms: u64) {
        let standing = Standing::of(&self.state, self.id, self.incarnation);
        self.told(real_ms, standing);
        let now_ms = self.clock(real_ms);
        self.watcher.applied(now_ms, &self.state);
    }

    /// What the log says of this node, or what the mutant takes for it.
    pub(crate) fn told(&mut self, real_ms: u64, mut standing: Standing) {
        let now_ms = self.clock(real_ms);
        if let Standing::Leased { attempt, epoch, stands } = &mut standing {
            if let Some(last) = self.same_as.get(attempt) {
                *attempt = *last;
            }
            if *stands && self.from_reply.is_none_or(|(seen, _)| seen < *attempt) && *attempt > 0 {
                self.from_reply = Some((*attempt, now_ms + TERMS.lease_ms));
            }
            if self.belief_epoch().is_some_and(|before| before != epoch.0) {
                self.from_reply = None;
            }
        }
        self.holder.applied(now_ms, standing);
    }

    fn belief_epoch(&self) -> Option<u64> {
        match self.holder.belief() {
            Belief::Until { epoch, .. } => Some(epoch.0),
            Belief::None | Belief::Always(_) => None,
        }
    }

    pub(crate) fn belief(&self) -> Belief {
        match (self.mutant, self.holder.belief(), self.from_reply) {
            (Mutant::CountedFromTheReply, Belief::Until { epoch, .. }, Some((_, until_ms))) => {
                Belief::Until { epoch, until_ms }
            }
            (_, belief, _) => belief,
        }
    }

    /// What is due now, and the clock's next deadline.
    pub(crate) fn due(&mut self, real_ms: u64) -> (Vec<Command>, Option<u64>) {
        let now_ms = self.clock(real_ms);
        self.watcher.own_lease(now_ms, self.belief().holds(now_ms));
        let renewal = self.holder.handle_timeout(now_ms).map(|command| self.sent_as(command));
        let over = self.watcher.handle_timeout(now_ms).into_iter().map(Command::from);
        let commands = renewal.into_iter().chain(over).collect();
        let next = self.holder.poll_timeout().into_iter().chain(self.watcher.poll_timeout()).min();
        (commands, next.map(|at_ms| at_ms.saturating_sub(now_ms)))
    }

    fn sent_as(&mut self, mut command: Command) -> Command {
        let known = self.state.leases.get(&self.id).map_or(0, |lease| lease.attempt);
        if let (Mutant::RenewalDeduplicated, Command::Renew { attempt, .. }) = (self.mutant, &mut command) {
            self.same_as.retain(|sent, _| *sent > known);
            let first = self.same_as.keys().next().copied().unwrap_or(*attempt);
            self.same_as.insert(first, *attempt);
            *attempt = first;
        }
        command
    }

    pub(crate) fn committed(&mut self, attempt: u64) {
        self.holder.committed(attempt);
    }

    pub(crate) fn failed(&mut self, real_ms: u64, attempt: u64) {
        let now_ms = self.clock(real_ms);
        self.holder.failed(now_ms, attempt);
    }

    pub(crate) fn leader_changed(&mut self, real_ms: u64) {
        let now_ms = self.clock(real_ms);
        self.holder.leader_changed(now_ms);
    }

    pub(crate) fn leave(&mut self) -> Option<Command> {
        self.held = false;
        self.holder.leave(self.id, self.incarnation)
    }
}
