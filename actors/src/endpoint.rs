//! The endpoint: owns the transaction table; everything that SIP says enters and leaves here.
//!
//! Supervised by `Node`. When it dies, open transactions are lost (phones retransmit, calls hear of no answer in
//! time) and nothing else: calls, registrations and media live elsewhere.
//!
//! A packet's way: transport -> [`Order::Incoming`] -> scan -> owner of its call (another node's messages leave here
//! whole) -> transaction -> in-dialog requests to their call, new ones to [`crate::invite`] or [`crate::register`].

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tandem_sip::build::ResponseBuilder;
use tandem_sip::digest::{NonceKey, UsedNonces};
use tandem_sip::header::Header;
use tandem_sip::message::Message;
use tandem_sip::method::Method;
use tandem_sip::transaction::{ClientKey, Gone, Key, Limits, Output, Peer, ServerKey, Table, Timers};
use tandem_state::{CallId, Flow, LegId, NodeEpoch, NodeId, Transport};
use tandem_switching::admission::{CallRates, Nonces, USED_NONCES_MAX};
use tandem_switching::authority::owner_of;
use tandem_switching::call::named_leg;
use tandem_switching::{call, qualify, registration};
use tokio::task::JoinHandle;

use crate::answers::{build, build_tagged};
use crate::malformed::{self, Answers};
use crate::registrations::is_connection;
use crate::shared::Shared;
use crate::wire::{Tell, encode};

/// Messages that wait for the endpoint at most; more are dropped like packets on a full link.
pub(crate) const WAITING_MAX: u64 = 20_000;

/// What the endpoint is told.
pub(crate) enum Order {
    /// A message came.
    Incoming {
        /// By this flow.
        flow: Flow,
        /// The whole of it.
        bytes: Bytes,
    },
    /// A connection of this node closed.
    Closed {
        /// Which.
        flow: Flow,
    },
    /// Another node lost a flow.
    FlowLost {
        /// Which.
        flow: Flow,
    },
    /// Answer a server transaction.
    Respond {
        /// Which.
        key: ServerKey,
        /// With what.
        message: Message,
        /// Of a call that this node has under this lease; `None` for what is no call's.
        under: Option<NodeEpoch>,
    },
    /// Open a client transaction.
    Request {
        /// The request.
        message: Message,
        /// By which way.
        flow: Flow,
        /// Of a call that this node has under this lease.
        under: NodeEpoch,
    },
    /// A call was handed over while these requests in its dialogs waited: its new owner answers them.
    PassOn {
        /// Each with its server transaction here.
        requests: Vec<(ServerKey, Message, Flow)>,
    },
    /// A call that came to this node has a caller whose INVITE another node took: its transaction goes on here.
    Adopt {
        /// Whose.
        call: CallId,
        /// As it came.
        invite: Message,
        /// The way to its sender.
        flow: Flow,
        /// The lease under which this node has the call.
        under: NodeEpoch,
    },
    /// These calls are no longer this node's: nothing more is asked for them, and who asked for them is not answered.
    Abandon(Abandoned),
    /// The armed timer fired.
    Timer,
}

/// What the transactions of calls that are no longer this node's are found by.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Abandoned {
    /// Themselves.
    pub(crate) calls: BTreeSet<CallId>,
    /// All their legs.
    pub(crate) legs: BTreeSet<LegId>,
    /// Requests in their dialogs that no machine has taken. A copy of one is a new request.
    pub(crate) requests: Vec<ServerKey>,
}

/// See the module.
pub(crate) struct Endpoint;

/// A flow as the transaction table's peer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct FlowPeer(pub(crate) Flow);

impl Peer for FlowPeer {
    fn is_reliable(&self) -> bool {
        self.0.transport != Transport::Udp
    }
}

