//! The rows of the tables, and the parts of commands that become rows.

mod call;
mod invite;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::ids::*;
pub use call::*;
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

impl LeaseRecord {
    /// When it ends, or ended, if nobody renews it.
    pub fn end(&self) -> ClusterTime {
        self.renewed.plus_ms(self.lease_ms)
    }
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
