//! The messages of a leg: everything that a call says is put together here.
//!
//! Whatever came from outside may refuse to be put into a message (too many headers, a target with a blank in it); what
//! can't be built is `None`, and the call does without.

use std::borrow::Cow;
use std::sync::Arc;

use tandem_sip::build::{RequestBuilder, ResponseBuilder, cancel_for};
use tandem_sip::dialog::Dialog;
use tandem_sip::header::Header;
use tandem_sip::message::Message;
use tandem_sip::method::Method;
use tandem_sip::via::MAGIC_COOKIE;
use tandem_state::{CallEpoch, Cause, LegId, Transport};

use super::leg::{Leg, Stage};
use super::setup::CSEQ_BLOCK;
use crate::refusal;
use crate::routing::via_transport;

/// What a call takes inside its dialogs.
pub(super) const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, INFO";

/// Which leg made the request of this branch: ours are the cookie, the leg, a dash and the CSeq.
pub fn branch_leg(branch: &str) -> Option<LegId> {
    branch.strip_prefix(MAGIC_COOKIE)?.split_once('-')?.0.parse().ok()
}

/// Under which epoch a request of ours with this CSeq was made: each epoch has a block of numbers.
pub fn epoch_of_cseq(number: u32) -> CallEpoch {
    CallEpoch((number / CSEQ_BLOCK).into())
}

/// Which leg a tag of ours names.
pub fn leg_of_tag(tag: &str) -> Option<LegId> {
    tag.parse().ok()
}

/// The leg that a message names: in the branch of a response to us, or in our tag of a request to us.
pub fn named_leg(message: &Message) -> Option<LegId> {
    if message.is_response() {
        return branch_leg(message.via_top().branch?);
    }
    leg_of_tag(message.to().tag()?)
}

/// The CANCEL of an INVITE that still rings, with why (RFC 3326).
pub(super) fn cancel(invite: &Message, cause: Cause) -> Option<Message> {
    cancel_for(invite, Some(&reason(cause))).ok()
}

/// A `Reason` value.
pub(super) fn reason(cause: Cause) -> String {
    if cause == Cause::AnsweredElsewhere {
        return "SIP;cause=200;text=\"Call completed elsewhere\"".into();
    }
    let text = match cause {
        Cause::NoMedia => ";text=\"No media\"",
        Cause::MaxDuration => ";text=\"Longest duration reached\"",
        Cause::AdminHangup => ";text=\"Ended by an administrator\"",
        Cause::NodeShutdown => ";text=\"The switch is stopping\"",
        _ => "",
    };
    format!("Q.850;cause={}{text}", refusal::q850(cause))
}

impl Leg {
    /// Our Contact: this leg, at the node that the far end knows.
    pub(super) fn contact(&self) -> String {
        let transport = match self.flow.transport {
            Transport::Udp => "",
            Transport::Tcp => ";transport=tcp",
            Transport::Tls => ";transport=tls",
            Transport::Ws => ";transport=ws",
        };
        format!("<sip:{}@{}{transport}>", self.id, self.sent_by)
    }

    fn branch(&self, cseq: u32, suffix: &str) -> String {
        format!("{MAGIC_COOKIE}{}-{cseq:x}{suffix}", self.id)
    }

    /// CSeq of the INVITE that opened this leg.
    pub(super) fn first_cseq(&self) -> u32 {
        self.opened_cseq
    }

    /// The INVITE that opens this leg.
    pub(super) fn invite(
        &mut self,
        description: Option<&str>,
        expires_s: u32,
        product: &str,
        max_forwards: u8,
    ) -> Option<Message> {
        let request = self.dialog.request(Method::Invite);
        self.opened_cseq = self.dialog.local_cseq;
        let request = request
            .via(via_transport(self.flow.transport), &self.sent_by, &self.branch(self.opened_cseq, ""))
            .max_forwards(max_forwards)
            .header(Header::Contact, &self.contact())
            .header(Header::Allow, ALLOW)
            .header(Header::Expires, &expires_s.to_string())
            .header(Header::UserAgent, product);
        with_description(request, description).build().ok()
    }

    /// A request inside the dialog.
    pub(super) fn request(
        &mut self,
        method: &Method,
        body: Option<(&str, &str)>,
        reason: Option<&str>,
        product: &str,
    ) -> Option<Message> {
        let request = self.dialog.request(method.clone());
        let branch = self.branch(self.dialog.local_cseq, "");
        let target_refresh = matches!(method, Method::Invite | Method::Update);
        let contact = target_refresh.then(|| self.contact());
        let request = request
            .via(via_transport(self.flow.transport), &self.sent_by, &branch)
            .maybe(Header::Contact, contact.as_deref())
            .maybe(Header::Allow, target_refresh.then_some(ALLOW))
            .maybe(Header::Reason, reason)
            .header(Header::UserAgent, product);
        let request = match body {
            Some((kind, text)) => request.body(kind, text.as_bytes().to_vec()),
            None => request,
        };
        request.build().ok()
    }

