//! The transactions themselves: kept in numbered slots, found by key, woken by time.
//!
//! The map is only looked up, never walked, so that its order shows nowhere. Its hash is keyed, because peers choose
//! branches.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, DefaultHasher, Hasher};
use std::sync::Arc;

use super::Peer;
use super::client_invite::ClientInvite;
use super::client_non_invite::ClientNonInvite;
use super::key::{ClientKey, Key, ServerKey, branch_of};
use super::machine::{ClientInput, Output, ServerInput};
use super::server_invite::ServerInvite;
use super::server_non_invite::ServerNonInvite;
use crate::message::Message;

/// One of the four, named as the RFC names them.
#[allow(clippy::enum_variant_names)]
#[derive(Clone, Debug)]
pub(super) enum Machine {
    /// Boxed, as is its sibling: both are large, and most transactions are not INVITEs.
    ClientInvite(Box<ClientInvite>),
    ClientNonInvite(ClientNonInvite),
    ServerInvite(Box<ServerInvite>),
    ServerNonInvite(ServerNonInvite),
}

/// A transaction, where it speaks to, and when it is to be woken.
#[derive(Debug)]
pub(super) struct Slot<P> {
    pub(super) key: Arc<str>,
    pub(super) machine: Machine,
    pub(super) peer: P,
    wake_at: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Slots<P> {
    slots: Vec<Option<Slot<P>>>,
    free: Vec<usize>,
    by_key: HashMap<Arc<str>, usize, Seeded>,
    wakes: BTreeSet<(u64, usize)>,
    /// Peers fail by the ten thousand.
    by_peer: HashMap<P, BTreeSet<usize>, Seeded>,
    pub(super) clients: usize,
}

/// SipHash begun with a seed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seeded(pub(super) u64);

impl BuildHasher for Seeded {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.0);
        hasher
    }
}

impl<P: Peer> Slots<P> {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            by_key: HashMap::with_hasher(Seeded(seed)),
            wakes: BTreeSet::new(),
            by_peer: HashMap::with_hasher(Seeded(seed)),
            clients: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(super) fn find(&self, key: &str) -> Option<usize> {
        self.by_key.get(key).copied()
    }

    pub(super) fn get(&self, at: usize) -> Option<&Slot<P>> {
        self.slots.get(at)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut Slot<P>> {
        self.slots.get_mut(at)?.as_mut()
    }

    pub(super) fn insert(&mut self, key: Arc<str>, machine: Machine, peer: P) -> usize {
        let at = self.free.pop().unwrap_or(self.slots.len());
        if at == self.slots.len() {
            self.slots.push(None);
        }
        self.clients = self.clients.saturating_add(usize::from(machine.is_client()));
        self.by_key.insert(key.clone(), at);
        self.by_peer.entry(peer.clone()).or_default().insert(at);
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = Some(Slot { key, machine, peer, wake_at: None });
        }
        at
    }

    pub(super) fn remove(&mut self, at: usize) {
        let Some(slot) = self.slots.get_mut(at).and_then(Option::take) else { return };
        if let Some(wake) = slot.wake_at {
            self.wakes.remove(&(wake, at));
        }
        self.clients = self.clients.saturating_sub(usize::from(slot.machine.is_client()));
        self.by_key.remove(&slot.key);
        self.part(at, &slot.peer);
        self.free.push(at);
    }

    /// Notes when the slot's machine wants to be woken now.
    pub(super) fn rewake(&mut self, at: usize) {
        let Some(slot) = self.slots.get_mut(at).and_then(Option::as_mut) else { return };
        let wanted = slot.machine.poll_timeout();
        let noted = std::mem::replace(&mut slot.wake_at, wanted);
        if noted == wanted {
            return;
        }
        if let Some(noted) = noted {
            self.wakes.remove(&(noted, at));
        }
        if let Some(wanted) = wanted {
            self.wakes.insert((wanted, at));
        }
    }

    pub(super) fn next_wake(&self) -> Option<u64> {
        self.wakes.first().map(|(wake, _)| *wake)
    }

    /// The slot to wake first, if its time has come.
    pub(super) fn due(&self, now_ms: u64) -> Option<usize> {
        self.wakes.first().filter(|(wake, _)| *wake <= now_ms).map(|(_, at)| *at)
    }

    fn part(&mut self, at: usize, peer: &P) {
        let Some(slots) = self.by_peer.get_mut(peer) else { return };
        slots.remove(&at);
        if slots.is_empty() {
            self.by_peer.remove(peer);
        }
    }

