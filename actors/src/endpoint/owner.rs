//! Whose a message is: calls come to this node and leave it, and its transactions come and go with them.

use tandem_sip::message::Message;
use tandem_sip::method::Method;
use tandem_sip::transaction::{Output, ServerKey};
use tandem_state::{CallId, Flow, LegId, NodeId};
use tandem_switching::authority::owner_of;
use tandem_switching::call::{self, named_leg};

use super::{Abandoned, FlowPeer, Serving};
use crate::wire::{Tell, encode};

/// Who takes a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taker {
    /// This node.
    Here,
    /// Another one, which owns its call.
    At(NodeId),
    /// Nobody: its call is this node's since a moment, and nobody goes on with it yet. As on a lossy link.
    Nobody,
}

fn is_of_caller(message: &Message) -> bool {
    message.is_request() && matches!(message.method(), Method::Invite | Method::Cancel)
}

impl Serving {
    /// A lease of a new epoch: this node lost all calls of the former one, so nothing more is asked for them, and who asked
    /// for them is not answered. That is so before anything is asked for a call that it got under the new one, whether or not
    /// that may be said yet. What phones said goodbye to meanwhile is passed to whoever has their calls now.
    pub(super) fn follow_lease(&mut self) {
        let Some(epoch) = self.shared.lease.epoch() else { return };
        if self.epoch.replace(epoch).is_some_and(|former| former != epoch) {
            self.table.abandon(|branch| call::branch_leg(branch).is_some());
            self.table.abandon_invites(|tag| call::leg_of_tag(tag).is_some());
            for (key, _) in std::mem::take(&mut self.invites) {
                self.table.forget(&key);
            }
            for slot in self.shared.call_ids().into_iter().filter_map(|id| self.shared.call(id)) {
                let _ = slot.send(call::Input::Leased { epoch });
            }
        }
        if !self.byes.is_empty() && self.shared.lease.holds() {
            for (flow, message) in std::mem::take(&mut self.byes) {
                self.offer(flow, message);
            }
        }
    }

    /// A BYE that was answered while this node might not act for its call.
    fn offer(&self, flow: Flow, message: Message) {
        let Some(leg) = named_leg(&message) else { return };
        // By the log's word: a machine that is here may only not have heard yet that its call is another's.
        match owner_of(&self.shared.cluster.view(), leg, true) {
            Some(owner) if owner != self.shared.node => self.pass_on(owner, &flow, &message),
            Some(_) => {
                let key = ServerKey::of(&message);
                let input = call::Input::Request { leg, key, message, flow };
                self.shared.leg(leg).map(|slot| slot.send(input));
            }
            None => {}
        }
    }

    /// Who is to take a message from the wire.
    pub(super) fn taker(&self, message: &Message) -> Taker {
        match named_leg(message) {
            Some(leg) => self.taker_of_leg(leg, message.is_request()),
            None if is_of_caller(message) => self.taker_of_invite(message),
            None => Taker::Here,
        }
    }

    fn taker_of_leg(&self, leg: LegId, is_request: bool) -> Taker {
        if self.shared.leg(leg).is_some() {
            return Taker::Here;
        }
        let owner = owner_of(&self.shared.cluster.view(), leg, is_request);
        owner.filter(|owner| *owner != self.shared.node).map_or(Taker::Here, Taker::At)
    }

    /// An INVITE that begins a call, or its CANCEL. One whose transaction is not here may be a copy, of a caller that turned away
    /// from a node that was lost: then its call has an owner.
    fn taker_of_invite(&self, message: &Message) -> Taker {
        if self.table.knows(&ServerKey::of_invite(message)) {
            return Taker::Here;
        }
        let view = self.shared.cluster.view();
        match call::begun_by(&view, message) {
            None => Taker::Here,
            Some(call) if call.owner != self.shared.node => Taker::At(call.owner),
            // Too late to cancel, which is told.
            Some(call) if *message.method() == Method::Cancel && self.shared.call(call.id).is_some() => {
                Taker::Here
            }
            Some(_) => Taker::Nobody,
        }
    }

    pub(super) fn pass_on(&self, owner: NodeId, flow: &Flow, message: &Message) {
        metrics::counter!("tandem_sip_passed_on_total").increment(1);
        if flow.node != self.shared.node {
            // It was passed on to us already: two nodes that each take the other for the owner must not play ball.
            return;
        }
        let tell = Tell::Received { flow: flow.clone(), bytes: message.bytes().to_vec() };
        if let Err(error) = self.shared.cluster.tell_peer(owner, encode(&tell)) {
            tracing::debug!(%error, %owner, "a message was not passed on to its call's owner");
        }
    }

    /// As if the INVITE had come here; its call is there already.
    pub(super) fn adopt(&mut self, now_ms: u64, call: CallId, invite: Message, flow: Flow) {
        let adopted = ServerKey::of(&invite);
        self.invites.insert(adopted.clone(), call);
        self.table.receive(now_ms, FlowPeer(flow), invite);
        while let Some(output) = self.table.poll_output() {
            match output {
                Output::Request { key, .. } if key == adopted => {}
                other => self.carry_out(other),
            }
        }
    }

    pub(super) fn abandon(&mut self, abandoned: &Abandoned) {
        let Abandoned { calls, legs, requests } = abandoned;
        self.table.abandon(|branch| call::branch_leg(branch).is_some_and(|leg| legs.contains(&leg)));
        // A refusal to a phone's INVITE is repeated until its ACK comes.
        self.table.abandon_invites(|tag| call::leg_of_tag(tag).is_some_and(|leg| legs.contains(&leg)));
        let invites = self.invites.extract_if(|_, call| calls.contains(call)).map(|(invite, _)| invite);
        for key in invites.chain(requests.iter().cloned()) {
            self.table.forget(&key);
        }
    }

    /// The log has given a call to this node, where nobody goes on with it yet: 481 would end it for a phone.
    pub(super) fn is_on_its_way(&self, message: &Message) -> bool {
        let view = self.shared.cluster.view();
        let call = named_leg(message).and_then(|leg| view.call_of(leg));
        call.is_some_and(|call| call.owner == self.shared.node)
    }
}
