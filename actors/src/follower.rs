//! The cluster follower: turns the log's events into inputs for this node's machines.
//!
//! Supervised by `Node`. When it dies it is started again and reconciles everything with the state, so nothing is lost.

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tandem_cluster::FeedItem;
use tandem_state::{Binding, CallId, Cause, EventKind, NodeId, State, UnbindReason};
use tandem_switching::registration::{BindingId, Input};

use crate::drain;
use crate::registrations::is_connection;
use crate::shared::Shared;
use crate::takeover::{came_back, flow_node_lost, take_over};

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
        let item = following.feed.next().await;
        #[cfg(feature = "faults")]
        broken_if_told(&following.shared);
        match item {
            Ok(FeedItem::Applied { events, .. }) => {
                let shared = &following.shared;
                for event in events.iter() {
                    take(shared, &event.kind);
                }
                shared.lose_calls(events.iter().filter_map(|event| lost_call(shared.node, &event.kind)));
                for (call, is_proven) in
                    events.iter().filter_map(|event| gained_call(shared.node, &event.kind))
                {
                    take_over(shared, call, is_proven);
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

/// The item that was just taken is lost with the actor.
#[cfg(feature = "faults")]
#[expect(clippy::panic, reason = "this is what the fault switch is for")]
fn broken_if_told(shared: &Shared) {
    if shared.follower_fault.swap(false, std::sync::atomic::Ordering::Relaxed) {
        panic!("the fault switch of test builds");
    }
}

fn take(shared: &Arc<Shared>, event: &EventKind) {
    match event {
        EventKind::RegistrationAdded(binding) | EventKind::RegistrationChanged(binding) => {
            bound(shared, binding);
            came_back(shared, binding);
        }
        EventKind::RegistrationRemoved(binding, reason) => {
            let id = BindingId::of(binding);
            let view = shared.cluster.view();
            let there = view.bindings.get(&(id.tenant, id.number.clone(), id.key.clone()));
            let flow = &binding.spec.flow;
            if *reason == UnbindReason::ConnectionLost && there.is_none_or(|there| there.spec.flow != *flow) {
                shared.close(flow);
            }
            if there.is_none() {
                gone(shared, &id);
            }
        }
        EventKind::CallCreated(facts) => {
            if facts.node == shared.node && shared.call(facts.id).is_none() {
                tracing::warn!(call = %facts.id, "the log has a call of this node that nobody here knows: it is ended");
                shared.end_in_log(facts.id);
            }
        }
        EventKind::NodeDraining(node, on) if *node == shared.node => drain::follow(shared, *on),
        EventKind::NodeDraining(..) => {}
        EventKind::NodeDown(node, _) => flow_node_lost(shared, node.id),
        EventKind::NodeRemoved(node) => flow_node_lost(shared, *node),
        EventKind::CallRinging(_)
        | EventKind::CallAnswered(_)
        | EventKind::CallHeld(_)
        | EventKind::CallResumed(_)
        | EventKind::CallEnded(..)
        | EventKind::CallRefused(..)
        | EventKind::NodeUp(_)
        | EventKind::NodeFenced(..)
        | EventKind::NodeReturned(..)
        | EventKind::CallMoved(..)
        | EventKind::TenantChanged(_)
        | EventKind::TenantRemoved(_)
        | EventKind::LimitHit(_) => {}
    }
}

/// The call of this node that an event ended, or gave to another, because its lease was over. There may be thousands of them
/// in one entry.
fn lost_call(node: NodeId, event: &EventKind) -> Option<CallId> {
    match event {
        EventKind::CallEnded(facts, Cause::NodeLost) => (facts.node == node).then_some(facts.id),
        EventKind::CallMoved(facts, moved) => (moved.from == node).then_some(facts.id),
        _ => None,
    }
}

/// The call that an event gave to this node, and whether its former owner's end is proven.
fn gained_call(node: NodeId, event: &EventKind) -> Option<(CallId, bool)> {
    let EventKind::CallMoved(facts, moved) = event else { return None };
    (facts.node == node).then_some((facts.id, moved.is_proven))
}

/// A binding in the log: it has an actor on the node that holds its flow, and on no other.
fn bound(shared: &Arc<Shared>, binding: &Binding) {
    if binding.spec.flow.node != shared.node {
        return gone(shared, &BindingId::of(binding));
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

/// Makes this node's actors those that the state wants.
fn reconcile(shared: &Arc<Shared>) {
    // Before the view: a call that is recorded here is in it, or was ended without this node.
    let recorded = shared.recorded_calls();
    let state: Arc<State> = shared.cluster.view();
    let owned = |call: &CallId| state.calls.get(call).is_some_and(|call| call.owner == shared.node);
    shared.lose_calls(recorded.into_iter().filter(|call| !owned(call)));
    drain::follow(shared, state.draining.contains_key(&shared.node));
    for binding in state.bindings.values() {
        if binding.spec.flow.node == shared.node {
            bound(shared, binding);
        }
    }
    for id in shared.registration_ids() {
        let here = state.bindings.get(&(id.tenant, id.number.clone(), id.key.clone()));
        if here.is_none_or(|binding| binding.spec.flow.node != shared.node) {
            // Why it is gone can't be known any more; a phone whose connection ends registers again.
            if let Some(flow) = shared.registration_flow(&id).filter(|_| here.is_none()) {
                shared.close(&flow);
            }
            gone(shared, &id);
        }
    }
    for call in state.calls.values().filter(|call| call.owner == shared.node) {
        match state.is_movable(call) {
            // It waits until a node holds a lease, and is that one's then.
            true if state.is_down(shared.node) => {}
            // What this node was told of it while it did not listen is not known: its former owner may only be silent.
            true => take_over(shared, call.id, false),
            false if shared.call(call.id).is_none() => shared.end_in_log(call.id),
            false => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_state::event::CallFacts;
    use tandem_state::{InteractionId, Party};

    fn ended(id: u128, node: u64, cause: Cause) -> EventKind {
        let party = || Party { number: "101".into(), name: String::new() };
        let (id, interaction) = (CallId(id), InteractionId(id));
        EventKind::CallEnded(
            CallFacts { id, interaction, node: NodeId(node), from: party(), to: party() },
            cause,
        )
    }

    #[test]
    fn of_the_calls_that_ended_with_a_node_this_nodes_are_lost_here() {
        let events = [
            ended(1, 1, Cause::NodeLost),
            ended(2, 2, Cause::NodeLost),
            ended(3, 1, Cause::NormalClearing),
            ended(4, 1, Cause::NodeLost),
        ];
        let lost: Vec<CallId> = events.iter().filter_map(|event| lost_call(NodeId(1), event)).collect();
        assert_eq!(lost, [CallId(1), CallId(4)]);
    }
}
