//! The real machines of calls and registrations, with phones around them: what they propose goes through the model log,
//! and everything must come to an end: one CDR for each call, no row and no binding left.
//!
//! Phones and the way to them are modelled: messages are late and overtake each other, a 2xx or its ACK is lost now and
//! then (everything else is the transaction layer's to repeat). A node that dies takes its machines along.

mod exchange;
mod phone;
mod registrations;

use std::collections::{BTreeMap, BTreeSet};

use tandem_state::config::*;
use tandem_state::*;
use tandem_switching::Now;
use tandem_switching::call;
use tandem_switching::routing::Here;

use super::{View, Workload};
use crate::world::history::History;
use crate::world::random::Random;
use exchange::Exchange;
use registrations::Registrations;

/// Extensions of the one tenant: 101 and up.
const EXTENSIONS: u64 = 5;
/// Calls of one node at once.
const CALLS_MAX: usize = 6;

/// See the module.
#[derive(Debug, Default)]
pub struct Machines {
    nodes: BTreeMap<NodeId, Process>,
    /// Calls whose machines came to their end, and whether their callers heard an answer.
    ended: BTreeMap<CallId, bool>,
    /// Rows of calls and bindings that each replica had last.
    left: BTreeMap<NodeId, (usize, usize)>,
    /// CSeq of each phone's REGISTER; phones outlive nodes.
    cseqs: BTreeMap<(u64, u64), u32>,
}

/// What a node's process keeps in memory.
#[derive(Debug, Default)]
struct Process {
    calls: BTreeMap<CallId, Exchange>,
    registrations: Registrations,
    /// What became of proposals since the node's last turn.
    answers: Vec<(Command, Outcome)>,
}

impl Workload for Machines {
    fn genesis(&mut self) -> Vec<Command> {
        let tenant = ConfigChange::PutTenant(TenantConfig {
            name: "acme".to_owned(),
            domain: "acme.example".to_owned(),
            timezone: "UTC".to_owned(),
            currency: "GBP".to_owned(),
            limits: Limits { calls: Some(8), calls_per_second: None, registrations: None },
            dial_rules: None,
        });
        let extension = |n: u64| Extension {
            number: (100 + n).to_string(),
            name: format!("Phone {n}"),
            secret: Digests { md5: "0".repeat(32), sha256: String::new() },
            caller_id: String::new(),
        };
        let extensions = (1..=EXTENSIONS)
            .map(|n| ConfigChange::PutExtension { tenant: "acme".to_owned(), extension: extension(n) });
        vec![Command::Configure { changes: std::iter::once(tenant).chain(extensions).collect() }]
    }

    fn turn(&mut self, view: View<'_>, random: &mut Random) -> Vec<Command> {
        let mut commands = self.run(view, random);
        let process = self.nodes.entry(view.node).or_default();
        match random.between(0, 99) {
            0..=24 => commands.extend(process.registrations.register(view, &mut self.cseqs, random)),
            25..=49 if process.calls.len() < CALLS_MAX => {
                commands.extend(begin(process, view, random));
            }
            _ => {}
        }
        commands
    }

    fn works_in_peace(&self) -> bool {
        true
    }

    fn rest(&mut self, view: View<'_>, random: &mut Random) -> Vec<Command> {
        self.left.insert(view.node, (view.state.calls.len(), view.state.bindings.len()));
        self.run(view, random)
    }

    fn answered(&mut self, node: NodeId, command: &Command, outcome: &Outcome) {
        let process = self.nodes.entry(node).or_default();
        process.answers.push((command.clone(), outcome.clone()));
    }

    fn applied(&mut self, view: View<'_>, applied: &Applied, _random: &mut Random) -> Vec<Command> {
        let now = Now { steady_ms: view.steady_ms, cluster: view.now };
        let process = self.nodes.entry(view.node).or_default();
        for event in &applied.events {
            process.registrations.told(view, now, &event.kind);
        }
        Vec::new()
    }

    fn died(&mut self, node: NodeId) {
        self.nodes.remove(&node);
    }

