//! This node's proposals that have no outcome yet.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tandem_state::command::IdempotencyKey;
use tandem_state::{Command, Incarnation, NodeId, Origin, Outcome, Principal, Proposal};
use tokio::sync::oneshot;

use crate::cluster::Committed;

/// Numbers proposals and remembers who waits for them.
pub(crate) struct Pending {
    node: NodeId,
    incarnation: Incarnation,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    last_seq: u64,
    waiting: BTreeMap<u64, Waiting>,
}

struct Waiting {
    principal: Principal,
    idempotency: Option<IdempotencyKey>,
    command: Command,
    tell: oneshot::Sender<Committed>,
}

/// Less than `tandem_state::bounds::OUTCOMES_MAX`.
const SPREAD_MAX: u64 = 4000;

impl Pending {
    pub(crate) fn new(node: NodeId, incarnation: Incarnation) -> Pending {
        Pending { node, incarnation, table: Mutex::default() }
    }

    /// Numbers a proposal. Its outcome comes over the receiver. `None` while an old proposal still waits and so many
    /// came after it that the window of outcomes might forget it.
    pub(crate) fn add(
        &self,
        principal: Principal,
        idempotency: Option<IdempotencyKey>,
        command: Command,
    ) -> Option<(u64, oneshot::Receiver<Committed>)> {
        let (tell, told) = oneshot::channel();
        let mut table = self.table();
        let oldest = table.waiting.first_key_value().map_or(table.last_seq, |(seq, _)| *seq);
        if table.last_seq - oldest >= SPREAD_MAX {
            return None;
        }
        table.last_seq += 1;
        let seq = table.last_seq;
        table.waiting.insert(seq, Waiting { principal, idempotency, command, tell });
        metrics::gauge!("tandem_proposals_pending").set(table.waiting.len() as f64);
        Some((seq, told))
    }

    /// The proposals of these numbers that still wait, ready to be sent.
    pub(crate) fn proposals(&self, seqs: &[u64]) -> Vec<Proposal> {
        let table = self.table();
        let low_water = table.waiting.first_key_value().map_or(table.last_seq + 1, |(seq, _)| *seq);
        let proposal = |seq: &u64| {
            let waiting = table.waiting.get(seq)?;
            Some(Proposal {
                origin: Origin { node: self.node, incarnation: self.incarnation, seq: *seq, low_water },
                principal: waiting.principal.clone(),
                idempotency: waiting.idempotency.clone(),
                command: waiting.command.clone(),
            })
        };
        seqs.iter().filter_map(proposal).collect()
    }

    /// The request id of a number.
    pub(crate) fn origin(&self, seq: u64) -> Origin {
        Origin { node: self.node, incarnation: self.incarnation, seq, low_water: seq }
    }

    /// This node applied it.
    pub(crate) fn answer(&self, seq: u64, position: u64, outcome: Outcome) {
        let waiting = self.table().waiting.remove(&seq);
        if let Some(waiting) = waiting {
            let _ = waiting.tell.send(Committed { position, outcome });
        }
    }

    /// Nobody waits for it any more.
    pub(crate) fn forget(&self, seq: u64) {
        self.table().waiting.remove(&seq);
    }

    /// Which have no outcome yet.
    pub(crate) fn waiting(&self) -> Vec<u64> {
        self.table().waiting.keys().copied().collect()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
