//! What subscribers of the event stream are told.

use serde::{Deserialize, Serialize};
use tandem_state::event::CallFacts;
use tandem_state::{Event, EventId, EventKind, State};
use utoipa::ToSchema;

use super::{RegistrationView, node_name, tenant_name, word};
use crate::time::rfc3339;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventView {
    /// `<position>.<index>` in the log; give it as `Last-Event-ID` to go on after it, on any node.
    pub id: String,
    /// Such as `call.ringing`, `call.moved`, `registration.added`, `node.down`, `node.fenced`, `node.up` or `node.returned`.
    pub event: String,
    /// When.
    #[schema(format = DateTime)]
    pub at: String,
    /// Whose; `null` when it is the operator's.
    pub tenant: Option<String>,
    /// The call that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<EventCallView>,
    /// The registration that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration: Option<RegistrationView>,
    /// The node that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The node that the call was moved from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_node: Option<String>,
    /// Of the node's lease: the one that ended (`node.fenced`), or that began (`node.returned`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// Whether it is another process of the node that returned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarted: Option<bool>,
    /// The limit that was hit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

/// The call of an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventCallView {
    /// Which.
    pub id: String,
    /// Kept over transfers.
    pub interaction: String,
    /// Its owner.
    pub node: String,
    /// Who called, a bare number.
    pub from: String,
    /// The caller's name, empty when unknown.
    pub from_name: String,
    /// Who was called, a bare number.
    pub to: String,
    /// The callee's name, empty when unknown.
    pub to_name: String,
}

/// The events asked for are older than what is kept: read the lists anew, then go on from `oldest`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ResetView {
    /// The oldest event that is kept.
    pub oldest: String,
}

impl EventView {
    pub(crate) fn of(state: &State, event: &Event) -> EventView {
        let mut view = EventView {
            id: event.id.to_string(),
            event: event.kind.name().to_owned(),
            at: rfc3339(event.at),
            tenant: event.tenant.map(|id| tenant_name(state, id)),
            call: None,
            registration: None,
            node: None,
            from_node: None,
            epoch: None,
            restarted: None,
            limit: None,
            cause: None,
        };
        view.tell(state, event);
        view
    }

    fn tell(&mut self, state: &State, event: &Event) {
        match &event.kind {
            EventKind::CallCreated(facts)
            | EventKind::CallRinging(facts)
            | EventKind::CallAnswered(facts)
            | EventKind::CallHeld(facts)
            | EventKind::CallResumed(facts) => self.call = Some(EventCallView::of(state, facts)),
            EventKind::CallEnded(facts, cause) | EventKind::CallRefused(facts, cause) => {
                self.call = Some(EventCallView::of(state, facts));
                self.cause = Some(word(cause));
            }
            EventKind::RegistrationAdded(binding) | EventKind::RegistrationChanged(binding) => {
                self.registration = Some(RegistrationView::of(state, binding, None, false));
            }
            EventKind::RegistrationRemoved(binding, reason) => {
                self.registration = Some(RegistrationView::of(state, binding, None, false));
                self.cause = Some(word(reason));
            }
            EventKind::NodeUp(node) => self.node = Some(node.name.clone()),
            EventKind::NodeDraining(id, _) => self.node = Some(node_name(state, *id)),
            EventKind::NodeRemoved(id) => self.node = Some(node_name(state, *id)),
            EventKind::TenantChanged(name) | EventKind::TenantRemoved(name) => {
                self.tenant = Some(name.clone())
            }
            EventKind::LimitHit(name) => self.limit = Some(name.clone()),
            EventKind::CallMoved(facts, moved) => {
                self.call = Some(EventCallView::of(state, facts));
                self.from_node = Some(node_name(state, moved.from));
            }
            EventKind::NodeDown(node, why) => {
                self.node = Some(node.name.clone());
                self.cause = Some(word(why));
            }
            EventKind::NodeFenced(node, how) => {
                self.node = Some(node.name.clone());
                self.epoch = Some(node.epoch.0);
                self.cause = Some(word(how));
            }
            EventKind::NodeReturned(node, is_restarted) => {
                self.node = Some(node.name.clone());
                self.epoch = Some(node.epoch.0);
                self.restarted = Some(*is_restarted);
            }
        }
    }
}

impl EventCallView {
    fn of(state: &State, facts: &CallFacts) -> EventCallView {
        EventCallView {
            id: facts.id.to_string(),
            interaction: facts.interaction.to_string(),
            node: node_name(state, facts.node),
            from: facts.from.number.clone(),
            from_name: facts.from.name.clone(),
            to: facts.to.number.clone(),
            to_name: facts.to.name.clone(),
        }
    }
}

impl ResetView {
    pub(crate) fn of(oldest: EventId) -> ResetView {
        ResetView { oldest: oldest.to_string() }
    }
}
