//! A phone with its dialogs. It answers what it is asked, asks now and then itself, hangs up when it has talked enough, and
//! sends all this to the node that it was told last. Repeats of what is not answered are its own, as RFC 3261 has them.

mod dialog;
mod text;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tandem_sip::message::Message;
use tandem_sip::method::Method;
use tandem_state::{LegId, NodeId};
use tandem_switching::call::leg_of_tag;

use crate::world::Random;
pub(super) use dialog::{Dialog, Stage};
use text::Text;

/// A message and the node that it goes to.
pub(super) type Sent = (NodeId, Message);

/// One phone.
#[derive(Debug)]
pub(super) struct Phone {
    pub(super) address: SocketAddr,
    pub(super) number: String,
    /// The node that it has its flow to while nothing else is said.
    pub(super) home: NodeId,
    pub(super) is_caller: bool,
    /// How long it wants to talk.
    talk_ms: u64,
    dialogs: BTreeMap<String, Dialog>,
    /// How often its timer was set: an older one that fires means nothing.
    pub(super) armed: u64,
}

impl Phone {
    pub(super) fn new(nth: u8, home: NodeId, is_caller: bool, talk_ms: u64) -> Phone {
        Phone {
            address: ([192, 0, 2, nth], 5060).into(),
            number: (100 + u32::from(nth)).to_string(),
            home,
            is_caller,
            talk_ms,
            dialogs: BTreeMap::new(),
            armed: 0,
        }
    }

    pub(super) fn contact(&self) -> String {
        format!("sip:{}@{}", self.number, self.address)
    }

    /// Calls another one.
    pub(super) fn call(&mut self, now_ms: u64, callee: &str, random: &mut Random) -> Vec<Sent> {
        let id = format!("c{}-{}", self.number, self.dialogs.len());
        let mut dialog = Dialog::calling(id.clone(), &self.text(), self.home, callee);
        dialog.gives_up_ms =
            Some(now_ms + if random.chance(100) { random.between(200, 4_000) } else { 60_000 });
        let sent = dialog.begin_invite(now_ms, &self.text());
        self.dialogs.insert(id, dialog);
        sent
    }

    fn text(&self) -> Text {
        Text { number: self.number.clone(), address: self.address }
    }

    /// A node said something.
    pub(super) fn hears(
        &mut self,
        now_ms: u64,
        from: NodeId,
        message: &Message,
        random: &mut Random,
    ) -> Vec<Sent> {
        let (text, talk_ms) = (self.text(), self.talk_ms);
        let known = self.dialogs.get_mut(message.call_id());
        if message.is_response() {
            let answers = known.map(|dialog| dialog.is_answered(now_ms, message, &text, talk_ms, random));
            return answers.unwrap_or_default();
        }
        let answers = match known {
            Some(dialog) => dialog.is_asked(now_ms, message, &text, talk_ms, random),
            None if *message.method() == Method::Invite && message.to().tag().is_none() => {
                let mut dialog = Dialog::called(message, &text, from);
                let answers = dialog.rings(now_ms, message, &text, random);
                self.dialogs.insert(message.call_id().to_owned(), dialog);
                answers
            }
            None if *message.method() == Method::Ack => Vec::new(),
            None => text.response(message, 481, None).into_iter().collect(),
        };
        answers.into_iter().map(|answer| (from, answer)).collect()
    }

    /// Its time has come.
    pub(super) fn wakes(&mut self, now_ms: u64, random: &mut Random) -> Vec<Sent> {
        let text = self.text();
        let dialogs = self.dialogs.values_mut();
        dialogs.flat_map(|dialog| dialog.wakes(now_ms, &text, random)).collect()
    }

    pub(super) fn poll_timeout(&self) -> Option<u64> {
        self.dialogs.values().filter_map(Dialog::poll_timeout).min()
    }

    /// It has talked enough by then.
    pub(super) fn is_tired(&mut self, at_ms: u64) {
        for dialog in self.dialogs.values_mut() {
            dialog.leaves_ms = dialog.leaves_ms.map(|at| at.min(at_ms));
            dialog.gives_up_ms = dialog.gives_up_ms.map(|at| at.min(at_ms));
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.dialogs.values().all(Dialog::is_done)
    }

    pub(super) fn dialogs(&self) -> impl Iterator<Item = &Dialog> {
        self.dialogs.values()
    }

    pub(super) fn dialog(&self, call_id: &str) -> Option<&Dialog> {
        self.dialogs.get(call_id)
    }
}

impl Dialog {
    /// The switch's leg that it talks to, once it knows.
    pub(super) fn leg(&self) -> Option<LegId> {
        let (_, tag) = self.far.split_once(";tag=")?;
        leg_of_tag(tag)
    }
}
