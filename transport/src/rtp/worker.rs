//! A media worker: one thread, one `epoll`, the sockets and relay machines of its sessions.
//!
//! Each turn it waits for readable sockets, relays what they hold, takes orders, and every 20 ms looks after one
//! fiftieth of its sessions (reports due, silence, counters to publish), so that a second's housekeeping never delays
//! packets at once. A panic in one session's machine closes that session and nothing else.

mod live;
mod orders;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event as Ready, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::fd::OwnedFd;

use super::counters::{Counters, Tally};
use super::io::{DATAGRAM_MAX, OneByOne, PacketIo};
use super::ports::PortPool;
use super::{Event, Sessions};
use crate::clock::Clock;
use live::{Live, Socket};

pub(super) use orders::{Control, WorkerHandle};

/// Sockets taken from one wait.
const READY_MAX: usize = 256;
/// Datagrams read from one socket before the others get their turn. A second one is rarely there, and `epoll` is level
/// triggered, so asking again would cost a system call for nothing.
const READS: usize = 1;
/// Time between two rounds of housekeeping.
const ROUND_US: u64 = 20_000;
/// A round that is so late is no matter of a busy machine.
const STALL_US: u64 = 500_000;
/// Datagrams that are dropped after a standstill at most: more than the kernel keeps for all sockets of a worker.
const STALE_MAX: u64 = 1_000_000;
/// Rounds until every session was looked after once.
const ROUNDS: usize = 50;
/// Priority of the workers' threads: sound goes before signalling when the processors are full. It costs and saves
/// nothing while there is idle time.
const NICE: i32 = -10;
/// The token of the eventfd by which orders are announced.
const WAKE: u64 = u64::MAX;

/// What a worker uses and shares.
#[derive(Clone)]
pub(super) struct Surroundings {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ports: Arc<std::sync::Mutex<PortPool>>,
    pub(super) counters: Arc<Counters>,
    pub(super) sessions: Sessions,
    pub(super) events: tokio::sync::mpsc::Sender<Event>,
    pub(super) silence_us: u64,
}

struct Worker {
    around: Surroundings,
    epoll: OwnedFd,
    wake: Arc<OwnedFd>,
    orders: Receiver<Control>,
    pending: Arc<std::sync::atomic::AtomicUsize>,
    slots: Vec<Option<Live>>,
    free_slots: Vec<usize>,
    by_id: std::collections::HashMap<super::SessionId, usize>,
    /// The slot that is being worked on, in case it panics.
    current: Option<usize>,
    io: OneByOne,
    buffer: Vec<u8>,
    out: Vec<u8>,
    tally: Tally,
    round: usize,
    next_round_us: u64,
    /// The end of the last turn.
    turned_us: u64,
    stopped: bool,
}

/// Starts a worker's thread.
pub(super) fn start(number: usize, around: Surroundings) -> io::Result<WorkerHandle> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    epoll::add(&epoll, &wake, EventData::new_u64(WAKE), EventFlags::IN)?;
    let (sender, orders) = mpsc::channel();
    let handle = WorkerHandle::new(sender, Arc::clone(&wake));
    let mut worker = Worker {
        next_round_us: around.clock.monotonic_us(),
        around,
        epoll,
        wake,
        orders,
        pending: handle.pending(),
        slots: Vec::new(),
        free_slots: Vec::new(),
        by_id: std::collections::HashMap::new(),
        current: None,
        io: OneByOne,
        buffer: vec![0; DATAGRAM_MAX + 1],
        out: vec![0; 512],
        tally: Tally::default(),
        round: 0,
        turned_us: 0,
        stopped: false,
    };
    std::thread::Builder::new().name(format!("rtp-{number}")).spawn(move || worker.run())?;
    Ok(handle)
}

impl Worker {
    fn run(&mut self) {
        // Of the calling thread only, on Linux. Without the right to do so (CAP_SYS_NICE) it stays as it is.
        let _ = rustix::process::setpriority_process(None, NICE);
        let mut ready = Vec::with_capacity(READY_MAX);
        while !self.stopped {
            let turn = catch_unwind(AssertUnwindSafe(|| self.turn(&mut ready)));
            if turn.is_err() {
                self.fail_current();
            }
        }
    }

