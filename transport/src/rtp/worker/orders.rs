//! Orders to a worker: how they are given, and how they are carried out.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;
use tandem_media::plan::{EndId, MediaPlan};
use tandem_media::relay::Relay;
use tandem_media::stream::StreamSeed;
use tokio::sync::oneshot;

use super::super::lock;
use super::super::ports::EndSockets;
use super::super::session::{SessionCounters, SessionId, Shared};
use super::{Live, Socket, Worker};

/// Orders waiting for a worker above which no plan is taken. Others are bounded by the number of sessions.
const PENDING_MAX: usize = 16_384;

/// An order.
pub(in super::super) enum Control {
    Open { session: Arc<Shared>, ends: Vec<(EndSockets, StreamSeed)>, cname: u64 },
    AddEnd { session: SessionId, sockets: EndSockets, seed: StreamSeed },
    Apply { session: SessionId, plan: MediaPlan },
    Count { session: SessionId, reply: oneshot::Sender<SessionCounters> },
    Close { session: SessionId, reply: oneshot::Sender<SessionCounters> },
    Stop,
}

/// Where a worker takes orders.
#[derive(Debug)]
pub(in super::super) struct WorkerHandle {
    sender: Sender<Control>,
    pending: Arc<AtomicUsize>,
    wake: Arc<OwnedFd>,
}

impl WorkerHandle {
    pub(super) fn new(sender: Sender<Control>, wake: Arc<OwnedFd>) -> Self {
        Self { sender, pending: Arc::default(), wake }
    }

    pub(super) fn pending(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.pending)
    }

    pub(in super::super) fn has_room(&self) -> bool {
        self.pending.load(Ordering::Relaxed) < PENDING_MAX
    }

    pub(in super::super) fn tell(&self, control: Control) {
        self.pending.fetch_add(1, Ordering::Relaxed);
        if self.sender.send(control).is_ok() {
            // A full eventfd is one that will wake the worker anyway.
            let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        }
    }
}

impl Worker {
    pub(super) fn take_orders(&mut self) {
        self.current = None;
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.wake, &mut count);
        while let Ok(control) = self.orders.try_recv() {
            self.pending.fetch_sub(1, Ordering::Relaxed);
            self.carry_out(control);
        }
    }

    fn carry_out(&mut self, control: Control) {
        match control {
            Control::Open { session, ends, cname } => self.open(session, ends, cname),
            Control::AddEnd { session, sockets, seed } => self.add_end(session, sockets, seed),
            Control::Apply { session, plan } => self.apply(session, &plan),
            Control::Count { session, reply } => self.count(session, reply),
            Control::Close { session, reply } => self.close(session, reply),
            Control::Stop => self.stopped = true,
        }
    }

    fn open(&mut self, session: Arc<Shared>, ends: Vec<(EndSockets, StreamSeed)>, cname: u64) {
        let id = session.id;
        let live = Live { shared: session, relay: Relay::new(cname), ends: Vec::new(), silence_told: false };
        let slot = self.free_slots.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        if let Some(place) = self.slots.get_mut(slot) {
            *place = Some(live);
        }
        self.by_id.insert(id, slot);
        for (sockets, seed) in ends {
            self.add_end(id, sockets, seed);
        }
    }

    fn add_end(&mut self, session: SessionId, sockets: EndSockets, seed: StreamSeed) {
        let now_us = self.around.clock.monotonic_us();
        let slot = self.by_id.get(&session).copied();
        let live = slot.and_then(|slot| Some((slot, self.slots.get_mut(slot)?.as_mut()?)));
        let Some((slot, live)) = live else {
            // Closed meanwhile.
            return lock(&self.around.ports).give_back(now_us, sockets.port());
        };
        let Some(EndId(end)) = live.relay.add_end(seed) else {
            return lock(&self.around.ports).give_back(now_us, sockets.port());
        };
        for (socket, rtcp) in [(&sockets.rtp, false), (&sockets.rtcp, true)] {
            let token = EventData::new_u64(Socket { slot, end, rtcp }.token());
            if let Err(error) = epoll::add(&self.epoll, socket, token, EventFlags::IN) {
                tracing::error!(session = session.0, %error, "a media socket is not watched");
            }
        }
        live.ends.push(sockets);
    }

    fn apply(&mut self, session: SessionId, plan: &MediaPlan) {
        let now_us = self.around.clock.monotonic_us();
        self.current = self.by_id.get(&session).copied();
        if let Some(live) = self.live(session) {
            live.relay.apply(now_us, plan);
            live.silence_told = false;
        }
    }

    fn count(&mut self, session: SessionId, reply: oneshot::Sender<SessionCounters>) {
        let now_us = self.around.clock.monotonic_us();
        if let Some(live) = self.live(session) {
            // Nobody waits any more: no matter.
            let _ = reply.send(live.counters(now_us));
        }
    }

    fn close(&mut self, session: SessionId, reply: oneshot::Sender<SessionCounters>) {
        let now_us = self.around.clock.monotonic_us();
        let Some(slot) = self.by_id.get(&session).copied() else { return };
        let counters = self.live(session).map(|live| {
            live.publish(now_us);
            live.counters(now_us)
        });
        self.remove(slot);
        if let Some(counters) = counters {
            // Nobody waits for them: they were published.
            let _ = reply.send(counters);
        }
    }

    /// Forgets a session; its sockets are closed, which takes them out of `epoll`, and its ports go to rest.
    pub(super) fn remove(&mut self, slot: usize) {
        let Some(live) = self.slots.get_mut(slot).and_then(Option::take) else { return };
        self.by_id.remove(&live.shared.id);
        self.free_slots.push(slot);
        let ports: Vec<u16> = live.ends.iter().map(EndSockets::port).collect();
        drop(live);
        let now_us = self.around.clock.monotonic_us();
        let mut pool = lock(&self.around.ports);
        ports.into_iter().for_each(|port| pool.give_back(now_us, port));
        self.around.counters.sessions.fetch_sub(1, Ordering::Relaxed);
    }

    fn live(&mut self, session: SessionId) -> Option<&mut Live> {
        let slot = *self.by_id.get(&session)?;
        self.slots.get_mut(slot)?.as_mut()
    }
}
