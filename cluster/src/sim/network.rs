//! The network between simulated machines: each connection is two pipes, whose bytes arrive later and in order, as TCP's do.
//!
//! What is sent into a cut waits there and arrives after it, as if it had been sent again and again. What a machine without
//! power is sent is lost, and it resets those connections when it is back. Nothing arrives but in [`Network::advance`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use tokio::sync::{mpsc, oneshot};

use super::stream::Stream;

/// A machine's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MachineId(pub u8);

/// The network and its time. Clones are handles of the same.
#[derive(Debug, Clone)]
pub struct Network(Arc<Mutex<Hub>>);

type Way = (MachineId, MachineId);
type Accepted = (Ends, SocketAddr);

/// Which pipes a stream reads from and writes to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    pub(super) reads: u64,
    pub(super) writes: u64,
}

#[derive(Debug)]
struct Hub {
    now_us: u64,
    /// The wall clock at simulated 0 o'clock. Certificates are checked by the real one, which must not be behind.
    began_ms: u64,
    choices: u64,
    delay_us: (u64, u64),
    listeners: BTreeMap<SocketAddr, (MachineId, mpsc::UnboundedSender<Accepted>)>,
    connecting: Vec<Connecting>,
    pipes: BTreeMap<u64, Pipe>,
    pipes_made: u64,
    cut: BTreeSet<Way>,
    dark: BTreeSet<MachineId>,
}

#[derive(Debug)]
struct Connecting {
    from: MachineId,
    to: SocketAddr,
    due_us: u64,
    tell: oneshot::Sender<io::Result<Ends>>,
}

/// One direction of a connection.
#[derive(Debug)]
pub(super) struct Pipe {
    way: Way,
    /// What is under way, and when it arrives. An empty piece is the end.
    sent: VecDeque<(u64, Bytes)>,
    arrived: BytesMut,
    under_way: usize,
    ended: bool,
    reset: bool,
    /// Nobody reads any more.
    deserted: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// Bytes that a sender's kernel takes before it makes the sender wait.
const WINDOW: usize = 256 * 1024;

impl Network {
    /// An empty network whose delays come from a seed.
    pub fn new(seed: u64) -> Network {
        const AN_HOUR: Duration = Duration::from_secs(3600);
        let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(AN_HOUR);
        Network(Arc::new(Mutex::new(Hub {
            now_us: 0,
            began_ms: u64::try_from(began.as_millis()).unwrap_or(u64::MAX),
            choices: seed,
            delay_us: (500, 2_000),
            listeners: BTreeMap::new(),
            connecting: Vec::new(),
            pipes: BTreeMap::new(),
            pipes_made: 0,
            cut: BTreeSet::new(),
            dark: BTreeSet::new(),
        })))
    }

    /// Simulated time.
    pub fn now_us(&self) -> u64 {
        self.hub().now_us
    }

    /// What a wall clock that is right shows.
    pub(super) fn wall_ms(&self) -> u64 {
        let hub = self.hub();
        hub.began_ms.saturating_add(hub.now_us / 1000)
    }

    /// Lets time pass, and delivers what is due.
    pub fn advance(&self, span_us: u64) {
        let mut woken = Vec::new();
        let mut hub = self.hub();
        hub.now_us += span_us;
        hub.deliver(&mut woken);
        hub.connect_due();
        drop(hub);
        woken.into_iter().for_each(Waker::wake);
    }

    /// How long a piece is under way, from and to.
    pub fn set_delay_us(&self, low: u64, high: u64) {
        self.hub().delay_us = (low, high.max(low));
    }

    /// Nothing comes through from one machine to another (`true`), or it does again.
    pub fn cut(&self, from: MachineId, to: MachineId, cut: bool) {
        let mut hub = self.hub();
        if cut {
            hub.cut.insert((from, to))
        } else {
            hub.cut.remove(&(from, to))
        };
    }

    /// Ends all connections between two machines at once.
    pub fn reset(&self, one: MachineId, other: MachineId) {
        self.reset_where(|(from, to)| (from, to) == (one, other) || (to, from) == (one, other));
    }

    /// A machine loses its power: it says nothing more, not even that.
    pub(super) fn power_off(&self, machine: MachineId) {
        self.hub().dark.insert(machine);
    }

    /// It has power again, and knows nothing of its connections.
    pub(super) fn power_on(&self, machine: MachineId) {
        self.hub().dark.remove(&machine);
        self.reset_where(|(from, to)| from == machine || to == machine);
    }

    fn reset_where(&self, is_meant: impl Fn(Way) -> bool) {
        let mut woken = Vec::new();
        for pipe in self.hub().pipes.values_mut().filter(|pipe| is_meant(pipe.way)) {
            pipe.reset = true;
            woken.extend(pipe.reader.take().into_iter().chain(pipe.writer.take()));
        }
        woken.into_iter().for_each(Waker::wake);
    }

    pub(super) async fn connect(&self, from: MachineId, to: SocketAddr) -> io::Result<Stream> {
        let (tell, told) = oneshot::channel();
        {
            let mut hub = self.hub();
            let due_us = hub.now_us + hub.delay() + hub.delay();
            hub.connecting.push(Connecting { from, to, due_us, tell });
        }
        let ends = told.await.map_err(|_| io::ErrorKind::ConnectionAborted)??;
        Ok(Stream::new(self.clone(), ends))
    }

    pub(super) fn listen(&self, machine: MachineId, address: SocketAddr) -> io::Result<Listener> {
        let (sender, accepted) = mpsc::unbounded_channel();
        let mut hub = self.hub();
        if hub.listeners.get(&address).is_some_and(|(_, open)| !open.is_closed()) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        hub.listeners.insert(address, (machine, sender));
        Ok(Listener { network: self.clone(), address, accepted })
    }

