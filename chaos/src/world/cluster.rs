//! The loop: what happens next is taken from a queue ordered by simulated time, and may put more into it.
//!
//! A committed entry is one in [`History::log`]. The leader gathers what arrives, commits it while a quorum is up,
//! and answers once its own replica has applied it. A leader that dies or is replaced takes along what it had only
//! gathered. After the working time come peace and the last checks.

mod faults;
mod leading;
mod node;

use std::collections::BTreeMap;

use tandem_state::{Command, Incarnation, NodeId, NodeRecord, Outcome, Proposal, Refusal, Role};

use super::history::{History, request};
use super::trace::Trace;
use super::{Failure, Options, Random, Report, View, Workload, checks};
use crate::agenda::Agenda;
use crate::office::Office;
use node::Node;

/// Peace after the working time: everything in flight must be answered within it.
const PEACE_MS: u64 = 20_000;

/// Something that will happen.
#[derive(Debug)]
enum Happening {
    /// A node has time to work.
    Turn(NodeId, Incarnation),
    /// A proposal reaches whoever leads then.
    Arrive(Box<Proposal>),
    /// A node looks whether it was answered.
    Retry(NodeId, Incarnation, u64),
    /// The leader of a term commits what it gathered.
    Commit(u64),
    /// A replica applies what it has.
    Advance(NodeId, Incarnation),
    /// An answer reaches its node.
    Answer(NodeId, Incarnation, u64, Outcome),
    /// The leader lets time pass.
    Tick,
    /// Somebody becomes leader.
    Elect(u64),
    /// A node's process starts again.
    Restart(NodeId),
    /// Chance strikes.
    Fault,
}

