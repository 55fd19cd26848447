//! One dialog with one phone, as the call sees it.

use std::collections::VecDeque;
use std::sync::Arc;

use tandem_media::plan::EndId;
use tandem_sip::dialog::Dialog;
use tandem_sip::message::Message;
use tandem_sip::transaction::ServerKey;
use tandem_state::{Cause, ClusterTime, Flow, LegDirection, LegId, Party};

use super::refresh::{Refresh, Way};
use crate::routing::Target;

/// One leg of a call.
#[derive(Debug, Clone)]
pub struct Leg {
    /// Unique in the cluster; its local tag and the user part of its Contact.
    pub id: LegId,
    pub(super) direction: LegDirection,
    pub(super) party: Party,
    pub(super) flow: Flow,
    /// `host:port` of the flow's node as the far end knows it.
    pub(super) sent_by: String,
    /// Other flows of the same phone, for when this one fails.
    pub(super) next: VecDeque<Target>,
    /// Ways to the phone of a leg that was taken over; the first is in use.
    pub(super) ways: VecDeque<Way>,
    pub(super) refresh: Refresh,
    /// How often in a row its phone said nothing at all to being told.
    pub(super) unheard: u32,
    pub(super) dialog: Dialog,
    pub(super) stage: Stage,
    /// The INVITE of ours that opened it, kept for an answer that crosses our CANCEL.
    pub(super) opened: Option<Message>,
    /// Tags of forks that answered too and were left.
    pub(super) forks: Vec<String>,
    pub(super) opened_cseq: u32,
    pub(super) media: LegMedia,
    pub(super) hold: Hold,
    pub(super) answered: Option<ClusterTime>,
    /// A 2xx of ours that waits for its ACK.
    pub(super) unacknowledged: Option<Unacknowledged>,
    /// Our ACK to the far end's last 2xx, sent again when that is (RFC 3261 section 13.2.2.4).
    pub(super) ack: Option<(u32, Message)>,
    /// CSeq of a 2xx with an offer: its ACK waits for the other side's answer.
    pub(super) ack_due: Option<u32>,
}

/// How far a leg's dialog has come.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Stage {
    /// The far end called; no final response yet.
    Invited { key: ServerKey, invite: Message },
    /// We called; `provisional` once something was heard, which is when a CANCEL may go (section 9.1).
    Inviting { invite: Message, provisional: bool, cancel: Option<Cause> },
    /// CANCEL was sent; its final response or a crossing 2xx is awaited.
    Cancelling { cause: Cause },
    /// Both sides agreed.
    Confirmed,
    /// To be left by BYE once the ACK to our 2xx is here (section 15).
    Leaving { cause: Cause },
    /// Done.
    Over,
}

/// Whether the far end has put us on hold (RFC 3264 section 8.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Hold {
    #[default]
    Talking,
    Held,
}

/// Session descriptions of both sides, and our `o=` line's numbers.
#[derive(Debug, Clone)]
pub(super) struct LegMedia {
    pub(super) end: EndId,
    /// `address:port` that the far end is told for RTP.
    pub(super) here: std::net::SocketAddr,
    pub(super) local: Option<Arc<str>>,
    pub(super) remote: Option<Arc<str>>,
    pub(super) session_id: u64,
    pub(super) version: u64,
    pub(super) codec: String,
}

/// A 2xx to INVITE is sent again until its ACK comes (RFC 3261 section 13.3.1.4).
#[derive(Debug, Clone)]
pub(super) struct Unacknowledged {
    pub(super) key: ServerKey,
    pub(super) response: Message,
    pub(super) cseq: u32,
    pub(super) next_ms: u64,
    pub(super) wait_ms: u64,
    pub(super) until_ms: u64,
    /// Without an ACK the call ends. Not so for one that a former owner may have sent before, and been answered.
    pub(super) is_first: bool,
}

/// T1, the round-trip estimate.
const T1_MS: u64 = 500;
/// T2, the longest wait between repeats.
const T2_MS: u64 = 4_000;

impl Leg {
    pub(super) fn poll_timeout(&self) -> Option<u64> {
        let unacknowledged = self.unacknowledged.as_ref().map(|wait| wait.next_ms.min(wait.until_ms));
        unacknowledged.into_iter().chain(self.refresh_at()).min()
    }

    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// Turns to the next flow of its phone (RFC 5626 section 5.3); false when there is none.
    pub(super) fn turn_to_next_flow(&mut self) -> bool {
        let Some(next) = self.next.pop_front() else { return false };
        (self.flow, self.sent_by) = (next.flow, next.sent_by);
        (self.dialog.route_set, self.dialog.remote_target) = (next.path, next.contact);
        true
    }

    /// It still rings or may still answer.
    pub(super) fn is_open_attempt(&self) -> bool {
        matches!(self.stage, Stage::Inviting { cancel: None, .. })
    }

    /// Begins to wait for the ACK to a 2xx of ours.
    pub(super) fn await_ack(&mut self, now_ms: u64, key: ServerKey, response: Message, cseq: u32) {
        self.unacknowledged = Some(Unacknowledged {
            key,
            response,
            cseq,
            next_ms: now_ms + T1_MS,
            wait_ms: T1_MS,
            until_ms: now_ms + 64 * T1_MS,
            is_first: true,
        });
    }

    /// A 2xx of ours is out that ends the call if it is not acknowledged.
    pub(super) fn awaits_ack(&self) -> bool {
        self.unacknowledged.as_ref().is_some_and(|wait| wait.is_first)
    }
}

impl Unacknowledged {
    /// Schedules the repeat after this one.
    pub(super) fn back_off(&mut self, now_ms: u64) {
        self.wait_ms = (self.wait_ms * 2).min(T2_MS);
        self.next_ms = now_ms + self.wait_ms;
    }
}
