//! What leaves a node, and when. A message waits a moment in its way's queue (longer where a connection is slow); whether the
//! node may speak is asked when it leaves, of the node that made it and of the one that holds the phone's flow, if that is
//! another. The rules are [`tandem_switching::authority`]; who asks them, `actors::gate` and `actors::peers`, is modelled.

use tandem_sip::message::Message;
use tandem_state::{CallEpoch, CallId, Flow, NodeEpoch, NodeId};
use tandem_switching::{authority, call};

use super::Mutant;
use super::work::{Happens, Sim, ToNode, flow};

/// A message on its way out.
#[derive(Debug, Clone)]
pub(crate) struct Packet {
    pub(super) message: Message,
    pub(super) flow: Flow,
    /// Who made it.
    pub(super) by: NodeId,
    /// For which call, had under which epoch; for the witness alone.
    pub(super) of: Option<(CallId, CallEpoch)>,
    /// By [`Mutant::AuthorityAskedTooEarly`]: what was said when it was made.
    pub(super) allowed: bool,
    /// The lease under which it was made.
    pub(super) under: Option<NodeEpoch>,
    /// When its maker was asked last.
    pub(super) asked_ms: u64,
}

/// What nodes say to each other.
pub(crate) enum Tell {
    /// Send this by a flow of yours.
    Send(Packet),
    /// A phone said this to me.
    Received(Flow, Message),
    /// End this call.
    HangUp(CallId, tandem_state::Cause),
}

impl Sim {
    /// Sends what a machine or the table of transactions said.
    pub(super) fn send(&mut self, id: NodeId, flow: Flow, message: Message) {
        let of = self.made_for(id, &message);
        let asked_ms = self.agenda.now_ms();
        let mut packet =
            Packet { message, allowed: true, under: self.lease_epoch(id), by: id, of, flow, asked_ms };
        packet.allowed = self.has_authority(id, &packet);
        self.work.witness.made(id, &packet);
        if packet.flow.node == id {
            self.queue(id, packet);
        } else if self.may_leave(id, &packet) {
            self.tell(id, packet.flow.node, Tell::Send(packet));
        } else {
            self.work.report.fenced += 1;
        }
    }

    /// The node's lease holds, and is that under which this was made; and the call that this is for is its own, as far as it has
    /// applied the log, and not about to be another's. The product's gate asks less of responses: of whose call they are it
    /// knows only when they are made.
    fn has_authority(&self, id: NodeId, packet: &Packet) -> bool {
        if self.work.mutant == Mutant::LeaseAloneAsked {
            return self.holds(id);
        }
        let Some((call, epoch)) = packet.of.filter(|_| packet.by == id) else {
            return self.holds(id) && self.may_ask(id, &packet.message);
        };
        let recorded = self.state(id).calls.get(&call);
        let is_own = recorded.is_none_or(|call| call.owner == id && call.epoch == epoch);
        let held = self.work.processes.get(&id).and_then(|process| process.calls.get(&call));
        self.holds(id)
            && self.lease_epoch(id) == packet.under
            && is_own
            && held.is_none_or(|held| !held.machine.is_frozen())
    }

    /// Whether a node may say this now.
    fn may_leave(&self, id: NodeId, packet: &Packet) -> bool {
        let has_authority = match self.work.mutant {
            Mutant::AuthorityNotAsked => true,
            Mutant::AuthorityAskedTooEarly => packet.allowed,
            _ => self.has_authority(id, packet),
        };
        has_authority || authority::may_be_said_without(packet.message.bytes())
    }

    fn made_for(&mut self, id: NodeId, message: &Message) -> Option<(CallId, CallEpoch)> {
        let leg = match message.is_request() {
            true => call::branch_leg(message.via_top().branch?)?,
            false => call::leg_of_tag(message.to().tag()?)?,
        };
        let process = self.process(id);
        // Who has no such call says so of himself.
        let own = message.status() != Some(481) || process.legs.contains_key(&leg);
        process.had.get(&leg).copied().filter(|_| own)
    }

