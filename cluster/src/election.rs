//! An election as soon as the leader's process is gone, instead of after its silence.
//!
//! Each follower keeps a connection to the leader that nothing is ever sent on. When the kernel of a dead process closes it
//! and refuses the next, that is a hint, and not yet proof: one mistaken observer must not depose a leader that serves
//! the others. So it is told to the other voters, and only when a quorum of them has found the same, each by itself, they
//! elect one of their number at once. Whatever they are mistaken about, the vote itself is Raft's, and safe.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;
use openraft::raft::TransferLeaderRequest;
use serde::{Deserialize, Serialize};
use tandem_state::NodeId;

use crate::node::Node;
use crate::raft::Vote;
use crate::rpc::Method;

/// Who was not chosen waits so long, and a round trip, for the one who was, then stands itself.
const CHOSEN_WAIT: Duration = Duration::from_millis(60);
/// How long another voter may take to hear of a finding or to be asked for a round trip; by then the ordinary election has begun.
const TELL_TIMEOUT: Duration = Duration::from_millis(300);

/// What a follower found: the leader of this vote is gone, and this is how far its own log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Finding {
    vote: Vote,
    last_log: u64,
}

/// What the voters found, each by itself.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    found: BTreeMap<NodeId, Finding>,
    /// The vote that was acted on.
    acted: Option<Vote>,
}

impl Findings {
    /// Takes what `node` found, or found again. Findings about other votes are out of date.
    fn add(&mut self, node: NodeId, finding: Finding) {
        self.found.retain(|_, other| other.vote == finding.vote);
        self.found.insert(node, finding);
    }

    /// Whom to elect, once: when this node and others, together a quorum, have found the leader of `vote` gone. It is the one
    /// with the longest log, of several the one with the lowest id, so that all choose the same.
    fn verdict(&mut self, me: NodeId, vote: Vote, quorum: usize) -> Option<NodeId> {
        let found = || self.found.iter().filter(|(_, finding)| finding.vote == vote);
        let proven = self.found.get(&me).is_some_and(|own| own.vote == vote) && found().count() >= quorum;
        if !proven || self.acted == Some(vote) {
            return None;
        }
        let chosen = found().max_by_key(|(node, finding)| (finding.last_log, std::cmp::Reverse(**node)));
        let chosen = chosen.map(|(node, _)| *node);
        self.acted = Some(vote);
        chosen
    }
}

/// Where a node keeps them.
#[derive(Debug, Default)]
pub(crate) struct Observed(Mutex<Findings>);

