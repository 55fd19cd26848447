//! How a call begins: what admission and routing decided becomes legs.

use std::net::SocketAddr;

use tandem_media::plan::EndId;
use tandem_sip::dialog::{Dialog, DialogError};
use tandem_sip::message::Message;
use tandem_sip::method::Method;
use tandem_sip::transaction::ServerKey;
use tandem_state::{
    Attempt, CallDirection, CallEpoch, CallId, Cause, Flow, InteractionId, LegDirection, LegId, LegRecord,
    NodeEpoch, NodeId, Party, StepKind, TenantId,
};

use super::leg::{Hold, Leg, LegMedia, Stage};
use super::refresh::Way;
use super::{Call, Creation, Output, Phase, Settings, Telling, wire};
use crate::machine::Now;
use crate::routing::Target;

/// CSeq numbers of one ownership of a call.
pub(super) const CSEQ_BLOCK: u32 = 65_536;
/// Versions of the `o=` line of one ownership.
pub(super) const VERSION_BLOCK: u64 = 1 << 20;

/// What a call starts from.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Drawn by the node.
    pub id: CallId,
    /// Drawn by the node.
    pub interaction: InteractionId,
    /// Whose.
    pub tenant: TenantId,
    /// Its SIP domain.
    pub domain: String,
    /// The owner.
    pub node: NodeId,
    /// Under which lease.
    pub node_epoch: NodeEpoch,
    /// Seen from the tenant.
    pub direction: CallDirection,
    /// Who calls, as admission knows it.
    pub from: Party,
    /// Who is called.
    pub to: Party,
    /// The INVITE.
    pub invite: Message,
    /// Its server transaction.
    pub key: ServerKey,
    /// How it came.
    pub flow: Flow,
    /// `host:port` that the caller knows.
    pub sent_by: String,
    /// The caller's leg.
    pub leg: LegId,
    /// Our RTP address towards the caller.
    pub media: SocketAddr,
    /// Whom to ring.
    pub targets: Vec<SetupTarget>,
    /// Numbers that shape the call.
    pub settings: Settings,
    /// The rules by which calls move are in force: the log is given the INVITE.
    pub keeps_invite: bool,
}

/// A call that still rang when its owner was lost.
#[derive(Debug, Clone)]
pub struct Interrupted {
    /// Its record, of the new ownership.
    pub call: tandem_state::Call,
    /// Legs that the former owner rang, each with a way to its phone.
    pub rang: Vec<(LegRecord, Way)>,
    /// There is no way to the caller: the call ends, and what rings is told.
    pub is_caller_lost: bool,
}

/// A phone to ring, with what was drawn for it.
#[derive(Debug, Clone)]
pub struct SetupTarget {
    /// Its leg.
    pub leg: LegId,
    /// Our RTP address towards it.
    pub media: SocketAddr,
    /// Where it is.
    pub target: Target,
}

impl Call {
    /// A call from an INVITE that was admitted and routed; its first outputs wait. An INVITE that can't make a
    /// dialog, or to whose Contact nothing can be said, is refused with 400 by whoever asks.
    pub fn new(now: Now, setup: Setup) -> Result<Call, DialogError> {
        let mut call = Call::prepared(now, setup)?;
        call.enter_dial(now);
        Ok(call)
    }

    /// A call that still rang when its owner was lost: what rings is told to stop, and is rung anew from here, for its answer
    /// would go to the lost node. The caller hears nothing of it. `setup` has the legs of the new ringing.
    pub fn dial_again(now: Now, setup: Setup, lost: Interrupted) -> Result<Call, DialogError> {
        let (flow, invite) = (setup.flow.clone(), setup.invite.clone());
        let mut call = Call::prepared(now, setup)?;
        let Interrupted { call: record, rang, is_caller_lost } = lost;
        (call.epoch, call.create, call.start) = (record.epoch, Creation::Created, record.start);
        if let Some(attempt) = record.attempts.values().next_back() {
            call.attempt = attempt.clone();
        }
        let block = u32::try_from(record.epoch.0).unwrap_or(u32::MAX);
        for leg in std::iter::once(&mut call.caller).chain(&mut call.callees) {
            leg.dialog.local_cseq = block.saturating_mul(CSEQ_BLOCK);
            leg.media.version = record.epoch.0.saturating_mul(VERSION_BLOCK);
        }
        let left_ms = record.program.path.last().map_or(0, |step| match &step.kind {
            StepKind::Dial { ring_until, .. } => ring_until.since_ms(now.cluster),
        });
        call.settings.ring_ms = call.settings.ring_ms.min(left_ms.max(RING_AGAIN_MIN_MS));
        if !is_caller_lost {
            call.put(Output::Adopt { invite, flow });
        }
        call.stop_ringing(rang);
        match is_caller_lost {
            true => call.finish(now, Cause::NodeLost),
            false => call.enter_dial(now),
        }
        Ok(call)
    }

