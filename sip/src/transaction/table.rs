//! The table of a node's transactions: matches messages, owns the machines, is bounded.

use std::collections::VecDeque;
use std::hash::BuildHasher;

use bytes::Bytes;

use super::Peer;
use super::client_invite::ClientInvite;
use super::client_non_invite::ClientNonInvite;
use super::key::{ClientKey, Key, ServerKey, write_client, write_client_as, write_server};
use super::machine::{ClientInput, Output as MachineOutput, ServerInput, Timers};
use super::server_invite::ServerInvite;
use super::server_non_invite::ServerNonInvite;
use super::slots::{Machine, Seeded, Slot, Slots};
use crate::build::{ResponseBuilder, cancel_for};
use crate::header::Header;
use crate::message::Message;
use crate::method::Method;

/// What is to be done, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output<P> {
    /// Send these bytes.
    Send {
        /// Where to.
        peer: P,
        /// A whole message.
        bytes: Bytes,
    },
    /// A new request; answer it by [`Table::respond`].
    Request {
        /// Its transaction.
        key: ServerKey,
        /// The request.
        message: Message,
        /// Who sent it.
        peer: P,
    },
    /// A response to a request of ours. For an INVITE each 2xx comes, also when it is repeated (RFC 6026).
    Response {
        /// The request's transaction.
        key: ClientKey,
        /// The response.
        message: Message,
    },
    /// An ACK that no transaction takes: it acknowledges a 2xx.
    Ack {
        /// The ACK.
        message: Message,
        /// Who sent it.
        peer: P,
    },
    /// The peer cancels an INVITE that has no final response yet; the CANCEL itself is answered already. Answer the
    /// INVITE with 487.
    Cancel {
        /// The INVITE's transaction.
        invite: ServerKey,
        /// The CANCEL, for its Reason.
        message: Message,
    },
    /// No answer came in time (client), or no ACK for a refusal (server).
    Timeout {
        /// The transaction, which is over.
        key: Key,
    },
    /// The peer can't be reached.
    TransportError {
        /// The transaction.
        key: Key,
        /// This one.
        peer: P,
    },
    /// A response that belongs to no transaction here: late, forged, or meant for a node that was lost. Act on a 2xx
    /// to an INVITE of a call that was taken over, drop the rest.
    Stray {
        /// The response.
        message: Message,
        /// Who sent it.
        peer: P,
    },
}

/// How many transactions there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Begun by peers; one more is answered 503.
    pub server_max: usize,
    /// Begun by us; one more is refused to the caller.
    pub client_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { server_max: 200_000, client_max: 100_000 }
    }
}

/// Why a request was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// [`Limits::client_max`] is reached.
    #[error("too many client transactions")]
    Full,
    /// A transaction with this branch and method exists.
    #[error("the branch is in use")]
    BranchInUse,
    /// A response, an ACK, or a request without a branch of RFC 3261.
    #[error("no transaction can begin with it")]
    Unfit,
}

/// The transaction is over or never was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such transaction")]
pub struct Gone;

/// Retry-After of a 503, in seconds.
const RETRY_AFTER_S: &str = "2";

/// All transactions of one endpoint shard. `P` is a flow or an address.
#[derive(Debug)]
pub struct Table<P> {
    slots: Slots<P>,
    outputs: VecDeque<Output<P>>,
    timers: Timers,
    limits: Limits,
    seed: Seeded,
    /// The key under construction; kept so that matching allocates nothing.
    scratch: String,
    refused: u64,
}

impl<P: Peer> Table<P> {
    /// An empty table. The seed (random, secret) keeps peers from choosing branches that collide.
    pub fn new(limits: Limits, timers: Timers, seed: u64) -> Self {
        Self {
            slots: Slots::new(seed),
            outputs: VecDeque::new(),
            timers,
            limits,
            seed: Seeded(seed),
            scratch: String::with_capacity(128),
            refused: 0,
        }
    }

    /// Takes a message from a peer. Responses to it go to that same peer.
    pub fn receive(&mut self, now_ms: u64, peer: P, message: Message) {
        if message.is_request() {
            self.receive_request(now_ms, peer, message);
        } else {
            self.receive_response(now_ms, peer, message);
        }
    }

