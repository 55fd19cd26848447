//! What all actors of a node share: handles to the cluster, the sockets and the media workers, and the registries that
//! find the machine of a leg, call or binding.

use std::collections::{BTreeSet, HashMap, hash_map};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use ractor::ActorRef;
use tandem_cluster::{Cluster, Lease};
use tandem_sip::digest::NonceKey;
use tandem_state::{
    Binding, CallId, Cause, ClusterTime, Command, Flow, LegId, NodeEpoch, NodeId, Outcome, Principal,
    TenantId,
};
use tandem_switching::authority::may_be_said_without;
use tandem_switching::registration::BindingId;
use tandem_switching::routing::Here;
use tandem_switching::{Call, Machine, Now, Registration, call, intake, registrar};
use tandem_transport::rtp::{Engine, SessionId};
use tandem_transport::sip::{SendError, SipTransport, Transport};

use crate::endpoint::{Abandoned, Order};
use crate::held::Held;
use crate::ids::Ids;
use crate::places::Places;
use crate::ports::{CallPorts, RegistrationPorts};
use crate::proposal;
use crate::questions::Questions;
use crate::registrations::{Entry, Registrations, is_connection};
use crate::slot::Slot;
use crate::tenants::{Adopt, Child, hang_up_outputs};
use crate::wire::{Tell, encode};

/// See the module.
pub(crate) struct Shared {
    pub(crate) cluster: Cluster,
    pub(crate) node: NodeId,
    /// The same, for routing.
    pub(crate) here: Here,
    /// To be asked before this node acts.
    pub(crate) lease: Lease,
    pub(crate) transport: SipTransport,
    pub(crate) media: Engine,
    pub(crate) ids: Ids,
    pub(crate) nonces: NonceKey,
    pub(crate) settings: call::Settings,
    pub(crate) bounds: registrar::Bounds,
    /// Calls that this node owns at most.
    pub(crate) calls_max: usize,
    pub(crate) draining: AtomicBool,
    pub(crate) endpoint_depth: AtomicU64,
    /// Of registrations that need the log.
    pub(crate) places: Places,
    /// To phones, whether they are there.
    pub(crate) questions: Questions,
    started: std::time::Instant,
    fixtures: PathBuf,
    fixtures_kept: AtomicU64,
    endpoint: RwLock<Option<ActorRef<Order>>>,
    tenants: RwLock<Option<ActorRef<Adopt>>>,
    legs: RwLock<HashMap<LegId, Arc<Slot<Call>>>>,
    calls: RwLock<HashMap<CallId, CallEntry>>,
    registrations: RwLock<Registrations>,
    /// Calls taken over that have had legs whose phones did not know it yet.
    adrift: RwLock<BTreeSet<CallId>>,
    /// The fault switch of test builds.
    #[cfg(feature = "faults")]
    pub(crate) follower_fault: AtomicBool,
}

#[derive(Clone)]
struct CallEntry {
    slot: Arc<Slot<Call>>,
    ports: Arc<CallPorts>,
    tenant: TenantId,
}

/// Panicking inputs kept on disk at most, so that a flood of them can't fill it.
const FIXTURES_MAX: u64 = 100;

/// What `Shared` is made of.
pub(crate) struct Parts {
    pub(crate) cluster: Cluster,
    pub(crate) transport: SipTransport,
    pub(crate) media: Engine,
    pub(crate) ids: Ids,
    pub(crate) nonces: NonceKey,
    pub(crate) settings: call::Settings,
    pub(crate) bounds: registrar::Bounds,
    pub(crate) calls_max: usize,
    pub(crate) fixtures: PathBuf,
}