/// What the endpoint holds.
pub(crate) struct Serving {
    pub(crate) shared: Arc<Shared>,
    pub(crate) table: Table<FlowPeer>,
    pub(crate) rates: CallRates,
    /// INVITE transactions that a CANCEL may name, with their calls.
    pub(crate) invites: HashMap<ServerKey, CallId>,
    malformed: Answers,
    used_nonces: UsedNonces,
    /// Of the lease that the transactions of calls belong to.
    epoch: Option<NodeEpoch>,
    /// BYEs that were answered without a lease.
    byes: Vec<(Flow, Message)>,
    timer: Option<(u64, JoinHandle<()>)>,
}

impl Actor for Endpoint {
    type Msg = Order;
    type State = Serving;
    type Arguments = Arc<Shared>;

    async fn pre_start(
        &self,
        myself: ActorRef<Order>,
        shared: Arc<Shared>,
    ) -> Result<Serving, ActorProcessingErr> {
        shared.set_endpoint(myself);
        shared.endpoint_depth.store(0, Ordering::Relaxed);
        let table = Table::new(Limits::default(), Timers::default(), shared.ids.seed());
        let (rates, invites, malformed) = (CallRates::default(), HashMap::new(), Answers::default());
        // What a predecessor took is not known: older nonces are asked anew.
        let used_nonces = UsedNonces::since(shared.now().cluster.0, USED_NONCES_MAX);
        let (epoch, byes, timer) = (None, Vec::new(), None);
        Ok(Serving { shared, table, rates, invites, malformed, used_nonces, epoch, byes, timer })
    }

    async fn handle(
        &self,
        myself: ActorRef<Order>,
        order: Order,
        serving: &mut Serving,
    ) -> Result<(), ActorProcessingErr> {
        serving.obey(order);
        serving.drain();
        serving.arm(&myself);
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Order>, serving: &mut Serving) -> Result<(), ActorProcessingErr> {
        if let Some((_, timer)) = serving.timer.take() {
            timer.abort();
        }
        Ok(())
    }
}

impl Serving {
    fn obey(&mut self, order: Order) {
        let now_ms = self.shared.now().steady_ms;
        self.follow_lease();
        match order {
            Order::Incoming { flow, bytes } => {
                self.shared.endpoint_depth.fetch_sub(1, Ordering::Relaxed);
                self.incoming(now_ms, flow, bytes);
            }
            Order::Closed { flow } => self.closed(now_ms, &flow),
            Order::FlowLost { flow } => self.table.transport_error(now_ms, &FlowPeer(flow)),
            Order::Respond { key, message, under } => {
                if under.is_none_or(|epoch| self.shared.acts_under(epoch)) {
                    self.respond(now_ms, &key, message);
                }
            }
            Order::Request { message, flow, under } => {
                if self.shared.acts_under(under) {
                    self.request(now_ms, message, flow);
                }
            }
            Order::Adopt { call, invite, flow, under } => {
                if self.shared.acts_under(under) {
                    self.adopt(now_ms, call, invite, flow);
                }
            }
            Order::PassOn { requests } => {
                for (key, message, flow) in requests {
                    self.table.forget(&key);
                    if let Some(owner) = self.owner_elsewhere(&message) {
                        self.pass_on(owner, &flow, &message);
                    }
                }
            }
            Order::Abandon(abandoned) => self.abandon(&abandoned),
            Order::Timer => {
                self.timer = None;
                self.table.handle_timeout(now_ms);
            }
        }
    }

    /// A lease of a new epoch: this node lost all calls of the former one, so nothing more is asked for them, and who asked
    /// for them is not answered. That is so before anything is asked for a call that it got under the new one, whether or not
    /// that may be said yet. What phones said goodbye to meanwhile is passed to whoever has their calls now.
    fn follow_lease(&mut self) {
        let Some(epoch) = self.shared.lease.epoch() else { return };
        if self.epoch.replace(epoch).is_some_and(|former| former != epoch) {
            self.table.abandon(|branch| call::branch_leg(branch).is_some());
            self.table.abandon_invites(|tag| call::leg_of_tag(tag).is_some());
            for (key, _) in std::mem::take(&mut self.invites) {
                self.table.forget(&key);
            }
            for slot in self.shared.call_ids().into_iter().filter_map(|id| self.shared.call(id)) {
                let _ = slot.send(call::Input::Leased { epoch });
            }
        }
        if !self.shared.lease.holds() {
            return;
        }
        for (flow, message) in std::mem::take(&mut self.byes) {
            self.offer(flow, message);
        }
    }

