//! Changes of membership: asked of any node, carried out by the leader.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use openraft::{BasicNode, ChangeMembers};
use serde::{Deserialize, Serialize};
use tandem_state::{Command, NodeId, Principal};

use crate::cluster::MemberError;
use crate::node::Node;
use crate::rpc::Method;

/// What may be asked of the leader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum MemberAsk {
    AddLearner { node: NodeId, address: String },
    Promote(NodeId),
    Remove(NodeId),
    Lead(NodeId),
}

/// What the asked node says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum MemberAnswer {
    Done,
    NotLeader(Option<NodeId>),
    Refused(String),
    NoNode,
}

/// How long one change may take.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(10);

impl Node {
    /// Finds the leader and has it carry the change out.
    pub(crate) async fn change_membership(&self, ask: MemberAsk) -> Result<(), MemberError> {
        let deadline = Instant::now() + CHANGE_TIMEOUT;
        let mut leader = self.leader_hint();
        while Instant::now() < deadline && !self.stopping() {
            let answer = match leader {
                Some(leader) if leader == self.id() => Some(self.member_here(ask.clone()).await),
                Some(leader) => self.ask_member(leader, &ask).await,
                None => None,
            };
            match answer {
                Some(MemberAnswer::Done) => return Ok(()),
                Some(MemberAnswer::Refused(why)) => return Err(MemberError::Refused(why)),
                Some(MemberAnswer::NoNode) => return Err(MemberError::NoNode),
                Some(MemberAnswer::NotLeader(Some(other))) if Some(other) != leader => leader = Some(other),
                Some(MemberAnswer::NotLeader(_)) | None => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    leader = self.leader_hint();
                }
            }
        }
        Err(MemberError::NoLeader)
    }

    /// Asks one node, which may know another to ask.
    pub(crate) async fn ask_member(&self, node: NodeId, ask: &MemberAsk) -> Option<MemberAnswer> {
        let question = postcard::to_stdvec(ask).ok()?;
        let answer =
            self.peers.call(node, Method::Member, Bytes::from(question), CHANGE_TIMEOUT).await.ok()?;
        postcard::from_bytes(&answer).ok()
    }

    /// Carries a change out, if this node leads.
    pub(crate) async fn member_here(&self, ask: MemberAsk) -> MemberAnswer {
        let leader = self.leader_hint();
        if leader != Some(self.id()) {
            return MemberAnswer::NotLeader(leader);
        }
        let done = tokio::time::timeout(CHANGE_TIMEOUT, self.change_here(ask)).await;
        done.unwrap_or_else(|_| MemberAnswer::Refused("the change was not committed in time".into()))
    }

    async fn change_here(&self, ask: MemberAsk) -> MemberAnswer {
        let raft = self.raft();
        let membership = self.metrics().membership_config;
        let known = |node: NodeId| membership.membership().get_node(&node.0).is_some();
        let votes = |node: NodeId| membership.membership().voter_ids().any(|id| id == node.0);
        let changed = match ask {
            MemberAsk::AddLearner { node, address } => {
                if known(node) {
                    return MemberAnswer::Done;
                }
                self.peers.set_address(node, &address);
                raft.add_learner(node.0, BasicNode::new(address), false).await
            }
            MemberAsk::Promote(node) | MemberAsk::Remove(node) | MemberAsk::Lead(node) if !known(node) => {
                return MemberAnswer::NoNode;
            }
            MemberAsk::Promote(node) => {
                raft.change_membership(ChangeMembers::AddVoterIds(BTreeSet::from([node.0])), true).await
            }
            MemberAsk::Remove(node) if node == self.id() => {
                return MemberAnswer::Refused("this node leads: hand leadership to another one first".into());
            }
            MemberAsk::Remove(node) => {
                if let Some(why) = self.too_few_without(node).await {
                    return MemberAnswer::Refused(why);
                }
                let gone = BTreeSet::from([node.0]);
                let removed = if votes(node) {
                    raft.change_membership(ChangeMembers::RemoveVoters(gone), false).await
                } else {
                    raft.change_membership(ChangeMembers::RemoveNodes(gone), false).await
                };
                if removed.is_ok() {
                    let note = Command::NodeRemoved { node };
                    let _ = self.propose(Principal::Node(self.id()), None, note).await;
                }
                removed
            }
            MemberAsk::Lead(node) if !votes(node) => {
                return MemberAnswer::Refused("only a voter can lead".into());
            }
            MemberAsk::Lead(node) => return self.hand_over(node).await,
        };
        match changed {
            Ok(_) => MemberAnswer::Done,
            Err(error) => match error.forward_to_leader() {
                Some(to) => MemberAnswer::NotLeader(to.leader_id.map(NodeId)),
                None => MemberAnswer::Refused(error.to_string()),
            },
        }
    }

    /// Why the cluster would stand still without a voter: those that stay and can be reached are no majority.
    async fn too_few_without(&self, node: NodeId) -> Option<String> {
        let metrics = self.metrics();
        let voters: Vec<NodeId> = metrics.membership_config.voter_ids().map(NodeId).collect();
        let staying = voters.iter().copied().filter(|id| *id != node);
        let mut reached = 0;
        let count = staying.clone().count();
        for id in staying {
            reached += usize::from(id == self.id() || self.ping(id).await.is_some());
        }
        let needed = count / 2 + 1;
        (voters.contains(&node) && reached < needed).then(|| {
            format!(
                "only {reached} of the {count} voters that would stay can be reached, and {needed} are needed"
            )
        })
    }

    async fn hand_over(&self, to: NodeId) -> MemberAnswer {
        if to == self.id() {
            return MemberAnswer::Done;
        }
        if let Err(error) = self.raft().trigger().transfer_leader(to.0).await {
            return MemberAnswer::Refused(error.to_string());
        }
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if self.leader_hint() == Some(to) {
                return MemberAnswer::Done;
            }
        }
        MemberAnswer::Refused("the node did not take over in time".into())
    }
}

/// At a node's start: becomes a member if it is none, then says of itself what it is.
pub(crate) async fn announce(node: Arc<Node>) {
    join_as_learner(&node).await;
    let me = Principal::Node(node.id());
    while !node.stopping() {
        let command = Command::NodeStarted { node: node.record.clone() };
        match node.propose(me.clone(), None, command).await {
            Ok(committed) => {
                if let Err(refusal) = committed.outcome {
                    tracing::error!(%refusal, "the cluster refuses this node");
                }
                return;
            }
            Err(error) => {
                tracing::warn!(%error, "the cluster has not heard of this start yet");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }
}

async fn join_as_learner(node: &Node) {
    let ask = MemberAsk::AddLearner { node: node.id(), address: node.record.cluster_address.clone() };
    let mut turn = 0_usize;
    let mut hint = None;
    while !node.stopping() {
        let metrics = node.metrics();
        if metrics.membership_config.membership().get_node(&node.id().0).is_some() {
            return;
        }
        let members = &node.identity.members;
        let turned = members.get(turn % members.len().max(1)).map(|(id, _)| *id);
        turn += 1;
        let Some(asked) = hint.take().or(turned) else { return };
        match node.ask_member(asked, &ask).await {
            Some(MemberAnswer::NotLeader(Some(leader))) => hint = Some(leader),
            Some(MemberAnswer::Refused(why)) => {
                tracing::warn!(why, "the cluster does not take this node yet")
            }
            Some(_) | None => {}
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