impl Shared {
    pub(crate) fn new(parts: Parts) -> Self {
        Shared {
            node: parts.cluster.node_id(),
            here: Here { node: parts.cluster.node_id(), udp: parts.transport.locals(Transport::Udp) },
            lease: parts.cluster.lease(),
            cluster: parts.cluster,
            transport: parts.transport,
            media: parts.media,
            ids: parts.ids,
            nonces: parts.nonces,
            settings: parts.settings,
            bounds: parts.bounds,
            calls_max: parts.calls_max,
            draining: AtomicBool::new(false),
            endpoint_depth: AtomicU64::new(0),
            places: Places::new(intake::Bounds::default()),
            questions: Questions::default(),
            started: std::time::Instant::now(),
            fixtures: parts.fixtures,
            fixtures_kept: AtomicU64::new(0),
            endpoint: RwLock::default(),
            tenants: RwLock::default(),
            legs: RwLock::default(),
            calls: RwLock::default(),
            registrations: RwLock::default(),
            adrift: RwLock::default(),
            #[cfg(feature = "faults")]
            follower_fault: AtomicBool::new(false),
        }
    }

    /// The time on both clocks.
    pub(crate) fn now(&self) -> Now {
        let steady_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Now { steady_ms, cluster: self.cluster.now() }
    }

    // ---- actors ----------------------------------------------------------------------------------------------------

    pub(crate) fn set_endpoint(&self, actor: ActorRef<Order>) {
        *write(&self.endpoint) = Some(actor);
    }

    pub(crate) fn set_tenants(&self, actor: ActorRef<Adopt>) {
        *write(&self.tenants) = Some(actor);
    }

    /// Gives the endpoint an order. Between its death and its successor orders are lost, as on a lossy network.
    pub(crate) fn order(&self, order: Order) {
        if let Some(endpoint) = read(&self.endpoint).as_ref() {
            let _ = endpoint.cast(order);
        }
    }

    fn adopt(&self, tenant: TenantId, child: Child) {
        if let Some(tenants) = read(&self.tenants).as_ref() {
            let _ = tenants.cast(Adopt::Child(tenant, child));
        }
    }

    /// What a tenant's new supervisor has to start again.
    pub(crate) fn children_of(&self, tenant: TenantId) -> Vec<Child> {
        self.all_children()
            .into_iter()
            .filter(|(owner, _)| *owner == tenant)
            .map(|(_, child)| child)
            .collect()
    }

    /// Every machine that should have an actor.
    pub(crate) fn all_children(&self) -> Vec<(TenantId, Child)> {
        let mut children: Vec<(TenantId, Child)> = Vec::new();
        for entry in read(&self.calls).values() {
            children.push((entry.tenant, Child::Call(Arc::clone(&entry.slot), Arc::clone(&entry.ports))));
        }
        for (id, entry) in read(&self.registrations).iter() {
            let child =
                Child::Registration(Arc::clone(id), Arc::clone(&entry.slot), Arc::clone(&entry.ports));
            children.push((id.tenant, child));
        }
        children
    }

    /// The call whose media a session carries.
    pub(crate) fn call_of_session(&self, session: SessionId) -> Option<(CallId, Arc<Slot<Call>>)> {
        let registry = read(&self.calls);
        let (id, entry) = registry.iter().find(|(_, entry)| entry.ports.media.id() == session)?;
        Some((*id, Arc::clone(&entry.slot)))
    }

    // ---- calls -----------------------------------------------------------------------------------------------------

    /// Takes a new call into the registry and has it started.
    pub(crate) fn start_call(&self, call: Call, ports: CallPorts) {
        let (id, tenant) = (call.id(), call.tenant());
        let legs: Vec<LegId> = call.leg_ids().collect();
        let slot = Arc::new(Slot::new(call));
        let ports = Arc::new(ports);
        {
            let mut registry = write(&self.legs);
            for leg in legs {
                registry.insert(leg, Arc::clone(&slot));
            }
        }
        let entry = CallEntry { slot: Arc::clone(&slot), ports: Arc::clone(&ports), tenant };
        write(&self.calls).insert(id, entry);
        self.adopt(tenant, Child::Call(slot, ports));
    }

    pub(crate) fn call(&self, id: CallId) -> Option<Arc<Slot<Call>>> {
        read(&self.calls).get(&id).map(|entry| Arc::clone(&entry.slot))
    }

    pub(crate) fn call_ids(&self) -> Vec<CallId> {
        read(&self.calls).keys().copied().collect()
    }

    pub(crate) fn calls_count(&self) -> usize {
        read(&self.calls).len()
    }

