//! The endpoint: owns the transaction table; everything that SIP says enters and leaves here.
//!
//! Supervised by `Node`. When it dies, open transactions are lost (phones retransmit, calls hear of no answer in
//! time) and nothing else: calls, registrations and media live elsewhere.
//!
//! A packet's way: transport -> [`Order::Incoming`] -> scan -> owner of its call (another node's messages leave here
//! whole, by [`owner`]) -> transaction -> in-dialog requests to their call, new ones to [`crate::invite`] or
//! [`crate::register`] (by [`requests`]).

mod owner;
mod requests;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tandem_sip::digest::{NonceKey, UsedNonces};
use tandem_sip::message::Message;
use tandem_sip::method::Method;
use tandem_sip::transaction::{ClientKey, Gone, Key, Limits, Output, Peer, ServerKey, Table, Timers};
use tandem_state::{CallId, Flow, LegId, NodeEpoch, Transport};
use tandem_switching::admission::{CallRates, Nonces, USED_NONCES_MAX};
use tandem_switching::call::named_leg;
use tandem_switching::{call, qualify, registration};
use tokio::task::JoinHandle;

use self::owner::Taker;
use crate::malformed::{self, Answers};
use crate::registrations::is_connection;
use crate::shared::Shared;

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
                    if let Taker::At(owner) = self.taker(&message) {
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
        match self.taker(&message) {
            Taker::Here => self.table.receive(now_ms, FlowPeer(flow), message),
            Taker::At(owner) => self.pass_on(owner, &flow, &message),
            Taker::Nobody => {}
        }
    }

    fn closed(&mut self, now_ms: u64, flow: &Flow) {
        self.table.transport_error(now_ms, &FlowPeer(flow.clone()));
        for registration in self.shared.registrations_over(flow) {
            let _ = registration.send(registration::Input::ConnectionClosed);
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

/// Transaction timers that are due within this are served by one wake-up; T1 is a hundred times as long.
const TIMER_GRAIN_MS: u64 = 5;

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
