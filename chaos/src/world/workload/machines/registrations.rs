//! Phones that register at a node, and the machines of the bindings that it holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use tandem_sip::message::Message;
use tandem_state::*;
use tandem_switching::admission::User;
use tandem_switching::registrar::{Bounds, Change, Plan, Source, plan};
use tandem_switching::registration::{BindingId, Input, Output};
use tandem_switching::{Machine, Now, Registration};

use super::EXTENSIONS;
use super::exchange::flow;
use crate::world::random::Random;
use crate::world::workload::View;

/// The machines of one node's bindings.
#[derive(Debug, Default)]
pub(super) struct Registrations {
    machines: BTreeMap<BindingId, Registration>,
    /// What was granted in binds that have no outcome yet.
    granted: BTreeMap<(BindingId, u32), u32>,
    follows: bool,
}

impl Registrations {
    pub(super) fn is_empty(&self) -> bool {
        self.machines.is_empty()
    }

    /// A phone's REGISTER arrives: the registrar decides by what the node's replica knows.
    pub(super) fn register(
        &mut self,
        view: View<'_>,
        cseqs: &mut BTreeMap<(u64, u64), u32>,
        random: &mut Random,
    ) -> Vec<Command> {
        let (extension, phone) = (random.between(1, EXTENSIONS), random.between(1, 2));
        let cseq = cseqs.entry((extension, phone)).or_default();
        *cseq = if random.chance(50) { *cseq } else { *cseq + 1 };
        let Some(request) = request(extension, phone, *cseq, random) else { return Vec::new() };
        let party = Party { number: (100 + extension).to_string(), name: String::new() };
        let user = User { tenant: TenantId(1), domain: "acme.example".to_owned(), party };
        let (flow, bounds) = (flow(view.node), Bounds { expires_min_s: 1, ..Bounds::default() });
        let source = Source { user: &user, flow: &flow, node_epoch: NodeEpoch(1) };
        let now = Now { steady_ms: view.steady_ms, cluster: view.now };
        match plan(view.state, now, &bounds, &source, &request) {
            Plan::Refused { .. } | Plan::Unsupported { .. } => Vec::new(),
            Plan::Changes(changes) => {
                changes.into_iter().filter_map(|change| self.change(now, *cseq, change)).collect()
            }
        }
    }

    fn change(&mut self, now: Now, cseq: u32, change: Change) -> Option<Command> {
        match change {
            Change::Refresh { id, expires_s } => {
                self.machines.get_mut(&id)?.handle_input(now, Input::Refreshed { expires_s });
                None
            }
            Change::Bind { id, expires_s, command } => {
                self.granted.insert((id, cseq), expires_s);
                Some(*command)
            }
            Change::Unbind { command, .. } => Some(*command),
        }
    }

    /// The log answered.
    pub(super) fn answered(&mut self, now: Now, command: &Command, outcome: &Outcome) {
        match command {
            Command::Bind { binding, .. } => self.bound(now, binding, outcome),
            Command::Unbind { tenant, number, key, .. } => {
                let id = BindingId { tenant: *tenant, number: number.clone(), key: key.clone() };
                if let Some(machine) = self.machines.get_mut(&id) {
                    machine.handle_input(now, Input::Proposed(Some(outcome.clone())));
                }
            }
            _ => {}
        }
    }

    fn bound(&mut self, now: Now, spec: &NewBinding, outcome: &Outcome) {
        let id = id_of(spec);
        let granted = self.granted.remove(&(id.clone(), spec.cseq));
        let (Ok(Reply::Bound(revision)), Some(expires_s)) = (outcome, granted) else { return };
        let coarse_ms = now.steady_ms + spec.expires.since_ms(now.cluster);
        let made = || Registration::new(Arc::new(id.clone()), NodeEpoch(1), *revision, coarse_ms, 0);
        let machine = self.machines.entry(id.clone()).or_insert_with(made);
        let (revision, expires_s, datagrams) = (*revision, Some(expires_s), true);
        machine.handle_input(now, Input::Bound { revision, expires_s, coarse_ms, datagrams });
    }

    /// What a node does when it begins to follow the log: the bindings of its flows are taken up.
    pub(super) fn adopt(&mut self, view: View<'_>, now: Now) {
        if std::mem::replace(&mut self.follows, true) {
            return;
        }
        for binding in view.state.bindings.values() {
            self.holds(view.node, now, binding);
        }
    }

    /// And what it does with each event.
    pub(super) fn told(&mut self, view: View<'_>, now: Now, event: &EventKind) {
        match event {
            EventKind::RegistrationAdded(binding) | EventKind::RegistrationChanged(binding) => {
                self.holds(view.node, now, binding);
            }
            EventKind::RegistrationRemoved(binding, _) => {
                let id = id_of(&binding.spec);
                let row = (id.tenant, id.number.clone(), id.key.clone());
                if !view.state.bindings.contains_key(&row) {
                    self.gone(now, &id);
                }
            }
            _ => {}
        }
    }

    /// A binding of the log has a machine at the node that holds its flow, and nowhere else.
    fn holds(&mut self, node: NodeId, now: Now, binding: &Binding) {
        let id = id_of(&binding.spec);
        if binding.spec.flow.node != node {
            return self.gone(now, &id);
        }
        let coarse_ms = now.steady_ms + binding.spec.expires.since_ms(now.cluster);
        let made = || Registration::new(Arc::new(id.clone()), NodeEpoch(1), binding.revision, coarse_ms, 0);
        let machine = self.machines.entry(id.clone()).or_insert_with(made);
        let (revision, expires_s, datagrams) = (binding.revision, None, true);
        machine.handle_input(now, Input::Bound { revision, expires_s, coarse_ms, datagrams });
    }

    fn gone(&mut self, now: Now, id: &BindingId) {
        if let Some(machine) = self.machines.get_mut(id) {
            machine.handle_input(now, Input::Gone);
        }
    }

    /// Runs timers; what the machines propose.
    pub(super) fn run(&mut self, now: Now) -> Vec<Command> {
        let mut commands = Vec::new();
        for machine in self.machines.values_mut() {
            if machine.poll_timeout().is_some_and(|due| due <= now.steady_ms) {
                machine.handle_timeout(now);
            }
            while let Some(output) = machine.poll_output() {
                match output {
                    Output::Propose(command) => commands.push(*command),
                    // Phones of this world answer no OPTIONS.
                    Output::Ask | Output::Unanswered => {}
                }
            }
        }
        self.machines.retain(|_, machine| !machine.is_finished());
        commands
    }
}

fn id_of(spec: &NewBinding) -> BindingId {
    BindingId { tenant: spec.tenant, number: spec.number.clone(), key: spec.key.clone() }
}

fn request(extension: u64, phone: u64, cseq: u32, random: &mut Random) -> Option<Message> {
    let expires = if random.chance(200) { 0 } else { random.between(1, 2) };
    let user = 100 + extension;
    let text = format!(
        "REGISTER sip:acme.example SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK{cseq}\r\n\
         From: <sip:{user}@acme.example>;tag=a\r\nTo: <sip:{user}@acme.example>\r\n\
         Call-ID: r{extension}x{phone}\r\nCSeq: {cseq} REGISTER\r\n\
         Contact: <sip:{user}@192.0.2.{phone}>;expires={expires}\r\nContent-Length: 0\r\n\r\n"
    );
    Message::parse(text.into()).ok()
}
