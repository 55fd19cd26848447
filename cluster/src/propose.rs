//! From a caller to the leader and back: proposals are numbered, sent in groups, sent again after a change of leader,
//! and answered by this node's own apply.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tandem_state::command::IdempotencyKey;
use tandem_state::{Command, NodeId, Principal, Proposal};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use crate::cluster::{Committed, ProposeError};
use crate::flights::{Flight, Flights, LARGE};
use crate::leader::{NotLeader, Submission};
use crate::node::Node;
use crate::rpc::Method;

/// Proposals in one group.
const GROUP_MAX: usize = 512;
/// How long proposals that nobody waits for linger.
const LINGER: Duration = Duration::from_millis(30);
/// Longest command.
const COMMAND_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Where proposals enter.
pub(crate) struct Proposer {
    places: Arc<Semaphore>,
    numbers: mpsc::UnboundedSender<Numbered>,
}

/// A proposal's number, and whether somebody waits for its outcome.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numbered {
    seq: u64,
    awaited: bool,
}

impl Proposer {
    /// The receiver goes to [`forward`].
    pub(crate) fn new(proposals_max: usize) -> (Proposer, mpsc::UnboundedReceiver<Numbered>) {
        // Bounded by the places.
        let (numbers, receiver) = mpsc::unbounded_channel();
        (Proposer { places: Arc::new(Semaphore::new(proposals_max)), numbers }, receiver)
    }

    fn send(&self, number: Numbered) {
        let _ = self.numbers.send(number);
    }
}

/// Gives a number up when its caller is gone.
struct Forget<'a>(&'a Node, u64);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.0.shared.pending.forget(self.1);
    }
}

impl Node {
    /// See `Cluster::propose`.
    pub(crate) async fn propose(
        &self,
        principal: Principal,
        idempotency: Option<IdempotencyKey>,
        command: Command,
    ) -> Result<Committed, ProposeError> {
        if postcard::experimental::serialized_size(&command).unwrap_or(usize::MAX) > COMMAND_BYTES_MAX {
            return Err(ProposeError::TooLong);
        }
        let Ok(_place) = self.proposer.places.try_acquire() else {
            metrics::counter!("tandem_proposals_refused_total").increment(1);
            return Err(ProposeError::Overloaded);
        };
        if self.stopping() {
            return Err(ProposeError::Stopped);
        }
        let started = Instant::now();
        let awaited = command.is_awaited();
        let Some((seq, told)) = self.shared.pending.add(principal, idempotency, command) else {
            metrics::counter!("tandem_proposals_refused_total").increment(1);
            return Err(ProposeError::Overloaded);
        };
        let _forget = Forget(self, seq);
        self.proposer.send(Numbered { seq, awaited });
        let mut stop = self.stop.subscribe();
        tokio::select! {
            told = told => {
                metrics::histogram!("tandem_commit_seconds").record(started.elapsed().as_secs_f64());
                told.map_err(|_| ProposeError::Stopped)
            }
            () = tokio::time::sleep(self.timing.propose_deadline) => {
                metrics::counter!("tandem_proposals_unknown_total").increment(1);
                Err(ProposeError::Unknown { origin: self.shared.pending.origin(seq) })
            }
            _ = stop.wait_for(|stop| *stop) => Err(ProposeError::Stopped),
        }
    }

    /// Hands proposals to this node's gatherer, as the leader.
    pub(crate) async fn submit(&self, proposals: Vec<Proposal>) -> Result<(), NotLeader> {
        let (tell, told) = oneshot::channel();
        let nobody = NotLeader { leader: None };
        self.submissions.send(Submission { proposals, told: tell }).await.map_err(|_| nobody)?;
        told.await.unwrap_or(Err(nobody))
    }
}

/// Sends numbered proposals to the leader until the node stops.
pub(crate) async fn forward(node: Arc<Node>, mut numbers: mpsc::UnboundedReceiver<Numbered>) {
    let flights = Flights::new();
    loop {
        let Some(mut group) = company(&mut numbers).await else { return };
        let Some(flight) = depart(&flights, &mut group, &mut numbers).await else { return };
        while group.len() < GROUP_MAX {
            let Ok(next) = numbers.try_recv() else { break };
            group.push(next.seq);
        }
        let node = Arc::clone(&node);
        tokio::spawn(async move {
            deliver(&node, &group).await;
            drop(flight);
        });
    }
}

/// The beginning of a group: what nobody waits for lingers until something comes for whose sake a group goes anyway.
async fn company(numbers: &mut mpsc::UnboundedReceiver<Numbered>) -> Option<Vec<u64>> {
    let first = numbers.recv().await?;
    let mut group = vec![first.seq];
    let mut awaited = first.awaited;
    let lingered = tokio::time::sleep(LINGER);
    tokio::pin!(lingered);
    while !awaited && group.len() < LARGE {
        tokio::select! {
            biased;
            next = numbers.recv() => {
                let next = next?;
                group.push(next.seq);
                awaited = next.awaited;
            }
            () = &mut lingered => break,
        }
    }
    Some(group)
}

/// Waits until the group may go; it grows meanwhile.
async fn depart(
    flights: &Flights,
    group: &mut Vec<u64>,
    numbers: &mut mpsc::UnboundedReceiver<Numbered>,
) -> Option<Flight> {
    while group.len() < LARGE {
        tokio::select! {
            biased;
            flight = flights.alone() => return flight,
            next = numbers.recv() => group.push(next?.seq),
        }
    }
    flights.beside().await
}

/// Tries until the leader took the group or nobody waits for it any more.
async fn deliver(node: &Arc<Node>, group: &[u64]) {
    const PAUSE: Duration = Duration::from_millis(20);
    let mut told_leader = None;
    loop {
        let proposals = node.shared.pending.proposals(group);
        if proposals.is_empty() || node.stopping() {
            return;
        }
        let leader = match told_leader.take().or_else(|| node.leader_hint()) {
            Some(leader) => leader,
            None => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        match send_to(node, leader, proposals).await {
            Ok(()) => return,
            Err(not) => {
                metrics::counter!("tandem_proposals_resent_total").increment(1);
                told_leader = not.leader.filter(|other| *other != leader);
                if told_leader.is_none() {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

async fn send_to(node: &Arc<Node>, leader: NodeId, proposals: Vec<Proposal>) -> Result<(), NotLeader> {
    let nobody = NotLeader { leader: None };
    if leader == node.id() {
        return node.submit(proposals).await;
    }
    let bytes = postcard::to_stdvec(&proposals).map_err(|_| nobody)?;
    let retry = node.timing.propose_retry;
    let answer =
        node.peers.call(leader, Method::Propose, Bytes::from(bytes), retry).await.map_err(|_| nobody)?;
    postcard::from_bytes::<Result<(), NotLeader>>(&answer).unwrap_or(Err(nobody))
}