    fn check(&self, history: &History) -> Result<(), String> {
        for (node, process) in &self.nodes {
            if let Some((id, exchange)) = process.calls.iter().next() {
                return Err(format!("n{} still has call {id}: {exchange:#?}", node.0));
            }
            if !process.registrations.is_empty() {
                return Err(format!("n{} still has {:?}", node.0, process.registrations));
            }
        }
        if let Some((node, left)) = self.left.iter().find(|(_, left)| **left != (0, 0)) {
            return Err(format!("n{} has rows of calls and bindings left: {left:?}", node.0));
        }
        self.one_cdr_each(history)
    }
}

impl Machines {
    /// Lets everything happen that is due at this node.
    fn run(&mut self, view: View<'_>, random: &mut Random) -> Vec<Command> {
        let now = Now { steady_ms: view.steady_ms, cluster: view.now };
        let process = self.nodes.entry(view.node).or_default();
        let mut commands = Vec::new();
        process.registrations.adopt(view, now);
        for (command, outcome) in std::mem::take(&mut process.answers) {
            match command.call() {
                Some(id) => {
                    if let Some(exchange) = process.calls.get_mut(&id) {
                        exchange.answered(now, &command, outcome, random);
                    }
                }
                None => process.registrations.answered(now, &command, &outcome),
            }
        }
        for exchange in process.calls.values_mut() {
            exchange.run(now, random);
            commands.append(&mut exchange.proposals);
        }
        commands.extend(process.registrations.run(now));
        let over: BTreeSet<CallId> =
            process.calls.iter().filter(|(_, e)| e.is_over()).map(|(id, _)| *id).collect();
        for id in over {
            let answered = process.calls.remove(&id).is_some_and(|exchange| exchange.caller_was_answered());
            self.ended.insert(id, answered);
        }
        commands
    }

    fn one_cdr_each(&self, history: &History) -> Result<(), String> {
        let mut cdrs: BTreeMap<CallId, Vec<&Cdr>> = BTreeMap::new();
        for cdr in history.cdrs() {
            cdrs.entry(cdr.call).or_default().push(cdr);
        }
        for (id, answered) in &self.ended {
            match cdrs.get(id).map(Vec::as_slice) {
                Some([cdr]) if cdr.answer.is_some() == *answered => {}
                other => return Err(format!("call {id} (answered: {answered}) has {other:?}")),
            }
        }
        match cdrs.values().find(|of_call| of_call.len() > 1) {
            Some(doubled) => Err(format!("more than one CDR: {doubled:?}")),
            None => Ok(()),
        }
    }
}

/// An INVITE arrives: it is routed by the replica, and becomes a call or a refusal.
fn begin(process: &mut Process, view: View<'_>, random: &mut Random) -> Vec<Command> {
    let (from, to) = (random.between(1, EXTENSIONS), random.between(1, EXTENSIONS + 1));
    let id = CallId(random.id());
    let here = Here { node: view.node, udp: Vec::new() };
    let routed = tandem_switching::routing::route(view.state, &here, TenantId(1), &(100 + to).to_string());
    let from = Party { number: (100 + from).to_string(), name: String::new() };
    let now = Now { steady_ms: view.steady_ms, cluster: view.now };
    match routed {
        Ok(route) => {
            let Some(exchange) = Exchange::begin(id, view.node, from, route, now, random) else {
                return Vec::new();
            };
            process.calls.insert(id, exchange);
            Vec::new()
        }
        Err(none) => {
            let direction = CallDirection::Internal;
            let (tenant, start, cause) = (TenantId(1), view.now, none.cause);
            let refused = RefusedCall { id, tenant, direction, from, to: none.to, start, cause };
            vec![Command::RefuseCall { node_epoch: NodeEpoch(1), refused }]
        }
    }
}

/// Which of a call's proposals a command is.
fn kind_of(command: &Command) -> call::Proposal {
    match command {
        Command::CreateCall { .. } | Command::CreateCallFrom { .. } => call::Proposal::Create,
        Command::Checkpoint { change, .. } => match change.note {
            Some(CallNote::Answered) => call::Proposal::Answer,
            Some(CallNote::Held | CallNote::Resumed) => call::Proposal::Exchange,
            None if change.bridge.is_some() => call::Proposal::Shape,
            Some(CallNote::Ringing) | None => call::Proposal::Note,
        },
        _ => call::Proposal::End,
    }
}
