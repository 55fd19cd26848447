//! The loop: happenings in real time, seen by each node on its own clock. What nodes do besides keeping their leases is
//! their [`Work`].

mod checks;
mod faults;
mod work;

use std::collections::BTreeMap;

use tandem_state::lease::Standing;
use tandem_state::tables::NEWEST_APPLY_VERSION;
use tandem_state::{
    Applied, Batch, ClusterTime, Command, EventKind, Incarnation, LeaseEnd, NodeEpoch, NodeId, NodeRecord,
    Origin, Principal, Proposal, Role, State,
};

use super::node::Node;
use super::{Faults, Mutant, Options, Report};
use crate::agenda::Agenda;
use crate::office::Office;
use crate::world::Random;
pub(crate) use work::{Idle, Work};

/// Something that will happen.
pub(crate) enum Happening<H> {
    /// A node looks what is due; of several timers only the last that was set counts.
    Look(NodeId, Incarnation, u64),
    /// A proposal reaches a node, which may lead.
    Arrive(NodeId, Box<Proposal>),
    /// A node hears that its attempt was committed.
    Committed(NodeId, Incarnation, u64),
    /// A node hears that its attempt found no leader.
    Failed(NodeId, Incarnation, u64),
    /// The leader of a term commits what it gathered.
    Commit(u64),
    /// A replica applies what there is.
    Advance(NodeId),
    /// Somebody becomes leader.
    Elect(u64),
    /// A process starts again.
    Restart(NodeId),
    /// Says that it started until the log has it.
    Announce(NodeId, Incarnation),
    /// Chance strikes.
    Fault,
    /// Something of the nodes' work.
    Work(H),
}

/// Where a node's own commands are numbered from, apart from those of its work.
const OWN_SEQ: u64 = 1_000_000;

pub(crate) struct World<W: Work> {
    pub(crate) options: Options,
    pub(crate) random: Random,
    pub(crate) agenda: Agenda<Happening<W::Happening>>,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    pub(crate) work: W,
    office: Office,
    pub(crate) log: Vec<Batch>,
    /// What the first replica that got there made of each entry.
    pub(crate) made: Vec<Applied>,
    seq: u64,
    pub(crate) report: Report,
}

impl<W: Work> World<W> {
    pub(crate) fn new(seed: u64, options: Options, work: W) -> World<W> {
        let mut random = Random::new(seed);
        let count = if random.chance(750) { 3 } else { 5 };
        let log = vec![genesis(count, work.genesis())];
        let mut state = State::default();
        let made =
            log.iter().zip(1..).map(|(entry, position)| state.apply_unchecked(position, entry)).collect();
        let mut node = |number| {
            // Two of them differ by less than the bound.
            let (boot_ms, speed_ppm) = (random.between(0, 1_000_000), random.between(995_100, 1_004_900));
            (NodeId(number), Node::new(number, state.clone(), boot_ms, speed_ppm, options.mutant))
        };
        let nodes = (1..=count).map(&mut node).collect();
        World {
            options,
            random,
            agenda: Agenda::new(),
            nodes,
            work,
            office: Office::default(),
            log,
            made,
            seq: OWN_SEQ,
            report: Report::default(),
        }
    }

    pub(crate) fn run(mut self) -> Result<(Report, W), String> {
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for id in ids {
            self.after(0, 50, Happening::Restart(id));
            self.node(id).up = false;
        }
        self.after(50, 100, Happening::Elect(0));
        self.after(3_000, 4_000, Happening::Fault);
        W::begin(&mut self);
        while let Some(happening) = self.agenda.next(self.options.length_ms + W::PEACE_MS) {
            self.happen(happening)?;
            self.count_lapses();
        }
        self.settled()?;
        W::settled(&self)?;
        self.report.entries = self.log.len();
        Ok((self.report, self.work))
    }

    pub(crate) fn is_peace(&self) -> bool {
        self.agenda.now_ms() >= self.options.length_ms
    }

    pub(crate) fn after(&mut self, low: u64, high: u64, happening: Happening<W::Happening>) {
        let delay_ms = self.random.between(low, high);
        self.agenda.enter(delay_ms, happening);
    }