    /// A BYE that was answered while this node might not act for its call.
    fn offer(&self, flow: Flow, message: Message) {
        let Some(leg) = named_leg(&message) else { return };
        // By the log's word: a machine that is here may only not have heard yet that its call is another's.
        match owner_of(&self.shared.cluster.view(), leg, true) {
            Some(owner) if owner != self.shared.node => self.pass_on(owner, &flow, &message),
            Some(_) => {
                let key = ServerKey::of(&message);
                let input = call::Input::Request { leg, key, message, flow };
                self.shared.leg(leg).map(|slot| slot.send(input));
            }
            None => {}
        }
    }

    /// How this node judges nonces.
    pub(crate) fn nonces<'a>(&'a mut self, key: &'a NonceKey) -> Nonces<'a> {
        Nonces { key, used: &mut self.used_nonces }
    }

    fn incoming(&mut self, now_ms: u64, flow: Flow, bytes: Bytes) {
        let message = match Message::parse(bytes.clone()) {
            Ok(message) => message,
            Err(error) => {
                let unread = (&bytes, error);
                return malformed::refuse(&self.shared, &mut self.malformed, now_ms, &flow, unread);
            }
        };
        let message = if message.is_request() { message.stamped(flow.remote) } else { message };
        count_incoming(&message, flow.transport);
        match self.owner_elsewhere(&message) {
            Some(owner) => self.pass_on(owner, &flow, &message),
            None => self.table.receive(now_ms, FlowPeer(flow), message),
        }
    }

    /// The node that owns the call of a message, if that is not this one.
    fn owner_elsewhere(&self, message: &Message) -> Option<NodeId> {
        let Some(leg) = named_leg(message) else { return self.begun_elsewhere(message) };
        if self.shared.leg(leg).is_some() {
            return None;
        }
        let owner = owner_of(&self.shared.cluster.view(), leg, message.is_request())?;
        (owner != self.shared.node).then_some(owner)
    }

    /// A copy of an INVITE, or its CANCEL, whose call has gone to another node: it may come here because its sender turned away
    /// from a node that was lost.
    fn begun_elsewhere(&self, message: &Message) -> Option<NodeId> {
        let of_caller = message.is_request() && matches!(message.method(), Method::Invite | Method::Cancel);
        if !of_caller || self.invites.contains_key(&ServerKey::of_invite(message)) {
            return None;
        }
        let owner = call::begun_by(&self.shared.cluster.view(), message)?.owner;
        (owner != self.shared.node).then_some(owner)
    }

    fn pass_on(&self, owner: NodeId, flow: &Flow, message: &Message) {
        metrics::counter!("tandem_sip_passed_on_total").increment(1);
        if flow.node != self.shared.node {
            // It was passed on to us already: two nodes that each take the other for the owner must not play ball.
            return;
        }
        let tell = Tell::Received { flow: flow.clone(), bytes: message.bytes().to_vec() };
        if let Err(error) = self.shared.cluster.tell_peer(owner, encode(&tell)) {
            tracing::debug!(%error, %owner, "a message was not passed on to its call's owner");
        }
    }

    fn closed(&mut self, now_ms: u64, flow: &Flow) {
        self.table.transport_error(now_ms, &FlowPeer(flow.clone()));
        for registration in self.shared.registrations_over(flow) {
            let _ = registration.send(registration::Input::ConnectionClosed);
        }
    }

    /// As if the INVITE had come here; its call is there already.
    fn adopt(&mut self, now_ms: u64, call: CallId, invite: Message, flow: Flow) {
        let adopted = ServerKey::of(&invite);
        self.invites.insert(adopted.clone(), call);
        self.table.receive(now_ms, FlowPeer(flow), invite);
        while let Some(output) = self.table.poll_output() {
            match output {
                Output::Request { key, .. } if key == adopted => {}
                other => self.carry_out(other),
            }
        }
    }

