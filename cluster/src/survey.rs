//! Looking at the whole cluster from one node: status and hashes.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tandem_state::{Command, NodeId, Principal, Role, State};
use tokio::time::Instant;

use crate::cluster::HashError;
use crate::identity::{Fork, to_hex};
use crate::node::Node;
use crate::rpc::Method;
use crate::service::Pong;
use crate::status::{
    HashReport, MemberState, NodeHash, NodeStatus, RaftRole, Status, StorageState, Survives,
};

impl Node {
    /// See `Cluster::status`.
    pub(crate) async fn status(&self) -> Status {
        let view = self.shared.view.load_full();
        let membership = self.shared.membership.load_full();
        let voters: Vec<NodeId> = membership.membership().voter_ids().map(NodeId).collect();
        let mut ids: Vec<NodeId> = membership.membership().nodes().map(|(id, _)| NodeId(*id)).collect();
        if !ids.contains(&self.id()) {
            ids.push(self.id());
        }
        let asks = ids.into_iter().map(|id| async move {
            let asked = Instant::now();
            let pong = self.ping(id).await;
            let rtt_ms = if id == self.id() { 0.0 } else { asked.elapsed().as_secs_f64() * 1000.0 };
            (id, pong, (rtt_ms * 100.0).round() / 100.0)
        });
        let answers = futures_util::future::join_all(asks).await;
        let leader = leader_of(&answers, &voters);
        let last = answers.iter().filter_map(|(_, pong, _)| Some(pong.as_ref()?.last_log)).max().unwrap_or(0);
        let led = Led { by: leader, last };
        let quorum = answers.iter().any(|(id, pong, _)| {
            let said = pong.as_ref().is_some_and(|pong| pong.has_quorum.unwrap_or(true));
            Some(*id) == leader && said
        });
        let keep_up: BTreeSet<NodeId> = answers
            .iter()
            .filter(|(id, pong, _)| {
                pong.as_ref().is_some_and(|pong| led.keeps_up(pong, self.lease_ms(&view, *id)))
            })
            .map(|(id, ..)| *id)
            .collect();
        let mut nodes: Vec<NodeStatus> = answers
            .into_iter()
            .map(|(id, pong, rtt_ms)| self.node_status(&view, id, voters.contains(&id), (pong, rtt_ms), led))
            .collect();
        nodes.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        let site = |id: &NodeId| view.nodes.get(id).map_or("", |record| &record.site);
        let is_up = |id: &NodeId| keep_up.contains(id);
        let configs = membership.membership().get_joint_config();
        let of = |config: &BTreeSet<u64>| {
            let voter = |id: &u64| (site(&NodeId(*id)), is_up(&NodeId(*id)));
            survives(config.iter().map(voter))
        };
        // While voters change, each of both sets must have its majority.
        let survives = configs.iter().map(of).reduce(Survives::and).unwrap_or_default();
        Status {
            cluster_id: self.identity.cluster,
            generation: self.identity.generation,
            fork: (self.identity.fork != Fork::default()).then(|| self.identity.fork.to_string()),
            leader: leader.map(|id| self.name_of(&view, id)),
            quorum,
            survives,
            nodes,
        }
    }

    fn node_status(
        &self,
        view: &State,
        id: NodeId,
        votes: bool,
        (pong, rtt_ms): (Option<Pong>, f64),
        led: Led,
    ) -> NodeStatus {
        let record = if id == self.id() { Some(&self.record) } else { view.nodes.get(&id) };
        let lease_ms = self.lease_ms(view, id);
        let holds = match (lease_ms, &pong) {
            (Some(ms), _) => ms > 0,
            (None, Some(pong)) => led.keeps_up(pong, None),
            (None, None) => false,
        };
        let state = match (holds, votes) {
            (_, false) if pong.is_some() => MemberState::Joining,
            (true, _) if view.draining.contains_key(&id) => MemberState::Draining,
            (true, _) => MemberState::Up,
            (false, _) => MemberState::Down,
        };
        NodeStatus {
            name: self.name_of(view, id),
            id,
            site: record.map_or_else(String::new, |record| record.site.clone()),
            role: record.map_or(Role::Full, |record| record.role),
            state,
            raft: pong.as_ref().map_or(RaftRole::Unreachable, |pong| led.role(id, pong)),
            term: pong.as_ref().map_or(0, |pong| pong.term),
            last_log: pong.as_ref().map_or(0, |pong| pong.last_log),
            applied: pong.as_ref().map_or(0, |pong| pong.applied),
            epoch: view.nodes.get(&id).map_or(1, |record| record.epoch.0),
            lease_ms,
            calls: view.calls.values().filter(|call| call.owner == id).count() as u64,
            registrations: u64::from(view.held_by(id)),
            joining: pong
                .as_ref()
                .filter(|_| state == MemberState::Joining)
                .map(|pong| pong.joining(led.last)),
            refused: pong.as_ref().and_then(|pong| pong.refused.clone()),
            index_rebuild_percent: pong.as_ref().and_then(|pong| pong.index_percent),
            storage: pong.as_ref().map_or(StorageState::Unknown, |pong| pong.storage),
            storage_error: pong.as_ref().and_then(|pong| pong.storage_error.clone()),
            version: match (&pong, record) {
                (Some(pong), _) => pong.version.clone(),
                (None, Some(record)) => record.version.clone(),
                (None, None) => String::new(),
            },
            rtt_ms: pong.map(|_| rtt_ms),
        }
    }

