//! The leader's part: what it checks before a change, and the change.

use std::collections::BTreeSet;
use std::time::Duration;

use openraft::{BasicNode, ChangeMembers};
use tandem_state::{Command, NodeId, Principal};
use tokio::time::Instant;

use super::{CHANGE_TIMEOUT, MemberAnswer, MemberAsk};
use crate::node::Node;
use crate::raft::Types;
use crate::service::Pong;
use crate::status::StorageState;

/// A learner that is this close behind may vote.
const CAUGHT_UP: u64 = 100;
/// A node that doesn't answer is called down in this time, or its lease is renewed after all.
const DOWN_WAIT: Duration = Duration::from_secs(4);

impl Node {
    pub(super) async fn change_here(&self, ask: MemberAsk) -> MemberAnswer {
        let answer = match ask {
            MemberAsk::AddLearner { node, address } => self.add_learner(node, address).await,
            MemberAsk::Promote(node) => self.promote(node).await,
            MemberAsk::Remove(node) => self.remove(node).await,
            MemberAsk::Lead(node) => self.hand_over(node).await,
        };
        answer.unwrap_or_else(|refused| refused)
    }

    async fn add_learner(&self, node: NodeId, address: String) -> Result<MemberAnswer, MemberAnswer> {
        if self.is_member(node) {
            return Ok(MemberAnswer::Done);
        }
        self.peers.set_address(node, &address);
        answer(self.raft().add_learner(node.0, BasicNode::new(address), false).await.map(drop))
    }

    async fn promote(&self, node: NodeId) -> Result<MemberAnswer, MemberAnswer> {
        self.must_be_member(node)?;
        if self.votes(node) {
            return Ok(MemberAnswer::Done);
        }
        self.may_vote(node).await.map_err(MemberAnswer::Refused)?;
        if let Some(why) = self.lacks_archive(node).await {
            return refused(format!("it has not the whole archive yet: {why}"));
        }
        self.must_be_majority(self.voters().chain([node]).collect(), "would vote").await?;
        answer(self.raft().change_membership(promotion(node), true).await.map(drop))
    }

    /// How a node is that may vote, or why it can't yet: a voter that can't follow only raises the majority that the others must make.
    async fn may_vote(&self, node: NodeId) -> Result<Pong, String> {
        // One whose name is another's was refused, and never votes.
        if !self.shared.view.load().nodes.contains_key(&node) {
            return Err("the cluster does not know it by a name: its log says why".into());
        }
        let last = self.metrics().last_log_index.unwrap_or(0);
        let pong = self.ping(node).await.ok_or("it can't be reached")?;
        if pong.applied.saturating_add(CAUGHT_UP) < last {
            return Err(format!(
                "it has not caught up: it has applied {} of {last} log entries",
                pong.applied
            ));
        }
        Ok(pong)
    }

    /// Takes a node out: first out of the quorum, then, by the log, its calls, bindings and identity. One that was taken out
    /// of the quorum alone, because the leader of that time died, is finished when it is asked for again.
    async fn remove(&self, node: NodeId) -> Result<MemberAnswer, MemberAnswer> {
        if node == self.id() {
            return refused("this node leads: hand leadership to another one first");
        }
        let is_member = self.is_member(node);
        if !is_member && !self.shared.view.load().nodes.contains_key(&node) {
            return Err(MemberAnswer::NoNode);
        }
        self.must_be_down(node).await?;
        if is_member {
            self.take_out(node).await?;
        }
        let note = Command::NodeRemoved { node };
        match self.propose(Principal::Node(self.id()), None, note).await {
            Ok(_) => Ok(MemberAnswer::Done),
            Err(error) => {
                refused(format!("it votes no more, but its calls and bindings stay ({error}): ask again"))
            }
        }
    }

    async fn take_out(&self, node: NodeId) -> Result<MemberAnswer, MemberAnswer> {
        let gone = BTreeSet::from([node.0]);
        let change = if self.votes(node) {
            self.must_be_majority(self.voters().filter(|id| *id != node).collect(), "would stay").await?;
            if let Some(why) = self.archive_needs(node).await {
                return refused(why);
            }
            ChangeMembers::RemoveVoters(gone)
        } else {
            ChangeMembers::RemoveNodes(gone)
        };
        answer(self.raft().change_membership(change, false).await.map(drop))
    }

