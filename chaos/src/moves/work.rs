//! The work of the nodes: calls. What happens to whom, and when.

use std::collections::BTreeMap;

use tandem_sip::message::Message;
use tandem_state::config::{ConfigChange, Limits, TenantConfig};
use tandem_state::{
    Applied, Batch, CallEpoch, CallId, Command, Event, Flow, Incarnation, NodeId, Outcome, State, Transport,
};
use tandem_switching::Now;
use tandem_switching::call::Input;

use super::phone::Phone;
use super::process::Process;
use super::wire::{Packet, Tell};
use super::witness::Witness;
use super::{Mutant, Report};
use crate::leases::{Happening, Work, World};

/// Calls, their phones, and who saw what.
pub(crate) struct Calls {
    pub(super) mutant: Mutant,
    pub(super) processes: BTreeMap<NodeId, Process>,
    pub(super) phones: Vec<Phone>,
    pub(super) witness: Witness,
    pub(super) report: Report,
    pub(super) calm: bool,
}

/// The world of calls.
pub(super) type Sim = World<Calls>;

/// Something of a call that will happen.
pub(crate) enum Happens {
    /// Two people want to talk.
    Dial,
    /// A phone's timer fires.
    Phone(usize, u64),
    /// A node's message reaches a phone.
    ToPhone(usize, NodeId, Message),
    /// Something happens to a node's process, which may be stopped or gone by then; `None`: whichever it is.
    Node(NodeId, Option<Incarnation>, Box<ToNode>),
    /// The media of calls is listened to.
    Listen,
    /// A node is no longer emptied.
    Undrain(NodeId),
}

/// What happens to a process.
pub(crate) enum ToNode {
    /// A phone's message came.
    Datagram(Flow, Message),
    /// Another node said something.
    Tell(Tell),
    /// The first message of a way leaves.
    Leave(Packet),
    /// A timer fires; of several only the last that was set counts.
    Timer(u64),
    /// It looks whether it was answered.
    Retry(u64),
    /// It gives up waiting.
    GiveUp(u64),
    /// It hears what the log said.
    Told(u64, Outcome),
    /// It follows what happened in the log.
    Follow(Vec<Event>),
    /// A call of it, had under this epoch, is told something.
    Input(CallId, CallEpoch, Input),
    /// It ends a call that has no machine.
    EndInLog(CallId),
    /// It hands its calls over, while it is emptied.
    HandOver,
    /// It is emptied, or no longer.
    Drain(bool),
}

impl Calls {
    pub(super) fn new(mutant: Mutant) -> Calls {
        Calls {
            mutant,
            processes: BTreeMap::new(),
            phones: Vec::new(),
            witness: Witness::default(),
            report: Report::default(),
            calm: false,
        }
    }
}

impl Work for Calls {
    type Happening = Happens;
    const PEACE_MS: u64 = 75_000;

    fn genesis(&self) -> Vec<Command> {
        let tenant = TenantConfig {
            name: "acme".to_owned(),
            domain: "acme.example".to_owned(),
            timezone: "UTC".to_owned(),
            currency: "GBP".to_owned(),
            limits: Limits { calls: None, calls_per_second: None, registrations: None },
            dial_rules: None,
        };
        vec![Command::Configure { changes: vec![ConfigChange::PutTenant(tenant)] }]
    }

    fn begin(world: &mut World<Self>) {
        world.happens(1_500, 2_500, Happens::Dial);
        world.happens(1_000, 1_000, Happens::Listen);
    }

    fn happen(world: &mut World<Self>, happening: Happens) -> Result<(), String> {
        world.keep_peace();
        match happening {
            Happens::Dial => world.dial(),
            Happens::Phone(nth, armed) => world.phone_wakes(nth, armed),
            Happens::ToPhone(nth, from, message) => return world.phone_hears(nth, from, &message),
            Happens::Node(id, incarnation, what) => return world.reach(id, incarnation, what),
            Happens::Listen => world.listen(),
            Happens::Undrain(id) => world.node_happens(0, 0, id, ToNode::Drain(false)),
        }
        Ok(())
    }

    fn read(&self, state: &State, entry: &Batch) -> Batch {
        self.mutant.read(state, entry)
    }

    fn applied(world: &mut World<Self>, id: NodeId, entry: &Batch, applied: &Applied) -> Result<(), String> {
        world.log_applied(id, entry, applied)
    }

