//! INFO (RFC 6086) passes as it is: digits of phones that send them so. It has nothing to do with offers, and several may
//! be on their way.

use tandem_sip::header::Header;
use tandem_sip::message::Message;
use tandem_sip::method::Method;
use tandem_sip::transaction::ServerKey;
use tandem_state::LegId;

use super::{Call, Phase};
use crate::machine::Now;
use crate::refusal;

/// INFOs on their way at once; one more is told to come later.
const INFOS_MAX: usize = 8;

/// An INFO that was passed on and waits.
#[derive(Debug, Clone)]
pub(super) struct Passed {
    from: LegId,
    to: LegId,
    key: ServerKey,
    request: Message,
    /// Of our request to `to`.
    cseq: u32,
}

impl Call {
    pub(super) fn pass_info(&mut self, id: LegId, key: ServerKey, message: Message) {
        let peer = self.peer_of(id).filter(|_| matches!(self.phase, Phase::Talking { .. }));
        let (Some(peer), true) = (peer, self.infos.len() < INFOS_MAX) else {
            return self.refuse(id, key, &message, 500, Some(1));
        };
        let body = std::str::from_utf8(message.body()).ok().filter(|body| !body.is_empty());
        let kind = message.header(Header::ContentType).unwrap_or("application/dtmf-relay").to_owned();
        let Some(cseq) = self.ask(peer, &Method::Info, body.map(|body| (kind.as_str(), body))) else {
            return self.refuse(id, key, &message, 500, None);
        };
        self.infos.push(Passed { from: id, to: peer, key, request: message, cseq });
    }

    pub(super) fn info_response(&mut self, now: Now, id: LegId, cseq: u32, message: &Message) {
        match message.status().unwrap_or(500) {
            0..=199 => {}
            status => self.info_answered(now, id, cseq, status),
        }
    }

    pub(super) fn info_unanswered(&mut self, now: Now, id: LegId, cseq: u32) {
        self.info_answered(now, id, cseq, 408);
    }

    /// The numbers of those that wait for this leg's answer.
    pub(super) fn asked_infos(&self, id: LegId) -> Vec<u32> {
        self.infos.iter().filter(|passed| passed.to == id).map(|passed| passed.cseq).collect()
    }

    pub(super) fn info_answered(&mut self, now: Now, id: LegId, cseq: u32, status: u16) {
        let Some(at) = self.infos.iter().position(|passed| passed.to == id && passed.cseq == cseq) else {
            return;
        };
        let passed = self.infos.remove(at);
        self.refuse(passed.from, passed.key, &passed.request, refusal::passed_on(status), None);
        self.dialog_lost(now, id, status);
    }

    /// Takes those that wait for an answer of ours.
    pub(super) fn open_infos(&mut self) -> Vec<(LegId, ServerKey, Message)> {
        let open = std::mem::take(&mut self.infos);
        open.into_iter().map(|passed| (passed.from, passed.key, passed.request)).collect()
    }
}