    /// What is left of a node's lease as far as can be known here; `None` before there are leases.
    fn lease_ms(&self, view: &State, id: NodeId) -> Option<u64> {
        view.has_leases().then(|| self.shared.leases.remaining_ms(id).unwrap_or(0))
    }

    pub(crate) fn name_of(&self, view: &State, id: NodeId) -> String {
        if id == self.id() {
            return self.record.name.clone();
        }
        view.nodes.get(&id).map_or_else(|| id.to_string(), |record| record.name.clone())
    }

    /// See `Cluster::hash`.
    pub(crate) async fn hash_report(&self) -> Result<HashReport, HashError> {
        // A `Tick` makes a position that every node passes and keeps its state at.
        let tick = self.propose(Principal::Node(self.id()), None, Command::Tick).await;
        let position = tick.map_err(|_| HashError::NoQuorum)?.position;
        let view = self.shared.view.load_full();
        let mut ids = self.others();
        ids.push(self.id());
        let asks = ids.into_iter().map(|id| async move { (id, self.hash_of(id, position).await) });
        let answers = futures_util::future::join_all(asks).await;
        let first = answers.iter().find_map(|(_, hash)| hash.as_ref().ok().copied());
        let equal = answers.iter().all(|(_, hash)| hash.is_ok() && hash.as_ref().ok().copied() == first);
        let mut nodes: Vec<NodeHash> = answers
            .into_iter()
            .map(|(id, hash)| NodeHash {
                name: self.name_of(&view, id),
                id,
                hash: hash.as_ref().ok().map(|hash| to_hex(hash)),
                error: hash.err(),
            })
            .collect();
        nodes.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        Ok(HashReport { position, equal, nodes })
    }

    async fn hash_of(&self, id: NodeId, position: u64) -> Result<[u8; 32], String> {
        const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(8);
        if id == self.id() {
            return self.hash_at(position).await;
        }
        let question = postcard::to_stdvec(&position).map_err(|e| e.to_string())?;
        let answer = self.peers.call(id, Method::Hash, Bytes::from(question), TIMEOUT).await;
        let answer = answer.map_err(|e| e.to_string())?;
        postcard::from_bytes::<Result<[u8; 32], String>>(&answer).map_err(|e| e.to_string())?
    }
}

/// The node that itself says it leads and that a majority of voters names in its term.
fn leader_of(answers: &[(NodeId, Option<Pong>, f64)], voters: &[NodeId]) -> Option<NodeId> {
    let voices = || answers.iter().filter_map(|(id, pong, _)| pong.as_ref().map(|pong| (*id, pong)));
    let claims = voices().filter(|(id, pong)| pong.raft == RaftRole::Leader && pong.leader == Some(*id));
    let (leader, claim) = claims.max_by_key(|(_, pong)| pong.term)?;
    let named = voices()
        .filter(|(id, pong)| voters.contains(id) && pong.leader == Some(leader) && pong.term == claim.term)
        .count();
    (named > voters.len() / 2).then_some(leader)
}

/// Before there are leases, a node that is farther behind than this does not keep up.
const BEHIND_MAX: u64 = 1_000;

/// Who leads, if a majority says so, and the last log position that anybody has.
#[derive(Debug, Clone, Copy)]
struct Led {
    by: Option<NodeId>,
    last: u64,
}

impl Led {
    /// Whether a node that answers is one that a majority can be made of: it has the leader, its disk takes writes, and the
    /// log goes on there, as its lease shows once there are any.
    fn keeps_up(self, pong: &Pong, lease_ms: Option<u64>) -> bool {
        let is_led = self.by.is_some() && pong.leader == self.by;
        let writes = !matches!(pong.storage, StorageState::Full | StorageState::Failing);
        let follows = lease_ms.map_or(pong.applied.saturating_add(BEHIND_MAX) >= self.last, |ms| ms > 0);
        is_led && writes && follows
    }

    /// What a node is: a leader that no majority names has to be elected once more.
    fn role(self, id: NodeId, pong: &Pong) -> RaftRole {
        match pong.raft {
            RaftRole::Leader if self.by != Some(id) => RaftRole::Candidate,
            role => role,
        }
    }
}