    fn abandon(&mut self, abandoned: &Abandoned) {
        let Abandoned { calls, legs, requests } = abandoned;
        self.table.abandon(|branch| call::branch_leg(branch).is_some_and(|leg| legs.contains(&leg)));
        // A refusal to a phone's INVITE is repeated until its ACK comes.
        self.table.abandon_invites(|tag| call::leg_of_tag(tag).is_some_and(|leg| legs.contains(&leg)));
        let invites = self.invites.extract_if(|_, call| calls.contains(call)).map(|(invite, _)| invite);
        for key in invites.chain(requests.iter().cloned()) {
            self.table.forget(&key);
        }
    }

    pub(crate) fn respond(&mut self, now_ms: u64, key: &ServerKey, message: Message) {
        self.give(key, message, |table, key, message| table.respond(now_ms, key, message));
    }

    fn give(
        &mut self,
        key: &ServerKey,
        message: Message,
        take: impl FnOnce(&mut Table<FlowPeer>, &ServerKey, Message) -> Result<(), Gone>,
    ) {
        if let Some(status) = message.status() {
            metrics::counter!("tandem_sip_responses_total", "code" => status.to_string()).increment(1);
            if status >= 200 {
                self.invites.remove(key);
            }
        }
        if take(&mut self.table, key, message).is_err() {
            tracing::debug!(?key, "a response came too late for its transaction");
        }
    }

    fn request(&mut self, now_ms: u64, message: Message, flow: Flow) {
        metrics::counter!("tandem_sip_requests_sent_total", "method" => message.method().as_str().to_owned())
            .increment(1);
        if let Err(refused) = self.table.send_request(now_ms, message, FlowPeer(flow)) {
            tracing::debug!(?refused, "a request was not sent");
            metrics::counter!("tandem_sip_overload_total").increment(1);
        }
    }

