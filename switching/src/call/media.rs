//! Descriptions and plans: what each side is told, and who hears whom.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tandem_media::plan::{EndPlan, MediaPlan};
use tandem_sip::message::Message;
use tandem_sip::sdp::relay::{self, Ours};
use tandem_sip::sdp::{Direction, Sdp};

use super::leg::{Hold, Leg, Stage};
use super::{Call, Phase, wire};

/// An INVITE without a description, or with one that has plain RTP audio, can be relayed.
pub fn is_relayable(invite: &Message) -> bool {
    match wire::description(invite) {
        Some(text) => {
            Sdp::parse(&text).is_ok_and(|sdp| sdp.media.iter().any(|line| relay::is_relayable(line, false)))
        }
        None => invite.body().is_empty(),
    }
}

/// The sender of this description doesn't want to hear the other side (RFC 3264 section 8.4).
pub(super) fn is_hold(description: &str) -> bool {
    Sdp::parse(description).is_ok_and(|sdp| sdp.is_hold())
}

impl Leg {
    /// What this leg is told when the other side says `far`: our address, and a new version of our `o=` line.
    pub(super) fn local_description(&mut self, far: &str) -> Option<Arc<str>> {
        self.describe(far, None)
    }

    /// The same as an answer: line by line what this leg offered.
    pub(super) fn local_answer(&mut self, far: &str) -> Option<Arc<str>> {
        let offer = self.media.remote.as_deref().and_then(|offer| Sdp::parse(offer).ok());
        self.describe(far, offer.as_ref())
    }

    /// What says the same as before keeps its version (RFC 3264 section 8).
    fn describe(&mut self, far: &str, offer: Option<&Sdp>) -> Option<Arc<str>> {
        let far = Sdp::parse(far).ok()?;
        let mut sdp = self.said_from_here(&far, |ours| relay::rewrite(&far, ours));
        if let Some(offer) = offer {
            sdp = relay::aligned(sdp, offer);
        }
        if self.media.local.as_deref().is_some_and(|local| local != sdp.to_string()) {
            self.media.version += 1;
            sdp.origin.version = self.media.version;
        }
        let text: Arc<str> = sdp.to_string().into();
        self.media.local = Some(Arc::clone(&text));
        Some(text)
    }

    /// A description of the lines of `shape`, from our address and port; of those that can be relayed the first is.
    pub(super) fn said_from_here(&self, shape: &Sdp, say: impl FnOnce(&Ours<'_>) -> Sdp) -> Sdp {
        let here = self.media.here;
        let first = shape.media.iter().position(|line| relay::is_relayable(line, false));
        let ports: Vec<Option<u16>> =
            (0..shape.media.len()).map(|at| (Some(at) == first).then_some(here.port())).collect();
        let address = here.ip().to_string();
        let (session_id, version) = (self.media.session_id, self.media.version);
        say(&Ours { session_id, version, address: &address, ports: &ports, video: false })
    }

    /// What the media workers need to know of this leg's far end.
    fn end_plan(&self) -> EndPlan {
        let remote = self.media.remote.as_deref().and_then(|text| Sdp::parse(text).ok());
        let mut plan = EndPlan::symmetric(self.media.end, None);
        let Some(sdp) = remote else { return plan };
        let Some(audio) = sdp.audio() else {
            return EndPlan { may_send: false, may_receive: false, ..plan };
        };
        let destination =
            sdp.destination(audio).and_then(|(host, port)| Some(SocketAddr::new(host.parse().ok()?, port)));
        plan.remote = destination.filter(|remote| !is_nowhere(remote.ip()));
        plan.remote_rtcp = plan.remote.and_then(|rtp| Some(SocketAddr::new(rtp.ip(), audio.rtcp_port()?)));
        (plan.may_send, plan.may_receive) = match sdp.direction(audio) {
            Direction::SendRecv => (true, true),
            Direction::SendOnly => (true, false),
            Direction::RecvOnly => (false, true),
            Direction::Inactive => (false, false),
        };
        plan.may_receive &= destination.is_some_and(|remote| !is_nowhere(remote.ip()));
        plan
    }

    /// The first of ours that the far end has too, whoever of the two offered.
    fn agreed_codec(&self) -> Option<String> {
        let local = Sdp::parse(self.media.local.as_deref()?).ok()?;
        let remote = self.media.remote.as_deref().and_then(|text| Sdp::parse(text).ok());
        let mut line = local.audio()?.clone();
        if let Some(theirs) = remote.as_ref().and_then(Sdp::audio) {
            line.retain_formats(|format| theirs.formats.iter().any(|their| their == format));
        }
        Some(line.chosen()?.label())
    }
}

fn is_nowhere(ip: IpAddr) -> bool {
    ip.is_unspecified()
}

impl Call {
    /// The plan for what the call is doing: the caller with the winner, or with the one whose early media it hears.
    pub(super) fn set_media(&mut self) {
        let heard = match self.phase {
            Phase::Dialling { .. } => self.early,
            Phase::Answering { winner } | Phase::Talking { winner, .. } => Some(winner),
            Phase::Ending { .. } | Phase::Over => None,
        };
        let Some(callee) = self.callees.iter().find(|leg| Some(leg.id) == heard) else { return };
        let mut plan = MediaPlan::bridge(self.caller.end_plan(), callee.end_plan());
        let held = self.caller.hold == Hold::Held || callee.hold == Hold::Held;
        plan.watch_silence = matches!(self.phase, Phase::Talking { .. }) && !held;
        self.put(super::Output::SetMedia(plan));
    }

    /// Notes the codec that an answer settled.
    pub(super) fn note_codec(&mut self) {
        let codec = match self.caller.stage {
            Stage::Invited { .. } if self.caller.media.remote.is_none() => None,
            _ => self.caller.agreed_codec(),
        };
        let Some(codec) = codec else { return };
        self.caller.media.codec = codec.clone();
        let winner = self.winner().map(|leg| leg.id);
        if let Some(leg) = winner.and_then(|id| self.leg(id)) {
            leg.media.codec = codec;
        }
    }
}