    pub(crate) fn node(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(&id).expect("only nodes of this world are named in it")
    }

    fn happen(&mut self, happening: Happening<W::Happening>) -> Result<(), String> {
        match happening {
            Happening::Look(id, incarnation, armed) => self.look(id, incarnation, armed),
            Happening::Arrive(id, proposal) => self.arrive(id, *proposal),
            Happening::Committed(id, incarnation, attempt) => self.committed(id, incarnation, attempt),
            Happening::Failed(id, incarnation, attempt) => self.failed(id, incarnation, attempt),
            Happening::Commit(term) => self.commit(term),
            Happening::Advance(id) => return self.advance(id),
            Happening::Elect(term) => self.elect(term),
            Happening::Restart(id) => self.restart(id),
            Happening::Work(work) => return W::happen(self, work),
            Happening::Announce(id, incarnation) => self.announce(id, incarnation),
            Happening::Fault => self.fault(),
        }
        Ok(())
    }

    // ---- nodes ----

    /// Sets a node's timer for now: what it was told may have brought something forward.
    fn wake(&mut self, id: NodeId, within_ms: u64) {
        let node = self.node(id);
        node.armed += 1;
        let look = Happening::Look(id, node.incarnation, node.armed);
        self.after(0, within_ms, look);
    }

    fn look(&mut self, id: NodeId, incarnation: Incarnation, armed: u64) {
        let now_ms = self.agenda.now_ms();
        let node = self.node(id);
        if !node.is_alive(incarnation) || node.armed != armed {
            return;
        }
        if node.paused_until_ms > now_ms {
            let (left, look) = (node.paused_until_ms - now_ms, Happening::Look(id, incarnation, armed));
            return self.after(left, left, look);
        }
        let (commands, wait_ms) = node.due(now_ms);
        let span = wait_ms.map_or(100, |wait_ms| node.real_span(wait_ms).min(100));
        for command in commands {
            self.send_own(id, command);
        }
        self.after(span, span + 5, Happening::Look(id, incarnation, armed));
    }

    /// One try, to whom this node takes for the leader.
    fn send_own(&mut self, id: NodeId, command: Command) {
        let proposal = self.proposal(id, command);
        self.send_proposal(proposal);
    }

    /// A proposal goes to the leader; it may be late, doubled or lost.
    pub(crate) fn send_proposal(&mut self, proposal: Proposal) {
        let (id, now_ms) = (proposal.origin.node, self.agenda.now_ms());
        if self.node(id).cut_until_ms > now_ms {
            return;
        }
        let Some(leader) = self.office.leader() else {
            if let Command::Renew { attempt, .. } = proposal.command {
                let failed = Happening::Failed(id, proposal.origin.incarnation, attempt);
                self.after(1, 5, failed);
            }
            return;
        };
        let calm = self.is_peace() || self.options.faults != Faults::All;
        let proposal = Box::new(proposal);
        match self.random.between(0, 19) {
            0 if !calm => {}
            1 if !calm => {
                self.after(1, 40, Happening::Arrive(leader, proposal.clone()));
                self.after(1, 4_000, Happening::Arrive(leader, proposal));
            }
            2..=4 if !calm => self.after(300, 4_000, Happening::Arrive(leader, proposal)),
            _ => self.after(1, 40, Happening::Arrive(leader, proposal)),
        }
    }

    fn proposal(&mut self, id: NodeId, command: Command) -> Proposal {
        self.seq += 1;
        let seq = if command.is_of_leases() { 0 } else { self.seq };
        let origin = Origin { node: id, incarnation: self.node(id).incarnation, seq, low_water: 0 };
        Proposal { origin, principal: Principal::Node(id), idempotency: None, command }
    }

    fn committed(&mut self, id: NodeId, incarnation: Incarnation, attempt: u64) {
        let now_ms = self.agenda.now_ms();
        let node = self.node(id);
        if node.is_alive(incarnation) && node.cut_until_ms <= now_ms {
            node.committed(attempt);
        }
    }

