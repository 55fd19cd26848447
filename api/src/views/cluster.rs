//! The cluster's members, its hashes, an invitation.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tandem_cluster::{Finding, HashReport, NodeStatus, Status};
use tandem_state::{NodeId, State};
use utoipa::ToSchema;

use super::word;

/// Whether a node is being emptied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DrainView {
    /// Its name.
    pub node: String,
    /// It takes no new work, and gives its calls away.
    pub draining: bool,
}

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
    /// Drawn by `force-quorum`: which cluster of that generation.
    #[serde(default)]
    pub fork: Option<String>,
    /// The leader's name, if a quorum knows one.
    pub leader: Option<String>,
    /// Whether a quorum of voters answers.
    pub quorum: bool,
    /// What the present membership survives by itself.
    pub survives: SurvivesView,
    /// All members, by name.
    pub nodes: Vec<MemberView>,
}

/// What a node found when it looked at itself and its peers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckupView {
    /// The node's name.
    pub node: String,
    /// What it found.
    pub findings: Vec<FindingView>,
    /// Where the other nodes are to be asked.
    pub others: Vec<OtherView>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FindingView {
    /// What: `clock`, `disk flush`, `quorum`, ...
    pub check: String,
    /// `ok`, `warning` or `failure`.
    pub level: String,
    /// What was found.
    pub what: String,
    /// What to do about it; empty when nothing is to be done.
    pub todo: String,
}

/// Another node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OtherView {
    /// Its name.
    pub name: String,
    /// The base URL of its API.
    pub api: String,
}

impl CheckupView {
    pub(crate) fn of(view: &State, node: NodeId, findings: Vec<Finding>) -> CheckupView {
        let name =
            |id: NodeId| view.nodes.get(&id).map_or_else(|| id.to_string(), |record| record.name.clone());
        let others = view.nodes.values().filter(|record| record.id != node);
        CheckupView {
            node: name(node),
            findings: findings.into_iter().map(FindingView::from).collect(),
            others: others
                .map(|one| OtherView { name: one.name.clone(), api: one.api_url.clone() })
                .collect(),
        }
    }
}

impl From<Finding> for FindingView {
    fn from(finding: Finding) -> FindingView {
        let Finding { check, level, what, todo } = finding;
        FindingView { check, level: word(level), what, todo }
    }
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
    /// `ok`, `slow`, `full` or `failing`: how its disk is; `unknown` when the node can't be reached.
    #[serde(default)]
    pub storage: String,
    /// What is wrong with its disk, in words.
    #[serde(default)]
    pub storage_error: Option<String>,
    /// How far it is, while it joins.
    #[serde(default)]
    pub joining: Option<JoiningView>,
    /// Why the cluster does not take it, by its own word.
    #[serde(default)]
    pub refused: Option<String>,
    /// So much of a hundred of its archive's index is there, while that is made anew: meanwhile it answers
    /// questions for CDRs, events and audit with 503.
    #[serde(default)]
    pub index_rebuild_percent: Option<u8>,
    /// The release it runs.
    pub version: String,
    /// Round trip from the answering node; `null` when it can't be reached.
    pub rtt_ms: Option<f64>,
}

/// What a joining node fetches, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoiningView {
    /// `state`, then `archive`, then `log`.
    pub step: String,
    /// How much of a hundred it has of it.
    pub percent: u8,
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
            fork: status.fork,
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
            storage: word(node.storage),
            storage_error: node.storage_error,
            joining: node.joining.map(|at| JoiningView { step: word(at.step), percent: at.percent }),
            refused: node.refused,
            index_rebuild_percent: node.index_rebuild_percent,
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

/// What became of salvaged CDRs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct SalvageView {
    /// Taken over.
    pub imported: u64,
    /// Known already, and the same.
    pub known: u64,
    /// Known already, but different; or of a call that is up. Nothing was changed: compare them by hand.
    pub different: Vec<String>,
    /// Of a tenant that is no more.
    pub of_no_tenant: Vec<String>,
}
