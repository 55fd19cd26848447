//! What a node's process keeps in memory besides its replica: the transactions, its calls, what it waits for.

use std::collections::BTreeMap;

use tandem_sip::message::Message;
use tandem_sip::transaction::{Limits, Peer, ServerKey, Table, Timers};
use tandem_state::{CallEpoch, CallId, Flow, LegId, NodeEpoch, NodeId, Transport};
use tandem_switching::{Call, Machine, call};

use crate::world::client::Client;

/// A flow as the transaction table's peer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct FlowPeer(pub(super) Flow);

impl Peer for FlowPeer {
    fn is_reliable(&self) -> bool {
        self.0.transport != Transport::Udp
    }
}

/// A call of this node.
pub(super) struct Held {
    pub(super) machine: Call,
    /// The lease under which the node has the call.
    pub(super) node_epoch: NodeEpoch,
    /// The ownership under which it has it.
    pub(super) epoch: CallEpoch,
}

/// Whom an outcome is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// A call's machine, of one ownership.
    Call(CallId, CallEpoch, call::Proposal),
    /// Who ends a call that has no machine here.
    End(CallId),
    /// Nobody.
    Nobody,
}

/// See the module.
pub(super) struct Process {
    pub(super) table: Table<FlowPeer>,
    pub(super) client: Client,
    pub(super) asked: BTreeMap<u64, Asked>,
    pub(super) calls: BTreeMap<CallId, Held>,
    pub(super) legs: BTreeMap<LegId, CallId>,
    /// The ownership under which each leg was had here last, for the witness alone.
    pub(super) had: BTreeMap<LegId, (CallId, CallEpoch)>,
    /// INVITE transactions that a CANCEL may name.
    pub(super) invites: BTreeMap<ServerKey, CallId>,
    /// Of the lease that the transactions of calls belong to.
    pub(super) epoch: Option<NodeEpoch>,
    /// BYEs that were answered without a lease.
    pub(super) byes: Vec<(Flow, Message)>,
    /// The log has this process: it speaks SIP.
    pub(super) serves: bool,
    pub(super) draining: bool,
    pub(super) armed: u64,
    /// When what is handed on in order was handed on last.
    pub(super) followed_ms: u64,
    /// When the last message leaves by each way.
    pub(super) leaves_ms: BTreeMap<std::net::SocketAddr, u64>,
    pub(super) told_ms: BTreeMap<NodeId, u64>,
}

impl Process {
    pub(super) fn new(seed: u64) -> Process {
        Process {
            table: Table::new(Limits::default(), Timers::default(), seed),
            client: Client::default(),
            asked: BTreeMap::new(),
            calls: BTreeMap::new(),
            legs: BTreeMap::new(),
            had: BTreeMap::new(),
            invites: BTreeMap::new(),
            epoch: None,
            byes: Vec::new(),
            serves: false,
            draining: false,
            armed: 0,
            followed_ms: 0,
            leaves_ms: BTreeMap::new(),
            told_ms: BTreeMap::new(),
        }
    }

    pub(super) fn hold(&mut self, held: Held) {
        let id = held.machine.id();
        for leg in held.machine.leg_ids() {
            self.legs.insert(leg, id);
            self.had.insert(leg, (id, held.epoch));
        }
        self.calls.insert(id, held);
    }

    /// The next thing that a call asks for.
    pub(super) fn next_output(&mut self) -> Option<(CallId, call::Output)> {
        self.calls.iter_mut().find_map(|(id, held)| Some((*id, held.machine.poll_output()?)))
    }

    pub(super) fn forget_finished(&mut self) {
        let finished: Vec<CallId> =
            self.calls.iter().filter(|(_, held)| held.machine.is_finished()).map(|(id, _)| *id).collect();
        for id in finished {
            self.calls.remove(&id);
            self.legs.retain(|_, call| *call != id);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<u64> {
        let calls = self.calls.values().filter_map(|held| held.machine.poll_timeout());
        calls.chain(self.table.poll_timeout()).min()
    }
}
