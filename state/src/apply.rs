//! The rules: one log entry in, the answers out.
//!
//! [`State::apply`] goes over a batch; each proposal passes the [`window`] of its node and the [`idempotency`] keys
//! before the dispatcher below hands it to the file of its family. Families return an [`Outcome`] and leave what
//! is to be published in [`Step`].

mod audit;
mod binding;
mod call;
mod cdr;
mod config;
mod idempotency;
mod key;
mod lease;
mod moving;
mod node;
mod publish;
mod salvage;
mod time;
mod token;
mod window;

use crate::bounds;
use crate::command::{Batch, Command, Origin, Principal, Proposal};
use crate::event::EventKind;
use crate::ids::*;
use crate::outcome::{Applied, Outcome, Refusal};
use crate::records::{Cdr, NodeRecord};
use crate::tables::State;

/// One proposal on its way through the rules.
pub(crate) struct Step<'a> {
    pub(crate) origin: &'a Origin,
    pub(crate) position: u64,
    pub(crate) now: ClusterTime,
    /// What is published once the outcome stands. A refusal may publish too (`limit.hit`).
    pub(crate) effects: Vec<Effect>,
}

/// Something to publish.
pub(crate) enum Effect {
    Cdr(Box<Cdr>),
    Event(Option<TenantId>, EventKind),
    Audit(String),
}

impl Step<'_> {
    pub(crate) fn event(&mut self, tenant: Option<TenantId>, kind: EventKind) {
        self.effects.push(Effect::Event(tenant, kind));
    }

    /// The refusal for a limit of a tenant, and its event.
    pub(crate) fn limit_hit(&mut self, tenant: TenantId, name: &str, limit: u32) -> Refusal {
        self.event(Some(tenant), EventKind::LimitHit(name.to_owned()));
        Refusal::LimitReached { name: name.to_owned(), limit }
    }
}

impl State {
    /// Applies one log entry at `position`. Debug builds check the invariants afterwards (every entry while the
    /// state is small, else now and then).
    pub fn apply(&mut self, position: u64, batch: &Batch) -> Applied {
        let applied = self.apply_unchecked(position, batch);
        if cfg!(debug_assertions) && position.is_multiple_of(self.check_every()) {
            debug_assert_eq!(self.check_invariants(), Ok(()), "after log position {position}");
        }
        applied
    }

    /// The check walks over all rows: the more there are, the rarer it is.
    fn check_every(&self) -> u64 {
        match self.rows() {
            0..256 => 1,
            256..4_096 => 512,
            _ => 16_384,
        }
    }

    /// [`State::apply`] without the check, for simulators that check by themselves.
    pub fn apply_unchecked(&mut self, position: u64, batch: &Batch) -> Applied {
        self.position = position;
        self.time = self.time.max(batch.stamp);
        let mut applied = Applied::default();
        for proposal in &batch.proposals {
            let outcome = self.apply_proposal(proposal, &mut applied);
            applied.outcomes.push(outcome);
        }
        applied
    }

    fn apply_proposal(&mut self, proposal: &Proposal, applied: &mut Applied) -> Outcome {
        if let Principal::Token(id) = &proposal.principal {
            bounds::some_at_most("principal", id, bounds::NAME_MAX)?;
        }
        let of_leases = proposal.command.is_of_leases();
        if !of_leases && let Some(kept) = self.admit(&proposal.origin)? {
            return kept;
        }
        let mut step =
            Step { origin: &proposal.origin, position: self.position, now: self.time, effects: Vec::new() };
        let outcome = if of_leases {
            self.dispatch(&mut step, &proposal.command)
        } else {
            self.once_per_key(&mut step, proposal)
        };
        let effects = step.effects;
        self.publish(&proposal.principal, effects, applied);
        if !of_leases {
            self.keep_outcome(&proposal.origin, &outcome);
        }
        outcome
    }

