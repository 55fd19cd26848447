//! Calls that begin here, and calls that come here: `actors::invite`, `actors::takeover` and `actors::follower`, modelled.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use tandem_sip::message::Message;
use tandem_sip::transaction::ServerKey;
use tandem_sip::uri::Uri;
use tandem_state::{
    self as state, CallDirection, CallEpoch, CallId, CallPhase, Event, EventKind, Flow, InteractionId,
    LegDirection, LegId, LegRecord, NodeEpoch, NodeId, Party, TenantId,
};
use tandem_switching::Call;
use tandem_switching::call::{
    Input, Interrupted, Settings, Setup, SetupTarget, TakenLeg, Takeover, Way, invite_of, legs_of,
};
use tandem_switching::routing::{self, Here, Target};

use super::process::Held;
use super::shell::lost_call;
use super::work::{Sim, ToNode, flow};

/// The one tenant.
const TENANT: TenantId = TenantId(1);

impl Sim {
    fn draw(&mut self, id: NodeId) -> u128 {
        (u128::from(id.0) << 64) | u128::from(self.random.number())
    }

    fn settings() -> Settings {
        Settings { ring_ms: 20_000, ..Settings::default() }
    }

    fn node_epoch(&self, id: NodeId) -> NodeEpoch {
        self.state(id).nodes.get(&id).map_or(NodeEpoch(0), |record| record.epoch)
    }

    pub(super) fn begin_call(&mut self, id: NodeId, key: ServerKey, invite: Message, from: Flow) {
        let dialled =
            Uri::parse(invite.to().uri).ok().and_then(|uri| uri.user_text().map(|user| user.into_owned()));
        let Some(dialled) = dialled else { return };
        let caller = self.work.phones.iter().find(|phone| phone.address == from.remote);
        let Some(caller) = caller.map(|phone| phone.number.clone()) else { return };
        let (call, leg) = (CallId(self.draw(id)), LegId(self.draw(id)));
        let targets = self.targets(id, &dialled);
        let node_epoch = self.node_epoch(id);
        let setup = Setup {
            id: call,
            interaction: InteractionId(call.0),
            tenant: TENANT,
            domain: "acme.example".to_owned(),
            node: id,
            node_epoch,
            direction: CallDirection::Internal,
            from: party(&caller),
            to: party(&dialled),
            sent_by: routing::sent_by(self.state(id), &from),
            invite,
            key: key.clone(),
            flow: from,
            leg,
            media: media(id, 0),
            targets,
            settings: Sim::settings(),
            keeps_invite: true,
        };
        if let Ok(machine) = Call::new(self.now(id), setup) {
            self.process(id).invites.insert(key, call);
            self.hold(id, Held { machine, node_epoch, epoch: CallEpoch(1) });
        }
    }

    fn hold(&mut self, id: NodeId, held: Held) {
        if held.epoch == CallEpoch(1) {
            let now_ms = self.agenda.now_ms();
            self.work.witness.takes(held.machine.id(), id, held.epoch, now_ms, None);
        }
        self.work.witness.knows(&held.machine);
        self.process(id).hold(held);
    }

    /// Whom a number rings: its one phone.
    fn targets(&mut self, id: NodeId, number: &str) -> Vec<SetupTarget> {
        let phone = self.work.phones.iter().find(|phone| phone.number == number);
        let Some((contact, home)) = phone.map(|phone| (phone.contact(), flow(phone.home, phone.address)))
        else {
            return Vec::new();
        };
        let leg = LegId(self.draw(id));
        let way = self.ways(id, number, &contact, &home).into_iter().next();
        let target = way.map(|way| Target {
            contact,
            path: vec![],
            flow: way.flow,
            sent_by: way.sent_by,
            next: vec![],
        });
        target.map(|target| SetupTarget { leg, media: media(id, 1), target }).into_iter().collect()
    }

    fn ways(&self, id: NodeId, number: &str, contact: &str, flow: &Flow) -> Vec<Way> {
        let here = Here { node: id, udp: vec![super::work::flow(id, flow.remote).local] };
        routing::ways(self.state(id), &here, TENANT, &routing::Phone { number, contact, flow })
    }

    fn ways_of(&self, id: NodeId, record: &LegRecord) -> Vec<Way> {
        self.ways(id, &record.party.number, &record.dialog.remote_target, &record.flow)
    }

    // ---- what happens in the log ----

    pub(super) fn follow(&mut self, id: NodeId, events: &[Event]) {
        for event in events {
            match &event.kind {
                EventKind::CallCreated(facts)
                    if facts.node == id && !self.process(id).calls.contains_key(&facts.id) =>
                {
                    self.node_happens(0, 0, id, ToNode::EndInLog(facts.id));
                }
                EventKind::NodeDraining(node, on) if *node == id => self.follow_drain(id, *on),
                EventKind::NodeDown(node, _) => self.flow_node_lost(id, node.id),
                _ => {}
            }
        }
        self.lose_calls(id, events.iter().filter_map(|event| lost_call(id, &event.kind)).collect());
        self.process(id).forget_finished();
        for event in events {
            if let EventKind::CallMoved(facts, moved) = &event.kind
                && facts.node == id
            {
                self.take_over(id, facts.id, moved.is_proven);
            }
        }
    }

