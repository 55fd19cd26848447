//! Drives a call by lines of text, with the phones around it, and writes down what it puts out.

use std::collections::BTreeMap;

use tandem_sip::message::Message;
use tandem_sip::method::Method;
use tandem_sip::transaction::ServerKey;
use tandem_state::{
    CallDirection, CallEpoch, CallId, CallPhase, Cause, ClusterTime, Command, Flow, InteractionId,
    LegDirection, LegId, LegRecord, NodeEpoch, NodeId, Party, Quality, Refusal, Reply, TenantId, Transport,
};

use super::phone::{Phone, Words};
use super::show;
use crate::call::{
    Call, Input, Interrupted, Output, Proposal, Settings, Setup, SetupTarget, TakenLeg, Takeover, Way,
    branch_leg,
};
use crate::machine::{Machine, Now};
use crate::routing::Target;

/// A call under test with its surroundings.
pub(super) struct Bench {
    pub(super) call: Option<Call>,
    pub(super) phones: Vec<Phone>,
    keys: BTreeMap<ServerKey, String>,
    pub(super) now_ms: u64,
    over: bool,
    whole: bool,
    /// What was put out and is not shown yet.
    pub(super) outputs: Vec<Output>,
    /// Proposals without an outcome, in order.
    pub(super) proposed: Vec<Proposal>,
    pub(super) closing: bool,
    /// What the log has of the call.
    record: Option<Record>,
    /// The rules by which calls move are in force.
    keeps_invite: bool,
    /// Names of phones by legs that a lost node rang.
    former: BTreeMap<LegId, String>,
    settings: Settings,
    transport: Transport,
}

/// A call as the log has it, with its legs.
struct Record {
    call: tandem_state::Call,
    legs: BTreeMap<LegId, LegRecord>,
    invite: Option<Message>,
}

impl Bench {
    pub(super) fn new() -> Self {
        Bench {
            call: None,
            phones: Vec::new(),
            keys: BTreeMap::new(),
            now_ms: 0,
            over: false,
            whole: false,
            outputs: Vec::new(),
            proposed: Vec::new(),
            closing: false,
            record: None,
            keeps_invite: false,
            former: BTreeMap::new(),
            settings: Settings { product: "Tandem".into(), ..Settings::default() },
            transport: Transport::Udp,
        }
    }

    pub(super) fn now(&self) -> Now {
        Now { steady_ms: self.now_ms, cluster: ClusterTime(self.now_ms) }
    }

    /// Carries out one line of a transcript: `TIME what...`; timers that are due before it run first.
    pub(super) fn line(&mut self, line: &str) -> Vec<String> {
        let mut words = line.split_whitespace();
        let at: u64 = words.next().unwrap().parse().expect("a line begins with its time");
        let words: Vec<&str> = words.collect();
        let mut shown = self.run_timers(at);
        self.now_ms = at;
        self.act(&words, line);
        shown.extend(self.show_outputs());
        shown
    }

    fn act(&mut self, words: &[&str], line: &str) {
        match words {
            ["start", rest @ ..] => self.start(&owned(rest)),
            ["wait"] => {}
            ["log", what, outcome] => self.log(what, outcome),
            ["media", "silent"] => self.input(Input::MediaSilent),
            ["media", "figures"] => self.input(Input::MediaFigures(Quality::default())),
            ["lost"] => self.input(Input::Lost),
            ["leased", "anew"] => self.input(Input::Leased { epoch: NodeEpoch(2) }),
            ["caller", "gone"] => self.input(Input::CallerGone),
            ["move"] => self.input(Input::Move { to: NodeId(2) }),
            ["moved", how] => self.moved(*how == "proven"),
            [name, "is", "back"] => self.is_back(name),
            [name, "loses", "its", "flow"] => self.loses_flow(name),
            ["hangup", cause] => self.input(Input::HangUp(cause_of(cause))),
            [name, "silent", method, rest @ ..] => self.silent(name, method, &owned(rest)),
            [name, ">", what, rest @ ..] => self.phone_says(name, what, &owned(rest)),
            _ => panic!("no such line: {line}"),
        }
    }

    /// `start targets=102a,102b` with `sdp`, `whole` (all headers are shown), `tcp`, `ring=MS` and `talk=MS`.
    pub(super) fn start(&mut self, words: &Words) {
        assert!(self.try_start(words), "the INVITE makes a dialog");
    }