    fn failed(&mut self, id: NodeId, incarnation: Incarnation, attempt: u64) {
        let now_ms = self.agenda.now_ms();
        if self.node(id).is_alive(incarnation) {
            self.node(id).failed(now_ms, attempt);
            self.wake(id, 1);
        }
    }

    fn announce(&mut self, id: NodeId, incarnation: Incarnation) {
        let node = self.node(id);
        let known = node.state.nodes.get(&id).map(|record| record.incarnation);
        if !node.is_alive(incarnation) || known >= Some(incarnation) {
            return;
        }
        self.send_own(id, Command::NodeStarted { node: record(id, incarnation) });
        self.after(100, 300, Happening::Announce(id, incarnation));
    }

    fn restart(&mut self, id: NodeId) {
        let now_ms = self.agenda.now_ms();
        if self.node(id).up {
            return;
        }
        if self.random.chance(500) {
            let snapshot = self.node(id).state.encode_snapshot();
            self.node(id).state = State::decode_snapshot(&snapshot).expect("what was written is read");
        }
        self.node(id).restart(now_ms);
        let incarnation = self.node(id).incarnation;
        W::started(self, id);
        self.after(1, 50, Happening::Announce(id, incarnation));
        self.after(1, 20, Happening::Advance(id));
        self.wake(id, 5);
    }

    // ---- the log ----

    fn arrive(&mut self, at: NodeId, proposal: Proposal) {
        let now_ms = self.agenda.now_ms();
        let node = self.node(at);
        if node.up && node.paused_until_ms > now_ms {
            let left = node.paused_until_ms - now_ms;
            return self.after(left, left + 5, Happening::Arrive(at, Box::new(proposal)));
        }
        if self.office.leader() != Some(at) {
            let (origin, command) = (proposal.origin, proposal.command);
            if let Command::Renew { attempt, .. } = command {
                self.after(1, 40, Happening::Failed(origin.node, origin.incarnation, attempt));
            }
            return;
        }
        self.believed_before_sync(at, &proposal);
        if let Some(term) = self.office.gather(proposal) {
            let slow = self.random.chance(100);
            let most = if slow { 240 } else { 25 };
            self.after(1, most, Happening::Commit(term));
        }
    }

    /// [`Mutant::AcknowledgedBeforeSync`]: what the leader wrote down is applied there already, as far as it can tell.
    fn believed_before_sync(&mut self, leader: NodeId, proposal: &Proposal) {
        let now_ms = self.agenda.now_ms();
        let Command::Renew { node_epoch, attempt, .. } = proposal.command else { return };
        if self.options.mutant != Mutant::AcknowledgedBeforeSync || proposal.origin.node != leader {
            return;
        }
        let node = self.node(leader);
        let known = node.state.nodes.get(&leader).map(|record| (record.incarnation, record.epoch));
        if known == Some((node.incarnation, node_epoch)) {
            node.told(now_ms, Standing::Leased { epoch: node_epoch, stands: true, attempt });
        }
    }

    fn commit(&mut self, term: u64) {
        let Some(leader) = self.office.leader_of(term) else { return };
        let now_ms = self.agenda.now_ms();
        let up = self.nodes.values().filter(|node| node.is_heard(now_ms)).count();
        if up * 2 <= self.nodes.len() || !self.node(leader).is_heard(now_ms) {
            return self.after(50, 50, Happening::Commit(term));
        }
        let proposals = self.office.take();
        for proposal in &proposals {
            if let Command::Renew { attempt, .. } = proposal.command {
                let (node, incarnation) = (proposal.origin.node, proposal.origin.incarnation);
                self.after(1, 40, Happening::Committed(node, incarnation, attempt));
            }
        }
        self.log.push(Batch { stamp: ClusterTime(1_000_000 + now_ms), proposals });
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for id in ids {
            let most = if self.node(id).slow_until_ms > now_ms { 1_500 } else { 20 };
            self.after(1, most, Happening::Advance(id));
        }
    }

