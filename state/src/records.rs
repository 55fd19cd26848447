//! The rows of the tables, and the parts of commands that become rows.

mod invite;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::ids::*;
pub use invite::Invite;

// ---- nodes and tokens --------------------------------------------------------------------------------------------

/// May a node, or a site, be called this? By its config and by an invitation, that is; records of older clusters may have more.
pub fn is_node_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(plain)
}

/// What the cluster knows of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its identity.
    pub id: NodeId,
    /// Its name, unique in the cluster.
    pub name: String,
    /// The site it stands in.
    pub site: String,
    /// What it does.
    pub role: Role,
    /// Its process's count.
    pub incarnation: Incarnation,
    /// Its lease's count.
    pub epoch: NodeEpoch,
    /// Node-to-node address, `host:port`.
    pub cluster_address: String,
    /// The host that phones are told, without a port.
    pub sip_advertise: String,
    /// The base URL of its HTTP API.
    pub api_url: String,
    /// The release it runs.
    pub version: String,
    /// The highest rules it can follow.
    pub apply_version: u16,
}

/// What a node does in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything.
    Full,
    /// A full replica without SIP, RTP and calls.
    Witness,
}

/// What the log says of a node's lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LeaseRecord {
    /// It was renewed under the node's present epoch, and has not ended.
    pub stands: bool,
    /// The log position of the last renewal.
    pub last_renewal: u64,
    /// The node's attempt that this was; 0 before the first of its incarnation.
    pub attempt: u64,
    /// When, in cluster time.
    pub renewed: ClusterTime,
    /// How long the node counts it, from before it sent the attempt.
    pub lease_ms: u64,
}

/// How far a node's disk was at its last renewal. A process of it that begins with less has lost what it had written: its
/// data directory is an older copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Mark {
    /// In which incarnation it was said.
    pub incarnation: Incarnation,
    /// A number that the process drew when it began: a restored directory can come to the same incarnation once more.
    pub process: u64,
    /// Raft's term of the last durable log entry; the vote is no older.
    pub term: u64,
    /// Up to this log position what is applied is durable.
    pub position: u64,
}

/// Why a lease ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseEnd {
    /// It was not renewed.
    Expired,
    /// The node took its leave.
    Goodbye,
    /// Its process started anew.
    Restarted,
    /// A member had proof that its process ended.
    Died,
}

/// An API token as the state keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// A public name for it, shown in lists and the audit.
    pub id: String,
    /// SHA-256 of the token (which is 256 random bits, so needs no salt or stretching).
    pub hash: [u8; 32],
    /// What it may do.
    pub scope: TokenScope,
    /// When it was made; set by `apply`.
    pub created: ClusterTime,
}

/// What a token may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenScope {
    /// Everything.
    Operator,
    /// One tenant's own things.
    Tenant(TenantId),
}

// ---- registrations -------------------------------------------------------------------------------------------------

/// What tells two bindings of one address of record apart: instance and reg-id where the phone gives them
/// (RFC 5626), else the contact's URI.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum BindingKey {
    /// `+sip.instance` with its `reg-id`.
    Instance(String, u32),
    /// The contact URI.
    Contact(String),
}

/// A transport of SIP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// RFC 3261 over UDP.
    Udp,
    /// RFC 3261 over TCP.
    Tcp,
    /// SIPS over TLS (comes with the edge).
    Tls,
    /// RFC 7118 (comes with the edge).
    Ws,
}

/// A way to a phone: which node holds it and how.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Flow {
    /// The node that holds the connection, or whose socket the phone knows.
    pub node: NodeId,
    /// How.
    pub transport: Transport,
    /// The node's own end.
    pub local: SocketAddr,
    /// The phone's end as seen by that node.
    pub remote: SocketAddr,
    /// Which connection (TCP, TLS, WebSocket), counted by that node; 0 on UDP.
    pub connection: u64,
}

/// A binding as a node asks for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewBinding {
    /// Whose.
    pub tenant: TenantId,
    /// The extension.
    pub number: String,
    /// Which of its bindings.
    pub key: BindingKey,
    /// The contact URI, as the phone wrote it.
    pub contact: String,
    /// How the phone is reached.
    pub flow: Flow,
    /// The `Path` of its REGISTER (RFC 3327), topmost first.
    pub path: Vec<String>,
    /// The REGISTER's Call-ID.
    pub call_id: String,
    /// And its CSeq number: within one Call-ID a lower or equal one is refused.
    pub cseq: u32,
    /// Preference, 0 to 1000.
    pub q_milli: u16,
    /// `User-Agent`, shortened.
    pub user_agent: String,
    /// Coarse expiry: several times the granted one, so that a refresh that changes nothing needs no log entry.
    pub expires: ClusterTime,
}

/// A binding in the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// As it was asked.
    pub spec: NewBinding,
    /// The log position of the command that last changed it.
    pub revision: Revision,
    /// When it was first made.
    pub since: ClusterTime,
}

/// Why a binding ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnbindReason {
    /// The phone asked (`expires=0` or `Contact: *`).
    Unregistered,
    /// It was not refreshed.
    Expired,
    /// Its extension was removed or its password changed.
    Removed,
    /// Its connection closed.
    ConnectionLost,
}

// ---- calls ---------------------------------------------------------------------------------------------------------

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
