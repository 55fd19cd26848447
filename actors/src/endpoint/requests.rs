//! Requests that made a server transaction: to whom each goes, and what the switch answers outside of calls.

use tandem_sip::build::ResponseBuilder;
use tandem_sip::header::Header;
use tandem_sip::message::Message;
use tandem_sip::method::Method;
use tandem_sip::transaction::ServerKey;
use tandem_state::{Flow, Transport};
use tandem_switching::call::{self, named_leg};

use super::Serving;
use crate::answers::{build, build_tagged};

/// BYEs that are kept for the owners of their calls, of one time without a lease.
const BYES_MAX: usize = 4_000;

/// When a phone may try again at a node without a quorum (an election takes about one second) or without a lease, in
/// seconds; it had better try another one.
const UNREADY_RETRY_S: u64 = 2;

/// From `least_s` to twice as long, by chance, so that not everybody who was sent away comes back in one second.
fn spread(least_s: u64, chance: u64) -> u64 {
    least_s + chance % (least_s + 1)
}

/// What this switch takes outside of dialogs.
const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, INFO, REGISTER";

impl Serving {
    /// A request that made a server transaction.
    pub(super) fn new_request(&mut self, key: ServerKey, message: Message, flow: Flow) {
        if !self.shared.lease.holds() {
            return self.fenced(&key, message, flow);
        }
        // The method is looked at first (RFC 3261 section 8.2.1), then the dialog.
        if matches!(message.method(), Method::Other(_)) {
            return self.answer(&key, &message, 501, |r| r.header(Header::Allow, ALLOW));
        }
        if message.to().tag().is_some() {
            return self.in_dialog(key, message, flow);
        }
        let is_new_work = matches!(message.method(), Method::Register | Method::Invite);
        if is_new_work && let Some(counted) = self.is_unready() {
            metrics::counter!(counted).increment(1);
            let retry_s = spread(UNREADY_RETRY_S, self.shared.ids.seed());
            return self.defer(&key, &message, retry_s);
        }
        match message.method() {
            Method::Register => crate::register::register(self, key, message, flow),
            Method::Invite => crate::invite::invite(self, key, message, flow),
            Method::Options => self.answer(&key, &message, 200, |r| r.header(Header::Allow, ALLOW)),
            Method::Cancel | Method::Bye => self.answer(&key, &message, 481, |r| r),
            Method::Ack => {}
            _ => self.answer(&key, &message, 405, |r| r.header(Header::Allow, ALLOW)),
        }
    }

    /// What may be said without a lease: 503, and 200 to who hangs up, of which the call's owner hears later.
    fn fenced(&mut self, key: &ServerKey, message: Message, flow: Flow) {
        match message.method() {
            Method::Ack => {}
            Method::Bye if message.to().tag().is_some() => {
                self.answer(key, &message, 200, |r| r);
                if self.byes.len() < BYES_MAX {
                    self.byes.push((flow, message));
                }
            }
            _ => {
                metrics::counter!("tandem_sip_no_lease_total").increment(1);
                let retry_s = spread(UNREADY_RETRY_S, self.shared.ids.seed());
                self.defer(key, &message, retry_s);
            }
        }
    }

    /// Whether this node can't take new calls and registrations now, and under which metric that is counted.
    fn is_unready(&self) -> Option<&'static str> {
        (!self.shared.cluster.has_quorum()).then_some("tandem_sip_no_quorum_total")
    }

    fn in_dialog(&mut self, key: ServerKey, message: Message, flow: Flow) {
        let target = named_leg(&message).and_then(|leg| Some((leg, self.shared.leg(leg)?)));
        let Some((leg, slot)) = target else {
            return match self.is_on_its_way(&message) {
                // As on a lossy link: the phone says it again.
                true if flow.transport == Transport::Udp => self.table.forget(&key),
                true => self.defer(&key, &message, 1),
                false => self.answer(&key, &message, 481, |r| r),
            };
        };
        let refused = message.clone();
        if slot.send(call::Input::Request { leg, key: key.clone(), message, flow }).is_err() {
            self.answer(&key, &refused, 503, |r| r.header(Header::RetryAfter, "1"));
        }
    }

    /// Answers outside of any call.
    pub(crate) fn answer(
        &mut self,
        key: &ServerKey,
        request: &Message,
        status: u16,
        more: impl FnOnce(ResponseBuilder) -> ResponseBuilder,
    ) {
        let now_ms = self.shared.now().steady_ms;
        if let Some(response) = build(&self.shared, request, status, more) {
            self.respond(now_ms, key, response);
        }
    }

    /// Answers outside of any call, finally and without a memory of it; an INVITE, whose ACK comes, is remembered.
    pub(crate) fn answer_once(
        &mut self,
        key: &ServerKey,
        request: &Message,
        status: u16,
        more: impl FnOnce(ResponseBuilder) -> ResponseBuilder,
    ) {
        let tag = self.table.stateless_tag(request);
        let Some(response) = build_tagged(&self.shared, request, status, &tag, more) else { return };
        let now_ms = self.shared.now().steady_ms;
        self.give(key, response, |table, key, response| table.respond_once(now_ms, key, response));
    }

    /// 503, to come again in so many seconds.
    pub(crate) fn defer(&mut self, key: &ServerKey, request: &Message, retry_after_s: u64) {
        let retry = retry_after_s.to_string();
        self.answer_once(key, request, 503, |r| r.header(Header::RetryAfter, &retry));
    }
}