    fn started(world: &mut World<Self>, id: NodeId) {
        let seed = world.random.number();
        world.work.processes.insert(id, Process::new(seed));
    }

    fn died(world: &mut World<Self>, id: NodeId) {
        world.work.processes.remove(&id);
    }

    fn fault(world: &mut World<Self>) -> bool {
        let ids: Vec<NodeId> = world.nodes.keys().copied().collect();
        let Some(id) = world.random.pick(&ids).copied() else { return false };
        let now_ms = world.agenda.now_ms();
        match world.random.between(0, 9) {
            0..=1 => {
                let until_ms = now_ms + world.random.between(500, 8_000);
                world.cut_off(id, until_ms);
            }
            2..=4 => {
                world.node_happens(0, 0, id, ToNode::Drain(true));
                world.happens(1_500, 6_000, Happens::Undrain(id));
            }
            // A power cut at all sites.
            5 if world.random.chance(250) => ids.into_iter().for_each(|id| world.crash(id)),
            _ => return false,
        }
        true
    }

    fn settled(world: &World<Self>) -> Result<(), String> {
        world.all_is_over()
    }
}

impl Sim {
    pub(super) fn happens(&mut self, low: u64, high: u64, happens: Happens) {
        self.after(low, high, Happening::Work(happens));
    }

    /// Something will happen to the process that runs now.
    pub(super) fn node_happens(&mut self, low: u64, high: u64, id: NodeId, what: ToNode) {
        let incarnation = self.node(id).incarnation;
        self.happens(low, high, Happens::Node(id, Some(incarnation), Box::new(what)));
    }

    pub(super) fn process(&mut self, id: NodeId) -> &mut Process {
        self.work.processes.get_mut(&id).expect("only of nodes that run")
    }

    pub(super) fn now(&self, id: NodeId) -> Now {
        let real_ms = self.agenda.now_ms();
        let steady_ms = self.nodes.get(&id).map_or(0, |node| node.clock(real_ms));
        Now { steady_ms, cluster: tandem_state::ClusterTime(1_000_000 + real_ms) }
    }

    pub(super) fn state(&self, id: NodeId) -> &State {
        &self.nodes.get(&id).expect("only nodes of this world are named in it").state
    }

    /// Whether the node's lease holds now.
    pub(super) fn holds(&self, id: NodeId) -> bool {
        let real_ms = self.agenda.now_ms();
        self.nodes.get(&id).is_some_and(|node| node.belief().holds(node.clock(real_ms)))
    }

    fn reach(&mut self, id: NodeId, of: Option<Incarnation>, what: Box<ToNode>) -> Result<(), String> {
        let now_ms = self.agenda.now_ms();
        let node = self.node(id);
        if !node.up || of.is_some_and(|incarnation| incarnation != node.incarnation) {
            return Ok(());
        }
        if node.paused_until_ms > now_ms {
            let left_ms = node.paused_until_ms - now_ms;
            self.happens(left_ms, left_ms, Happens::Node(id, of, what));
            return Ok(());
        }
        match *what {
            ToNode::Datagram(flow, message) => self.incoming(id, flow, message),
            ToNode::Tell(tell) => self.told_by_a_peer(id, tell),
            ToNode::Leave(packet) => return self.leaves(id, packet),
            ToNode::Timer(armed) => self.timer(id, armed),
            ToNode::Retry(seq) => self.retry(id, seq),
            ToNode::GiveUp(seq) => self.outcome(id, seq, None),
            ToNode::Told(seq, outcome) => self.outcome(id, seq, Some(outcome)),
            ToNode::Follow(events) => self.follow(id, &events),
            ToNode::Input(call, had, input) => self.input_of(id, call, had, input),
            ToNode::EndInLog(call) => self.end_in_log(id, call),
            ToNode::HandOver => self.hand_over(id),
            ToNode::Drain(on) => self.order_drain(id, on),
        }
        self.settle(id);
        Ok(())
    }
}

/// The way from a node to a phone.
pub(super) fn flow(node: NodeId, remote: std::net::SocketAddr) -> Flow {
    let last = u8::try_from(node.0).unwrap_or(0);
    Flow { node, transport: Transport::Udp, local: ([127, 0, 0, last], 5060).into(), remote, connection: 0 }
}