    /// Begins a client transaction with a request that has our Via on top. By a CANCEL its INVITE ends too, when nothing final is
    /// heard for 64 x T1.
    pub fn send_request(&mut self, now_ms: u64, request: Message, peer: P) -> Result<ClientKey, Refusal> {
        let fit =
            request.is_request() && request.method() != &Method::Ack && request.via_top().has_magic_cookie();
        if !fit {
            return Err(Refusal::Unfit);
        }
        if self.slots.clients >= self.limits.client_max {
            return Err(Refusal::Full);
        }
        write_client(&mut self.scratch, &request);
        if self.slots.find(&self.scratch).is_some() {
            return Err(Refusal::BranchInUse);
        }
        let key = ClientKey(self.scratch.as_str().into());
        if request.method() == &Method::Cancel {
            write_client_as(&mut self.scratch, &request, &Method::Invite);
            if let Some(invite) = self.slots.find(&self.scratch) {
                self.client_input(now_ms, invite, ClientInput::Cancelled);
            }
        }
        let (reliable, timers) = (peer.is_reliable(), self.timers);
        let machine = match request.method() {
            Method::Invite => {
                Machine::ClientInvite(Box::new(ClientInvite::new(now_ms, request, reliable, timers)))
            }
            _ => Machine::ClientNonInvite(ClientNonInvite::new(now_ms, request, reliable, timers)),
        };
        let at = self.slots.insert(key.0.clone(), machine, peer);
        self.settle(now_ms, at);
        Ok(key)
    }

    /// Sends what needs no transaction: the ACK of a 2xx, an answer made without state.
    pub fn send_stateless(&mut self, message: &Message, peer: P) {
        self.outputs.push_back(Output::Send { peer, bytes: message.bytes().clone() });
    }

    /// Answers a request. While a 2xx to an INVITE waits for its ACK, the call gives it here again.
    pub fn respond(&mut self, now_ms: u64, key: &ServerKey, response: Message) -> Result<(), Gone> {
        let at = self.slots.find(&key.0).filter(|_| response.is_response()).ok_or(Gone)?;
        self.server_input(now_ms, at, ServerInput::Respond(response));
        Ok(())
    }

    /// Answers a request finally and forgets it, as a stateless server does (RFC 3261 section 8.2.7): for what is cheaper to
    /// say again than to remember. A copy of the request is a new request. An INVITE, whose ACK has to be awaited, is
    /// remembered all the same.
    pub fn respond_once(&mut self, now_ms: u64, key: &ServerKey, response: Message) -> Result<(), Gone> {
        self.respond(now_ms, key, response)?;
        let done = self.slots.find(&key.0).and_then(|at| self.slots.get(at));
        if done.is_some_and(|slot| !slot.machine.is_invite()) {
            self.forget(key);
        }
        Ok(())
    }

    /// Cancels an INVITE of ours: now, or when the first provisional response comes; not at all when a final one came.
    /// `reason` is the value of a Reason header (RFC 3326). The answer to the CANCEL comes as a [`Output::Response`] with
    /// that method, and is nothing to act on.
    pub fn cancel(&mut self, now_ms: u64, key: &ClientKey, reason: Option<&str>) -> Result<(), Gone> {
        let at = self.slots.find(&key.0).ok_or(Gone)?;
        let invite = self.slots.get(at).and_then(|slot| slot.machine.invite()).ok_or(Gone)?;
        let cancel = cancel_for(invite, reason).or_else(|_| cancel_for(invite, None)).map_err(|_| Gone)?;
        self.client_input(now_ms, at, ClientInput::Cancel(cancel));
        Ok(())
    }

    /// Tells every transaction with this peer that it can't be reached.
    pub fn transport_error(&mut self, now_ms: u64, peer: &P) {
        for at in self.slots.of_peer(peer) {
            if let Some(slot) = self.slots.get_mut(at) {
                slot.machine.transport_error(now_ms);
            }
            self.settle(now_ms, at);
        }
    }

    /// Ends our transactions whose branch `is_gone`, without a word to anybody.
    pub fn abandon(&mut self, is_gone: impl Fn(&str) -> bool) {
        for at in self.slots.clients_of(is_gone) {
            self.slots.remove(at);
        }
    }

