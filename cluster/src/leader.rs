//! What a node does while it leads: gathers proposals into entries and stamps them, lets time pass, raises the rules in
//! force.
//!
//! Whether it leads is decided by Raft when an entry is written, never by looking at a metric: those only tell whom
//! to ask first.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use openraft::errors::ClientWriteError;
use openraft::impls::ProgressResponder;
use openraft::raft::ClientWriteResult;
use tandem_state::{Batch, ClusterTime, Command, NodeId, Principal, Proposal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::clock::{STEP_MS, median_of_quorum};
use crate::flights::{Flight, Flights, LARGE};
use crate::lease::Lanes;
use crate::node::Node;
use crate::preference::Reign;
use crate::raft::{LogBatch, Types};
use crate::rules;

/// Proposals from one node, waiting to be put into an entry.
pub(crate) struct Submission {
    pub(crate) proposals: Vec<Proposal>,
    /// Told once they are applied on the leader, or that they should be sent elsewhere (to whom, if known).
    pub(crate) told: oneshot::Sender<Result<(), NotLeader>>,
}

/// This node does not lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct NotLeader {
    pub(crate) leader: Option<NodeId>,
}

/// Proposals in one entry.
const PROPOSALS_MAX: usize = 1024;
/// Bytes of proposals in one entry, roughly.
const ENTRY_BYTES_MAX: usize = 256 * 1024;
/// A clock that was found wrong is not asked about again for so long.
const STEP_PAUSE: Duration = Duration::from_secs(10);

type Written = oneshot::Receiver<ClientWriteResult<Types>>;

/// Gathers submissions until the node stops.
pub(crate) async fn gather(node: Arc<Node>, mut lanes: Lanes) {
    let flights = Flights::new();
    let mut step_tried: Option<Instant> = None;
    let mut waiting = Gathered::default();
    while let Some((flight, mut gathered)) = next_entry(&flights, &mut waiting, &mut lanes).await {
        let may_ask = flight.is_some() && step_tried.is_none_or(|at| at.elapsed() > STEP_PAUSE);
        if may_ask && node.shared.missing_ms() > STEP_MS {
            let mut asked = std::pin::pin!(step_time(&node));
            let step = loop {
                match beside_leases(asked.as_mut(), &mut lanes.leases).await {
                    ControlFlow::Continue(of_leases) => write(&node, None, of_leases).await,
                    ControlFlow::Break(step) => break step,
                }
            };
            step_tried = step.is_none().then(Instant::now);
            gathered.proposals.splice(0..0, step);
        }
        write(&node, flight, gathered).await;
    }
}

/// A renewal does not wait until others were asked for the time: whichever is there first, commands about leases or the
/// answer.
async fn beside_leases<T>(
    answer: impl Future<Output = T>,
    leases: &mut mpsc::Receiver<Submission>,
) -> ControlFlow<T, Gathered> {
    tokio::select! {
        biased;
        Some(first) = leases.recv() => ControlFlow::Continue(Gathered::of_leases(first, leases)),
        answer = answer => ControlFlow::Break(answer),
    }
}

/// Puts an entry into the log. Entries enter it in the order of their stamps; their ends are waited for beside.
async fn write(node: &Node, flight: Option<Flight>, Gathered { proposals, told, .. }: Gathered) {
    metrics::histogram!("tandem_raft_entry_proposals").record(proposals.len() as f64);
    let batch = LogBatch(Arc::new(Batch { stamp: node.shared.stamp(), proposals }));
    let (responder, written) = ProgressResponder::complete_only();
    let sent = node.raft().client_write_ff(batch, Some(responder)).await;
    tokio::spawn(async move {
        let result = if sent.is_ok() { end_of(written).await } else { Err(NotLeader { leader: None }) };
        for tell in told {
            let _ = tell.send(result);
        }
        drop(flight);
    });
}

