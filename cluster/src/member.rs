//! Changes of membership: asked of any node, carried out by the leader ([`change`]).

mod change;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tandem_state::{Command, NodeId, Principal};
use tokio::time::Instant;

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

/// A node that the cluster refused asks again after this: each time is an entry of the log.
const REFUSED_AGAIN: Duration = Duration::from_secs(3);
/// How long one change may take.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(15);

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
}

/// At a node's start: becomes a member if it is none, then says of itself what it is, until the cluster takes that: a node
/// whose name is taken is let in once the other one is removed.
pub(crate) async fn announce(node: Arc<Node>) {
    join_as_learner(&node).await;
    let me = Principal::Node(node.id());
    while !node.stopping() {
        let command = Command::NodeStarted { node: node.record.clone() };
        match node.propose(me.clone(), None, command).await {
            Ok(committed) => {
                let refused = committed.outcome.err().map(|refusal| refusal.to_string());
                if node.shared.note_refused(refused.clone()) {
                    match &refused {
                        Some(why) => tracing::error!(why, "the cluster refuses this node, which asks again"),
                        None => tracing::info!("the cluster takes this node now"),
                    }
                }
                if refused.is_none() {
                    return;
                }
                tokio::time::sleep(REFUSED_AGAIN).await;
            }
            Err(error) => {
                tracing::warn!(%error, "the cluster has not heard of this start yet");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }
}

/// While this node leads: looks after the members ([`Node::tend_members`]), until the node stops. It is no part of
/// `leader::tend`, for a learner may take seconds to say what it has of the archive.
pub(crate) async fn tend(node: Arc<Node>) {
    const LOOK: Duration = Duration::from_millis(200);
    const AGAIN: Duration = Duration::from_secs(2);
    loop {
        tokio::time::sleep(LOOK).await;
        if node.leader_hint() == Some(node.id()) && !node.tend_members().await {
            tokio::time::sleep(AGAIN).await;
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
