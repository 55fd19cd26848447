//! What phones heard, and what of it no phone may hear: two nodes under one epoch, a former owner after its successor, a
//! number twice or smaller than before.

use std::collections::{BTreeMap, BTreeSet};

use tandem_sip::message::Message;
use tandem_sip::method::Method;
use tandem_state::{CallEpoch, CallId, LegId, NodeId};
use tandem_switching::Call;
use tandem_switching::call::epoch_of_cseq;

use super::wire::Packet;
use crate::oracle::{Operation, OwnershipOp, OwnershipSaid};

/// What was done to one call.
pub(super) type History = Vec<Operation<OwnershipOp, OwnershipSaid>>;

/// What nodes asked in one dialog, by number.
type Asked = BTreeMap<u32, Message>;

/// Who looks at everything.
#[derive(Debug, Default)]
pub(super) struct Witness {
    legs: BTreeMap<LegId, CallId>,
    /// Who spoke for each call under each epoch, and since when.
    spoke: BTreeMap<CallId, BTreeMap<CallEpoch, (NodeId, u64)>>,
    asked: BTreeMap<String, Asked>,
    /// The greatest number that each node made in a dialog under an epoch, and the first that was not greater.
    made: BTreeMap<(String, NodeId, Option<CallEpoch>), Asked>,
    fell: Option<String>,
    /// How often each node made an answer to a request, by its Via.
    answered: BTreeMap<(String, NodeId), u32>,
    pub(super) histories: BTreeMap<CallId, History>,
    /// Entries that some replica has applied.
    pub(super) seen: u64,
    pub(super) created: BTreeSet<CallId>,
    /// Legs that the log has joined: of a phone that answered when its node was lost, the log may never hear.
    pub(super) joined: BTreeSet<LegId>,
    pub(super) cdrs: BTreeMap<CallId, Vec<bool>>,
    /// Calls in which both phones talked.
    pub(super) talked: BTreeSet<CallId>,
    pub(super) acts: usize,
}

impl Witness {
    pub(super) fn knows(&mut self, call: &Call) {
        self.legs.extend(call.leg_ids().map(|leg| (leg, call.id())));
    }

    pub(super) fn call_of(&self, leg: LegId) -> Option<CallId> {
        self.legs.get(&leg).copied()
    }

    /// A call becomes a node's, between two instants; without the latter, nobody heard of it.
    pub(super) fn takes(
        &mut self,
        call: CallId,
        node: NodeId,
        epoch: CallEpoch,
        called: u64,
        heard: Option<u64>,
    ) {
        let answered = heard.map(|at| (at, OwnershipSaid::Done));
        let op = OwnershipOp::Take(node, epoch);
        let history = self.histories.entry(call).or_default();
        match history.iter_mut().find(|known| known.op == op) {
            Some(known) => known.answered = known.answered.take().or(answered),
            None => history.push(Operation { called, answered, op }),
        }
    }

    /// A message leaves that a phone will hear. What one node sends by way of another counts from when its maker let it go.
    pub(super) fn left(
        &mut self,
        heard_ms: u64,
        by_way_of: NodeId,
        packet: &Packet,
        acts: bool,
    ) -> Result<(), String> {
        let (message, by, asked_ms) = (&packet.message, packet.by, packet.asked_ms);
        if is_numbered(message) {
            self.number_rises(packet, by_way_of)?;
        }
        // A copy of a request is given the answer that was made before.
        let made = self.answered.get(&(message.via_top_text().to_owned(), by));
        let is_copy = is_answer(message) && made.is_some_and(|made| *made > 1);
        let Some((call, epoch)) = packet.of.filter(|_| acts && !is_copy) else { return Ok(()) };
        self.acts += 1;
        let spoke = self.spoke.entry(call).or_default();
        let stranger = spoke.get(&epoch).filter(|(node, _)| *node != by).map(|spoke| (epoch, *spoke));
        let later = spoke.iter().rev().map(|(epoch, spoke)| (*epoch, *spoke));
        let later =
            later.take_while(|(other, _)| *other > epoch).find(|(_, (_, since_ms))| *since_ms < asked_ms);
        if let Some((other, (node, since_ms))) = stranger.or(later) {
            return Err(format!(
                "at {asked_ms} ms n{by} acts for call {call} under epoch {epoch} ({}, by way of n{by_way_of}), \
                 n{node} does under epoch {other} since {since_ms} ms",
                name_of(message)
            ));
        }
        spoke.entry(epoch).or_insert((by, asked_ms));
        let op = OwnershipOp::Act(by, epoch);
        let answered = Some((heard_ms, OwnershipSaid::Done));
        self.histories.entry(call).or_default().push(Operation { called: asked_ms, answered, op });
        Ok(())
    }

    /// An owner's numbers rise in the order in which it makes its requests.
    pub(super) fn made(&mut self, by: NodeId, packet: &Packet) {
        let message = &packet.message;
        if is_answer(message) {
            *self.answered.entry((message.via_top_text().to_owned(), by)).or_default() += 1;
        }
        if !is_numbered(message) {
            return;
        }
        let epoch = packet.of.map(|(_, epoch)| epoch);
        let made = self.made.entry((message.call_id().to_owned(), by, epoch)).or_default();
        let number = message.cseq().number;
        let falls = made.last_key_value().is_some_and(|(last, _)| *last > number);
        if made.insert(number, message.clone()).is_none() && falls {
            self.fell = Some(format!("n{by} makes {} after a greater number", name_of(message)));
        }
    }

    /// A request's number comes once, but for its copies, and none of a former owner comes after one of a later.
    fn number_rises(&mut self, packet: &Packet, by_way_of: NodeId) -> Result<(), String> {
        let (message, now_ms) = (&packet.message, packet.asked_ms);
        if let Some(fell) = self.fell.take() {
            return Err(fell);
        }
        let number = message.cseq().number;
        let asked = self.asked.entry(message.call_id().to_owned()).or_default();
        let copied = asked.get(&number);
        if let Some(before) = copied.filter(|before| before.bytes() != message.bytes()) {
            let (before, now) = (name_of(before), name_of(message));
            return Err(format!(
                "at {now_ms} ms a number comes twice in {}: {before} and {now}",
                message.call_id()
            ));
        }
        if let Some((last, _)) = asked.last_key_value()
            && by_way_of == packet.by
            && epoch_of_cseq(*last) > epoch_of_cseq(number)
        {
            return Err(format!(
                "at {now_ms} ms number {number} comes after {last} in {}",
                message.call_id()
            ));
        }
        asked.insert(number, message.clone());
        Ok(())
    }
}

/// Answers to anything but INVITE are given from memory.
fn is_answer(message: &Message) -> bool {
    message.is_response() && *message.method() != Method::Invite
}

fn is_numbered(message: &Message) -> bool {
    message.is_request() && !matches!(message.method(), Method::Ack | Method::Cancel)
}

pub(super) fn name_of(message: &Message) -> String {
    let status = message.status().map(|status| format!("{status} to ")).unwrap_or_default();
    format!("{status}{} {}", message.method().as_str(), message.cseq().number)
}