/// What goes into the next entry.
#[derive(Default)]
struct Gathered {
    proposals: Vec<Proposal>,
    told: Vec<oneshot::Sender<Result<(), NotLeader>>>,
    bytes: usize,
}

impl Gathered {
    /// What waits in the lane of leases.
    fn of_leases(first: Submission, leases: &mut mpsc::Receiver<Submission>) -> Gathered {
        let mut gathered = Gathered::default();
        gathered.add(first);
        gathered.fill(leases);
        gathered
    }

    fn add(&mut self, submission: Submission) {
        self.bytes += submission.proposals.iter().map(weight).sum::<usize>();
        self.proposals.extend(submission.proposals);
        self.told.push(submission.told);
    }

    fn fill(&mut self, submissions: &mut mpsc::Receiver<Submission>) {
        while !self.is_full() {
            let Ok(next) = submissions.try_recv() else { return };
            self.add(next);
        }
    }

    fn is_full(&self) -> bool {
        self.proposals.len() >= PROPOSALS_MAX || self.bytes >= ENTRY_BYTES_MAX
    }
}

/// The next entry: of commands about leases at once, of all else when it may go. What waits for that keeps waiting.
async fn next_entry(
    flights: &Flights,
    waiting: &mut Gathered,
    lanes: &mut Lanes,
) -> Option<(Option<Flight>, Gathered)> {
    tokio::select! {
        biased;
        Some(first) = lanes.leases.recv() => Some((None, Gathered::of_leases(first, &mut lanes.leases))),
        flight = depart(flights, waiting, &mut lanes.submissions) => Some((Some(flight?), std::mem::take(waiting))),
    }
}

/// Waits until the entry may go; it takes what comes meanwhile, as far as that fits.
async fn depart(
    flights: &Flights,
    gathered: &mut Gathered,
    submissions: &mut mpsc::Receiver<Submission>,
) -> Option<Flight> {
    if gathered.told.is_empty() {
        gathered.add(submissions.recv().await?);
    }
    let mut flight = None;
    while flight.is_none() && gathered.proposals.len() < LARGE && !gathered.is_full() {
        tokio::select! {
            biased;
            alone = flights.alone() => flight = Some(alone?),
            next = submissions.recv() => gathered.add(next?),
        }
    }
    let flight = match flight {
        Some(alone) => alone,
        None => flights.beside().await?,
    };
    gathered.fill(submissions);
    Some(flight)
}

async fn end_of(written: Written) -> Result<(), NotLeader> {
    match written.await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(ClientWriteError::ForwardToLeader(to) | ClientWriteError::LogEntryDiscarded(to))) => {
            Err(NotLeader { leader: to.leader_id.map(NodeId) })
        }
        Ok(Err(_)) | Err(_) => Err(NotLeader { leader: None }),
    }
}

/// About how many bytes a proposal takes. The most frequent ones are small and not measured.
fn weight(proposal: &Proposal) -> usize {
    let renews = matches!(proposal.command, Command::Renew { .. } | Command::RenewMarked { .. });
    if renews || matches!(proposal.command, Command::Tick | Command::StepTime { .. }) {
        return 64;
    }
    postcard::experimental::serialized_size(proposal).unwrap_or(ENTRY_BYTES_MAX)
}

/// Cluster time is far behind this node's clock: is it, by the median of a quorum?
async fn step_time(node: &Node) -> Option<Proposal> {
    let walls = node.walls(&node.measured().await).into_iter().map(|(_, wall_ms)| wall_ms).collect();
    let median = median_of_quorum(walls, node.quorum_size());
    let now = node.shared.now();
    match median.map(ClusterTime).filter(|to| to.since_ms(now) > STEP_MS) {
        Some(to) => {
            tracing::info!(
                from = now.0,
                to = to.0,
                "cluster time is stepped to the median of a quorum's clocks"
            );
            node.shared.step(to);
            let (seq, _) =
                node.shared.pending.add(Principal::Node(node.id()), None, Command::StepTime { to })?;
            let proposal = node.shared.pending.proposals(&[seq]).pop();
            node.shared.pending.forget(seq);
            proposal
        }
        None => {
            tracing::warn!(
                "this node's clock is far ahead of cluster time, and no quorum of clocks agrees with it"
            );
            None
        }
    }
}