/// From each voter's site and whether it keeps up: what may be lost *now*, on top of what is lost already.
fn survives<'a>(voters: impl Iterator<Item = (&'a str, bool)>) -> Survives {
    let mut up_by_site: BTreeMap<String, usize> = BTreeMap::new();
    let mut count = 0;
    for (site, up) in voters {
        count += 1;
        *up_by_site.entry(site.to_owned()).or_default() += usize::from(up);
    }
    let up: usize = up_by_site.values().sum();
    let stands = |lost: usize| up.saturating_sub(lost) > count / 2;
    Survives {
        any_one_node: stands(1),
        site: up_by_site.into_iter().map(|(site, lost)| (site, stands(lost))).collect(),
    }
}

impl Survives {
    /// What both survive.
    fn and(mut self, other: Survives) -> Survives {
        self.any_one_node &= other.any_one_node;
        for (site, stands) in other.site {
            self.site.entry(site).and_modify(|both| *both &= stands).or_insert(stands);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pong(raft: RaftRole, term: u64, leader: Option<u64>) -> Option<Pong> {
        Some(Pong {
            raft,
            term,
            last_log: 0,
            applied: 0,
            leader: leader.map(NodeId),
            version: String::new(),
            wall_ms: 0,
            storage: StorageState::Ok,
            storage_error: None,
            joining: None,
            index_percent: None,
            has_quorum: None,
            refused: None,
        })
    }

    #[test]
    fn a_node_keeps_up_that_has_the_leader_a_disk_and_a_lease() {
        let led = Led { by: Some(NodeId(1)), last: 5_000 };
        let follower = |applied, storage, leader| {
            let pong = pong(RaftRole::Follower, 4, leader).unwrap();
            Pong { applied, storage, ..pong }
        };
        let well = follower(4_990, StorageState::Slow, Some(1));
        assert!(led.keeps_up(&well, Some(900)) && led.keeps_up(&well, None));
        assert!(!led.keeps_up(&well, Some(0)), "it answers, and applies nothing");
        assert!(!led.keeps_up(&follower(3_000, StorageState::Ok, Some(1)), None), "it is far behind");
        assert!(!led.keeps_up(&follower(5_000, StorageState::Full, Some(1)), Some(900)));
        for leader in [None, Some(2)] {
            assert!(!led.keeps_up(&follower(5_000, StorageState::Ok, leader), Some(900)));
        }
        assert!(!Led { by: None, ..led }.keeps_up(&follower(5_000, StorageState::Ok, None), Some(900)));
    }

    #[test]
    fn who_takes_itself_for_the_leader_and_is_followed_by_no_majority_is_none() {
        let leader = pong(RaftRole::Leader, 4, Some(1)).unwrap();
        assert_eq!(Led { by: Some(NodeId(1)), last: 0 }.role(NodeId(1), &leader), RaftRole::Leader);
        assert_eq!(Led { by: None, last: 0 }.role(NodeId(1), &leader), RaftRole::Candidate);
    }

    #[test]
    fn three_nodes_on_two_sites_survive_a_node_and_the_smaller_site() {
        let survives = survives([("east", true), ("east", true), ("west", true)].into_iter());
        assert!(survives.any_one_node);
        assert_eq!(survives.site, BTreeMap::from([("east".to_owned(), false), ("west".to_owned(), true)]));
    }

    #[test]
    fn with_a_node_down_three_survive_nothing_more_but_the_site_that_is_down_already() {
        let survives = survives([("east", true), ("east", true), ("west", false)].into_iter());
        assert!(!survives.any_one_node);
        assert_eq!(survives.site, BTreeMap::from([("east".to_owned(), false), ("west".to_owned(), true)]));
    }

    #[test]
    fn two_nodes_survive_nothing() {
        assert_eq!(
            survives([("east", true), ("west", true)].into_iter()),
            Survives {
                any_one_node: false,
                site: BTreeMap::from([("east".to_owned(), false), ("west".to_owned(), false)]),
            }
        );
    }

    #[test]
    fn while_voters_change_both_sets_must_stand() {
        let three = survives([("east", true), ("east", true), ("west", true)].into_iter());
        let two = survives([("east", true), ("east", true)].into_iter());
        let both = three.and(two);
        assert!(!both.any_one_node);
        assert_eq!(both.site, BTreeMap::from([("east".to_owned(), false), ("west".to_owned(), true)]));
    }

    #[test]
    fn a_leader_is_one_that_a_majority_names() {
        let voters = [NodeId(1), NodeId(2), NodeId(3)];
        let mut answers = vec![
            (NodeId(1), pong(RaftRole::Leader, 4, Some(1)), 0.0),
            (NodeId(2), pong(RaftRole::Follower, 4, Some(1)), 0.0),
            (NodeId(3), None, 0.0),
        ];
        assert_eq!(leader_of(&answers, &voters), Some(NodeId(1)));
        answers[1].1 = None;
        assert_eq!(leader_of(&answers, &voters), None);
        answers[2].1 = pong(RaftRole::Leader, 5, Some(3));
        answers[1].1 = pong(RaftRole::Follower, 5, Some(3));
        assert_eq!(leader_of(&answers, &voters), Some(NodeId(3)));
    }
}
