//! The cluster's members, its hashes, an invitation.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tandem_cluster::{HashReport, NodeStatus, Status};
use utoipa::ToSchema;

use super::word;

/// The cluster key that is in use from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClusterKeyView {
    /// Its id, which tells nothing of the key.
    pub key_id: String,
}

/// The cluster as the answering node sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StatusView {
    /// Drawn at `cluster init`.
    pub cluster_id: String,
    /// Raised by `force-quorum`.
    pub generation: u64,
    /// The leader's name, if a quorum knows one.
    pub leader: Option<String>,
    /// Whether a quorum of voters answers.
    pub quorum: bool,
    /// What the present membership survives by itself.
    pub survives: SurvivesView,
    /// All members, by name.
    pub nodes: Vec<MemberView>,
}

/// What the present membership survives by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SurvivesView {
    /// The loss of any one voter.
    pub any_one_node: bool,
    /// The loss of a whole site, by site.
    pub site: BTreeMap<String, bool>,
}

/// One member.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MemberView {
    /// Its name.
    pub name: String,
    /// Its identity.
    pub id: String,
    /// Where it stands.
    pub site: String,
    /// `full` or `witness`.
    pub role: String,
    /// `joining`, `up`, `draining` or `down`.
    pub state: String,
    /// `leader`, `follower`, `candidate`, `learner` or `unreachable`.
    pub raft: String,
    /// Its Raft term.
    pub term: u64,
    /// Its last log position.
    pub last_log: u64,
    /// Its last applied log position.
    pub applied: u64,
    /// Counts its leases.
    pub epoch: u64,
    /// What remains of its lease; `null` while it has none.
    pub lease_ms: Option<u64>,
    /// Calls it owns.
    pub calls: u64,
    /// Registrations whose flow it holds.
    pub registrations: u64,
    /// The release it runs.
    pub version: String,
    /// Round trip from the answering node; `null` when it can't be reached.
    pub rtt_ms: Option<f64>,
}

/// Every node's state hash at one log position.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HashView {
    /// The log position.
    pub position: u64,
    /// Every member was reached and all hashes are the same.
    pub equal: bool,
    /// By name.
    pub nodes: Vec<NodeHashView>,
}

/// One node's hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeHashView {
    /// Its name.
    pub name: String,
    /// Its identity.
    pub id: String,
    /// SHA-256 over state and archive; `null` when it couldn't be had.
    pub hash: Option<String>,
    /// Why not.
    pub error: Option<String>,
}

/// A join token: for one node, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InvitationView {
    /// For `tandem cluster join`.
    pub token: String,
    /// `full` or `witness`.
    pub role: String,
    /// Not valid after so many seconds.
    pub valid_s: u64,
}

impl From<Status> for StatusView {
    fn from(status: Status) -> StatusView {
        StatusView {
            cluster_id: status.cluster_id.to_string(),
            generation: status.generation,
            leader: status.leader,
            quorum: status.quorum,
            survives: SurvivesView { any_one_node: status.survives.any_one_node, site: status.survives.site },
            nodes: status.nodes.into_iter().map(MemberView::from).collect(),
        }
    }
}

impl From<NodeStatus> for MemberView {
    fn from(node: NodeStatus) -> MemberView {
        MemberView {
            name: node.name,
            id: node.id.to_string(),
            site: node.site,
            role: word(node.role),
            state: word(node.state),
            raft: word(node.raft),
            term: node.term,
            last_log: node.last_log,
            applied: node.applied,
            epoch: node.epoch,
            lease_ms: node.lease_ms,
            calls: node.calls,
            registrations: node.registrations,
            version: node.version,
            rtt_ms: node.rtt_ms,
        }
    }
}

impl From<HashReport> for HashView {
    fn from(report: HashReport) -> HashView {
        let nodes = report.nodes.into_iter().map(|node| NodeHashView {
            name: node.name,
            id: node.id.to_string(),
            hash: node.hash,
            error: node.error,
        });
        HashView { position: report.position, equal: report.equal, nodes: nodes.collect() }
    }
}
