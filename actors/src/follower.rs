//! The cluster follower: turns the log's events into inputs for this node's machines.
//!
//! Supervised by `Node`. When it dies it is started again and reconciles everything with the state, so nothing is lost.

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tandem_cluster::FeedItem;
use tandem_state::{Binding, Cause, EventKind, State};
use tandem_switching::registration::{BindingId, Input};

use crate::registrations::is_connection;
use crate::shared::Shared;

/// Asks itself for the next item.
pub(crate) struct Next;

pub(crate) struct Follower;

pub(crate) struct Following {
    shared: Arc<Shared>,
    feed: tandem_cluster::Feed,
}

impl Actor for Follower {
    type Msg = Next;
    type State = Following;
    type Arguments = Arc<Shared>;

    async fn pre_start(
        &self,
        myself: ActorRef<Next>,
        shared: Arc<Shared>,
    ) -> Result<Following, ActorProcessingErr> {
        let feed = shared.cluster.feed();
        reconcile(&shared);
        myself.cast(Next)?;
        Ok(Following { shared, feed })
    }

    async fn handle(
        &self,
        myself: ActorRef<Next>,
        _: Next,
        following: &mut Following,
    ) -> Result<(), ActorProcessingErr> {
        match following.feed.next().await {
            Ok(FeedItem::Applied { events, .. }) => {
                for event in events.iter() {
                    take(&following.shared, &event.kind);
                }
            }
            Ok(FeedItem::Reset) => reconcile(&following.shared),
            Err(_closed) => {
                myself.stop(None);
                return Ok(());
            }
        }
        myself.cast(Next)?;
        Ok(())
    }
}

fn take(shared: &Arc<Shared>, event: &EventKind) {
    match event {
        EventKind::RegistrationAdded(binding) | EventKind::RegistrationChanged(binding) => {
            bound(shared, binding)
        }
        EventKind::RegistrationRemoved(binding, _) => {
            let id = id_of(binding);
            let still_there =
                shared.cluster.view().bindings.contains_key(&(id.tenant, id.number.clone(), id.key.clone()));
            if !still_there {
                gone(shared, &id);
            }
        }
        EventKind::CallCreated(facts) => {
            if facts.node == shared.node && shared.call(facts.id).is_none() {
                tracing::warn!(call = %facts.id, "the log has a call of this node that nobody here knows: it is ended");
                shared.end_in_log(facts.id);
            }
        }
        EventKind::CallEnded(facts, Cause::NodeLost) if facts.node == shared.node => {
            shared.lose_call(facts.id);
        }
        EventKind::CallRinging(_)
        | EventKind::CallAnswered(_)
        | EventKind::CallHeld(_)
        | EventKind::CallResumed(_)
        | EventKind::CallEnded(..)
        | EventKind::CallRefused(..)
        | EventKind::NodeUp(_)
        | EventKind::NodeDown(..)
        | EventKind::NodeRemoved(_)
        | EventKind::TenantChanged(_)
        | EventKind::TenantRemoved(_)
        | EventKind::LimitHit(_) => {}
    }
}

/// A binding in the log: it has an actor on the node that holds its flow, and on no other.
fn bound(shared: &Arc<Shared>, binding: &Binding) {
    if binding.spec.flow.node != shared.node {
        return gone(shared, &id_of(binding));
    }
    let now = shared.now();
    let left_ms = binding.spec.expires.since_ms(now.cluster);
    let coarse_ms = now.steady_ms.saturating_add(left_ms);
    let slot = shared.registration(binding, coarse_ms);
    let datagrams = !is_connection(&binding.spec.flow);
    let _ = slot.send(Input::Bound { revision: binding.revision, expires_s: None, coarse_ms, datagrams });
}

fn gone(shared: &Shared, id: &BindingId) {
    if let Some(slot) = shared.find_registration(id) {
        let _ = slot.send(Input::Gone);
    }
}

fn id_of(binding: &Binding) -> BindingId {
    let spec = &binding.spec;
    BindingId { tenant: spec.tenant, number: spec.number.clone(), key: spec.key.clone() }
}

/// Makes this node's actors those that the state wants.
fn reconcile(shared: &Arc<Shared>) {
    // Before the view: a call that is recorded here is in it, or was ended without this node.
    let recorded = shared.recorded_calls();
    let state: Arc<State> = shared.cluster.view();
    for call in recorded.into_iter().filter(|call| !state.calls.contains_key(call)) {
        shared.lose_call(call);
    }
    for binding in state.bindings.values() {
        if binding.spec.flow.node == shared.node {
            bound(shared, binding);
        }
    }
    for id in shared.registration_ids() {
        let here = state.bindings.get(&(id.tenant, id.number.clone(), id.key.clone()));
        if here.is_none_or(|binding| binding.spec.flow.node != shared.node) {
            gone(shared, &id);
        }
    }
    for call in state.calls.values().filter(|call| call.owner == shared.node) {
        if shared.call(call.id).is_none() {
            shared.end_in_log(call.id);
        }
    }
}