    pub(crate) fn leg(&self, leg: LegId) -> Option<Arc<Slot<Call>>> {
        read(&self.legs).get(&leg).cloned()
    }

    /// A machine is done with a leg.
    pub(crate) fn forget_leg(&self, slot: &Arc<Slot<Call>>, leg: LegId) {
        if let hash_map::Entry::Occupied(entry) = write(&self.legs).entry(leg)
            && Arc::ptr_eq(entry.get(), slot)
        {
            entry.remove();
        }
    }

    /// Whether this is the machine of its call, and not one of an earlier ownership that is just ending.
    pub(crate) fn is_present(&self, slot: &Arc<Slot<Call>>, call: CallId) -> bool {
        read(&self.calls).get(&call).is_some_and(|entry| Arc::ptr_eq(&entry.slot, slot))
    }

    /// The call's machine is finished: nothing of it stays.
    pub(crate) fn call_ended(&self, slot: &Arc<Slot<Call>>) {
        slot.with(|call| tracing::info!(call = %call.id(), tenant = %call.tenant(), "call over"));
        self.let_go(slot);
    }

    /// Takes a machine and its media from the registry; one that has taken its place stays.
    pub(crate) fn let_go(&self, slot: &Arc<Slot<Call>>) {
        let (id, legs) = slot.with(|call| (call.id(), call.leg_ids().collect::<Vec<_>>()));
        legs.into_iter().for_each(|leg| self.forget_leg(slot, leg));
        let ports = match write(&self.calls).entry(id) {
            hash_map::Entry::Occupied(entry) if Arc::ptr_eq(&entry.get().slot, slot) => entry.remove().ports,
            hash_map::Entry::Occupied(_) | hash_map::Entry::Vacant(_) => return,
        };
        self.end_adrift(id);
        ports.close();
    }

    /// Ends a call whose machine panics again and again: what it still says is sent, then its CDR is made without it.
    pub(crate) fn abandon_call(
        self: &Arc<Self>,
        slot: &Arc<Slot<Call>>,
        ports: &Arc<CallPorts>,
        cause: Cause,
    ) {
        use crate::machine_actor::Ports;
        for output in hang_up_outputs(slot, self.now(), cause) {
            match output {
                call::Output::Propose { .. } | call::Output::Listen(_) => {}
                signalling => ports.carry_out(slot, signalling),
            }
        }
        self.call_ended(slot);
        self.end_in_log(ports.call);
    }

    /// The log ended calls without this node: their machines end, nobody is told, and their media stops. The endpoint is told
    /// once, for it looks through all its transactions.
    pub(crate) fn lose_calls(&self, ids: impl IntoIterator<Item = CallId>) {
        let mut abandoned = Abandoned::default();
        for (id, slot) in ids.into_iter().filter_map(|id| Some((id, self.call(id)?))) {
            if slot.with(Call::is_frozen) {
                tracing::info!(call = %id, "the call is handed over");
                metrics::counter!("tandem_calls_handed_over_total").increment(1);
            } else {
                tracing::warn!(call = %id, "the log has ended this call without this node, or gave it to another: it is dropped");
                metrics::counter!("tandem_calls_lost_total").increment(1);
            }
            let waited = slot.answer_instead(call::Input::Lost);
            abandoned.requests.extend(waited.into_iter().filter_map(|input| match input {
                call::Input::Request { key, .. } => Some(key),
                _ => None,
            }));
            abandoned.legs.extend(slot.with(|call| call.leg_ids().collect::<Vec<_>>()));
            abandoned.calls.insert(id);
        }
        if !abandoned.calls.is_empty() {
            self.order(Order::Abandon(abandoned));
        }
    }

    /// A call that was taken over, until [`Shared::end_adrift`].
    pub(crate) fn set_adrift(&self, call: CallId) {
        write(&self.adrift).insert(call);
    }

    pub(crate) fn calls_adrift(&self) -> Vec<CallId> {
        read(&self.adrift).iter().copied().collect()
    }

    pub(crate) fn end_adrift(&self, call: CallId) {
        write(&self.adrift).remove(&call);
    }