    /// A node that lives goes on with its calls, whatever is decided without it: it must be stopped first. One that doesn't
    /// answer is waited for until it is called down.
    async fn must_be_down(&self, node: NodeId) -> Result<(), MemberAnswer> {
        let deadline = Instant::now() + DOWN_WAIT;
        loop {
            if self.ping(node).await.is_some() {
                return refused("it still runs: stop it first").map(drop);
            }
            let lease_stands = || self.shared.view.load().leases.get(&node).is_some_and(|lease| lease.stands);
            if !lease_stands() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return refused("its lease still stands, so it may still run, out of this node's reach")
                    .map(drop);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The cluster would stand still if too few of these voters could be reached.
    async fn must_be_majority(&self, voters: Vec<NodeId>, doing: &str) -> Result<(), MemberAnswer> {
        let asks = voters.iter().map(|id| self.ping(*id));
        let reached = futures_util::future::join_all(asks).await.into_iter().flatten().count();
        let (count, needed) = (voters.len(), voters.len() / 2 + 1);
        if reached >= needed {
            return Ok(());
        }
        let why = format!(
            "only {reached} of the {count} voters that {doing} can be reached, and {needed} are needed"
        );
        Err(MemberAnswer::Refused(why))
    }

    /// To a voter that answers and has all: openraft takes no writes while it waits for the other to stand for election.
    pub(crate) async fn hand_over(&self, to: NodeId) -> Result<MemberAnswer, MemberAnswer> {
        self.must_be_member(to)?;
        if to == self.id() {
            return Ok(MemberAnswer::Done);
        }
        if !self.votes(to) {
            return refused("only a voter can lead");
        }
        let disk = self.may_vote(to).await.map_err(MemberAnswer::Refused)?.storage;
        if disk != StorageState::Ok {
            return refused(format!("its disk is {}: it would give leadership up at once", disk.word()));
        }
        if let Err(error) = self.raft().trigger().transfer_leader(to.0).await {
            return refused(error.to_string());
        }
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if self.leader_hint() == Some(to) {
                return Ok(MemberAnswer::Done);
            }
        }
        refused("the node did not take over in time")
    }

    /// While this node leads: ends a change of voters that an earlier leader left half done, takes those out of the tables
    /// that were taken out of the membership, promotes a learner that has caught up. False: something was refused, and is
    /// not to be tried again at once.
    pub(crate) async fn tend_members(&self) -> bool {
        let membership = self.metrics().membership_config;
        let membership = membership.membership();
        let view = self.shared.view.load_full();
        let left = view.nodes.keys().find(|id| membership.get_node(&id.0).is_none());
        if let Some(left) = left {
            tracing::info!(node = %left, "a removed node's calls and bindings are ended");
            let note = Command::NodeRemoved { node: *left };
            let noted = self.propose(Principal::Node(self.id()), None, note).await;
            if let Err(error) = &noted {
                tracing::warn!(node = %left, %error, "a removed node is still in the tables");
            }
            return noted.is_ok();
        }
        if membership.get_joint_config().len() > 1 {
            let change = ChangeMembers::AddVoterIds(BTreeSet::new());
            return self.finish(change, "a change of voters that was left half done is finished").await;
        }
        let mut well = true;
        for learner in membership.learner_ids().map(NodeId) {
            if self.may_vote(learner).await.is_ok() {
                if let Some(why) = self.lacks_archive(learner).await {
                    tracing::warn!(node = %learner, why, "a learner does not vote yet: its archive is not whole");
                    well = false;
                    continue;
                }
                tracing::info!(node = %learner, "a learner has caught up: it is promoted");
                return self.finish(promotion(learner), "the learner votes now").await;
            }
        }
        well
    }

    async fn finish(&self, change: ChangeMembers<u64, BasicNode>, done: &str) -> bool {
        match tokio::time::timeout(CHANGE_TIMEOUT, self.raft().change_membership(change, true)).await {
            Ok(Ok(_)) => {
                tracing::info!("{done}");
                return true;
            }
            Ok(Err(error)) => tracing::warn!(%error, "voters were not changed"),
            Err(_) => tracing::warn!("voters were not changed in time"),
        }
        false
    }

    fn is_member(&self, node: NodeId) -> bool {
        self.metrics().membership_config.membership().get_node(&node.0).is_some()
    }

    fn must_be_member(&self, node: NodeId) -> Result<(), MemberAnswer> {
        if self.is_member(node) { Ok(()) } else { Err(MemberAnswer::NoNode) }
    }

    pub(crate) fn voters(&self) -> impl Iterator<Item = NodeId> {
        self.metrics().membership_config.voter_ids().map(NodeId).collect::<Vec<_>>().into_iter()
    }

    fn votes(&self, node: NodeId) -> bool {
        self.voters().any(|id| id == node)
    }
}

fn promotion(node: NodeId) -> ChangeMembers<u64, BasicNode> {
    ChangeMembers::AddVoterIds(BTreeSet::from([node.0]))
}

fn refused(why: impl Into<String>) -> Result<MemberAnswer, MemberAnswer> {
    Err(MemberAnswer::Refused(why.into()))
}

/// What Raft says of a change.
fn answer(
    changed: Result<(), openraft::errors::RaftError<Types, openraft::errors::ClientWriteError<Types>>>,
) -> Result<MemberAnswer, MemberAnswer> {
    match changed {
        Ok(()) => Ok(MemberAnswer::Done),
        Err(error) => Err(match error.forward_to_leader() {
            Some(to) => MemberAnswer::NotLeader(to.leader_id.map(NodeId)),
            None => MemberAnswer::Refused(error.to_string()),
        }),
    }
}

#[cfg(test)]
mod tests;