    /// The ACK to a 2xx: a transaction of its own.
    pub(super) fn ack(&self, cseq: u32, description: Option<&str>, product: &str) -> Option<Message> {
        let request = self
            .dialog
            .ack(cseq)
            .via(via_transport(self.flow.transport), &self.sent_by, &self.branch(cseq, "a"))
            .header(Header::UserAgent, product);
        with_description(request, description).build().ok()
    }

    /// ACK and BYE of a dialog that a fork of our INVITE made (RFC 3261 section 13.2.2.4); `nth` keeps branches apart.
    pub(super) fn leave_fork(
        &self,
        answer: &Message,
        nth: usize,
        cause: Cause,
        product: &str,
    ) -> Option<(Message, Message)> {
        let mut dialog = Dialog::uac(self.opened.as_ref()?, answer).ok()?;
        let via = |request: RequestBuilder, name: &str| {
            let branch = self.branch(self.opened_cseq, &format!("{name}{nth}"));
            request
                .via(via_transport(self.flow.transport), &self.sent_by, &branch)
                .header(Header::UserAgent, product)
        };
        let ack = via(dialog.ack(self.opened_cseq), "k").build().ok()?;
        let bye =
            via(dialog.request(Method::Bye), "z").header(Header::Reason, &reason(cause)).build().ok()?;
        Some((ack, bye))
    }

    /// A response on this leg.
    pub(super) fn response(
        &self,
        request: &Message,
        status: u16,
        retry_after_s: Option<u32>,
        description: Option<&str>,
        product: &str,
    ) -> Option<Message> {
        let dialog_forming = *request.method() == Method::Invite && (101..300).contains(&status);
        let contact = (dialog_forming || *request.method() == Method::Update).then(|| self.contact());
        let retry_after = retry_after_s.map(|seconds| seconds.to_string());
        let allow = dialog_forming || matches!(status, 405 | 501) || *request.method() == Method::Options;
        let required =
            (status == 420).then(|| request.values(Header::Require).collect::<Vec<_>>().join(", "));
        let response = ResponseBuilder::to(request, status, &self.id.to_string())
            .maybe(Header::Contact, contact.as_deref())
            .maybe(Header::Allow, allow.then_some(ALLOW))
            .maybe(Header::RetryAfter, retry_after.as_deref())
            .maybe(Header::Unsupported, required.as_deref())
            .header(Header::Server, product);
        let response = match description {
            Some(text) => response.body("application/sdp", text.as_bytes().to_vec()),
            None => response,
        };
        response.build().ok()
    }

    /// Takes the dialog from the 2xx to our INVITE; one without a Contact leaves the target as it was.
    pub(super) fn confirm(&mut self, message: &Message) {
        let invite = match &self.stage {
            Stage::Inviting { invite, .. } => Some(invite.clone()),
            _ => self.opened.clone(),
        };
        if let Some(dialog) = invite.and_then(|invite| Dialog::uac(&invite, message).ok()) {
            self.dialog =
                Dialog { local_cseq: self.dialog.local_cseq, remote_cseq: self.dialog.remote_cseq, ..dialog };
        } else if let Some(to) = message.header(Header::To) {
            self.dialog.remote = to.to_owned();
        }
        self.stage = Stage::Confirmed;
    }

    /// A target refresh (RFC 3261 section 12.2).
    pub(super) fn refresh_target(&mut self, message: &Message) {
        self.dialog.refresh_target(message);
    }

    /// Whether a request is one of this dialog (RFC 3261 section 12.2.2): our tag named the leg, Call-ID and the far
    /// end's tag must fit too. The far end's tag is not known before it has answered.
    pub(super) fn holds(&self, message: &Message) -> bool {
        let known = self.dialog.remote_tag();
        message.call_id() == self.dialog.call_id && (known.is_empty() || message.from().tag() == Some(known))
    }

    /// False for a request out of order.
    pub(super) fn accept_cseq(&mut self, message: &Message) -> bool {
        let target = self.dialog.remote_target.clone();
        let in_order = self.dialog.receive(message).is_ok();
        // The target moves when the request is taken, not when it is refused.
        self.dialog.remote_target = target;
        in_order
    }
}

fn with_description(request: RequestBuilder, description: Option<&str>) -> RequestBuilder {
    match description {
        Some(text) => request.body("application/sdp", text.as_bytes().to_vec()),
        None => request,
    }
}

/// `"Name" <uri>` with our tag.
pub(super) fn name_addr(name: &str, uri: &str, tag: Option<LegId>) -> String {
    let display: Cow<'_, str> = match name {
        "" => Cow::Borrowed(""),
        name => Cow::Owned(format!("\"{}\" ", tandem_sip::name_addr::quote_display(name))),
    };
    match tag {
        Some(tag) => format!("{display}<{uri}>;tag={tag}"),
        None => format!("{display}<{uri}>"),
    }
}

/// The description in a message, if it has one.
pub(super) fn description(message: &Message) -> Option<Arc<str>> {
    if !message.has_body_of("application/sdp") {
        return None;
    }
    message.body_text().map(Arc::from)
}