    /// The slots that speak to this peer, in slot order.
    pub(super) fn of_peer(&self, peer: &P) -> Vec<usize> {
        self.by_peer.get(peer).into_iter().flatten().copied().collect()
    }

    /// The client transactions whose branch is one of these, in slot order.
    pub(super) fn clients_of(&self, is_one: impl Fn(&str) -> bool) -> Vec<usize> {
        let taken = self.slots.iter().enumerate();
        let ours = taken.filter(|(_, slot)| {
            slot.as_ref().is_some_and(|slot| slot.machine.is_client() && is_one(branch_of(&slot.key)))
        });
        ours.map(|(at, _)| at).collect()
    }

    /// The peers' INVITEs that were answered under a To-tag that is one of these, in slot order.
    pub(super) fn invites_of(&self, is_one: impl Fn(&str) -> bool) -> Vec<usize> {
        let taken = self.slots.iter().enumerate();
        let theirs = taken.filter(|(_, slot)| {
            let answer = slot.as_ref().and_then(|slot| match &slot.machine {
                Machine::ServerInvite(invite) => invite.last_response(),
                Machine::ServerNonInvite(_) | Machine::ClientInvite(_) | Machine::ClientNonInvite(_) => None,
            });
            answer.and_then(|answer| answer.to().tag()).is_some_and(&is_one)
        });
        theirs.map(|(at, _)| at).collect()
    }
}

impl<P> Slot<P> {
    pub(super) fn key(&self) -> Key {
        match self.machine.is_client() {
            true => Key::Client(ClientKey(self.key.clone())),
            false => Key::Server(ServerKey(self.key.clone())),
        }
    }
}

impl Machine {
    /// The INVITE of an INVITE client transaction.
    pub(super) fn invite(&self) -> Option<&Message> {
        match self {
            Self::ClientInvite(machine) => Some(machine.request()),
            Self::ClientNonInvite(_) | Self::ServerInvite(_) | Self::ServerNonInvite(_) => None,
        }
    }

    pub(super) fn is_invite(&self) -> bool {
        matches!(self, Self::ClientInvite(_) | Self::ServerInvite(_))
    }

    pub(super) fn is_client(&self) -> bool {
        matches!(self, Self::ClientInvite(_) | Self::ClientNonInvite(_))
    }

    pub(super) fn client_input(&mut self, now_ms: u64, input: ClientInput) {
        match self {
            Self::ClientInvite(machine) => machine.handle_input(now_ms, input),
            Self::ClientNonInvite(machine) => machine.handle_input(now_ms, input),
            Self::ServerInvite(_) | Self::ServerNonInvite(_) => {}
        }
    }

    pub(super) fn server_input(&mut self, now_ms: u64, input: ServerInput) {
        match self {
            Self::ServerInvite(machine) => machine.handle_input(now_ms, input),
            Self::ServerNonInvite(machine) => machine.handle_input(now_ms, input),
            Self::ClientInvite(_) | Self::ClientNonInvite(_) => {}
        }
    }

    pub(super) fn time(&mut self, now_ms: u64) {
        match self {
            Self::ClientInvite(_) | Self::ClientNonInvite(_) => self.client_input(now_ms, ClientInput::Time),
            Self::ServerInvite(_) | Self::ServerNonInvite(_) => self.server_input(now_ms, ServerInput::Time),
        }
    }

    pub(super) fn transport_error(&mut self, now_ms: u64) {
        match self {
            Self::ClientInvite(_) | Self::ClientNonInvite(_) => {
                self.client_input(now_ms, ClientInput::TransportError);
            }
            Self::ServerInvite(_) | Self::ServerNonInvite(_) => {
                self.server_input(now_ms, ServerInput::TransportError);
            }
        }
    }

    pub(super) fn poll_output(&mut self) -> Option<Output> {
        match self {
            Self::ClientInvite(machine) => machine.poll_output(),
            Self::ClientNonInvite(machine) => machine.poll_output(),
            Self::ServerInvite(machine) => machine.poll_output(),
            Self::ServerNonInvite(machine) => machine.poll_output(),
        }
    }

    fn poll_timeout(&self) -> Option<u64> {
        match self {
            Self::ClientInvite(machine) => machine.poll_timeout(),
            Self::ClientNonInvite(machine) => machine.poll_timeout(),
            Self::ServerInvite(machine) => machine.poll_timeout(),
            Self::ServerNonInvite(machine) => machine.poll_timeout(),
        }
    }
}
