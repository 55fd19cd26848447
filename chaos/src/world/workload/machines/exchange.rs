//! One call with its phones and what is on the way between them.

use std::collections::BTreeMap;

use tandem_sip::message::Message;
use tandem_sip::method::Method;
use tandem_sip::transaction::ServerKey;
use tandem_state::*;
use tandem_switching::call::{Call, Input, Output, Settings, Setup, SetupTarget, branch_leg};
use tandem_switching::routing::Route;
use tandem_switching::{Machine, Now};

use super::kind_of;
use super::phone::{Next, Phone, delay};
use crate::world::random::Random;

/// Something on its way.
#[derive(Debug, Clone)]
enum Event {
    ToPhone(LegId, Message),
    ToCall(Box<Input>),
    Wake(LegId),
}

/// A call and its surroundings.
#[derive(Debug)]
pub(super) struct Exchange {
    machine: Call,
    phones: BTreeMap<LegId, Phone>,
    asked: BTreeMap<ServerKey, LegId>,
    on_the_way: BTreeMap<(u64, u64), Event>,
    sent: u64,
    flow: Flow,
    /// A 200 to the caller's INVITE went out.
    answered_by_switch: bool,
    pub(super) proposals: Vec<Command>,
}

impl Exchange {
    pub(super) fn begin(
        id: CallId,
        node: NodeId,
        from: Party,
        route: Route,
        now: Now,
        random: &mut Random,
    ) -> Option<Self> {
        let mut caller = Phone::caller(LegId(random.id()), &from.number);
        let invite = caller.first_invite()?;
        let (key, flow) = (ServerKey::of(&invite), flow(node));
        let targets: Vec<SetupTarget> =
            route.targets.into_iter().map(|target| drawn(target, random)).collect();
        let callees = targets.iter().map(|target| Phone::callee(target.leg, &route.to.number));
        let phones: Vec<Phone> = std::iter::once(caller.clone()).chain(callees).collect();
        let setup = Setup {
            id,
            interaction: InteractionId(id.0),
            tenant: TenantId(1),
            domain: "acme.example".to_owned(),
            node,
            node_epoch: NodeEpoch(1),
            direction: route.direction,
            from,
            to: route.to,
            invite,
            key: key.clone(),
            flow: flow.clone(),
            sent_by: "127.0.0.1:5060".to_owned(),
            leg: caller.leg,
            media: ([127, 0, 0, 1], 40_000).into(),
            targets,
            settings: Settings { ring_ms: 1_500, talk_max_ms: 3_000, product: "Tandem".to_owned() },
            keeps_invite: false,
        };
        let machine = Call::new(now, setup).ok()?;
        let mut exchange = Exchange {
            machine,
            phones: phones.into_iter().map(|phone| (phone.leg, phone)).collect(),
            asked: [(key, caller.leg)].into(),
            on_the_way: BTreeMap::new(),
            sent: 0,
            flow,
            answered_by_switch: false,
            proposals: Vec::new(),
        };
        exchange.draw_fate(now, random);
        exchange.carry_out(now, random);
        Some(exchange)
    }

    /// Some callers give up, and now and then an administrator or silence ends a call.
    fn draw_fate(&mut self, now: Now, random: &mut Random) {
        let at = now.steady_ms + random.between(50, 1_500);
        let input = match random.between(0, 19) {
            0..=2 => Input::Cancelled,
            3 => Input::HangUp(Cause::AdminHangup),
            4 => Input::MediaSilent,
            _ => return,
        };
        self.put(at, Event::ToCall(Box::new(input)));
    }

    pub(super) fn is_over(&self) -> bool {
        self.machine.is_finished() && self.proposals.is_empty()
    }

    /// The caller was told 200.
    pub(super) fn caller_was_answered(&self) -> bool {
        self.answered_by_switch
    }

    fn put(&mut self, at: u64, event: Event) {
        self.sent += 1;
        self.on_the_way.insert((at, self.sent), event);
    }

    /// The log answered; of an end the node sometimes does not hear, and asks again.
    pub(super) fn answered(&mut self, now: Now, command: &Command, outcome: Outcome, random: &mut Random) {
        let unheard = matches!(command, Command::EndCall { .. }) && random.chance(200);
        let outcome = (!unheard).then_some(outcome);
        self.machine.handle_input(now, Input::Proposed { what: kind_of(command), outcome });
        self.carry_out(now, random);
    }