    /// Ends the peers' INVITEs that were answered under a To-tag that `is_gone`, without a word to anybody: a refusal that is not
    /// acknowledged yet is not said again.
    pub fn abandon_invites(&mut self, is_gone: impl Fn(&str) -> bool) {
        for at in self.slots.invites_of(is_gone) {
            self.slots.remove(at);
        }
    }

    /// Ends a transaction of a peer's, without a word to anybody. A copy of its request is a new request.
    pub fn forget(&mut self, key: &ServerKey) {
        if let Some(at) = self.slots.find(&key.0) {
            self.slots.remove(at);
        }
    }

    /// Wakes every transaction whose time has come.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        while let Some(at) = self.slots.due(now_ms) {
            if let Some(slot) = self.slots.get_mut(at) {
                slot.machine.time(now_ms);
            }
            self.settle(now_ms, at);
        }
    }

    /// When to call [`Table::handle_timeout`] next.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.slots.next_wake()
    }

    /// The next output.
    pub fn poll_output(&mut self) -> Option<Output<P>> {
        self.outputs.pop_front()
    }

    /// Whether a transaction of a peer's is here.
    pub fn knows(&self, key: &ServerKey) -> bool {
        self.slots.find(&key.0).is_some()
    }

    /// How many transactions there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many requests of peers were answered 503 because the table was full, since the start.
    pub fn refused_total(&self) -> u64 {
        self.refused
    }

    fn receive_request(&mut self, now_ms: u64, peer: P, request: Message) {
        let method = match request.method() {
            Method::Ack => &Method::Invite,
            method => method,
        };
        write_server(&mut self.scratch, &request, method);
        match (self.slots.find(&self.scratch), request.method()) {
            (Some(at), _) => self.server_input(now_ms, at, ServerInput::Request(request)),
            (None, Method::Ack) => self.outputs.push_back(Output::Ack { message: request, peer }),
            (None, Method::Cancel) => self.receive_cancel(now_ms, peer, request),
            (None, _) => self.begin_server(now_ms, peer, request),
        }
    }

    fn begin_server(&mut self, now_ms: u64, peer: P, request: Message) {
        if self.is_server_full() {
            self.refuse(peer, &request);
            return;
        }
        let (reliable, timers) = (peer.is_reliable(), self.timers);
        let machine = match request.method() {
            Method::Invite => {
                Machine::ServerInvite(Box::new(ServerInvite::new(now_ms, request, reliable, timers)))
            }
            _ => Machine::ServerNonInvite(ServerNonInvite::new(request, reliable, timers)),
        };
        let at = self.slots.insert(self.scratch.as_str().into(), machine, peer);
        self.settle(now_ms, at);
    }

    fn is_server_full(&self) -> bool {
        self.slots.len().saturating_sub(self.slots.clients) >= self.limits.server_max
    }

    fn refuse(&mut self, peer: P, request: &Message) {
        self.refused = self.refused.saturating_add(1);
        let tag = self.stateless_tag(request);
        let response =
            ResponseBuilder::to(request, 503, &tag).header(Header::RetryAfter, RETRY_AFTER_S).build();
        if let Ok(response) = response {
            self.send_stateless(&response, peer);
        }
    }

    /// Answers a CANCEL (RFC 3261 section 9.2): 481 when the INVITE is unknown, else 200, also when it comes too late.
    fn receive_cancel(&mut self, now_ms: u64, peer: P, cancel: Message) {
        write_server(&mut self.scratch, &cancel, &Method::Invite);
        let invite = self.slots.find(&self.scratch).and_then(|at| self.slots.get(at));
        let Some((key, machine)) = invite.map(|slot| (slot.key.clone(), &slot.machine)) else {
            self.answer_cancel(now_ms, peer, cancel, 481, None);
            return;
        };
        let (proceeding, tag) = match machine {
            Machine::ServerInvite(invite) => {
                let tag = invite.last_response().and_then(|r| r.to().tag().map(str::to_owned));
                (invite.is_proceeding(), tag)
            }
            Machine::ClientInvite(_) | Machine::ClientNonInvite(_) | Machine::ServerNonInvite(_) => {
                (false, None)
            }
        };
        self.answer_cancel(now_ms, peer, cancel.clone(), 200, tag);
        if proceeding {
            self.outputs.push_back(Output::Cancel { invite: ServerKey(key), message: cancel });
        }
    }

    fn answer_cancel(&mut self, now_ms: u64, peer: P, cancel: Message, status: u16, tag: Option<String>) {
        let tag = tag.unwrap_or_else(|| self.stateless_tag(&cancel));
        let Ok(response) = ResponseBuilder::to(&cancel, status, &tag).build() else { return };
        if self.is_server_full() {
            self.send_stateless(&response, peer);
            return;
        }
        write_server(&mut self.scratch, &cancel, &Method::Cancel);
        let mut machine = ServerNonInvite::new(cancel, peer.is_reliable(), self.timers);
        let _delivered_by_output_cancel = machine.poll_output();
        machine.handle_input(now_ms, ServerInput::Respond(response));
        let machine = Machine::ServerNonInvite(machine);
        let at = self.slots.insert(self.scratch.as_str().into(), machine, peer);
        self.settle(now_ms, at);
    }

    /// A To-tag that is the same for each copy of a request (RFC 3261 section 8.2.7).
    pub fn stateless_tag(&self, request: &Message) -> String {
        let names = (request.call_id(), request.via_top().branch, request.from().tag());
        format!("{:016x}", self.seed.hash_one(names))
    }

    fn receive_response(&mut self, now_ms: u64, peer: P, response: Message) {
        write_client(&mut self.scratch, &response);
        // More than our own Via: it was meant for somebody else (RFC 3261 section 8.1.3.3).
        let ours = response.values(Header::Via).nth(1).is_none();
        match self.slots.find(&self.scratch).filter(|_| ours) {
            Some(at) => self.client_input(now_ms, at, ClientInput::Response(response)),
            None => self.outputs.push_back(Output::Stray { message: response, peer }),
        }
    }

    fn client_input(&mut self, now_ms: u64, at: usize, input: ClientInput) {
        if let Some(slot) = self.slots.get_mut(at) {
            slot.machine.client_input(now_ms, input);
        }
        self.settle(now_ms, at);
    }

    fn server_input(&mut self, now_ms: u64, at: usize, input: ServerInput) {
        if let Some(slot) = self.slots.get_mut(at) {
            slot.machine.server_input(now_ms, input);
        }
        self.settle(now_ms, at);
    }

    /// Carries a machine's outputs on, and notes its timer.
    fn settle(&mut self, now_ms: u64, at: usize) {
        let mut cancel = None;
        while let Some(slot) = self.slots.get_mut(at) {
            match slot.machine.poll_output() {
                None => break,
                Some(MachineOutput::Terminated) => self.slots.remove(at),
                Some(MachineOutput::SendCancel(message)) => cancel = Some((message, slot.peer.clone())),
                Some(output) => self.outputs.extend(outward(slot, output)),
            }
        }
        self.slots.rewake(at);
        if let Some((cancel, peer)) = cancel {
            // Refused by a full table: the INVITE's own deadline ends it.
            let _refused = self.send_request(now_ms, cancel, peer);
        }
    }
}

/// A machine's output in the words of the table.
fn outward<P: Peer>(slot: &Slot<P>, output: MachineOutput) -> Option<Output<P>> {
    let peer = || slot.peer.clone();
    Some(match output {
        MachineOutput::Send(message) => Output::Send { peer: peer(), bytes: message.bytes().clone() },
        MachineOutput::Deliver(message) => match slot.key() {
            Key::Client(key) => Output::Response { key, message },
            Key::Server(_) if message.method() == &Method::Ack => Output::Ack { message, peer: peer() },
            Key::Server(key) => Output::Request { key, message, peer: peer() },
        },
        MachineOutput::Timeout => Output::Timeout { key: slot.key() },
        MachineOutput::TransportError => Output::TransportError { key: slot.key(), peer: peer() },
        MachineOutput::SendCancel(_) | MachineOutput::Terminated => return None,
    })
}

#[cfg(test)]
mod tests;
