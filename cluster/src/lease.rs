//! This node's lease, and its look at the others': the clock, the lane and the handle around the machines of
//! [`tandem_state::lease`].
//!
//! What the log says is told to the machines by apply itself, before a view is published, so that an epoch that moved on
//! ends the lease no later than anybody can see it. Everything that may act asks a [`Lease`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use imbl::OrdMap;
use tandem_state::lease::{Belief, Holder, Standing, Terms, Watcher};
use tandem_state::{
    Command, Incarnation, LeaseRecord, Mark, NodeEpoch, NodeId, NodeRecord, Origin, Principal, Proposal,
    State,
};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::clock::boot_us;
use crate::leader::{NotLeader, Submission};
use crate::node::Node;
use crate::rpc::Method;

/// This node's own lease: a cheap handle without a lock, to be asked at the moment of acting.
#[derive(Clone)]
pub struct Lease(pub(crate) Arc<Leases>);

impl Lease {
    /// Whether this node may act now. A lease counts as ended a little early, and at once when its epoch moves on.
    pub fn holds(&self) -> bool {
        self.0.belief.load().holds(boot_ms())
    }

    /// The epoch under which this node acts, while it believes in one.
    pub fn epoch(&self) -> Option<NodeEpoch> {
        match **self.0.belief.load() {
            Belief::None => None,
            Belief::Always(epoch) | Belief::Until { epoch, .. } => Some(epoch),
        }
    }

    /// What is left of it; `None` while the cluster has no leases yet.
    pub fn remaining(&self) -> Option<Duration> {
        self.0.belief.load().remaining_ms(boot_ms()).map(Duration::from_millis)
    }
}

/// The machines, and what they come to.
pub(crate) struct Leases {
    node: NodeId,
    incarnation: Incarnation,
    machines: Mutex<Machines>,
    belief: ArcSwap<Belief>,
    /// Something changed that may bring a deadline forward.
    wake: Notify,
}

struct Machines {
    holder: Holder,
    watcher: Watcher,
    /// The tables that were looked at last.
    seen: Option<Seen>,
    leader: Option<NodeId>,
    counted: (u64, u64),
}

/// The rules in force, nodes and leases.
type Seen = (u16, OrdMap<NodeId, NodeRecord>, OrdMap<NodeId, LeaseRecord>);

/// What is to be put to the log now, and how long it is until the next look.
pub(crate) struct Due {
    commands: Vec<Command>,
    wait: Duration,
}

/// The longest time between two looks: a change of leader is found by them.
const LOOK: Duration = Duration::from_millis(100);
/// An attempt that was not answered in this time is not waited for any more.
const SENT_WAIT: Duration = Duration::from_secs(1);
/// What may wait to be put into an entry; each node has a few at most.
pub(crate) const LANE_MAX: usize = 256;

fn boot_ms() -> u64 {
    boot_us() / 1000
}

impl Leases {
    pub(crate) fn new(node: NodeId, incarnation: Incarnation, terms: Terms) -> Leases {
        let machines = Machines {
            holder: Holder::new(terms.lease_ms, terms.renew_ms),
            watcher: Watcher::new(node, terms.margin_ms),
            seen: None,
            leader: None,
            counted: (0, 0),
        };
        Leases {
            node,
            incarnation,
            machines: Mutex::new(machines),
            belief: ArcSwap::default(),
            wake: Notify::new(),
        }
    }

    /// This node applied an entry; its view is not published yet.
    pub(crate) fn applied(&self, state: &State) {
        let mut machines = self.machines();
        let same = machines.seen.as_ref().is_some_and(|(version, nodes, leases)| {
            *version == state.apply_version && nodes.ptr_eq(&state.nodes) && leases.ptr_eq(&state.leases)
        });
        if same {
            return;
        }
        machines.seen = Some((state.apply_version, state.nodes.clone(), state.leases.clone()));
        let now_ms = boot_ms();
        machines.holder.applied(now_ms, Standing::of(state, self.node, self.incarnation));
        machines.watcher.applied(now_ms, state);
        self.tell(&mut machines);
        drop(machines);
        self.wake.notify_one();
    }

