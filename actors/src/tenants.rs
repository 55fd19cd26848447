//! Supervisors of what belongs to tenants: `Tenants` -> `Tenant` -> calls and registrations.
//!
//! Neither is on the path of a packet: they start, count and restart. A `Tenant` that dies takes its children's actors
//! with it and nothing else: their machines live in slots, from which its successor starts them again.

use std::collections::HashMap;
use std::sync::Arc;

use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use tandem_state::{Cause, TenantId};
use tandem_switching::{Call, Registration, call, registration::BindingId};

use crate::intensity::Intensity;
use crate::machine_actor::MachineActor;
use crate::ports::{CallPorts, RegistrationPorts};
use crate::shared::Shared;
use crate::slot::Slot;

/// Restarts of one child within ten seconds.
const RESTARTS_MAX: usize = 5;
const SPAN_MS: u64 = 10_000;

/// A machine that is to be given an actor.
#[derive(Clone)]
pub(crate) enum Child {
    Call(Arc<Slot<Call>>, Arc<CallPorts>),
    Registration(Arc<BindingId>, Arc<Slot<Registration>>, Arc<RegistrationPorts>),
}

/// What both supervisors are told.
pub(crate) enum Adopt {
    /// Start an actor for this machine.
    Child(TenantId, Child),
}

/// The supervisor of all tenants.
pub(crate) struct Tenants;

pub(crate) struct TenantsState {
    shared: Arc<Shared>,
    by_id: HashMap<TenantId, ActorRef<Adopt>>,
}

impl Actor for Tenants {
    type Msg = Adopt;
    type State = TenantsState;
    type Arguments = Arc<Shared>;

    async fn pre_start(
        &self,
        myself: ActorRef<Adopt>,
        shared: Arc<Shared>,
    ) -> Result<Self::State, ActorProcessingErr> {
        shared.set_tenants(myself.clone());
        // After a failure of this supervisor: everything that still has a machine.
        for (tenant, child) in shared.all_children() {
            myself.cast(Adopt::Child(tenant, child))?;
        }
        Ok(TenantsState { shared, by_id: HashMap::new() })
    }

    async fn handle(
        &self,
        myself: ActorRef<Adopt>,
        adopt: Adopt,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let Adopt::Child(tenant, _) = &adopt;
        let actor = match state.by_id.get(tenant) {
            Some(actor) => actor.clone(),
            None => {
                let args = (*tenant, Arc::clone(&state.shared));
                let (actor, _) = Actor::spawn_linked(None, Tenant, args, myself.get_cell()).await?;
                state.by_id.insert(*tenant, actor.clone());
                actor
            }
        };
        actor.cast(adopt)?;
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Adopt>,
        event: SupervisionEvent,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let gone = match event {
            SupervisionEvent::ActorFailed(cell, error) => {
                tracing::error!(%error, "a tenant's supervisor failed and starts again");
                metrics::counter!("tandem_actor_restarts_total", "kind" => "tenant").increment(1);
                cell.get_id()
            }
            SupervisionEvent::ActorTerminated(cell, ..) => cell.get_id(),
            _ => return Ok(()),
        };
        let lost: Vec<TenantId> =
            state.by_id.iter().filter(|(_, actor)| actor.get_id() == gone).map(|(id, _)| *id).collect();
        for tenant in lost {
            state.by_id.remove(&tenant);
            for child in state.shared.children_of(tenant) {
                myself.cast(Adopt::Child(tenant, child))?;
            }
        }
        Ok(())
    }
}

/// The supervisor of one tenant's calls and registrations.
pub(crate) struct Tenant;

pub(crate) struct TenantState {
    tenant: TenantId,
    shared: Arc<Shared>,
    children: HashMap<ActorId, (Child, Intensity)>,
}

impl Actor for Tenant {
    type Msg = Adopt;
    type State = TenantState;
    type Arguments = (TenantId, Arc<Shared>);

    async fn pre_start(
        &self,
        _myself: ActorRef<Adopt>,
        (tenant, shared): Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(TenantState { tenant, shared, children: HashMap::new() })
    }

