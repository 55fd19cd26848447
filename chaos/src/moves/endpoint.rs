//! What `actors::endpoint` is around the real table of transactions, modelled without its limits, metrics and registrations:
//! which node a message is for, what a node without a lease says, and which transactions end with a call or a lease.

use std::collections::BTreeSet;

use tandem_sip::build::ResponseBuilder;
use tandem_sip::message::Message;
use tandem_sip::method::Method;
use tandem_sip::transaction::{ClientKey, Key, Output, ServerKey};
use tandem_state::lease::Belief;
use tandem_state::{CallEpoch, CallId, Flow, LegId, NodeEpoch, NodeId};
use tandem_switching::Machine;
use tandem_switching::authority::owner_of;
use tandem_switching::call::{self, Input, named_leg};

use super::process::FlowPeer;
use super::wire::Tell;
use super::work::{Sim, ToNode};

impl Sim {
    /// A message came, from a phone or passed on by another node.
    pub(super) fn incoming(&mut self, id: NodeId, flow: Flow, message: Message) {
        if !self.process(id).serves {
            return;
        }
        self.follow_lease(id);
        let message = if message.is_request() { message.stamped(flow.remote) } else { message };
        match self.taker(id, &message) {
            Some(owner) if owner == id => {
                let now_ms = self.now(id).steady_ms;
                self.process(id).table.receive(now_ms, FlowPeer(flow), message);
            }
            Some(owner) => self.pass_on(id, owner, flow, message),
            None => {}
        }
    }

    /// Which node takes a message; nobody does while nobody goes on with its call yet.
    fn taker(&mut self, id: NodeId, message: &Message) -> Option<NodeId> {
        let Some(leg) = named_leg(message) else { return self.taker_of_invite(id, message) };
        if self.process(id).legs.contains_key(&leg) {
            return Some(id);
        }
        owner_of(self.state(id), leg, message.is_request()).or(Some(id))
    }

    fn taker_of_invite(&mut self, id: NodeId, message: &Message) -> Option<NodeId> {
        let of_caller = message.is_request() && matches!(message.method(), Method::Invite | Method::Cancel);
        if !of_caller || self.process(id).table.knows(&ServerKey::of_invite(message)) {
            return Some(id);
        }
        let begun = call::begun_by(self.state(id), message).map(|call| (call.id, call.owner));
        let Some((call, owner)) = begun else { return Some(id) };
        let late = *message.method() == Method::Cancel && self.process(id).calls.contains_key(&call);
        (owner != id || late).then_some(owner)
    }

    pub(super) fn pass_on(&mut self, id: NodeId, owner: NodeId, flow: Flow, message: Message) {
        if flow.node == id {
            self.tell(id, owner, Tell::Received(flow, message));
        }
    }

    /// A lease of a new epoch: nothing more is asked for the calls of the former one, nor answered.
    pub(super) fn follow_lease(&mut self, id: NodeId) {
        let Some(epoch) = self.lease_epoch(id) else { return };
        let process = self.process(id);
        if process.epoch.replace(epoch).is_some_and(|former| former != epoch) {
            process.table.abandon(|branch| call::branch_leg(branch).is_some());
            process.table.abandon_invites(|tag| call::leg_of_tag(tag).is_some());
            for (key, _) in std::mem::take(&mut process.invites) {
                process.table.forget(&key);
            }
            let calls: Vec<CallId> = process.calls.keys().copied().collect();
            calls.into_iter().for_each(|call| self.input(id, call, Input::Leased { epoch }));
        }
        if !self.holds(id) {
            return;
        }
        for (flow, message) in std::mem::take(&mut self.process(id).byes) {
            self.offer(id, flow, message);
        }
    }

    /// A BYE that was answered while this node might not act for its call.
    fn offer(&mut self, id: NodeId, flow: Flow, message: Message) {
        let Some(leg) = named_leg(&message) else { return };
        match owner_of(self.state(id), leg, true) {
            Some(owner) if owner != id => self.pass_on(id, owner, flow, message),
            Some(_) => {
                let key = ServerKey::of(&message);
                self.tell_leg(id, leg, Input::Request { leg, key, message, flow });
            }
            None => {}
        }
    }