    fn turn(&mut self, ready: &mut Vec<Ready>) {
        ready.clear();
        let timeout = self.timeout();
        // An interrupted wait is an empty one.
        let _ = epoll::wait(&self.epoll, spare_capacity(ready), timeout.as_ref());
        if timeout.is_some() {
            self.notice_stall();
        }
        for event in ready.drain(..) {
            match event.data.u64() {
                WAKE => self.take_orders(),
                token => self.read(Socket::from_token(token)),
            }
        }
        self.current = None;
        self.io.flush();
        self.around.counters.add(&mut self.tally);
        let now_us = self.around.clock.monotonic_us();
        self.turned_us = now_us;
        if now_us >= self.next_round_us {
            self.keep_house(now_us);
        }
    }

    /// A thread that comes to itself long after its time was stopped with its process: what waits at its sockets is old, and
    /// belongs to what others may carry by now.
    fn notice_stall(&mut self) {
        let due_us = self.next_round_us.max(self.turned_us);
        let late_us = self.around.clock.monotonic_us().saturating_sub(due_us);
        if late_us < STALL_US {
            return;
        }
        let mut dropped = 0;
        for socket in self.slots.iter().flatten().flat_map(Live::sockets) {
            while dropped < STALE_MAX && matches!(self.io.receive(socket, &mut self.buffer), Ok(Some(_))) {
                dropped += 1;
            }
        }
        tracing::warn!(
            late_ms = late_us / 1000,
            dropped,
            "media stood still: what waited meanwhile is dropped"
        );
        self.tally.received += dropped;
        self.tally.dropped += dropped;
    }

    /// Until the next round; for ever when there is nothing to look after.
    fn timeout(&self) -> Option<Timespec> {
        if self.by_id.is_empty() {
            return None;
        }
        let wait_us = self.next_round_us.saturating_sub(self.around.clock.monotonic_us());
        Timespec::try_from(Duration::from_micros(wait_us)).ok()
    }

    fn read(&mut self, socket: Socket) {
        for _ in 0..READS {
            if !self.relay_one(socket) {
                break;
            }
        }
    }

    /// Reads one datagram and passes it on. False when there was none.
    fn relay_one(&mut self, at: Socket) -> bool {
        self.current = Some(at.slot);
        let Some(live) = self.slots.get_mut(at.slot).and_then(Option::as_mut) else { return false };
        let Some(socket) = live.socket(at) else { return false };
        let (len, from) = match self.io.receive(socket, &mut self.buffer) {
            Ok(Some(received)) => received,
            Ok(None) | Err(_) => return false,
        };
        self.tally.received += 1;
        self.tally.received_octets += len as u64;
        let Some(packet) = self.buffer.get_mut(..len).filter(|_| len <= DATAGRAM_MAX) else {
            self.tally.dropped += 1;
            return true;
        };
        let mut hands = live::Hands {
            clock: self.around.clock.as_ref(),
            io: &mut self.io,
            out: &mut self.out,
            tally: &mut self.tally,
        };
        live.relay(&mut hands, at, from, packet);
        true
    }

    fn keep_house(&mut self, now_us: u64) {
        self.next_round_us = now_us + ROUND_US;
        self.round = (self.round + 1) % ROUNDS;
        for slot in (self.round..self.slots.len()).step_by(ROUNDS) {
            self.current = Some(slot);
            let Some(live) = self.slots.get_mut(slot).and_then(Option::as_mut) else { continue };
            let mut hands = live::Hands {
                clock: self.around.clock.as_ref(),
                io: &mut self.io,
                out: &mut self.out,
                tally: &mut self.tally,
            };
            live.send_reports(&mut hands, now_us);
            live.publish(now_us);
            if let Some(event) = live.silence(now_us, self.around.silence_us) {
                match self.around.events.try_send(event) {
                    Ok(()) => live.silence_told = true,
                    // Told again at the next round.
                    Err(_) => {
                        self.around.counters.events_dropped.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        }
        self.current = None;
    }

    /// The session in hand has panicked: its machine can't be trusted any more.
    fn fail_current(&mut self) {
        let Some(slot) = self.current.take() else { return };
        let Some(live) = self.slots.get(slot).and_then(Option::as_ref) else { return };
        let session = live.shared.id;
        tracing::error!(session = session.0, "a media session failed and was closed");
        live.shared.closed.store(true, Ordering::SeqCst);
        super::lock(&self.around.sessions).remove(&session);
        self.remove(slot);
        self.around.counters.failed.fetch_add(1, Ordering::Relaxed);
        let _ = self.around.events.try_send(Event::Failed { session });
    }
}