    /// Lets everything happen that is due.
    pub(super) fn run(&mut self, now: Now, random: &mut Random) {
        while let Some(entry) = self.on_the_way.first_entry() {
            let at = entry.key().0;
            if at > now.steady_ms {
                break;
            }
            match entry.remove() {
                Event::ToCall(input) => self.machine.handle_input(now, *input),
                Event::ToPhone(leg, message) => {
                    self.phone(leg, at, random, |phone, r| phone.hears(&message, r))
                }
                Event::Wake(leg) => self.phone(leg, at, random, Phone::wakes),
            }
            self.carry_out(now, random);
        }
        if self.machine.poll_timeout().is_some_and(|due| due <= now.steady_ms) {
            self.machine.handle_timeout(now);
            self.carry_out(now, random);
        }
    }

    fn phone(
        &mut self,
        leg: LegId,
        at: u64,
        random: &mut Random,
        act: impl FnOnce(&mut Phone, &mut Random) -> Vec<Next>,
    ) {
        let Some(phone) = self.phones.get_mut(&leg) else { return };
        let acts = act(phone, random);
        let cseq = phone.rung_cseq();
        for next in acts {
            let (wait, event) = match next {
                Next::Respond(wait, message) => (wait, to_call(Input::Response { leg, message })),
                Next::Acknowledge(wait, message) => (wait, to_call(Input::Acknowledged { leg, message })),
                Next::Ask(wait, message) => (wait, self.request(leg, message)),
                Next::Wake(wait) => (wait, Event::Wake(leg)),
                Next::Silent(wait) => {
                    (wait, to_call(Input::Unanswered { leg, method: Method::Invite, cseq }))
                }
            };
            self.put(at + wait, event);
        }
    }

    fn request(&mut self, leg: LegId, message: Message) -> Event {
        let (key, flow) = (ServerKey::of(&message), self.flow.clone());
        self.asked.insert(key.clone(), leg);
        to_call(Input::Request { leg, key, message, flow })
    }

    fn carry_out(&mut self, now: Now, random: &mut Random) {
        while let Some(output) = self.machine.poll_output() {
            let at = now.steady_ms + delay(random);
            match output {
                Output::Respond { key, message } => {
                    let Some(leg) = self.asked.get(&key).copied() else { continue };
                    let first = message.cseq().number == 1 && *message.method() == Method::Invite;
                    let agreed = message.status().is_some_and(|status| (200..300).contains(&status));
                    let is_caller = self.machine.leg_ids().next() == Some(leg);
                    self.answered_by_switch |= first && agreed && is_caller;
                    if !(agreed && *message.method() == Method::Invite && random.chance(100)) {
                        self.put(at, Event::ToPhone(leg, message));
                    }
                }
                Output::Request { message, .. } | Output::Send { message, .. } => {
                    let leg = message.via_top().branch.and_then(branch_leg);
                    let lost = *message.method() == Method::Ack && random.chance(100);
                    if let Some(leg) = leg.filter(|_| !lost) {
                        self.put(at, Event::ToPhone(leg, message));
                    }
                }
                Output::Propose { command, .. } => self.proposals.push(*command),
                Output::CloseMedia => {
                    if random.chance(900) {
                        self.put(at, to_call(Input::MediaFigures(Quality::default())));
                    }
                }
                // No call comes from another node here.
                Output::Adopt { .. }
                | Output::Abandon
                | Output::LeaveMedia
                | Output::PassOn { .. }
                | Output::PassOnHangUp(_) => {}
                Output::SetMedia(_) | Output::Listen(_) | Output::Forget(_) => {}
            }
        }
    }
}

fn to_call(input: Input) -> Event {
    Event::ToCall(Box::new(input))
}

fn drawn(target: tandem_switching::routing::Target, random: &mut Random) -> SetupTarget {
    SetupTarget { leg: LegId(random.id()), media: ([127, 0, 0, 1], 40_002).into(), target }
}

pub(super) fn flow(node: NodeId) -> Flow {
    Flow {
        node,
        transport: Transport::Udp,
        local: ([127, 0, 0, 1], 5060).into(),
        remote: ([192, 0, 2, 1], 5060).into(),
        connection: 0,
    }
}