    fn queue(&mut self, id: NodeId, packet: Packet) {
        let now_ms = self.agenda.now_ms();
        // Of another node's message the authority was asked there; nothing of it may wait here.
        let slow = !self.work.calm && packet.by == id && self.random.chance(30);
        let wait_ms = if slow { self.random.between(20, 600) } else { self.random.between(0, 2) };
        let last_ms = self.process(id).leaves_ms.entry(packet.flow.remote).or_default();
        *last_ms = (*last_ms).max(now_ms + wait_ms);
        let wait_ms = *last_ms - now_ms;
        self.node_happens(wait_ms, wait_ms, id, ToNode::Leave(packet));
        if slow && self.random.chance(60) {
            let until_ms = now_ms + self.random.between(2_500, 5_000);
            self.pause(id, until_ms);
        }
    }

    /// The last moment: may the node speak?
    pub(super) fn leaves(&mut self, id: NodeId, mut packet: Packet) -> Result<(), String> {
        let now_ms = self.agenda.now_ms();
        if packet.by == id {
            packet.asked_ms = now_ms;
        }
        if !self.may_leave(id, &packet) {
            self.work.report.fenced += 1;
            return Ok(());
        }
        let lost = !self.work.calm && self.random.chance(20);
        let nth = self.work.phones.iter().position(|phone| phone.address == packet.flow.remote);
        let Some(nth) = nth.filter(|_| !lost) else { return Ok(()) };
        let acts = !authority::may_be_said_without(packet.message.bytes());
        let wait_ms = self.random.between(1, 40);
        self.work.witness.left(now_ms + wait_ms, id, &packet, acts)?;
        self.happens(wait_ms, wait_ms, Happens::ToPhone(nth, id, packet.message.clone()));
        if !self.work.calm && self.random.chance(10) {
            self.happens(1, 300, Happens::ToPhone(nth, id, packet.message));
        }
        Ok(())
    }

    // ---- between nodes ----

    pub(super) fn tell(&mut self, from: NodeId, to: NodeId, tell: Tell) {
        let now_ms = self.agenda.now_ms();
        let is_cut = self.node(from).cut_until_ms.max(self.node(to).cut_until_ms) > now_ms;
        if !self.node(to).up || is_cut {
            return;
        }
        let earliest_ms = now_ms + self.random.between(1, 25);
        let last_ms = self.process(from).told_ms.entry(to).or_default();
        *last_ms = (*last_ms).max(earliest_ms);
        let (wait_ms, incarnation) = (*last_ms - now_ms, Some(self.node(to).incarnation));
        self.happens(wait_ms, wait_ms, Happens::Node(to, incarnation, Box::new(ToNode::Tell(tell))));
    }

    pub(super) fn told_by_a_peer(&mut self, id: NodeId, tell: Tell) {
        match tell {
            Tell::Send(packet) if packet.flow.node != id => {}
            Tell::Send(packet) => {
                let allowed = self.has_authority(id, &packet);
                self.queue(id, Packet { allowed, ..packet });
            }
            Tell::Received(flow, message) => self.incoming(id, flow, message),
            Tell::HangUp(call, cause) => self.input(id, call, call::Input::HangUp(cause)),
        }
    }

    /// What `actors::gate` asks of a request besides the lease.
    fn may_ask(&self, id: NodeId, message: &Message) -> bool {
        let Some(asked) = authority::asked(message.bytes()) else { return true };
        let process = self.work.processes.get(&id);
        let held = process.and_then(|process| process.calls.get(process.legs.get(&asked.leg)?));
        let is_held_back = held.is_some_and(|held| authority::is_held_back(&held.machine, &asked));
        !authority::is_outdated(self.state(id), &asked) && !is_held_back
    }

    /// A phone's message to a node.
    pub(super) fn phone_says(&mut self, nth: usize, to: NodeId, message: Message) {
        if !self.work.calm && self.random.chance(20) {
            return;
        }
        let Some(phone) = self.work.phones.get(nth) else { return };
        let datagram = ToNode::Datagram(flow(to, phone.address), message);
        self.happens(1, 40, Happens::Node(to, None, Box::new(datagram)));
    }
}