    fn dispatch(&mut self, step: &mut Step<'_>, command: &Command) -> Outcome {
        let needs = command.needs();
        if needs > self.apply_version {
            return Err(Refusal::NotInForce { needs, current: self.apply_version });
        }
        match command {
            Command::Tick => self.tick(step),
            Command::StepTime { to } => self.step_time(*to),
            Command::RaiseApplyVersion { to } => self.raise_apply_version(step, *to),
            Command::NodeStarted { node } => self.node_started(step, node),
            Command::NodeRemoved { node } => self.node_removed(step, *node),
            Command::Configure { changes } => self.configure(step, changes),
            Command::PutToken { token } => self.put_token(step, token),
            Command::RemoveToken { id } => self.remove_token(step, id),
            Command::Bind { node_epoch, binding, replaces } => {
                self.bind(step, *node_epoch, binding, *replaces)
            }
            Command::Unbind { node_epoch, tenant, number, key, revision, reason } => {
                self.unbind(step, *node_epoch, &(*tenant, number.clone(), key.clone()), *revision, *reason)
            }
            Command::CreateCall { node_epoch, call } => self.create_call(step, *node_epoch, call),
            Command::CreateCallFrom { node_epoch, call, invite } => {
                self.create_call_from(step, *node_epoch, call, invite)
            }
            Command::MoveCall { call, epoch, to, change } => self.hand_over(step, *call, *epoch, *to, change),
            Command::Drain { node, on } => self.drain(step, *node, *on),
            Command::Checkpoint { call, epoch, change } => self.checkpoint(step, *call, *epoch, change),
            Command::EndCall { call, epoch, change } => self.end_call(step, *call, *epoch, change),
            Command::RefuseCall { node_epoch, refused } => self.refuse_call(step, *node_epoch, refused),
            Command::Audit { action } => audit::audit(step, action),
            Command::Salvage { cdr } => self.salvage(step, cdr),
            Command::Renew { node_epoch, attempt, lease_ms } => {
                self.renew(step, *node_epoch, *attempt, *lease_ms)
            }
            Command::ExpireLease { node, epoch, last_renewal } => {
                self.expire_lease(step, *node, *epoch, *last_renewal)
            }
            Command::RenewMarked { node_epoch, attempt, lease_ms, mark } => {
                self.renew_marked(step, *node_epoch, *attempt, *lease_ms, *mark)
            }
            Command::UseClusterKey { from, to } => self.use_cluster_key(step, *from, *to),
            Command::EndLease { node, epoch, incarnation } => {
                self.end_lease(step, *node, *epoch, *incarnation)
            }
        }
    }

    /// The proposing node, if it may act for itself under `epoch`: it has announced this incarnation, its epoch is the
    /// current one and, once there are leases, its lease has not ended.
    pub(crate) fn acting_node(&self, step: &Step<'_>, epoch: NodeEpoch) -> Result<&NodeRecord, Refusal> {
        let node = self.announced_node(step, epoch)?;
        if self.has_leases() && !self.leases.get(&node.id).is_some_and(|lease| lease.stands) {
            return Err(Refusal::NoLease { epoch });
        }
        Ok(node)
    }

    /// The proposing node, if it has announced this incarnation and its epoch is the current one.
    pub(crate) fn announced_node(&self, step: &Step<'_>, epoch: NodeEpoch) -> Result<&NodeRecord, Refusal> {
        let node = self.proposing_node(step)?;
        if node.epoch != epoch {
            return Err(Refusal::StaleNodeEpoch { current: node.epoch });
        }
        Ok(node)
    }

    /// The proposing node, if it has announced this incarnation.
    pub(crate) fn proposing_node(&self, step: &Step<'_>) -> Result<&NodeRecord, Refusal> {
        let none = Refusal::StaleNodeEpoch { current: NodeEpoch(0) };
        let node = self.nodes.get(&step.origin.node).ok_or(none)?;
        if node.incarnation != step.origin.incarnation {
            return Err(bounds::invalid("origin.incarnation", "has not been announced by NodeStarted"));
        }
        Ok(node)
    }
}