    pub(super) fn lease_epoch(&self, id: NodeId) -> Option<NodeEpoch> {
        match self.nodes.get(&id)?.belief() {
            Belief::None => None,
            Belief::Always(epoch) | Belief::Until { epoch, .. } => Some(epoch),
        }
    }

    /// Whether this node's lease is still the one under which it has a call.
    pub(super) fn acts_under(&self, id: NodeId, epoch: NodeEpoch) -> bool {
        let acts = self.lease_epoch(id).is_none_or(|current| current == epoch);
        acts || self.work.mutant == super::Mutant::AuthorityNotAsked
    }

    // ---- what the table asks for ----

    pub(super) fn table_asks(&mut self, id: NodeId, output: Output<FlowPeer>) {
        match output {
            Output::Send { peer, bytes } => {
                if let Ok(message) = Message::parse(bytes) {
                    self.send(id, peer.0, message);
                }
            }
            Output::Request { key, message, peer } => self.new_request(id, key, message, peer.0),
            Output::Response { message, .. } => {
                if let Some(leg) = named_leg(&message) {
                    self.tell_leg(id, leg, Input::Response { leg, message });
                }
            }
            Output::Ack { message, .. } => {
                if let Some(leg) = named_leg(&message) {
                    self.tell_leg(id, leg, Input::Acknowledged { leg, message });
                }
            }
            Output::Cancel { invite, .. } => {
                if let Some(call) = self.process(id).invites.get(&invite).copied() {
                    self.input(id, call, Input::Cancelled);
                }
            }
            Output::Timeout { key: Key::Client(key) }
            | Output::TransportError { key: Key::Client(key), .. } => {
                self.unanswered(id, &key);
            }
            Output::Timeout { key: Key::Server(_) } | Output::TransportError { key: Key::Server(_), .. } => {}
            Output::Stray { .. } => {}
        }
    }

    fn unanswered(&mut self, id: NodeId, key: &ClientKey) {
        let Some(leg) = call::branch_leg(key.branch()) else { return };
        let number = key.branch().rsplit_once('-').map(|(_, hex)| u32::from_str_radix(hex, 16));
        let (method, cseq) = (key.method(), number.and_then(Result::ok).unwrap_or(0));
        self.tell_leg(id, leg, Input::Unanswered { leg, method, cseq });
    }

    fn new_request(&mut self, id: NodeId, key: ServerKey, message: Message, flow: Flow) {
        if !self.holds(id) && self.work.mutant != super::Mutant::AuthorityNotAsked {
            return self.fenced(id, &key, message, flow);
        }
        if message.to().tag().is_some() {
            return self.in_dialog(id, key, message, flow);
        }
        match message.method() {
            Method::Invite if self.process(id).draining => self.answer_once(id, &key, &message, 503),
            Method::Invite => self.begin_call(id, key, message, flow),
            Method::Ack => {}
            _ => self.answer(id, &key, &message, 481),
        }
    }

    /// What may be said without a lease: 503, and 200 to who hangs up, of which the call's owner hears later.
    fn fenced(&mut self, id: NodeId, key: &ServerKey, message: Message, flow: Flow) {
        match message.method() {
            Method::Ack => {}
            Method::Bye if message.to().tag().is_some() => {
                self.answer(id, key, &message, 200);
                self.process(id).byes.push((flow, message));
            }
            _ => self.answer_once(id, key, &message, 503),
        }
    }

    fn in_dialog(&mut self, id: NodeId, key: ServerKey, message: Message, flow: Flow) {
        let leg = named_leg(&message).filter(|leg| self.process(id).legs.contains_key(leg));
        match leg {
            Some(leg) => self.tell_leg(id, leg, Input::Request { leg, key, message, flow }),
            None if self.is_on_its_way(id, &message) => self.process(id).table.forget(&key),
            None => self.answer(id, &key, &message, 481),
        }
    }

    /// The log has given a call to this node, where nobody goes on with it yet.
    fn is_on_its_way(&self, id: NodeId, message: &Message) -> bool {
        let call = named_leg(message).and_then(|leg| self.state(id).call_of(leg));
        call.is_some_and(|call| call.owner == id)
    }

    fn response(&mut self, id: NodeId, request: &Message, status: u16) -> Option<Message> {
        let tag = self.process(id).table.stateless_tag(request);
        ResponseBuilder::to(request, status, &tag).build().ok()
    }

