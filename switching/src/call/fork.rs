//! Forks of our INVITE: a proxy behind the callee may bring several answers, each with a tag of its own. The first is the
//! leg's dialog, the others are acknowledged and left (RFC 3261 section 13.2.2.4).

use tandem_sip::message::Message;
use tandem_state::{Cause, LegId};

use super::{Call, Output};

/// Forks that are told to stop; more are left to give up by themselves.
const FORKS_MAX: usize = 8;

impl Call {
    /// A 2xx to an INVITE that has been answered: a repeat, or a fork.
    pub(super) fn answered_again(&mut self, id: LegId, message: &Message) {
        let Some(leg) = self.leg(id) else { return };
        let tag = message.to().tag().unwrap_or_default();
        if tag == leg.dialog.remote_tag() {
            return self.repeat_ack(id, message);
        }
        let known = leg.forks.iter().position(|fork| fork == tag);
        if known.is_none() && leg.forks.len() >= FORKS_MAX {
            return;
        }
        let nth = known.unwrap_or(leg.forks.len());
        if known.is_none() {
            leg.forks.push(tag.to_owned());
        }
        self.leave_fork(id, message, nth, known.is_none());
    }

    fn leave_fork(&mut self, id: LegId, message: &Message, nth: usize, first_time: bool) {
        let product = self.settings.product.clone();
        let Some(leg) = self.leg(id) else { return };
        let left = leg.leave_fork(message, nth, Cause::AnsweredElsewhere, &product);
        let (flow, Some((ack, bye))) = (leg.flow.clone(), left) else { return };
        self.put(Output::Send { message: ack, flow: flow.clone() });
        if first_time {
            self.put(Output::Request { message: bye, flow });
        }
    }
}