    fn prepared(now: Now, setup: Setup) -> Result<Call, DialogError> {
        let caller = caller_leg(&setup)?;
        let callees = (1u32..)
            .zip(&setup.targets)
            .map(|(end, target)| callee_leg(&setup, EndId(end), target))
            .collect();
        let max_forwards = setup.invite.max_forwards().unwrap_or(70).saturating_sub(1).min(70);
        let attempt = Attempt {
            number: 1,
            to: setup.to.clone(),
            start: now.cluster,
            answer: None,
            end: None,
            quality: None,
        };
        // RFC 3261 section 13.3.1: the caller may say how long it wants to wait.
        let wanted_ms = setup.invite.expires().map_or(u64::MAX, |seconds| u64::from(seconds) * 1_000);
        let settings = Settings { ring_ms: setup.settings.ring_ms.min(wanted_ms), ..setup.settings };
        Ok(Call {
            id: setup.id,
            interaction: setup.interaction,
            tenant: setup.tenant,
            node: setup.node,
            node_epoch: setup.node_epoch,
            epoch: CallEpoch(1),
            direction: setup.direction,
            from: setup.from,
            to: setup.to,
            start: now.cluster,
            settings,
            phase: Phase::Over,
            create: Creation::Pending,
            recorded: false,
            best_cause: Cause::Unreachable,
            max_forwards,
            caller,
            callees,
            attempt,
            early: None,
            exchange: None,
            infos: Vec::new(),
            outputs: Default::default(),
            gone: Vec::new(),
            keeps_invite: setup.keeps_invite,
            telling: Telling::Nothing,
            frozen: None,
        })
    }
}

/// What rang at a lost node rings on for so long at least.
const RING_AGAIN_MIN_MS: u64 = 10_000;

fn caller_leg(setup: &Setup) -> Result<Leg, DialogError> {
    let mut dialog = Dialog::uas(&setup.invite, &setup.leg.to_string())?;
    dialog.local_cseq = CSEQ_BLOCK;
    let media = leg_media(setup.leg, EndId(0), setup.media);
    let (flow, sent_by) = (setup.flow.clone(), setup.sent_by.clone());
    let mut leg = leg(setup.leg, LegDirection::In, setup.from.clone(), flow, sent_by, dialog, media);
    leg.media.remote = wire::description(&setup.invite);
    leg.stage = Stage::Invited { key: setup.key.clone(), invite: setup.invite.clone() };
    let product = &setup.settings.product;
    let answerable = leg.response(&setup.invite, 503, Some(u32::MAX), None, product).is_some();
    let reachable = leg.clone().request(&Method::Bye, None, None, product).is_some();
    if answerable && reachable { Ok(leg) } else { Err(DialogError::NoContact) }
}

fn callee_leg(setup: &Setup, end: EndId, target: &SetupTarget) -> Leg {
    let from = format!("sip:{}@{}", setup.from.number, setup.domain);
    let to = format!("sip:{}@{}", setup.to.number, setup.domain);
    let dialog = Dialog {
        call_id: format!("{}@{}", target.leg, setup.domain),
        local: wire::name_addr(&setup.from.name, &from, Some(target.leg)),
        remote: wire::name_addr("", &to, None),
        route_set: target.target.path.clone(),
        remote_target: target.target.contact.clone(),
        local_cseq: CSEQ_BLOCK,
        remote_cseq: None,
    };
    let Target { flow, sent_by, next, .. } = target.target.clone();
    let media = leg_media(target.leg, end, target.media);
    let leg = leg(target.leg, LegDirection::Out, setup.to.clone(), flow, sent_by, dialog, media);
    Leg { next: next.into(), ..leg }
}

pub(super) fn leg(
    id: LegId,
    direction: LegDirection,
    party: Party,
    flow: Flow,
    sent_by: String,
    dialog: Dialog,
    media: LegMedia,
) -> Leg {
    Leg {
        id,
        direction,
        party,
        flow,
        sent_by,
        next: Default::default(),
        ways: Default::default(),
        refresh: Default::default(),
        unheard: 0,
        dialog,
        stage: Stage::Over,
        opened: None,
        forks: Vec::new(),
        opened_cseq: 0,
        media,
        hold: Hold::Talking,
        answered: None,
        unacknowledged: None,
        ack: None,
        ack_due: None,
    }
}

/// The session id of our `o=` lines is drawn from the leg's id: numeric, and below 2^63 as some phones want it.
fn leg_media(id: LegId, end: EndId, here: SocketAddr) -> LegMedia {
    let session_id = u64::try_from(id.0 & u128::from(u64::MAX >> 1)).unwrap_or(1);
    LegMedia {
        end,
        here,
        local: None,
        remote: None,
        session_id,
        version: VERSION_BLOCK,
        codec: String::new(),
    }
}