    fn answer(&mut self, id: NodeId, key: &ServerKey, request: &Message, status: u16) {
        if let Some(response) = self.response(id, request, status) {
            self.respond(id, key, response);
        }
    }

    fn answer_once(&mut self, id: NodeId, key: &ServerKey, request: &Message, status: u16) {
        let now_ms = self.now(id).steady_ms;
        if let Some(response) = self.response(id, request, status) {
            let _gone = self.process(id).table.respond_once(now_ms, key, response);
        }
    }

    pub(super) fn respond(&mut self, id: NodeId, key: &ServerKey, response: Message) {
        let now_ms = self.now(id).steady_ms;
        let process = self.process(id);
        if response.status().is_some_and(|status| status >= 200) {
            process.invites.remove(key);
        }
        let _gone = process.table.respond(now_ms, key, response);
    }

    /// As if the INVITE had come here; its call is there already.
    pub(super) fn adopt(&mut self, id: NodeId, call: CallId, invite: Message, flow: Flow) {
        let (adopted, now_ms) = (ServerKey::of(&invite), self.now(id).steady_ms);
        let process = self.process(id);
        process.invites.insert(adopted.clone(), call);
        process.table.receive(now_ms, FlowPeer(flow), invite);
        while let Some(output) = self.process(id).table.poll_output() {
            match output {
                Output::Request { key, .. } if key == adopted => {}
                other => self.table_asks(id, other),
            }
        }
    }

    /// These calls are no longer this node's.
    pub(super) fn abandon(&mut self, id: NodeId, calls: &BTreeSet<CallId>, legs: &BTreeSet<LegId>) {
        let process = self.process(id);
        process.table.abandon(|branch| call::branch_leg(branch).is_some_and(|leg| legs.contains(&leg)));
        process.table.abandon_invites(|tag| call::leg_of_tag(tag).is_some_and(|leg| legs.contains(&leg)));
        for key in process.invites.iter().filter(|(_, call)| calls.contains(call)).map(|(key, _)| key) {
            process.table.forget(key);
        }
        process.invites.retain(|_, call| !calls.contains(call));
    }

    // ---- the loop ----

    pub(super) fn tell_leg(&mut self, id: NodeId, leg: LegId, input: Input) {
        if let Some(call) = self.process(id).legs.get(&leg).copied() {
            self.input(id, call, input);
        }
    }

    /// Tells a call something that is meant for one ownership of it.
    pub(super) fn input_of(&mut self, id: NodeId, call: CallId, had: CallEpoch, input: Input) {
        if self.process(id).calls.get(&call).is_some_and(|held| held.epoch == had) {
            self.input(id, call, input);
        }
    }

    pub(super) fn input(&mut self, id: NodeId, call: CallId, input: Input) {
        let now = self.now(id);
        if let Some(held) = self.process(id).calls.get_mut(&call) {
            held.machine.handle_input(now, input);
        }
    }

    /// Carries out what is asked for until nothing is, and sets the timer.
    pub(super) fn settle(&mut self, id: NodeId) {
        if !self.work.processes.contains_key(&id) {
            return;
        }
        loop {
            if let Some(output) = self.process(id).table.poll_output() {
                self.table_asks(id, output);
            } else if let Some((call, output)) = self.process(id).next_output() {
                self.call_asks(id, call, output);
            } else {
                break;
            }
        }
        let now_ms = self.now(id).steady_ms;
        let process = self.process(id);
        process.forget_finished();
        process.armed += 1;
        let (armed, due_ms) = (process.armed, process.poll_timeout());
        if let (Some(due_ms), Some(node)) = (due_ms, self.nodes.get(&id)) {
            let wait_ms = node.real_span(due_ms.saturating_sub(now_ms));
            self.node_happens(wait_ms, wait_ms + 2, id, ToNode::Timer(armed));
        }
    }

    pub(super) fn timer(&mut self, id: NodeId, armed: u64) {
        let now = self.now(id);
        if self.process(id).armed != armed {
            return;
        }
        self.follow_lease(id);
        let process = self.process(id);
        process.table.handle_timeout(now.steady_ms);
        let due = |held: &&mut super::process::Held| {
            held.machine.poll_timeout().is_some_and(|at| at <= now.steady_ms)
        };
        process.calls.values_mut().filter(due).for_each(|held| held.machine.handle_timeout(now));
    }
}
