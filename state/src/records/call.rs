//! Calls, their legs and attempts, and what becomes of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Flow;
use crate::ids::*;

/// A call as its owner asks for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewCall {
    /// Drawn by the owner.
    pub id: CallId,
    /// Kept over transfers.
    pub interaction: InteractionId,
    /// Whose.
    pub tenant: TenantId,
    /// The node that took it.
    pub owner: NodeId,
    /// Inside the tenant, from a carrier, or to one.
    pub direction: CallDirection,
    /// Who calls.
    pub from: Party,
    /// Who is called.
    pub to: Party,
    /// When the INVITE came.
    pub start: ClusterTime,
    /// What runs, and where it stands.
    pub program: Program,
    /// Its legs and attempts so far.
    pub change: CallChange,
}

/// A party of a call.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Party {
    /// Bare number.
    pub number: String,
    /// Name shown, empty when unknown.
    pub name: String,
}

/// Where a call comes from and goes to, seen from the tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CallDirection {
    /// Between extensions of the tenant.
    Internal,
    /// From outside.
    Inbound,
    /// To outside.
    Outbound,
}

/// The callflow of a call and the position in it: step ids from the root, each with that step's small state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// The flow's name in the tenant's config; empty for the built-in one of a single `dial`.
    pub flow: String,
    /// From the root to the step that runs now.
    pub path: Vec<Step>,
}

/// One step on the program's path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its id in the flow.
    pub id: String,
    /// What it does.
    pub kind: StepKind,
}

/// A kind of step with its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StepKind {
    /// Rings targets at once; the first answer wins.
    Dial {
        /// The dialled number.
        number: String,
        /// Ends by itself then.
        ring_until: ClusterTime,
    },
}

/// What changed in a call; empty parts change nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CallChange {
    /// The call's new phase.
    pub phase: Option<CallPhase>,
    /// Legs that are new or changed.
    pub legs: Vec<LegRecord>,
    /// Legs that are gone.
    pub legs_gone: Vec<LegId>,
    /// Attempts that are new or changed.
    pub attempts: Vec<Attempt>,
    /// The program's new position.
    pub program: Option<Program>,
    /// Legs joined by the bridge, each with what it may send; `None` leaves it.
    pub bridge: Option<BTreeMap<LegId, BridgeRole>>,
    /// Event to publish with this change, if it has a name of its own.
    pub note: Option<CallNote>,
}

/// What a call is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CallPhase {
    /// Targets are being tried.
    Trying,
    /// At least one rings.
    Ringing,
    /// Two parties talk.
    Answered,
    /// A party has put the call on hold.
    Held,
}

/// A named moment in a call that subscribers hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallNote {
    /// A target rings.
    Ringing,
    /// A target answered.
    Answered,
    /// Put on hold.
    Held,
    /// Taken from hold.
    Resumed,
}

/// What a leg may do in a bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BridgeRole {
    /// Heard and hears.
    Talk,
    /// Hears only.
    Listen,
    /// Neither.
    Muted,
}

/// One dialog with one phone or carrier: enough to take it over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegRecord {
    /// Unique in the cluster; in the leg's Contact and local tag.
    pub id: LegId,
    /// The call it belongs to now.
    pub call: CallId,
    /// Who opened the dialog.
    pub direction: LegDirection,
    /// Who is at the other end.
    pub party: Party,
    /// How the far end is reached.
    pub flow: Flow,
    /// What is put on hold by the far end.
    pub held: bool,
    /// Answered at, if so.
    pub answered: Option<ClusterTime>,
    /// The dialog.
    pub dialog: DialogRecord,
    /// The media ends.
    pub media: MediaRecord,
}

/// Seen from the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LegDirection {
    /// The far end called us.
    In,
    /// We called it.
    Out,
}

/// A dialog's state (RFC 3261 section 12) in a form that another node can go on with.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DialogRecord {
    /// Call-ID.
    pub call_id: String,
    /// Our From or To, exactly as sent, with tag.
    pub local: String,
    /// Theirs, exactly as sent, with tag once known.
    pub remote: String,
    /// Our Contact.
    pub contact: String,
    /// Route set in the order in which it is used.
    pub route_set: Vec<String>,
    /// Where in-dialog requests go.
    pub remote_target: String,
    /// Our last CSeq; starts at epoch x 65,536.
    pub local_cseq: u32,
    /// Theirs.
    pub remote_cseq: u32,
}

/// Both sides' session descriptions as last agreed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MediaRecord {
    /// What we last sent on this leg.
    pub local_sdp: String,
    /// What the far end last sent.
    pub remote_sdp: String,
    /// `o=` session id of ours.
    pub session_id: u64,
    /// `o=` version of ours; starts at epoch x 2^20.
    pub session_version: u64,
    /// The codec in use, such as `PCMA/8000`; empty before an answer.
    pub codec: String,
}