/// While this node leads: proposes `Tick`, raises the rules in force, hands leadership home.
pub(crate) async fn tend(node: Arc<Node>) {
    const LOOK: Duration = Duration::from_millis(200);
    let mut ticked = Instant::now();
    let mut raised = None;
    let mut reign = Reign::default();
    loop {
        tokio::time::sleep(LOOK).await;
        node.gauge();
        if node.leader_hint() != Some(node.id()) {
            ticked = Instant::now();
            reign.ended();
            continue;
        }
        node.lead_from_home(&mut reign).await;
        raise_rules(&node, &mut raised);
        let view = node.shared.view.load();
        let idle = view.expiries.is_empty() && view.idempotency.is_empty() && view.calls.is_empty();
        let due = if idle { node.timing.tick_idle } else { node.timing.tick };
        if ticked.elapsed() + LOOK / 2 >= due {
            ticked = Instant::now();
            let node = Arc::clone(&node);
            tokio::spawn(async move { node.propose(Principal::Node(node.id()), None, Command::Tick).await });
        }
    }
}

/// A raise that came to nothing is proposed again after this.
const RAISE_PAUSE: Duration = Duration::from_secs(2);

/// Raises the rules in force once every member has said that it can follow newer ones.
fn raise_rules(node: &Arc<Node>, raised: &mut Option<Instant>) {
    let view = node.shared.view.load();
    let membership = node.shared.membership.load();
    let of_member = |id: u64| view.nodes.get(&NodeId(id)).map_or(0, |record| record.apply_version);
    let lowest = membership.membership().nodes().map(|(id, _)| of_member(*id)).min().unwrap_or(0);
    let to = lowest.min(rules::newest());
    if to <= view.apply_version || raised.is_some_and(|at| at.elapsed() < RAISE_PAUSE) {
        return;
    }
    *raised = Some(Instant::now());
    tracing::info!(
        from = view.apply_version,
        to,
        "every member can follow newer rules: they are put in force"
    );
    let node = Arc::clone(node);
    let raise = Command::RaiseApplyVersion { to };
    tokio::spawn(async move { node.propose(Principal::Node(node.id()), None, raise).await });
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_state::{Incarnation, NodeEpoch, Origin};

    fn renewal(seq: u64) -> Submission {
        let origin = Origin { node: NodeId(1), incarnation: Incarnation(1), seq, low_water: 0 };
        let command = Command::Renew { node_epoch: NodeEpoch(1), attempt: seq, lease_ms: 1_800 };
        let proposal = Proposal { origin, principal: Principal::Node(NodeId(1)), idempotency: None, command };
        Submission { proposals: vec![proposal], told: oneshot::channel().0 }
    }

    #[tokio::test]
    async fn renewals_go_while_others_are_asked_for_the_time() {
        let (lane, mut leases) = mpsc::channel(8);
        let (answer, asked) = oneshot::channel::<u8>();
        let mut asked = std::pin::pin!(asked);
        for expected in [1, 2] {
            for seq in 1..=expected {
                lane.try_send(renewal(seq)).unwrap();
            }
            let ControlFlow::Continue(gathered) = beside_leases(asked.as_mut(), &mut leases).await else {
                panic!("nobody has answered");
            };
            assert_eq!(gathered.proposals.len() as u64, expected);
        }
        answer.send(7).unwrap();
        lane.try_send(renewal(3)).unwrap();
        assert!(matches!(beside_leases(asked.as_mut(), &mut leases).await, ControlFlow::Continue(_)));
        assert!(matches!(beside_leases(asked.as_mut(), &mut leases).await, ControlFlow::Break(Ok(7))));
    }
}
