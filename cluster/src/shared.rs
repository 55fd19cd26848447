//! What the state machine publishes and everything else reads: view, applied position, feed, clock, answers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tandem_state::lease::Terms;
use tandem_state::{Batch, ClusterTime, Event, Incarnation, NodeId, Outcome, State};
use tokio::sync::{broadcast, watch};

use crate::clock::{Clock, boot_us, wall_ms};
use crate::feed::FeedItem;
use crate::lease::Leases;
use crate::pending::Pending;
use crate::raft::StoredMembership;
use crate::status::Joining;

/// See the module.
pub(crate) struct Shared {
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) view: ArcSwap<State>,
    pub(crate) membership: ArcSwap<StoredMembership>,
    pub(crate) applied: watch::Sender<u64>,
    pub(crate) feed: broadcast::Sender<FeedItem>,
    pub(crate) pending: Pending,
    pub(crate) leases: Arc<Leases>,
    /// What is being fetched, beside the log.
    pub(crate) joining: Mutex<Option<Joining>>,
    /// Why the cluster does not take this node.
    refused: Mutex<Option<String>>,
    /// Processes of other nodes that have died, by the word of who waited for them.
    deaths: Mutex<BTreeMap<NodeId, Incarnation>>,
    clock: Mutex<Clock>,
    /// States right after the last `Tick`s: positions at which nodes can be compared.
    kept: Mutex<VecDeque<(u64, State)>>,
}

/// Feed items that a reader may be behind.
const FEED_ITEMS: usize = 8192;
/// States kept for comparison.
const KEPT_MAX: usize = 8;

impl Shared {
    pub(crate) fn new(node: NodeId, incarnation: Incarnation, terms: Terms) -> Shared {
        Shared {
            node,
            incarnation,
            view: ArcSwap::default(),
            membership: ArcSwap::default(),
            applied: watch::Sender::new(0),
            feed: broadcast::Sender::new(FEED_ITEMS),
            pending: Pending::new(node, incarnation),
            leases: Arc::new(Leases::new(node, incarnation, terms)),
            joining: Mutex::default(),
            refused: Mutex::default(),
            deaths: Mutex::default(),
            clock: Mutex::default(),
            kept: Mutex::default(),
        }
    }

    /// What is being fetched now; `None` when nothing is.
    pub(crate) fn fetches(&self, joining: Option<Joining>) {
        *self.joining.lock().unwrap_or_else(PoisonError::into_inner) = joining;
    }

    /// Why the cluster did not take this node when it was asked last.
    pub(crate) fn refused(&self) -> Option<String> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The cluster takes this node, or says why not; whether that is news.
    pub(crate) fn note_refused(&self, why: Option<String>) -> bool {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *refused, why) != *refused
    }

    /// The deaths that this process was told of.
    pub(crate) fn deaths(&self) -> MutexGuard<'_, BTreeMap<NodeId, Incarnation>> {
        self.deaths.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a new state visible.
    pub(crate) fn publish(&self, state: &State, applied: u64, membership: &StoredMembership) {
        if state.time != self.view.load().time {
            self.clock().saw(state.time, boot_us());
        }
        self.leases.applied(state);
        self.view.store(Arc::new(state.clone()));
        if self.membership.load().log_id() != membership.log_id() {
            self.membership.store(Arc::new(membership.clone()));
        }
        self.applied.send_replace(applied);
    }

    /// Tells this node's proposers what came of their proposals.
    pub(crate) fn answer(&self, position: u64, batch: &Batch, outcomes: Vec<Outcome>) {
        for (proposal, outcome) in batch.proposals.iter().zip(outcomes) {
            if proposal.origin.node == self.node && proposal.origin.incarnation == self.incarnation {
                self.pending.answer(proposal.origin.seq, position, outcome);
            }
        }
    }

    /// Tells subscribers.
    pub(crate) fn feed(&self, position: u64, time: ClusterTime, events: Vec<Event>) {
        if !events.is_empty() {
            let _ = self.feed.send(FeedItem::Applied { position, time, events: events.into() });
        }
    }

    /// A snapshot took the place of entries: proposals of ours that were among them are answered from the window of
    /// outcomes, and subscribers start over.
    pub(crate) fn installed(&self, state: &State) {
        if let Some(window) = state.windows.get(&self.node).filter(|w| w.incarnation == self.incarnation) {
            for seq in self.pending.waiting() {
                if let Some(outcome) = window.outcomes.get(&seq) {
                    self.pending.answer(seq, state.position, outcome.clone());
                }
            }
        }
        let _ = self.feed.send(FeedItem::Reset);
    }

    /// Keeps the state at a position at which others keep theirs too.
    pub(crate) fn keep_for_hash(&self, position: u64, state: &State) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back((position, state.clone()));
        if kept.len() > KEPT_MAX {
            kept.pop_front();
        }
    }

    /// The state kept at a position.
    pub(crate) fn kept(&self, position: u64) -> Option<State> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|(at, _)| *at == position).map(|(_, state)| state.clone())
    }

    /// Cluster time by this node's estimate.
    pub(crate) fn now(&self) -> ClusterTime {
        self.clock().now(boot_us())
    }

    /// A stamp, if this node leads.
    pub(crate) fn stamp(&self) -> ClusterTime {
        self.clock().stamp(boot_us(), wall_ms())
    }

    /// Time went forward to here.
    pub(crate) fn step(&self, to: ClusterTime) {
        self.clock().saw(to, boot_us());
    }

    /// How far cluster time is behind this node's wall clock.
    pub(crate) fn missing_ms(&self) -> u64 {
        self.clock().missing_ms(boot_us(), wall_ms())
    }

    fn clock(&self) -> std::sync::MutexGuard<'_, Clock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