/// A broken check and where.
type Found = (&'static str, String);

/// A simulated cluster.
pub struct World<W> {
    seed: u64,
    options: Options,
    random: Random,
    agenda: Agenda<Happening>,
    nodes: BTreeMap<NodeId, Node>,
    office: Office,
    history: History,
    trace: Trace,
    workload: W,
    genesis: Vec<Command>,
    crashes: u32,
    elections: u32,
}

impl<W: Workload> World<W> {
    /// Three or five nodes that are about to start.
    pub fn new(seed: u64, options: Options, mut workload: W) -> Self {
        let mut random = Random::new(seed);
        let count = if random.chance(750) { 3 } else { 5 };
        let nodes = (1..=count).map(|n| (NodeId(n), Node::new(n, options.mutant))).collect();
        World {
            seed,
            options,
            random,
            agenda: Agenda::new(),
            nodes,
            office: Office::default(),
            history: History::default(),
            trace: Trace::new(options.trace),
            genesis: workload.genesis(),
            workload,
            crashes: 0,
            elections: 0,
        }
    }

    /// Runs to the end.
    pub fn run(mut self) -> Result<Report, Box<Failure>> {
        match self.run_all() {
            Ok(()) => Ok(self.report()),
            Err((check, what)) => {
                self.trace.line(self.agenda.now_ms(), format_args!("FAILED: {check}: {what}"));
                Err(Box::new(Failure { seed: self.seed, check, what, trace: self.trace.into_lines() }))
            }
        }
    }

    fn report(mut self) -> Report {
        let last = self.nodes.values().next().map(|node| node.replica.state.hash()).unwrap_or_default();
        self.trace.mix(&last);
        let proposals = self.history.outcomes().count();
        Report {
            trace_hash: self.trace.hash(),
            entries: self.history.log.len(),
            acknowledged: self.history.acknowledged.len(),
            repeated: proposals - self.history.first_outcomes().len(),
            cdrs: self.history.cdrs().count(),
            crashes: self.crashes,
            elections: self.elections,
            trace: self.trace.into_lines(),
        }
    }

    fn run_all(&mut self) -> Result<(), Found> {
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for id in ids {
            self.after(0, 20, Happening::Restart(id));
        }
        self.after(50, 200, Happening::Elect(0));
        self.after(300, 600, Happening::Tick);
        self.after(500, 1500, Happening::Fault);
        self.run_until(self.options.length_ms)?;
        self.make_peace();
        self.run_until(self.options.length_ms + PEACE_MS)?;
        self.settled()?;
        let replicas: Vec<_> = self.nodes.values().map(|node| &node.replica).collect();
        checks::all(&self.history, &replicas)?;
        self.workload.check(&self.history).map_err(|what| ("what the workload expects", what))
    }

    fn run_until(&mut self, end_ms: u64) -> Result<(), Found> {
        while let Some(happening) = self.agenda.next(end_ms) {
            self.happen(happening)?;
        }
        Ok(())
    }

    fn happen(&mut self, happening: Happening) -> Result<(), Found> {
        match happening {
            Happening::Turn(id, incarnation) => self.turn(id, incarnation),
            Happening::Arrive(proposal) => self.arrive(*proposal),
            Happening::Retry(id, incarnation, seq) => self.retry(id, incarnation, seq),
            Happening::Commit(term) => self.commit(term),
            Happening::Advance(id, incarnation) => return self.advance(id, incarnation),
            Happening::Answer(id, incarnation, seq, outcome) => {
                return self.answer(id, incarnation, seq, outcome);
            }
            Happening::Tick => self.tick(),
            Happening::Elect(term) => self.elect(term),
            Happening::Restart(id) => return self.restart(id),
            Happening::Fault => self.fault(),
        }
        Ok(())
    }

    /// Something happens between `low` and `high` milliseconds from now.
    fn after(&mut self, low: u64, high: u64, happening: Happening) {
        let delay_ms = self.random.between(low, high);
        self.agenda.enter(delay_ms, happening);
    }

    fn node(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(&id).expect("only nodes of this world are named in it")
    }

    fn is_peace(&self) -> bool {
        self.agenda.now_ms() >= self.options.length_ms
    }

    // ---- what nodes do ----

    fn turn(&mut self, id: NodeId, incarnation: Incarnation) {
        let Some(node) = self.nodes.get(&id).filter(|node| node.is_alive(incarnation)) else { return };
        let is_peace = self.is_peace();
        if is_peace && !self.workload.works_in_peace() {
            return;
        }
        if node.announced && node.client.waiting() < 8 {
            // What a node takes for cluster time is a little off.
            let now = node.replica.state.time.plus_ms(self.random.between(0, 60));
            let view = View {
                node: id,
                incarnation,
                steady_ms: self.agenda.now_ms(),
                now,
                state: &node.replica.state,
            };
            let commands = match is_peace {
                false => self.workload.turn(view, &mut self.random),
                true => self.workload.rest(view, &mut self.random),
            };
            for command in commands {
                self.propose(id, command);
            }
        }
        self.after(5, 60, Happening::Turn(id, incarnation));
    }

    fn propose(&mut self, id: NodeId, command: Command) {
        let name = checks::name_of(&command);
        let node = self.node(id);
        let incarnation = node.incarnation;
        let seq = node.client.ask(id, incarnation, command);
        self.trace.line(self.agenda.now_ms(), format_args!("n{} proposes {incarnation}/{seq} {name}", id.0));
        self.send(id, incarnation, seq);
    }

    /// Sends a request, and again until it is answered.
    fn send(&mut self, id: NodeId, incarnation: Incarnation, seq: u64) {
        let Some(proposal) = self.node(id).client.to_send(seq) else { return };
        let proposal = Box::new(proposal);
        let copies = if self.is_peace() { 1 } else { self.random.between(0, 19) };
        match copies {
            0 => {}
            1 if !self.is_peace() => {
                self.after(1, 30, Happening::Arrive(proposal.clone()));
                self.after(1, 2_000, Happening::Arrive(proposal));
            }
            2 => self.after(100, 1_500, Happening::Arrive(proposal)),
            _ => self.after(1, 30, Happening::Arrive(proposal)),
        }
        self.after(150, 400, Happening::Retry(id, incarnation, seq));
    }

    fn retry(&mut self, id: NodeId, incarnation: Incarnation, seq: u64) {
        if self.node(id).is_alive(incarnation) {
            self.send(id, incarnation, seq);
        }
    }

    fn answer(
        &mut self,
        id: NodeId,
        incarnation: Incarnation,
        seq: u64,
        outcome: Outcome,
    ) -> Result<(), Found> {
        let node = self.node(id);
        if !node.is_alive(incarnation) {
            return Ok(());
        }
        let Some(proposal) = node.client.answered(seq) else { return Ok(()) };
        if outcome == Err(Refusal::OutcomeForgotten) {
            return Err(("an outcome still waited for is kept", format!("n{} {incarnation}/{seq}", id.0)));
        }
        node.announced |= matches!(proposal.command, Command::NodeStarted { .. }) && outcome.is_ok();
        let said = match &outcome {
            Ok(reply) => format!("{reply:?}"),
            Err(refusal) => format!("refused, {refusal}"),
        };
        self.trace
            .line(self.agenda.now_ms(), format_args!("n{} is answered {incarnation}/{seq}: {said}", id.0));
        self.workload.answered(id, &proposal.command, &outcome);
        self.history.acknowledged.insert(request(&proposal), outcome);
        Ok(())
    }

    // ---- what replicas do ----

    fn advance(&mut self, id: NodeId, incarnation: Incarnation) -> Result<(), Found> {
        if !self.node(id).is_alive(incarnation) {
            return Ok(());
        }
        for _ in 0..self.random.between(1, 12) {
            let position = self.node(id).replica.state.position + 1;
            let Some(entry) = self.history.entry(position).cloned() else { return Ok(()) };
            let applied = self.node(id).replica.apply(&entry)?;
            if self.office.leader() == Some(id) {
                self.answer_all(&entry.proposals, &applied.outcomes);
            }
            self.told(id, &applied);
            let replica = &self.nodes.get(&id).expect("it has just applied").replica;
            checks::same_everywhere(&mut self.history, replica, applied)?;
            if self.random.chance(25) {
                self.node(id).replica.save();
            }
        }
        self.after(1, 10, Happening::Advance(id, incarnation));
        Ok(())
    }

    fn told(&mut self, id: NodeId, applied: &tandem_state::Applied) {
        let Some(node) = self.nodes.get(&id).filter(|node| node.announced) else { return };
        let state = &node.replica.state;
        let (incarnation, steady_ms) = (node.incarnation, self.agenda.now_ms());
        let view = View { node: id, incarnation, steady_ms, now: state.time, state };
        for command in self.workload.applied(view, applied, &mut self.random) {
            self.propose(id, command);
        }
    }

    // ---- the end ----

    /// Nothing is waited for, and every replica has applied everything.
    fn settled(&self) -> Result<(), Found> {
        for node in self.nodes.values() {
            let waiting = node.client.waiting();
            if waiting > 0 || !node.announced {
                let what = format!("n{} still waits for {waiting}", node.id.0);
                return Err(("what is asked is answered once there is peace", what));
            }
            node.replica.check()?;
        }
        Ok(())
    }
}

/// What a node says of itself.
fn record(id: NodeId, incarnation: Incarnation) -> NodeRecord {
    NodeRecord {
        id,
        name: format!("n{}", id.0),
        site: "simulated".to_owned(),
        role: Role::Full,
        incarnation,
        epoch: tandem_state::NodeEpoch(1),
        cluster_address: format!("127.0.0.{}:7400", id.0),
        sip_advertise: format!("127.0.0.{}", id.0),
        api_url: format!("http://127.0.0.{}:8080", id.0),
        version: "0.1.0".to_owned(),
        apply_version: 1,
    }
}