    /// False when the INVITE makes no call.
    pub(super) fn try_start(&mut self, words: &Words) -> bool {
        self.whole = words.has("whole");
        self.keeps_invite = words.has("moves");
        let names: Vec<&str> = words.value("targets").unwrap_or("102a").split(',').collect();
        self.phones = vec![Phone::new("101", LegId(0xa), 1, true)];
        for (name, number) in names.iter().filter(|n| !n.is_empty()).zip(2..) {
            self.phones.push(Phone::new(name, LegId(0xb0 + u128::from(number) - 2), number, false));
        }
        let Some(invite) = self.phones[0].try_request("INVITE", words) else { return false };
        let key = ServerKey::of(&invite);
        self.keys.insert(key.clone(), "101".into());
        let ms = |name: &str, usual: u64| words.value(name).map_or(usual, |ms| ms.parse().unwrap());
        self.settings.ring_ms = ms("ring", 60_000);
        self.settings.talk_max_ms = ms("talk", self.settings.talk_max_ms);
        if words.has("tcp") {
            self.transport = Transport::Tcp;
        }
        let flows = words.value("flows").map_or(1, |count| count.parse().unwrap());
        let unsayable = words.value("unsayable").map(|nth| nth.parse().unwrap());
        let mut setup = self.setup(invite, key, flows);
        for (next, nth) in setup.targets.iter_mut().flat_map(|one| one.target.next.iter_mut().zip(2u16..)) {
            if Some(nth) == unsayable {
                next.path = vec!["<sip:edge.example;lr>\r\nX: 1".into()];
            }
        }
        self.call = Call::new(self.now(), setup).ok();
        self.collect();
        self.call.is_some()
    }

    fn setup(&self, invite: Message, key: ServerKey, flows: u16) -> Setup {
        let party = |number: &str, name: &str| Party { number: number.into(), name: name.into() };
        let targets = self.phones.iter().skip(1).zip(1u16..);
        let target = |(phone, index): (&Phone, u16)| SetupTarget {
            leg: phone.leg,
            media: ([198, 51, 100, 1], 40_000 + 2 * index).into(),
            target: Target {
                contact: phone.contact(),
                path: Vec::new(),
                flow: self.flow(phone),
                sent_by: "198.51.100.1:5060".into(),
                next: self.next_flows(phone, flows),
            },
        };
        Setup {
            id: CallId(1),
            interaction: InteractionId(1),
            tenant: TenantId(1),
            domain: "acme.example".into(),
            node: NodeId(1),
            node_epoch: NodeEpoch(1),
            direction: CallDirection::Internal,
            from: party("101", "Ann"),
            to: party("102", "Bob"),
            invite,
            key,
            flow: self.flow(&self.phones[0]),
            sent_by: "198.51.100.1:5060".into(),
            leg: LegId(0xa),
            media: ([198, 51, 100, 1], 40_000).into(),
            targets: targets.map(target).collect(),
            settings: self.settings.clone(),
            keeps_invite: self.keeps_invite,
        }
    }

    /// The call's node is lost, and the next one goes on with the call from what the log has.
    fn moved(&mut self, is_proven: bool) {
        if self.record.as_ref().is_some_and(|record| record.call.bridge.is_empty()) {
            return self.moved_while_it_rang();
        }
        let Some(Record { call, legs, invite }) = &mut self.record else { return };
        let invite = invite.clone();
        (call.epoch, call.owner) = (CallEpoch(call.epoch.0 + 1), NodeId(call.owner.0 + 1));
        let node = call.owner;
        let host = format!("198.51.100.{node}", node = node.0);
        let legs =
            call.bridge.keys().filter_map(|leg| legs.get(leg)).zip(0..).map(|(record, nth)| TakenLeg {
                record: record.clone(),
                media: format!("{host}:{}", 40_000 + 2 * nth).parse().unwrap(),
                ways: vec![way(node, &record.flow)],
            });
        let (legs, settings) = (legs.collect(), self.settings.clone());
        let takeover = Takeover {
            call: call.clone(),
            legs,
            node,
            node_epoch: NodeEpoch(1),
            is_proven,
            settings,
            invite,
        };
        self.proposed.clear();
        self.call = Call::take_over(self.now(), takeover);
        self.collect();
    }

