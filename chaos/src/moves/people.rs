//! Who calls whom, and what their phones hear.

use tandem_sip::message::Message;
use tandem_state::{CallEpoch, CallId, NodeId, State};
use tandem_switching::call::Input;

use super::phone::{Dialog, Phone, Sent, Stage};
use super::work::{Happens, Sim, ToNode};

/// Phones of a run at most: their numbers end an address.
const PHONES_MAX: usize = 200;

impl Sim {
    pub(super) fn dial(&mut self) {
        if self.is_peace() || self.work.phones.len() + 2 > PHONES_MAX {
            return;
        }
        self.happens(300, 3_000, Happens::Dial);
        let now_ms = self.agenda.now_ms();
        let serves = |id: &NodeId| {
            self.work.processes.get(id).is_some_and(|process| process.serves && !process.draining)
        };
        let able: Vec<NodeId> = self
            .nodes
            .values()
            .filter(|node| node.is_heard(now_ms))
            .map(|node| node.id)
            .filter(serves)
            .collect();
        let (Some(home), Some(other)) = (self.random.pick(&able).copied(), self.random.pick(&able).copied())
        else {
            return;
        };
        let (caller, nth) =
            (self.work.phones.len(), u8::try_from(self.work.phones.len()).unwrap_or(u8::MAX) + 1);
        for (nth, home, is_caller) in [(nth, home, true), (nth + 1, other, false)] {
            let talk_ms = self.random.between(1_000, 20_000);
            self.work.phones.push(Phone::new(nth, home, is_caller, talk_ms));
        }
        let callee = (100 + u32::from(nth) + 1).to_string();
        self.phone(caller, |phone, now_ms, random| phone.call(now_ms, &callee, random));
    }

    pub(super) fn phone_wakes(&mut self, nth: usize, armed: u64) {
        if self.work.phones.get(nth).is_some_and(|phone| phone.armed == armed) {
            self.phone(nth, Phone::wakes);
        }
    }

    /// A phone whose other end still talks is not left alone.
    pub(super) fn phone_hears(&mut self, nth: usize, from: NodeId, message: &Message) -> Result<(), String> {
        let talks = |sim: &Sim| {
            let dialog = sim.work.phones.get(nth)?.dialog(message.call_id())?;
            let leg = dialog.leg().filter(|leg| sim.work.witness.joined.contains(leg))?;
            let call = sim.newest().calls.get(&sim.work.witness.call_of(leg)?)?.id;
            (dialog.stage == Stage::Talking && sim.both_talk(call)).then_some(call)
        };
        let talked = talks(self);
        self.phone(nth, |phone, now_ms, random| phone.hears(now_ms, from, message, random));
        if let Some(call) = talked.or_else(|| talks(self)) {
            self.work.witness.talked.insert(call);
        }
        match talked {
            Some(call) if talks(self).is_none() => Err(format!(
                "at {} ms call {call} ends for {} by {} {} of n{from} while both talk",
                self.agenda.now_ms(),
                self.work.phones.get(nth).map_or("", |phone| &phone.number),
                message.status().unwrap_or_default(),
                message.method().as_str(),
            )),
            _ => Ok(()),
        }
    }

    fn phone(
        &mut self,
        nth: usize,
        act: impl FnOnce(&mut Phone, u64, &mut crate::world::Random) -> Vec<Sent>,
    ) {
        let now_ms = self.agenda.now_ms();
        let Some(phone) = self.work.phones.get_mut(nth) else { return };
        let sent = act(phone, now_ms, &mut self.random);
        phone.armed += 1;
        let (armed, due_ms) = (phone.armed, phone.poll_timeout());
        for (to, message) in sent {
            self.phone_says(nth, to, message);
        }
        if let Some(due_ms) = due_ms {
            let wait_ms = due_ms.saturating_sub(now_ms);
            self.happens(wait_ms, wait_ms, Happens::Phone(nth, armed));
        }
    }

    /// The log as who has applied most of it knows it.
    fn newest(&self) -> &State {
        let newest = self.nodes.values().map(|node| &node.state).max_by_key(|state| state.position);
        newest.expect("a world has nodes")
    }

    fn dialogs_of(&self, call: CallId) -> impl Iterator<Item = (bool, &Dialog)> {
        let all = self.work.phones.iter();
        let all = all.flat_map(|phone| phone.dialogs().map(|dialog| (phone.is_caller, dialog)));
        all.filter(move |(_, dialog)| {
            dialog.leg().and_then(|leg| self.work.witness.call_of(leg)) == Some(call)
        })
    }

    /// Whether neither phone of a call has hung up.
    pub(super) fn both_talk(&self, call: CallId) -> bool {
        let talks = |caller: bool| {
            self.dialogs_of(call)
                .any(|(is_caller, dialog)| is_caller == caller && dialog.stage == Stage::Talking)
        };
        talks(true) && talks(false)
    }

    /// A node that has a call whose media goes elsewhere, and that is another's by the log, hears nothing of it; a real one
    /// takes that for the end after a while.
    pub(super) fn listen(&mut self) {
        self.happens(700, 1_000, Happens::Listen);
        let newest = self.newest();
        let mut silent: Vec<(NodeId, CallId, CallEpoch)> = Vec::new();
        for (id, process) in &self.work.processes {
            let stale = |call: &CallId| newest.calls.get(call).is_some_and(|record| record.owner != *id);
            let heard = |call: &CallId| self.dialogs_of(*call).any(|(_, dialog)| dialog.media == Some(*id));
            let calls = process.calls.iter().filter(|(call, _)| stale(call) && !heard(call));
            silent.extend(calls.map(|(call, held)| (*id, *call, held.epoch)));
        }
        for (id, call, had) in silent {
            if self.random.chance(500) {
                self.node_happens(0, 0, id, ToNode::Input(call, had, Input::MediaSilent));
            }
        }
    }

    /// Once there is peace, everybody has talked enough, and no node is emptied.
    pub(super) fn keep_peace(&mut self) {
        if !self.is_peace() || self.work.calm {
            return;
        }
        self.work.calm = true;
        let now_ms = self.agenda.now_ms();
        for nth in 0..self.work.phones.len() {
            let wait_ms = self.random.between(0, 6_000);
            if let Some(phone) = self.work.phones.get_mut(nth) {
                phone.is_tired(now_ms + wait_ms);
            }
            self.phone(nth, |_, _, _| Vec::new());
        }
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for id in ids {
            self.happens(0, 0, Happens::Undrain(id));
        }
    }
}