/// One try of one destination: what becomes a CDR.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Counts up from 1 within the call.
    pub number: u32,
    /// Who is tried.
    pub to: Party,
    /// When it began.
    pub start: ClusterTime,
    /// When it was answered.
    pub answer: Option<ClusterTime>,
    /// When and how it ended; one without an end is ended by `EndCall` at its stamp.
    pub end: Option<AttemptEnd>,
    /// Media figures, once known.
    pub quality: Option<Quality>,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptEnd {
    /// When.
    pub at: ClusterTime,
    /// Why.
    pub cause: Cause,
}

/// Why a call or attempt ended. Its SIP status and reason are looked up in `switching::refusal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A party hung up after talking.
    NormalClearing,
    /// The caller gave up before an answer.
    Cancelled,
    /// Another phone or destination answered.
    AnsweredElsewhere,
    /// 486 or 600.
    Busy,
    /// 603, or 480 from the phone while it rang.
    Declined,
    /// Rang to the end.
    NoAnswer,
    /// No binding.
    NotRegistered,
    /// No such number.
    UnknownNumber,
    /// The phone or carrier could not be reached (timeout, transport error).
    Unreachable,
    /// It answered with another failure.
    Failed,
    /// A limit of the tenant.
    LimitReached,
    /// Not permitted.
    Forbidden,
    /// A common codec or media type was not found.
    MediaNotAcceptable,
    /// No media at all for the configured time.
    NoMedia,
    /// The longest allowed duration.
    MaxDuration,
    /// The session timer ran out.
    SessionExpired,
    /// An operator or tenant admin ended it.
    AdminHangup,
    /// The node was stopped.
    NodeShutdown,
    /// The node was lost.
    NodeLost,
    /// An error of ours.
    Internal,
}

/// Media figures of an attempt, the worse of both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Quality {
    /// Mean opinion score times 100.
    pub mos_x100: u16,
    /// Packets lost per million.
    pub loss_ppm: u32,
    /// Interarrival jitter (RFC 3550) in microseconds.
    pub jitter_us: u32,
    /// Longest silence on the wire in milliseconds.
    pub longest_gap_ms: u32,
    /// Packets from the caller.
    pub caller_packets: u64,
    /// Packets from the callee.
    pub callee_packets: u64,
}

/// A call in the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Which.
    pub id: CallId,
    /// Kept over transfers.
    pub interaction: InteractionId,
    /// Whose.
    pub tenant: TenantId,
    /// Its owner.
    pub owner: NodeId,
    /// Under which ownership.
    pub epoch: CallEpoch,
    /// Inside, from or to outside.
    pub direction: CallDirection,
    /// Who called.
    pub from: Party,
    /// Who was called.
    pub to: Party,
    /// When the INVITE came.
    pub start: ClusterTime,
    /// When first answered.
    pub answer: Option<ClusterTime>,
    /// What it is doing.
    pub phase: CallPhase,
    /// What runs.
    pub program: Program,
    /// Its legs, by id (their records are in the leg table).
    pub legs: std::collections::BTreeSet<LegId>,
    /// Who hears whom.
    pub bridge: BTreeMap<LegId, BridgeRole>,
    /// What becomes CDRs.
    pub attempts: BTreeMap<u32, Attempt>,
}

/// An authenticated call refused before any target was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedCall {
    /// The id it would have had.
    pub id: CallId,
    /// Whose.
    pub tenant: TenantId,
    /// Inside, from or to outside.
    pub direction: CallDirection,
    /// Who called.
    pub from: Party,
    /// What was dialled.
    pub to: Party,
    /// When.
    pub start: ClusterTime,
    /// Why not.
    pub cause: Cause,
}

/// A call detail record as it is archived: one attempt from one party to one destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cdr {
    /// `<call>-<attempt>`.
    pub id: String,
    /// Kept over transfers.
    pub interaction: InteractionId,
    /// The call.
    pub call: CallId,
    /// Which attempt of it.
    pub attempt: u32,
    /// Whose.
    pub tenant: TenantId,
    /// Inside, from or to outside.
    pub direction: CallDirection,
    /// Who called.
    pub from: Party,
    /// Who was called.
    pub to: Party,
    /// When it began.
    pub start: ClusterTime,
    /// When it was answered.
    pub answer: Option<ClusterTime>,
    /// When it ended.
    pub end: ClusterTime,
    /// Start to end, nearest second.
    pub duration_s: u32,
    /// Answer to end, nearest second; a started answer counts at least 1; 0 when not answered.
    pub billed_s: u32,
    /// In 1/1,000,000 of the currency unit; `None` when free of charge.
    pub cost_micros: Option<i64>,
    /// The tenant's currency.
    pub currency: String,
    /// Why it ended.
    pub cause: Cause,
    /// The carrier, empty inside.
    pub trunk: String,
    /// The owner at the end.
    pub node: NodeId,
    /// The ownership at the end.
    pub epoch: CallEpoch,
    /// Media figures.
    pub quality: Option<Quality>,
}