    /// The next node rings anew. Each phone has another leg there.
    fn moved_while_it_rang(&mut self) {
        let Some(Record { call, legs, invite: Some(invite) }) = &mut self.record else { return };
        (call.epoch, call.owner) = (CallEpoch(call.epoch.0 + 1), NodeId(call.owner.0 + 1));
        let (call, invite, node) = (call.clone(), invite.clone(), call.owner);
        let rang = legs.values().filter(|leg| leg.direction == LegDirection::Out);
        let rang = rang.map(|leg| (leg.clone(), way(node, &leg.flow))).collect();
        for phone in self.phones.iter_mut().skip(1) {
            self.former.insert(phone.leg, phone.name.clone());
            phone.rung_anew(LegId(phone.leg.0 + 0x10));
        }
        let setup = self.setup(invite.clone(), ServerKey::of(&invite), 1);
        let lost = Interrupted { call, rang, is_caller_lost: false };
        self.proposed.clear();
        self.call = Call::dial_again(self.now(), setup, lost).ok();
        self.collect();
    }

    /// A phone registers at the call's node.
    fn is_back(&mut self, name: &str) {
        let phone = &self.phones[self.phone_at(name)];
        let (leg, way) = (phone.leg, way(NodeId(9), &self.flow(phone)));
        self.input(Input::Reachable { leg, way });
    }

    fn loses_flow(&mut self, name: &str) {
        let phone = &self.phones[self.phone_at(name)];
        let (leg, ways) = (phone.leg, vec![way(NodeId(7), &self.flow(phone))]);
        self.input(Input::FlowLost { leg, ways });
    }

    pub(super) fn input(&mut self, input: Input) {
        let now = self.now();
        let Some(call) = &mut self.call else { return };
        call.handle_input(now, input);
        self.collect();
    }

    pub(super) fn log(&mut self, what: &str, outcome: &str) {
        let what = match what {
            "create" => Proposal::Create,
            "note" => Proposal::Note,
            "shape" => Proposal::Shape,
            "answer" => Proposal::Answer,
            "exchange" => Proposal::Exchange,
            "move" => Proposal::Move,
            "end" => Proposal::End,
            other => panic!("no such proposal: {other}"),
        };
        let outcome = match outcome {
            "ok" => Some(Ok(Reply::Done)),
            "unknown" => None,
            "limit" => Some(Err(Refusal::LimitReached { name: "calls".into(), limit: 1 })),
            "nocall" => Some(Err(Refusal::NoCall)),
            "exists" => Some(Err(Refusal::Exists("call 1".into()))),
            "lapsed" => Some(Err(Refusal::StaleNodeEpoch { current: NodeEpoch(2) })),
            "fenced" => Some(Err(Refusal::NoLease { epoch: NodeEpoch(2) })),
            "stale" => Some(Err(Refusal::StaleCallEpoch { owner: NodeId(2), epoch: CallEpoch(2) })),
            other => panic!("no such outcome: {other}"),
        };
        self.proposed.retain(|proposal| *proposal != what);
        self.input(Input::Proposed { what, outcome });
    }

    fn phone_at(&self, name: &str) -> usize {
        self.phones.iter().position(|phone| phone.name == name).expect("a phone of this call")
    }

    /// A request of the switch to this phone stays without a final response.
    pub(super) fn silent(&mut self, name: &str, method: &str, words: &Words) {
        let phone = &self.phones[self.phone_at(name)];
        let cseq = words.value("cseq").map_or(0, |cseq| cseq.parse().unwrap());
        let cseq =
            if cseq == 0 { phone.response(200, &of(method)).map_or(0, |m| m.cseq().number) } else { cseq };
        let leg = phone.leg;
        self.input(Input::Unanswered { leg, method: Method::parse(method), cseq });
    }

    fn phone_says(&mut self, name: &str, what: &str, words: &Words) {
        let at = self.phone_at(name);
        if let Ok(status) = what.parse() {
            let leg = self.phones[at].leg;
            let message = self.phones[at].response(status, words).expect("a response that is one");
            return self.input(Input::Response { leg, message });
        }
        assert!(self.try_phone_says(name, what, words), "a request that is one");
    }