    /// What is due. The clock is read before anything is sent: that is the instant from which a renewal counts.
    pub(crate) fn due(&self, leader: Option<NodeId>) -> Due {
        let mut machines = self.machines();
        let now_ms = boot_ms();
        if leader.is_some() && leader != machines.leader {
            machines.leader = leader;
            machines.holder.leader_changed(now_ms);
        }
        let holds = machines.holder.belief().holds(now_ms);
        machines.watcher.own_lease(now_ms, holds);
        let mut commands: Vec<Command> = machines.holder.handle_timeout(now_ms).into_iter().collect();
        commands.extend(machines.watcher.handle_timeout(now_ms).into_iter().map(Command::from));
        let next = machines.holder.poll_timeout().into_iter().chain(machines.watcher.poll_timeout()).min();
        let wait = next.map_or(LOOK, |at_ms| Duration::from_millis(at_ms.saturating_sub(now_ms)));
        self.tell(&mut machines);
        Due { commands, wait: wait.min(LOOK) }
    }

    /// Ends this node's belief in its lease; what ends it for the others.
    pub(crate) fn leave(&self) -> Option<Command> {
        let mut machines = self.machines();
        let goodbye = machines.holder.leave(self.node, self.incarnation);
        self.tell(&mut machines);
        goodbye
    }

    fn committed(&self, attempt: u64) {
        self.machines().holder.committed(attempt);
    }

    fn failed(&self, attempt: u64) {
        self.machines().holder.failed(boot_ms(), attempt);
        self.wake.notify_one();
    }

    /// What is left of another node's lease, as far as can be known here.
    pub(crate) fn remaining_ms(&self, node: NodeId) -> Option<u64> {
        if node == self.node {
            return self.belief.load().remaining_ms(boot_ms());
        }
        self.machines().watcher.remaining_ms(boot_ms(), node)
    }

    fn tell(&self, machines: &mut Machines) {
        let belief = machines.holder.belief();
        if **self.belief.load() != belief {
            self.belief.store(Arc::new(belief));
        }
        let (renewed, missed) = machines.holder.counts();
        metrics::counter!("tandem_lease_renewals_total").increment(renewed - machines.counted.0);
        metrics::counter!("tandem_lease_renewals_missed_total").increment(missed - machines.counted.1);
        machines.counted = (renewed, missed);
    }

    /// A panic between two of their steps leaves the machines whole.
    fn machines(&self) -> MutexGuard<'_, Machines> {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node {
    /// Hands a command about leases to this node's gatherer, as the leader: ahead of everything else.
    pub(crate) async fn submit_lease(&self, proposal: Proposal) -> Result<(), NotLeader> {
        let (tell, told) = oneshot::channel();
        let nobody = NotLeader { leader: None };
        let submission = Submission { proposals: vec![proposal], told: tell };
        self.lease_lane.try_send(submission).map_err(|_| {
            metrics::counter!("tandem_proposals_refused_total").increment(1);
            nobody
        })?;
        told.await.unwrap_or(Err(nobody))
    }

    /// Sends a command about leases to the leader, once: what is late is not repeated but replaced by a new one.
    pub(crate) async fn send_lease(&self, command: Command) -> Result<(), NotLeader> {
        let nobody = NotLeader { leader: None };
        let leader = self.leader_hint().ok_or(nobody)?;
        // Not in the window of outcomes, so that its number means nothing.
        let (node, incarnation) = (self.id(), self.shared.incarnation);
        let origin = Origin { node, incarnation, seq: 0, low_water: 0 };
        let command = self.with_mark(command);
        let proposal = Proposal { origin, principal: Principal::Node(node), idempotency: None, command };
        if leader == node {
            return tokio::time::timeout(SENT_WAIT, self.submit_lease(proposal)).await.unwrap_or(Err(nobody));
        }
        let bytes = postcard::to_stdvec(&proposal).map_err(|_| nobody)?;
        let answer = self.peers.call(leader, Method::Lease, Bytes::from(bytes), SENT_WAIT).await;
        let answer = answer.map_err(|_| nobody)?;
        postcard::from_bytes::<Result<(), NotLeader>>(&answer).unwrap_or(Err(nobody))
    }