impl Observed {
    fn with<T>(&self, work: impl FnOnce(&mut Findings) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Watches whoever leads, until the node stops.
pub(crate) async fn watch(node: Arc<Node>) {
    loop {
        let led = node.until_led().await;
        let (leader, vote) = led;
        tokio::select! {
            () = node.peers.until_gone(leader) => {}
            () = node.until_not(led) => continue,
        }
        tracing::info!(node = %leader, "the leader's connections ended and it takes no new ones");
        node.found_gone(leader, vote).await;
        node.until_not(led).await;
    }
}

impl Node {
    /// Another voter's finding.
    pub(crate) fn take_finding(self: &Arc<Node>, from: NodeId, finding: Finding) {
        let is_voter = self.shared.membership.load().membership().voter_ids().any(|id| id == from.0);
        if is_voter {
            self.observed.with(|findings| findings.add(from, finding));
            self.act_on_findings();
        }
    }

    async fn found_gone(self: &Arc<Node>, leader: NodeId, vote: Vote) {
        let finding = Finding { vote, last_log: self.metrics().last_log_index.unwrap_or(0) };
        self.observed.with(|findings| findings.add(self.id(), finding));
        self.act_on_findings();
        let Ok(bytes) = postcard::to_stdvec(&finding).map(Bytes::from) else { return };
        let voters = self.shared.membership.load_full();
        let others =
            voters.membership().voter_ids().map(NodeId).filter(|id| ![leader, self.id()].contains(id));
        let told = others.map(|other| self.peers.call(other, Method::Gone, bytes.clone(), TELL_TIMEOUT));
        futures_util::future::join_all(told).await;
    }

    fn act_on_findings(self: &Arc<Node>) {
        let (vote, me, quorum) = (self.metrics().vote, self.id(), self.quorum_size());
        if let Some(chosen) = self.observed.with(|findings| findings.verdict(me, vote, quorum)) {
            metrics::counter!("tandem_raft_early_elections_total").increment(1);
            tracing::info!(%chosen, "a quorum found the leader gone: it is replaced");
            tokio::spawn(Arc::clone(self).replace_leader(vote, chosen));
        }
    }

    /// Clears what is left of the dead leader's time, and stands for election if chosen, or if who was chosen did not win.
    async fn replace_leader(self: Arc<Node>, vote: Vote, chosen: NodeId) {
        let _ = self.raft().handle_transfer_leader(TransferLeaderRequest::new(vote, chosen.0, None)).await;
        if chosen == self.id() {
            return;
        }
        // It may have heard of this node's finding one way later, and its request takes another: over a long link who did not
        // wait for both would split the vote each time.
        let _ = self.peers.call(chosen, Method::Ping, Bytes::new(), TELL_TIMEOUT).await;
        tokio::time::sleep(CHOSEN_WAIT).await;
        if self.metrics().vote == vote {
            let me = TransferLeaderRequest::new(vote, self.id().0, None);
            let _ = self.raft().handle_transfer_leader(me).await;
        }
    }

    /// Waits until this node is a voter and follows somebody.
    async fn until_led(&self) -> (NodeId, Vote) {
        let mut metrics = self.raft().metrics();
        loop {
            if let Some(led) = self.led() {
                return led;
            }
            if metrics.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until it follows another, or the same under another vote.
    async fn until_not(&self, led: (NodeId, Vote)) {
        let mut metrics = self.raft().metrics();
        while self.led() == Some(led) {
            if metrics.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn led(&self) -> Option<(NodeId, Vote)> {
        let metrics = self.raft().metrics();
        let metrics = metrics.borrow_watched();
        let votes = metrics.membership_config.voter_ids().any(|id| id == metrics.id);
        let leader = metrics.current_leader.filter(|leader| votes && *leader != metrics.id)?;
        Some((NodeId(leader), metrics.vote))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(term: u64, last_log: u64) -> Finding {
        Finding { vote: Vote::new_committed(term, 1), last_log }
    }

    fn verdict(findings: &mut Findings, me: u64) -> Option<NodeId> {
        findings.verdict(NodeId(me), Vote::new_committed(3, 1), 2)
    }

    #[test]
    fn one_observer_alone_elects_nobody() {
        let mut findings = Findings::default();
        findings.add(NodeId(2), finding(3, 9));
        assert_eq!((verdict(&mut findings, 2), verdict(&mut findings, 3)), (None, None));
    }

    #[test]
    fn a_node_that_did_not_find_it_itself_believes_no_others() {
        let mut findings = Findings::default();
        findings.add(NodeId(2), finding(3, 9));
        findings.add(NodeId(4), finding(3, 9));
        assert_eq!(verdict(&mut findings, 3), None);
        findings.add(NodeId(3), finding(3, 8));
        assert_eq!(verdict(&mut findings, 3), Some(NodeId(2)));
    }

    #[test]
    fn the_longest_log_is_chosen_and_only_once() {
        let mut findings = Findings::default();
        findings.add(NodeId(2), finding(3, 8));
        findings.add(NodeId(3), finding(3, 9));
        assert_eq!((verdict(&mut findings, 2), verdict(&mut findings, 2)), (Some(NodeId(3)), None));
    }

    #[test]
    fn findings_about_another_vote_do_not_count() {
        let mut findings = Findings::default();
        findings.add(NodeId(2), finding(2, 9));
        findings.add(NodeId(3), finding(3, 9));
        assert_eq!(verdict(&mut findings, 3), None);
        findings.add(NodeId(2), finding(4, 9));
        assert_eq!(verdict(&mut findings, 2), None);
    }
}
