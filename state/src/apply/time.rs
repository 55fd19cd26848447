//! Cluster time passes: ticks expire rows, steps move it forward, and the rules in force are raised.

use super::Step;
use crate::bounds::EXPIRED_PER_TICK_MAX;
use crate::event::EventKind;
use crate::ids::*;
use crate::outcome::{Outcome, Refusal, Reply};
use crate::records::UnbindReason;
use crate::tables::{LEASES_APPLY_VERSION, State};

impl State {
    pub(super) fn tick(&mut self, step: &mut Step<'_>) -> Outcome {
        self.expire_bindings(step);
        self.expire_keys(step);
        Ok(Reply::Done)
    }

    fn expire_bindings(&mut self, step: &mut Step<'_>) {
        for _ in 0..EXPIRED_PER_TICK_MAX {
            let Some(((expires, tenant, number, key), ())) = self.expiries.get_min().cloned() else { return };
            if expires > step.now {
                return;
            }
            match self.take_binding(&(tenant, number.clone(), key.clone())) {
                Some(binding) => {
                    let removed = EventKind::RegistrationRemoved(Box::new(binding), UnbindReason::Expired);
                    step.event(Some(tenant), removed);
                }
                None => drop(self.expiries.remove(&(expires, tenant, number, key))),
            }
        }
    }

    fn expire_keys(&mut self, step: &Step<'_>) {
        for _ in 0..EXPIRED_PER_TICK_MAX {
            let Some((key, ())) = self.key_expiries.get_min().cloned() else { return };
            if key.0 > step.now {
                return;
            }
            self.take_key(key);
        }
    }

    pub(super) fn step_time(&mut self, to: ClusterTime) -> Outcome {
        self.time = self.time.max(to);
        Ok(Reply::Done)
    }

    pub(super) fn raise_apply_version(&mut self, step: &Step<'_>, to: u16) -> Outcome {
        if to <= self.apply_version {
            return Ok(Reply::Done);
        }
        let lowest = self.nodes.values().map(|node| node.apply_version).min().unwrap_or(0);
        if lowest < to {
            return Err(Refusal::NotInForce { needs: to, current: lowest });
        }
        if !self.has_leases() && to >= LEASES_APPLY_VERSION {
            self.begin_leases(step);
        }
        self.apply_version = to;
        Ok(Reply::Done)
    }
}

#[cfg(test)]
mod tests {
    use crate::command::Command;
    use crate::fixture::*;
    use crate::*;

    #[test]
    fn time_never_goes_back() {
        let mut state = started();
        run_at(&mut state, 5000, propose(1, 90, Command::Tick));
        run_at(&mut state, 4000, propose(1, 91, Command::Tick));
        assert_eq!(state.time, ClusterTime(5000));
        run_at(&mut state, 4000, propose(1, 92, Command::StepTime { to: ClusterTime(4500) }));
        assert_eq!(state.time, ClusterTime(5000));
        run_at(&mut state, 4000, propose(1, 93, Command::StepTime { to: ClusterTime(9000) }));
        assert_eq!(state.time, ClusterTime(9000));
    }

    #[test]
    fn a_tick_expires_a_binding_at_its_coarse_expiry_and_nothing_else_does() {
        let mut state = started();
        run_at(&mut state, 1000, propose(1, 90, bind("101", 1)));
        let expires = state.bindings.values().next().unwrap().spec.expires;
        let binding = state.bindings.values().next().unwrap().clone();
        run_at(&mut state, expires.0 - 1, propose(1, 91, Command::Tick));
        run_at(&mut state, expires.0, propose(1, 92, Command::StepTime { to: expires }));
        assert_eq!(state.bindings.len(), 1);
        let applied = run_at(&mut state, expires.0, propose(1, 93, Command::Tick));
        let kinds: Vec<EventKind> = applied.events.into_iter().map(|e| e.kind).collect();
        assert_eq!(kinds, [EventKind::RegistrationRemoved(Box::new(binding), UnbindReason::Expired)]);
        assert!(state.bindings.is_empty() && state.expiries.is_empty() && state.usage.is_empty());
    }

    #[test]
    fn rules_are_raised_only_when_every_member_can_follow_them() {
        let mut state = started();
        let raise = |to| Command::RaiseApplyVersion { to };
        assert_eq!(run(&mut state, propose(1, 90, raise(1))).outcomes, [Ok(Reply::Done)]);
        let refused = Refusal::NotInForce { needs: 2, current: 1 };
        assert_eq!(run(&mut state, propose(1, 91, raise(2))).outcomes, [Err(refused)]);
        assert_eq!(state.apply_version, 1);
        for id in [1, 2] {
            let mut node = node(id);
            node.apply_version = 2;
            run(&mut state, propose(id, 95, Command::NodeStarted { node }));
        }
        assert_eq!(run(&mut state, propose(1, 96, raise(2))).outcomes, [Ok(Reply::Done)]);
        assert_eq!(state.apply_version, 2);
    }
}