    async fn handle(
        &self,
        myself: ActorRef<Adopt>,
        Adopt::Child(_, child): Adopt,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        state.start(&myself, child, Intensity::new(RESTARTS_MAX, SPAN_MS)).await
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Adopt>,
        event: SupervisionEvent,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorTerminated(cell, ..) => state.ended(&cell),
            SupervisionEvent::ActorFailed(cell, error) => state.failed(&myself, &cell, &error).await?,
            _ => {}
        }
        Ok(())
    }
}

impl TenantState {
    async fn start(
        &mut self,
        myself: &ActorRef<Adopt>,
        child: Child,
        intensity: Intensity,
    ) -> Result<(), ActorProcessingErr> {
        let supervisor = myself.get_cell();
        let id = match &child {
            Child::Call(slot, ports) => {
                let args = (Arc::clone(slot), Arc::clone(ports));
                let (actor, _) = Actor::spawn_linked(None, MachineActor::new(), args, supervisor).await?;
                actor.get_id()
            }
            Child::Registration(_, slot, ports) => {
                let args = (Arc::clone(slot), Arc::clone(ports));
                let (actor, _) = Actor::spawn_linked(None, MachineActor::new(), args, supervisor).await?;
                actor.get_id()
            }
        };
        self.children.insert(id, (child, intensity));
        Ok(())
    }

    /// The machine is finished.
    fn ended(&mut self, cell: &ActorCell) {
        match self.children.remove(&cell.get_id()) {
            Some((Child::Call(slot, _), _)) => self.shared.call_ended(&slot),
            Some((Child::Registration(id, slot, _), _)) => self.shared.registration_ended(&id, &slot),
            None => {}
        }
    }

    /// A step panicked: its input is dropped, counted and kept as a fixture, and a new actor goes on from before it.
    async fn failed(
        &mut self,
        myself: &ActorRef<Adopt>,
        cell: &ActorCell,
        error: &ActorProcessingErr,
    ) -> Result<(), ActorProcessingErr> {
        let Some((child, mut intensity)) = self.children.remove(&cell.get_id()) else { return Ok(()) };
        let (kind, name, poison) = match &child {
            Child::Call(slot, ports) => {
                ("call", ports.call.to_string(), slot.take_poison().map(|p| format!("{p:#?}")))
            }
            Child::Registration(id, slot, _) => {
                ("registration", id.number.clone(), slot.take_poison().map(|p| format!("{p:#?}")))
            }
        };
        tracing::error!(call = %name, kind, tenant = %self.tenant, %error, "an actor panicked and goes on from its last step");
        metrics::counter!("tandem_actor_restarts_total", "kind" => kind).increment(1);
        if let Some(poison) = poison {
            self.shared.keep_fixture(kind, &name, poison);
        }
        if !intensity.allow(self.shared.now().steady_ms) {
            self.give_up(child);
            return Ok(());
        }
        self.start(myself, child, intensity).await
    }

    /// Too many panics: a call ends with a CDR by a machine that does nothing else; a binding expires by the log.
    fn give_up(&self, child: Child) {
        metrics::counter!("tandem_actor_given_up_total").increment(1);
        match child {
            Child::Call(slot, ports) => {
                tracing::error!(call = %ports.call, "too many panics: the call is ended");
                self.shared.abandon_call(&slot, &ports, Cause::Internal);
            }
            Child::Registration(id, slot, _) => self.shared.registration_ended(&id, &slot),
        }
    }
}

/// Ends the call of a machine that can't be trusted any more, as far as it still lets itself be ended.
pub(crate) fn hang_up_outputs(
    slot: &Slot<Call>,
    now: tandem_switching::Now,
    cause: Cause,
) -> Vec<call::Output> {
    use tandem_switching::Machine;
    let mut machine = slot.machine();
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        machine.handle_input(now, call::Input::HangUp(cause));
        std::iter::from_fn(|| machine.poll_output()).collect()
    }));
    ended.unwrap_or_default()
}