    /// A renewal says how far the disk is, too, once the rules want that. Only what is applied counts: it is never cut off.
    fn with_mark(&self, command: Command) -> Command {
        let Command::Renew { node_epoch, attempt, lease_ms } = command else { return command };
        if !self.shared.view.load().has_marks() {
            return command;
        }
        let (term, durable) = self.log.durable();
        let mark = Mark {
            incarnation: self.start.incarnation,
            process: self.start.process,
            term,
            position: durable.min(*self.shared.applied.borrow()),
        };
        Command::RenewMarked { node_epoch, attempt, lease_ms, mark }
    }

    /// Tells the cluster that this process ends, so that nobody has to wait for its lease.
    pub(crate) async fn take_leave(&self) {
        let Some(goodbye) = self.shared.leases.leave() else { return };
        let say = async {
            while self.send_lease(goodbye.clone()).await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(GOODBYE_WAIT, say).await.is_err() {
            tracing::info!("no quorum heard this node's goodbye: its lease runs out by itself");
        }
    }

    /// This node's own lease.
    pub(crate) fn lease(&self) -> Lease {
        Lease(Arc::clone(&self.shared.leases))
    }

    /// Figures of this node's lease.
    #[expect(clippy::cast_precision_loss, reason = "gauges are floats; epochs stay far below 2^52")]
    pub(crate) fn gauge_lease(&self) {
        let remaining = self.lease().remaining().unwrap_or_default();
        metrics::gauge!("tandem_lease_remaining_seconds").set(remaining.as_secs_f64());
        metrics::gauge!("tandem_node_epoch").set(self.epoch().0 as f64);
    }

    /// The epoch under which this node acts, or would if it held a lease.
    pub(crate) fn epoch(&self) -> NodeEpoch {
        let held = self.lease().epoch();
        let known = || self.shared.view.load().nodes.get(&self.id()).map(|record| record.epoch);
        held.or_else(known).unwrap_or(self.record.epoch)
    }
}

/// How long a node that stops waits for its goodbye to be heard.
const GOODBYE_WAIT: Duration = Duration::from_millis(700);

/// Renews this node's lease and calls others' ended, until the node stops.
pub(crate) async fn tend(node: Arc<Node>) {
    loop {
        let due = node.shared.leases.due(node.leader_hint());
        for command in due.commands {
            tokio::spawn(put(Arc::clone(&node), command));
        }
        tokio::select! {
            () = tokio::time::sleep(due.wait) => {}
            () = node.shared.leases.wake.notified() => {}
        }
    }
}

/// A node whose cluster was forced without it acts for nothing from then on, however long its end takes.
pub(crate) async fn leave_when_superseded(node: Arc<Node>) {
    node.peers.superseded().await;
    let _goodbye = node.shared.leases.leave();
}

async fn put(node: Arc<Node>, command: Command) {
    if let Command::ExpireLease { node: whose, epoch, .. } = &command {
        tracing::warn!(node = %whose, %epoch, "a node has not renewed its lease: it is called down");
    }
    let sent = node.send_lease(command.clone()).await;
    match (sent, command) {
        (Ok(()), Command::Renew { attempt, .. }) => node.shared.leases.committed(attempt),
        (Err(_), Command::Renew { attempt, .. }) => node.shared.leases.failed(attempt),
        _ => {}
    }
}

/// The gatherer's two ways in.
pub(crate) struct Lanes {
    pub(crate) leases: mpsc::Receiver<Submission>,
    pub(crate) submissions: mpsc::Receiver<Submission>,
}