    /// Works on one pipe; `None` if it is gone.
    pub(super) fn pipe<T>(&self, pipe: u64, work: impl FnOnce(&mut Pipe) -> T) -> Option<T> {
        self.hub().pipes.get_mut(&pipe).map(work)
    }

    /// Puts bytes on their way; none: the end.
    pub(super) fn send(&self, pipe: u64, bytes: Bytes) {
        let mut hub = self.hub();
        let due_us = hub.now_us + hub.delay();
        if let Some(pipe) = hub.pipes.get_mut(&pipe) {
            pipe.send(due_us, bytes);
        }
    }

    /// A stream is closed by its process, or because that is gone.
    pub(super) fn close(&self, ends: Ends) {
        let mut hub = self.hub();
        let due_us = hub.now_us + hub.delay();
        if let Some(pipe) = hub.pipes.get_mut(&ends.writes) {
            pipe.send(due_us, Bytes::new());
        }
        if let Some(pipe) = hub.pipes.get_mut(&ends.reads) {
            pipe.deserted = true;
        }
    }

    fn hub(&self) -> MutexGuard<'_, Hub> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hub {
    fn delay(&mut self) -> u64 {
        self.choices =
            self.choices.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (low, high) = self.delay_us;
        low + (self.choices >> 33) % (high - low + 1)
    }

    fn passes(&self, (from, to): Way) -> bool {
        !self.cut.contains(&(from, to)) && !self.dark.contains(&from) && !self.dark.contains(&to)
    }

    fn deliver(&mut self, woken: &mut Vec<Waker>) {
        let now_us = self.now_us;
        let mut pipes = std::mem::take(&mut self.pipes);
        pipes.retain(|_, pipe| {
            if self.passes(pipe.way) {
                pipe.deliver(now_us, woken);
            }
            !pipe.is_over()
        });
        self.pipes = pipes;
    }

    /// A call into a cut waits for its end; one to a machine where nobody listens is refused.
    fn connect_due(&mut self) {
        for Connecting { from, to, due_us, tell } in std::mem::take(&mut self.connecting) {
            let listener = self.listeners.get(&to).filter(|(_, sender)| !sender.is_closed());
            let machine = self.listeners.get(&to).map_or(from, |(machine, _)| *machine);
            if tell.is_closed() {
                continue;
            }
            if due_us > self.now_us || !self.passes((from, machine)) || !self.passes((machine, from)) {
                self.connecting.push(Connecting { from, to, due_us, tell });
                continue;
            }
            let Some((_, sender)) = listener.cloned() else {
                let _ = tell.send(Err(io::ErrorKind::ConnectionRefused.into()));
                continue;
            };
            let (there, back) = (self.make_pipe((from, machine)), self.make_pipe((machine, from)));
            let remote = SocketAddr::from(([10, 0, 0, from.0], 1));
            let _ = sender.send((Ends { reads: there, writes: back }, remote));
            let _ = tell.send(Ok(Ends { reads: back, writes: there }));
        }
    }

    fn make_pipe(&mut self, way: Way) -> u64 {
        self.pipes_made += 1;
        self.pipes.insert(self.pipes_made, Pipe::new(way));
        self.pipes_made
    }
}

impl Pipe {
    fn new(way: Way) -> Pipe {
        Pipe {
            way,
            sent: VecDeque::new(),
            arrived: BytesMut::new(),
            under_way: 0,
            ended: false,
            reset: false,
            deserted: false,
            reader: None,
            writer: None,
        }
    }

    fn send(&mut self, due_us: u64, bytes: Bytes) {
        let after = self.sent.back().map_or(0, |(due_us, _)| *due_us);
        self.under_way += bytes.len();
        self.sent.push_back((due_us.max(after), bytes));
    }

    fn deliver(&mut self, now_us: u64, woken: &mut Vec<Waker>) {
        while self.sent.front().is_some_and(|(due_us, _)| *due_us <= now_us) {
            let Some((_, bytes)) = self.sent.pop_front() else { break };
            self.ended |= bytes.is_empty();
            self.arrived.extend_from_slice(&bytes);
            woken.extend(self.reader.take());
        }
        // Who writes to a process that is gone hears of it.
        if self.deserted && !self.reset {
            self.reset = true;
            woken.extend(self.writer.take());
        }
    }

    /// Nobody will read, and the end was sent or can't come.
    fn is_over(&self) -> bool {
        self.deserted && (self.ended || self.reset)
    }

    /// What has arrived; no bytes are the end.
    pub(super) fn poll_read(&mut self, context: &Context<'_>, room: usize) -> Poll<io::Result<Bytes>> {
        if self.reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if self.arrived.is_empty() && !self.ended {
            self.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        let bytes = self.arrived.split_to(room.min(self.arrived.len())).freeze();
        self.under_way -= bytes.len();
        self.writer.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(bytes))
    }

    /// How much may be sent now.
    pub(super) fn poll_room(&mut self, context: &Context<'_>) -> Poll<io::Result<usize>> {
        if self.reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if self.under_way >= WINDOW {
            self.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(WINDOW - self.under_way))
    }
}

/// Where others connect to.
pub struct Listener {
    network: Network,
    address: SocketAddr,
    accepted: mpsc::UnboundedReceiver<Accepted>,
}

impl Listener {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) async fn accept(&mut self) -> io::Result<(Stream, SocketAddr)> {
        let (ends, remote) = self.accepted.recv().await.ok_or(io::ErrorKind::ConnectionAborted)?;
        Ok((Stream::new(self.network.clone(), ends), remote))
    }
}