    /// Carries out what the table asks for, until it asks for nothing.
    fn drain(&mut self) {
        while let Some(output) = self.table.poll_output() {
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: Output<FlowPeer>) {
        match output {
            Output::Send { peer, bytes } => {
                if self.shared.send(&peer.0, bytes).is_err() {
                    let now_ms = self.shared.now().steady_ms;
                    self.table.transport_error(now_ms, &peer);
                }
            }
            Output::Request { key, message, peer } => self.new_request(key, message, peer.0),
            Output::Response { message, .. } => {
                self.to_call(&message, |leg, message| call::Input::Response { leg, message })
            }
            Output::Ack { message, .. } => {
                self.to_call(&message, |leg, message| call::Input::Acknowledged { leg, message })
            }
            Output::Cancel { invite, .. } => self.cancelled(&invite),
            Output::Timeout { key: Key::Client(key) }
            | Output::TransportError { key: Key::Client(key), .. } => {
                self.unanswered(&key);
            }
            Output::TransportError { key: Key::Server(key), peer } => self.unheard(&key, &peer.0),
            // A refusal of ours that was never acknowledged: nobody waits for it.
            Output::Timeout { key: Key::Server(_) } => {}
            Output::Stray { message, .. } => self.stray(&message),
        }
    }

    /// An answer to OPTIONS, which have no transaction, or to nothing.
    fn stray(&self, message: &Message) {
        let asked = qualify::token_of(message).and_then(|token| self.shared.questions.end(token));
        match asked.and_then(|id| self.shared.find_registration(&id)) {
            Some(slot) => drop(slot.send(registration::Input::Heard)),
            None => metrics::counter!("tandem_sip_stray_responses_total").increment(1),
        }
    }

    fn to_call(&self, message: &Message, input: impl FnOnce(LegId, Message) -> call::Input) {
        let Some(leg) = named_leg(message) else { return };
        if let Some(slot) = self.shared.leg(leg) {
            let _ = slot.send(input(leg, message.clone()));
        }
    }

    fn cancelled(&mut self, invite: &ServerKey) {
        self.to_caller_of(invite, call::Input::Cancelled);
    }

    /// Who asked can't be answered. A caller whose connection is gone has given its call up.
    fn unheard(&mut self, key: &ServerKey, flow: &Flow) {
        if is_connection(flow) {
            self.to_caller_of(key, call::Input::CallerGone);
        }
    }

    /// To the call of a caller's INVITE that has no final answer yet.
    fn to_caller_of(&self, invite: &ServerKey, input: call::Input) {
        let slot = self.invites.get(invite).and_then(|call| self.shared.call(*call));
        if let Some(slot) = slot {
            let _ = slot.send(input);
        }
    }

    /// A transaction ended without a final response.
    fn unanswered(&mut self, key: &ClientKey) {
        let Some(leg) = call::branch_leg(key.branch()) else { return };
        let Some(slot) = self.shared.leg(leg) else { return };
        let cseq =
            key.branch().rsplit_once('-').and_then(|(_, hex)| u32::from_str_radix(hex, 16).ok()).unwrap_or(0);
        let _ = slot.send(call::Input::Unanswered { leg, method: key.method().clone(), cseq });
    }

    /// A request that made a server transaction.
    fn new_request(&mut self, key: ServerKey, message: Message, flow: Flow) {
        if !self.shared.lease.holds() {
            return self.fenced(&key, message, flow);
        }
        // The method is looked at first (RFC 3261 section 8.2.1), then the dialog.
        if matches!(message.method(), Method::Other(_)) {
            return self.answer(&key, &message, 501, |r| r.header(Header::Allow, ALLOW));
        }
        if message.to().tag().is_some() {
            return self.in_dialog(key, message, flow);
        }
        let is_invite = *message.method() == Method::Invite;
        if is_invite && call::begun_by(&self.shared.cluster.view(), &message).is_some() {
            // Its call is this node's since a moment, and nobody goes on with it yet: as on a lossy link.
            return self.table.forget(&key);
        }
        let is_new_work = is_invite || *message.method() == Method::Register;
        if is_new_work && let Some(counted) = self.is_unready() {
            metrics::counter!(counted).increment(1);
            let retry_s = spread(UNREADY_RETRY_S, self.shared.ids.seed());
            return self.defer(&key, &message, retry_s);
        }
        match message.method() {
            Method::Register => crate::register::register(self, key, message, flow),
            Method::Invite => crate::invite::invite(self, key, message, flow),
            Method::Options => self.answer(&key, &message, 200, |r| r.header(Header::Allow, ALLOW)),
            Method::Cancel | Method::Bye => self.answer(&key, &message, 481, |r| r),
            Method::Ack => {}
            _ => self.answer(&key, &message, 405, |r| r.header(Header::Allow, ALLOW)),
        }
    }

    /// What may be said without a lease: 503, and 200 to who hangs up, of which the call's owner hears later.
    fn fenced(&mut self, key: &ServerKey, message: Message, flow: Flow) {
        match message.method() {
            Method::Ack => {}
            Method::Bye if message.to().tag().is_some() => {
                self.answer(key, &message, 200, |r| r);
                if self.byes.len() < BYES_MAX {
                    self.byes.push((flow, message));
                }
            }
            _ => {
                metrics::counter!("tandem_sip_no_lease_total").increment(1);
                let retry_s = spread(UNREADY_RETRY_S, self.shared.ids.seed());
                self.defer(key, &message, retry_s);
            }
        }
    }

    /// Whether this node can't take new calls and registrations now, and under which metric that is counted.
    fn is_unready(&self) -> Option<&'static str> {
        (!self.shared.cluster.has_quorum()).then_some("tandem_sip_no_quorum_total")
    }