    /// Makes this node's calls those that the log says.
    pub(super) fn reconcile(&mut self, id: NodeId) {
        let recorded = self.process(id).calls.iter().filter(|(_, held)| held.machine.is_recorded());
        let recorded: Vec<CallId> = recorded.map(|(call, _)| *call).collect();
        let is_lost = |call: &CallId| self.state(id).calls.get(call).is_none_or(|call| call.owner != id);
        let lost: BTreeSet<CallId> = recorded.into_iter().filter(is_lost).collect();
        self.lose_calls(id, lost);
        let draining = self.state(id).draining.contains_key(&id);
        self.follow_drain(id, draining);
        let owned: Vec<state::Call> =
            self.state(id).calls.values().filter(|call| call.owner == id).cloned().collect();
        for call in owned {
            match self.state(id).is_movable(&call) {
                true if self.state(id).is_down(id) => {}
                true => self.take_over(id, call.id, false),
                false if !self.process(id).calls.contains_key(&call.id) => self.end_in_log(id, call.id),
                false => {}
            }
        }
    }

    /// Legs that reach their phones by a node that is lost try other ways.
    fn flow_node_lost(&mut self, id: NodeId, node: NodeId) {
        let held = self.work.processes.get(&id).into_iter().flat_map(|process| &process.calls);
        let legs = held.flat_map(|(call, held)| held.machine.legs_by(node).map(|leg| (*call, leg)));
        let found: Vec<(CallId, LegId, Vec<Way>)> = legs
            .map(|(call, leg)| {
                let phone = leg.phone();
                (call, leg.id, self.ways(id, phone.number, phone.contact, phone.flow))
            })
            .collect();
        for (call, leg, ways) in found {
            self.input(id, call, Input::FlowLost { leg, ways });
        }
    }

    /// Goes on with a call that is this node's since the log said so.
    fn take_over(&mut self, id: NodeId, call: CallId, is_proven: bool) {
        let owned = self.state(id).calls.get(&call).filter(|call| call.owner == id).cloned();
        let Some(call) = owned.filter(|call| !self.process(id).calls.contains_key(&call.id)) else { return };
        let node_epoch = self.node_epoch(id);
        let machine = match call.phase {
            CallPhase::Answered | CallPhase::Held => self.go_on(id, &call, node_epoch, is_proven),
            CallPhase::Trying | CallPhase::Ringing => self.ring_anew(id, &call, node_epoch),
        };
        match machine {
            Some(machine) => {
                self.work.report.taken_over += 1;
                self.hold(id, Held { machine, node_epoch, epoch: call.epoch });
            }
            None => self.end_in_log(id, call.id),
        }
    }

    fn go_on(&self, id: NodeId, call: &state::Call, node_epoch: NodeEpoch, is_proven: bool) -> Option<Call> {
        let legs = legs_of(self.state(id), call).filter(|leg| call.bridge.contains_key(&leg.id)).cloned();
        let legs = legs.map(|record| TakenLeg {
            media: media(id, u16::from(record.direction == LegDirection::Out)),
            ways: self.ways_of(id, &record),
            record,
        });
        let takeover = Takeover {
            call: state::Call { epoch: self.work.mutant.numbered(call.epoch), ..call.clone() },
            legs: legs.collect(),
            node: id,
            node_epoch,
            is_proven,
            settings: Sim::settings(),
            invite: invite_of(self.state(id), call),
        };
        Call::take_over(self.now(id), takeover)
    }

    fn ring_anew(&mut self, id: NodeId, call: &state::Call, node_epoch: NodeEpoch) -> Option<Call> {
        let invite = invite_of(self.state(id), call)?;
        let (caller, rang): (Vec<LegRecord>, Vec<LegRecord>) =
            legs_of(self.state(id), call).cloned().partition(|leg| leg.direction == LegDirection::In);
        let caller = caller.into_iter().next()?;
        let way = self.ways_of(id, &caller).into_iter().next()?;
        let rang = rang.into_iter().filter_map(|leg| {
            let way = self.ways_of(id, &leg).into_iter().next()?;
            Some((leg, way))
        });
        let rang = rang.collect();
        let targets = self.targets(id, &call.to.number);
        let setup = Setup {
            id: call.id,
            interaction: call.interaction,
            tenant: TENANT,
            domain: "acme.example".to_owned(),
            node: id,
            node_epoch,
            direction: call.direction,
            from: call.from.clone(),
            to: call.to.clone(),
            key: ServerKey::of(&invite),
            invite,
            flow: way.flow,
            sent_by: way.sent_by,
            leg: caller.id,
            media: media(id, 0),
            targets,
            settings: Sim::settings(),
            keeps_invite: true,
        };
        let record = state::Call { epoch: self.work.mutant.numbered(call.epoch), ..call.clone() };
        let lost = Interrupted { call: record, rang, is_caller_lost: false };
        Call::dial_again(self.now(id), setup, lost).ok()
    }
}

fn party(number: &str) -> Party {
    Party { number: number.to_owned(), name: String::new() }
}

/// A node's media, by which phones are told where to send theirs.
fn media(id: NodeId, end: u16) -> SocketAddr {
    ([127, 0, 0, u8::try_from(id.0).unwrap_or(0)], 40_000 + 2 * end).into()
}