    fn advance(&mut self, id: NodeId) -> Result<(), String> {
        let now_ms = self.agenda.now_ms();
        let node = self.node(id);
        if !node.up {
            return Ok(());
        }
        if node.paused_until_ms > now_ms {
            let left = node.paused_until_ms - now_ms;
            self.after(left, left + 5, Happening::Advance(id));
            return Ok(());
        }
        let hindered_until_ms = node.cut_until_ms.max(node.full_until_ms);
        if hindered_until_ms > now_ms {
            let left = hindered_until_ms - now_ms;
            self.after(left, left + 100, Happening::Advance(id));
            return Ok(());
        }
        let at = usize::try_from(node.state.position).unwrap_or(usize::MAX);
        let Some(entry) = self.log.get(at).cloned() else { return Ok(()) };
        let node = self.nodes.get(&id).expect("it applies");
        let read = self.work.read(&node.state, &entry);
        let applied = self.node(id).apply(now_ms, &read);
        match self.made.get(at) {
            Some(made) if *made != applied => {
                return Err(format!("n{id} made something else of entry {at} than the first"));
            }
            Some(_) => {}
            None => {
                self.tally(&applied, &entry);
                self.made.push(applied.clone());
            }
        }
        self.no_two_brains(id)?;
        W::applied(self, id, &entry, &applied)?;
        self.wake(id, 1);
        self.after(0, 5, Happening::Advance(id));
        Ok(())
    }

    fn tally(&mut self, applied: &Applied, entry: &Batch) {
        let renewed = entry.proposals.iter().zip(&applied.outcomes);
        let renewed = renewed.filter(|(p, o)| matches!(p.command, Command::Renew { .. }) && o.is_ok());
        self.report.renewals += renewed.count();
        for event in &applied.events {
            if let EventKind::NodeDown(_, why) = &event.kind {
                self.report.downs += 1;
                self.report.expired += usize::from(*why == LeaseEnd::Expired);
            }
        }
    }

    fn elect(&mut self, term: u64) {
        let now_ms = self.agenda.now_ms();
        if !self.office.is_vacant(term) {
            return;
        }
        let awake = |node: &&Node| node.is_heard(now_ms);
        let up: Vec<NodeId> = self.nodes.values().filter(awake).map(|node| node.id).collect();
        if self.office.elect(&up, self.nodes.len(), &mut self.random).is_none() {
            return self.after(50, 200, Happening::Elect(term));
        }
        self.report.elections += 1;
        for id in up {
            self.node(id).leader_changed(now_ms);
            self.wake(id, 20);
        }
    }

    /// The leader loses its office, and with it what it had not committed.
    fn depose(&mut self) {
        if self.office.depose().is_none() {
            return;
        }
        let (low, high) = if self.options.faults == Faults::Elections { (20, 700) } else { (20, 1_500) };
        self.after(low, high, Happening::Elect(self.office.term()));
    }
}

/// All nodes have said that they can follow the rules of leases, and these are in force.
fn genesis(count: u64, more: Vec<Command>) -> Batch {
    let proposal = |node: u64, seq, command| {
        let origin = Origin { node: NodeId(node), incarnation: Incarnation(1), seq, low_water: 0 };
        Proposal { origin, principal: Principal::Node(NodeId(node)), idempotency: None, command }
    };
    let started = |node: u64| Command::NodeStarted { node: record(NodeId(node), Incarnation(1)) };
    let mut proposals: Vec<Proposal> = (1..=count).map(|node| proposal(node, 1, started(node))).collect();
    let raise = Command::RaiseApplyVersion { to: NEWEST_APPLY_VERSION };
    let then = std::iter::once(raise).chain(more).zip(2..);
    proposals.extend(then.map(|(command, seq)| proposal(1, seq, command)));
    Batch { stamp: ClusterTime(1_000_000), proposals }
}

fn record(id: NodeId, incarnation: Incarnation) -> NodeRecord {
    NodeRecord {
        id,
        name: format!("n{}", id.0),
        site: "simulated".to_owned(),
        role: Role::Full,
        incarnation,
        epoch: NodeEpoch(1),
        cluster_address: format!("127.0.0.{}:7400", id.0),
        sip_advertise: format!("127.0.0.{}", id.0),
        api_url: format!("http://127.0.0.{}:8080", id.0),
        version: "0.1.0".to_owned(),
        apply_version: NEWEST_APPLY_VERSION,
    }
}