    fn in_dialog(&mut self, key: ServerKey, message: Message, flow: Flow) {
        let target = named_leg(&message).and_then(|leg| Some((leg, self.shared.leg(leg)?)));
        let Some((leg, slot)) = target else {
            return match self.is_on_its_way(&message) {
                // As on a lossy link: the phone says it again.
                true if flow.transport == Transport::Udp => self.table.forget(&key),
                true => self.defer(&key, &message, 1),
                false => self.answer(&key, &message, 481, |r| r),
            };
        };
        let refused = message.clone();
        if slot.send(call::Input::Request { leg, key: key.clone(), message, flow }).is_err() {
            self.answer(&key, &refused, 503, |r| r.header(Header::RetryAfter, "1"));
        }
    }

    /// The log has given a call to this node, where nobody goes on with it yet: 481 would end it for a phone.
    fn is_on_its_way(&self, message: &Message) -> bool {
        let view = self.shared.cluster.view();
        let call = named_leg(message).and_then(|leg| view.call_of(leg));
        call.is_some_and(|call| call.owner == self.shared.node)
    }

    /// Answers outside of any call.
    pub(crate) fn answer(
        &mut self,
        key: &ServerKey,
        request: &Message,
        status: u16,
        more: impl FnOnce(ResponseBuilder) -> ResponseBuilder,
    ) {
        let now_ms = self.shared.now().steady_ms;
        if let Some(response) = build(&self.shared, request, status, more) {
            self.respond(now_ms, key, response);
        }
    }

    /// Answers outside of any call, finally and without a memory of it; an INVITE, whose ACK comes, is remembered.
    pub(crate) fn answer_once(
        &mut self,
        key: &ServerKey,
        request: &Message,
        status: u16,
        more: impl FnOnce(ResponseBuilder) -> ResponseBuilder,
    ) {
        let tag = self.table.stateless_tag(request);
        let Some(response) = build_tagged(&self.shared, request, status, &tag, more) else { return };
        let now_ms = self.shared.now().steady_ms;
        self.give(key, response, |table, key, response| table.respond_once(now_ms, key, response));
    }

    /// 503, to come again in so many seconds.
    pub(crate) fn defer(&mut self, key: &ServerKey, request: &Message, retry_after_s: u64) {
        let retry = retry_after_s.to_string();
        self.answer_once(key, request, 503, |r| r.header(Header::RetryAfter, &retry));
    }

    fn arm(&mut self, myself: &ActorRef<Order>) {
        let Some(deadline) = self.table.poll_timeout() else { return };
        if let Some((armed, timer)) = &self.timer {
            if *armed <= deadline {
                return;
            }
            timer.abort();
        }
        let wait = deadline.saturating_sub(self.shared.now().steady_ms).max(TIMER_GRAIN_MS);
        let wait = Duration::from_millis(wait);
        let actor = myself.clone();
        let timer = tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            let _ = actor.cast(Order::Timer);
        });
        self.timer = Some((deadline, timer));
    }
}

/// BYEs that are kept for the owners of their calls, of one time without a lease.
const BYES_MAX: usize = 4_000;

/// Transaction timers that are due within this are served by one wake-up; T1 is a hundred times as long.
const TIMER_GRAIN_MS: u64 = 5;

/// When a phone may try again at a node without a quorum (an election takes about one second) or without a lease, in
/// seconds; it had better try another one.
const UNREADY_RETRY_S: u64 = 2;

/// From `least_s` to twice as long, by chance, so that not everybody who was sent away comes back in one second.
fn spread(least_s: u64, chance: u64) -> u64 {
    least_s + chance % (least_s + 1)
}

/// What this switch takes outside of dialogs.
const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, INFO, REGISTER";

fn count_incoming(message: &Message, transport: Transport) {
    let transport = match transport {
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
        Transport::Tls => "tls",
        Transport::Ws => "ws",
    };
    if message.is_request() {
        let method = match message.method() {
            Method::Other(_) => "other".to_owned(),
            method => method.as_str().to_owned(),
        };
        metrics::counter!("tandem_sip_requests_total", "method" => method, "transport" => transport)
            .increment(1);
    }
}