    /// A request of a phone; false when it is none.
    pub(super) fn try_phone_says(&mut self, name: &str, method: &str, words: &Words) -> bool {
        let at = self.phone_at(name);
        let leg = self.phones[at].leg;
        if method == "CANCEL" {
            self.input(Input::Cancelled);
            return true;
        }
        let Some(message) = self.phones[at].try_request(method, words) else { return false };
        if method == "ACK" && !words.has("transaction") {
            self.input(Input::Acknowledged { leg, message });
            return true;
        }
        let (key, flow) = (ServerKey::of(&message), self.flow(&self.phones[at]));
        self.knows_key(&key, name);
        self.input(Input::Request { leg, key, message, flow });
        true
    }

    pub(super) fn request_of(&mut self, name: &str, method: &str, words: &Words) -> Message {
        let at = self.phone_at(name);
        self.phones[at].try_request(method, words).expect("a request that is one")
    }

    pub(super) fn knows_key(&mut self, key: &ServerKey, name: &str) {
        self.keys.insert(key.clone(), name.to_owned());
    }

    pub(super) fn flow(&self, phone: &Phone) -> Flow {
        Flow {
            node: NodeId(1),
            transport: self.transport,
            local: "198.51.100.1:5060".parse().unwrap(),
            remote: phone.address().parse().unwrap(),
            connection: u64::from(self.transport != Transport::Udp),
        }
    }

    /// Further flows of a phone, by other nodes.
    fn next_flows(&self, phone: &Phone, flows: u16) -> Vec<Target> {
        let next = (2..=flows).map(|nth| Target {
            contact: phone.contact(),
            path: vec![format!("<sip:edge{nth}.example;lr>")],
            flow: Flow { node: NodeId(nth.into()), ..self.flow(phone) },
            sent_by: format!("198.51.100.{nth}:5060"),
            next: Vec::new(),
        });
        next.collect()
    }

    // ---- outputs ----

    /// Takes the outputs, and lets the phones hear them.
    fn collect(&mut self) {
        let Some(call) = &mut self.call else { return };
        while let Some(output) = call.poll_output() {
            match &output {
                Output::Respond { key, message } => {
                    let name = self.keys.get(key).expect("only what was asked is answered");
                    self.phones.iter_mut().filter(|p| p.name == *name).for_each(|p| p.hears(message));
                }
                Output::Request { message, .. } | Output::Send { message, .. } => {
                    let leg = branch_leg(message.via_top().branch.unwrap()).expect("branches name their leg");
                    let name = self.former.get(&leg).cloned().unwrap_or_default();
                    let of_leg = |p: &&mut Phone| p.leg == leg || p.name == name;
                    self.phones.iter_mut().filter(of_leg).for_each(|p| p.hears(message));
                }
                Output::Propose { what, command } => {
                    self.proposed.push(*what);
                    keep(&mut self.record, command);
                }
                Output::CloseMedia => self.closing = true,
                Output::Adopt { invite, .. } => drop(self.keys.insert(ServerKey::of(invite), "101".into())),
                Output::LeaveMedia | Output::Abandon | Output::PassOn { .. } | Output::PassOnHangUp(_) => {}
                Output::SetMedia(_) | Output::Listen(_) | Output::Forget(_) => {}
            }
            self.outputs.push(output);
        }
    }

    fn show_outputs(&mut self) -> Vec<String> {
        let mut shown: Vec<String> = Vec::new();
        for output in std::mem::take(&mut self.outputs) {
            shown.extend(self.show(&output));
        }
        if !self.over && self.call.as_ref().is_some_and(Machine::is_finished) {
            self.over = true;
            shown.push("over".into());
        }
        let named = |line: String| {
            self.phones.iter().fold(line, |l, p| l.replace(&p.leg.to_string(), &format!("<{}>", p.name)))
        };
        shown.into_iter().map(named).collect()
    }