    /// The calls that the log has, as far as their machines know.
    pub(crate) fn recorded_calls(&self) -> Vec<CallId> {
        let registry = read(&self.calls);
        let recorded = registry.iter().filter(|(_, entry)| entry.slot.with(Call::is_recorded));
        recorded.map(|(id, _)| *id).collect()
    }

    /// Writes the CDR of a call that has no machine (any more), until the log has it.
    pub(crate) fn end_in_log(self: &Arc<Self>, call: CallId) {
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            for _ in 0..END_TRIES_MAX {
                let Some(epoch) = shared.cluster.view().calls.get(&call).map(|call| call.epoch) else {
                    return;
                };
                let command = Command::EndCall { call, epoch, change: Default::default() };
                if shared.propose(command).await.is_some() {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_secs(2)).await;
            }
        });
    }

    // ---- registrations -----------------------------------------------------------------------------------------------

    /// The machine of a binding, made if there is none.
    pub(crate) fn registration(
        self: &Arc<Self>,
        binding: &Binding,
        expires_ms: u64,
    ) -> Arc<Slot<Registration>> {
        let flow = binding.spec.flow.clone();
        let id = Arc::new(BindingId::of(binding));
        let mut registry = write(&self.registrations);
        if let Some(slot) = registry.get(&id).map(|entry| Arc::clone(&entry.slot))
            && !slot.with(|machine| machine.is_finished())
        {
            registry.move_to(&id, &flow);
            return slot;
        }
        let epoch = self.cluster.node_epoch();
        let chance = self.ids.seed();
        let machine = Registration::new(Arc::clone(&id), epoch, binding.revision, expires_ms, chance);
        let slot = Arc::new(Slot::new(machine));
        let ports = Arc::new(RegistrationPorts { shared: Arc::clone(self) });
        let entry = Entry { slot: Arc::clone(&slot), ports: Arc::clone(&ports), flow };
        registry.insert(Arc::clone(&id), entry);
        drop(registry);
        self.adopt(id.tenant, Child::Registration(id, Arc::clone(&slot), ports));
        slot
    }

    pub(crate) fn find_registration(&self, id: &BindingId) -> Option<Arc<Slot<Registration>>> {
        read(&self.registrations).get(id).map(|entry| Arc::clone(&entry.slot))
    }

    /// The way to the phone of a binding of this node.
    pub(crate) fn registration_flow(&self, id: &BindingId) -> Option<Flow> {
        read(&self.registrations).get(id).map(|entry| entry.flow.clone())
    }

    pub(crate) fn registration_ids(&self) -> Vec<Arc<BindingId>> {
        read(&self.registrations).iter().map(|(id, _)| Arc::clone(id)).collect()
    }

    pub(crate) fn registrations_count(&self) -> usize {
        read(&self.registrations).len()
    }

    /// The bindings that were reached over a connection.
    pub(crate) fn registrations_over(&self, flow: &Flow) -> Vec<Arc<Slot<Registration>>> {
        read(&self.registrations).over(flow)
    }

    /// The binding's machine is finished; a newer one under the same id stays, and one that was told something in its
    /// last moment is started again.
    pub(crate) fn registration_ended(&self, id: &Arc<BindingId>, slot: &Arc<Slot<Registration>>) {
        let mut registry = write(&self.registrations);
        let Some(entry) = registry.get(id).filter(|entry| Arc::ptr_eq(&entry.slot, slot)).cloned() else {
            return;
        };
        if slot.is_idle() {
            registry.remove(id);
            return;
        }
        drop(registry);
        self.adopt(id.tenant, Child::Registration(Arc::clone(id), entry.slot, entry.ports));
    }

    /// When a binding ends exactly, in cluster time: known on the node that holds its flow.
    pub(crate) fn exact_expiry(&self, id: &BindingId) -> Option<ClusterTime> {
        Some(self.held(id)?.expires)
    }

    /// What this node knows of a binding whose flow it holds.
    pub(crate) fn held(&self, id: &BindingId) -> Option<Held> {
        let slot = self.find_registration(id)?;
        let now = self.now();
        let (expires_ms, unreachable) = slot.with(|machine| (machine.expires_ms(), machine.is_unreachable()));
        Some(Held { expires: now.cluster.plus_ms(expires_ms.saturating_sub(now.steady_ms)), unreachable })
    }

    // ---- the log and the wire ------------------------------------------------------------------------------------------

    /// Proposes for this node; `None` when the outcome is not known.
    pub(crate) async fn propose(&self, command: Command) -> Option<Outcome> {
        let (once, call) = (proposal::once(&command), command.call());
        if once.is_some() && self.lease.epoch().is_none() {
            // Between two leases it would be refused, and the refusal kept with the key of the next one.
            return None;
        }
        match self.cluster.propose(Principal::Node(self.node), once, command).await {
            Ok(committed) => Some(committed.outcome),
            Err(error) => {
                match call {
                    Some(call) => tracing::warn!(%call, %error, "a call's proposal has no outcome"),
                    None => tracing::warn!(%error, "a proposal has no outcome"),
                }
                metrics::counter!("tandem_proposals_unknown_total").increment(1);
                None
            }
        }
    }

    /// Sends a message by the node that holds its flow.
    pub(crate) fn send(&self, flow: &Flow, bytes: Bytes) -> Result<(), SendFailed> {
        if flow.node == self.node {
            return self.send_here(flow, bytes);
        }
        if !self.lease.holds() && !may_be_said_without(&bytes) {
            // That node would ask for its own lease alone.
            metrics::counter!("tandem_sip_fenced_total").increment(1);
            return Ok(());
        }
        let tell = Tell::Send { flow: flow.clone(), bytes: bytes.to_vec() };
        self.cluster.tell_peer(flow.node, encode(&tell)).map_err(|error| {
            tracing::debug!(%error, node = %flow.node, "a message for a flow was not passed on");
            SendFailed
        })
    }

    /// Sends a message by a flow of this node.
    pub(crate) fn send_here(&self, flow: &Flow, bytes: Bytes) -> Result<(), SendFailed> {
        let sent = self.transport.send(&crate::flow::path(flow), bytes);
        if sent == Err(SendError::Fenced) {
            // The far end is well: no transaction ends by it.
            metrics::counter!("tandem_sip_fenced_total").increment(1);
            return Ok(());
        }
        sent.map_err(|error| {
            tracing::debug!(%error, "a message was not sent");
            metrics::counter!("tandem_sip_send_failures_total").increment(1);
            SendFailed
        })
    }

    /// Ends a connection of this node whose bindings the log took for lost: its phone, to which it looks healthy, could not
    /// be called by it until its next REGISTER, and now makes that at once.
    pub(crate) fn close(&self, flow: &Flow) {
        if flow.node == self.node && is_connection(flow) {
            self.transport.close(&crate::flow::path(flow));
        }
    }

    /// Whether this node's lease is still the one of this epoch. A later one is of a node that lost all its calls.
    pub(crate) fn acts_under(&self, epoch: NodeEpoch) -> bool {
        let acts = self.lease.epoch().is_none_or(|current| current == epoch);
        if !acts {
            metrics::counter!("tandem_sip_fenced_total").increment(1);
        }
        acts
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Keeps a panicking input for the developers, as text; phones' credentials are not in it (they are answered by
    /// the endpoint, before any machine).
    pub(crate) fn keep_fixture(&self, kind: &str, name: &str, poison: String) {
        let count = self.fixtures_kept.fetch_add(1, Ordering::Relaxed);
        if count >= FIXTURES_MAX {
            return;
        }
        let path = self.fixtures.join(format!("{kind}-{name}-{count}.txt"));
        let directory = self.fixtures.clone();
        tokio::task::spawn_blocking(move || {
            let kept = std::fs::create_dir_all(directory).and_then(|()| std::fs::write(&path, poison));
            match kept {
                Ok(()) => tracing::error!(file = %path.display(), "the input of the panic was kept"),
                Err(error) => tracing::error!(%error, "the input of the panic could not be kept"),
            }
        });
    }
}

/// How often the end of an abandoned call is proposed.
const END_TRIES_MAX: u32 = 1_000;

/// A message that did not leave; its transaction hears of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message was not sent")]
pub(crate) struct SendFailed;

/// Registries are whole after a panic elsewhere: each change of them is one insert or remove.
fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