    fn show(&self, output: &Output) -> Vec<String> {
        let sent = |name: &str, arrow: &str, message: &Message| {
            let mut lines = show::message(message, self.whole);
            lines[0] = format!("{name} {arrow} {}", lines[0]);
            lines
        };
        match output {
            Output::Respond { key, message } => sent(&self.keys[key], "<", message),
            Output::Request { message, .. } => sent(&self.name_of(message), "<", message),
            Output::Send { message, .. } => sent(&self.name_of(message), "<", message),
            Output::Propose { what, command } => {
                vec![format!("propose {what:?}: {}", show::command(command))]
            }
            Output::SetMedia(plan) => vec![show::plan(plan)],
            Output::CloseMedia => vec!["close media".into()],
            Output::Adopt { .. } => vec!["adopt the INVITE".into()],
            Output::LeaveMedia => vec!["leave media".into()],
            Output::Abandon => vec!["abandon".into()],
            Output::PassOnHangUp(cause) => vec![format!("pass on the hang-up: {cause:?}")],
            Output::PassOn { requests } => requests
                .iter()
                .map(|(_, message, _)| format!("pass on {}", message.method().as_str()))
                .collect(),
            Output::Listen(leg) => vec![format!("listen {leg}")],
            Output::Forget(leg) => vec![format!("forget {leg}")],
        }
    }

    fn name_of(&self, message: &Message) -> String {
        let leg = branch_leg(message.via_top().branch.unwrap()).unwrap();
        let former = self.former.get(&leg).cloned();
        former.or_else(|| self.phones.iter().find(|p| p.leg == leg).map(|p| p.name.clone())).unwrap()
    }

    // ---- time ----

    /// Lets everything happen that is due before `at`.
    pub(super) fn run_timers(&mut self, at: u64) -> Vec<String> {
        let mut shown = Vec::new();
        while let Some(due) = self.call.as_ref().and_then(Machine::poll_timeout).filter(|due| *due < at) {
            self.now_ms = due.max(self.now_ms);
            self.timeout();
            let outputs = self.show_outputs();
            if !outputs.is_empty() {
                shown.push(format!("at {}", self.now_ms));
                shown.extend(outputs);
            }
        }
        shown
    }

    pub(super) fn timeout(&mut self) {
        let now = self.now();
        if let Some(call) = &mut self.call {
            call.handle_timeout(now);
        }
        self.collect();
    }
}

/// Does to the record what the log would.
fn keep(record: &mut Option<Record>, command: &Command) {
    let change = match command {
        Command::CreateCall { call: new, .. } | Command::CreateCallFrom { call: new, .. } => {
            let call = tandem_state::Call {
                id: new.id,
                interaction: new.interaction,
                tenant: new.tenant,
                owner: new.owner,
                epoch: CallEpoch(1),
                direction: new.direction,
                from: new.from.clone(),
                to: new.to.clone(),
                start: new.start,
                answer: None,
                phase: CallPhase::Trying,
                program: new.program.clone(),
                legs: Default::default(),
                bridge: Default::default(),
                attempts: Default::default(),
            };
            let invite = match command {
                Command::CreateCallFrom { invite, .. } => Message::parse(invite.bytes().to_vec().into()).ok(),
                _ => None,
            };
            *record = Some(Record { call, legs: BTreeMap::new(), invite });
            &new.change
        }
        Command::Checkpoint { change, .. } | Command::MoveCall { change, .. } => change,
        _ => return,
    };
    let Some(Record { call, legs, .. }) = record else { return };
    legs.retain(|id, _| !change.legs_gone.contains(id));
    legs.extend(change.legs.iter().map(|leg| (leg.id, leg.clone())));
    call.attempts.extend(change.attempts.iter().map(|attempt| (attempt.number, attempt.clone())));
    call.bridge = change.bridge.clone().unwrap_or_else(|| call.bridge.clone());
    call.answer = call.attempts.values().find_map(|attempt| attempt.answer);
}

pub(super) fn owned(words: &[&str]) -> Words {
    Words(words.iter().map(|word| (*word).to_owned()).collect())
}

fn of(method: &str) -> Words {
    Words(vec![format!("of={method}")])
}

fn way(node: NodeId, old: &Flow) -> Way {
    let sent_by = format!("198.51.100.{}:5060", node.0);
    Way { flow: Flow { node, local: sent_by.parse().unwrap(), ..old.clone() }, sent_by }
}

fn cause_of(name: &str) -> Cause {
    match name {
        "admin" => Cause::AdminHangup,
        "shutdown" => Cause::NodeShutdown,
        "normal" => Cause::NormalClearing,
        other => panic!("no such cause: {other}"),
    }
}
