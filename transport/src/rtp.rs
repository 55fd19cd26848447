//! RTP: worker threads that own the media sockets, and the handles by which calls direct them.
//!
//! [`Engine::open`] takes a pair of ports per end and gives a [`Session`]; [`Session::apply`] hands its worker a media
//! plan. A session lives until it is closed, whoever holds its handle: the actor of a call may die and find it again by
//! id ([`Engine::session`]). Packets pass no mailbox, no lock and no allocation: each worker runs the relay machines of
//! its sessions straight off `epoll`.

mod counters;
mod io;
mod ports;
mod session;
mod worker;

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tandem_media::relay::ENDS_MAX;
use tandem_media::stream::StreamSeed;
use tokio::sync::mpsc;

use crate::clock::{Clock, SystemClock};
use counters::Counters;
use ports::{EndSockets, PortPool};
use session::Shared as SessionShared;
use worker::{Control, WorkerHandle};

pub use counters::RtpCounters;
pub use session::{Closing, Refused, Session, SessionCounters, SessionId};

/// Where the media events of an engine arrive.
pub type EventReceiver = mpsc::Receiver<Event>;

/// How long a pair of ports rests before it is given out again, so that a late packet of the old call meets nobody.
const COOL_DOWN: Duration = Duration::from_secs(5);
/// Events waiting for their consumer.
const EVENTS_MAX: usize = 4096;

/// The media sockets of a node.
#[derive(Debug, Clone)]
pub struct RtpConfig {
    /// Address that the sockets are bound to.
    pub listen: IpAddr,
    /// Address that session descriptions name.
    pub advertise: IpAddr,
    /// Ports to use; RTP takes the even ones, RTCP the odd ones above them.
    pub ports: RangeInclusive<u16>,
    /// Worker threads.
    pub workers: usize,
    /// How long nobody may send before [`Event::Silent`].
    pub silence: Duration,
}

/// What a session reports by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// No end of the session has sent anything for [`RtpConfig::silence`] although its plan watches for that. Once per
    /// silence and plan.
    Silent {
        /// Which session.
        session: SessionId,
        /// For how long it has been silent.
        since_ms: u64,
    },
    /// The session met a fault of ours and was closed.
    Failed {
        /// Which session.
        session: SessionId,
    },
}

/// Why the engine does not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The range holds no even port with an odd one above it.
    #[error("the port range {0:?} holds no pair")]
    NoPorts(RangeInclusive<u16>),
    /// The kernel refused.
    #[error("a worker could not start: {0}")]
    Io(ErrorKind),
}

/// Why a session or an end is not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Every pair is in use or rests.
    #[error("no ports left")]
    NoPorts,
    /// More ends than a session may have.
    #[error("too many ends")]
    TooManyEnds,
    /// The session was closed.
    #[error("the session is closed")]
    Closed,
    /// The kernel refused.
    #[error("no socket: {0}")]
    Io(ErrorKind),
}

/// The media engine of a node. Clones share it; it stops when the last clone and the last session handle are gone.
#[derive(Debug, Clone)]
pub struct Engine {
    shared: Arc<EngineShared>,
}

struct EngineShared {
    advertise: IpAddr,
    clock: Arc<dyn Clock>,
    ports: Arc<Mutex<PortPool>>,
    counters: Arc<Counters>,
    sessions: Sessions,
    workers: Vec<WorkerHandle>,
    last_id: AtomicU64,
}

/// The sessions that are open, by id.
type Sessions = Arc<Mutex<HashMap<SessionId, Arc<SessionShared>>>>;

impl Engine {
    /// Starts the workers.
    pub fn start(config: RtpConfig) -> Result<(Self, EventReceiver), StartError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let pool = PortPool::new(config.listen, config.ports.clone(), COOL_DOWN, random());
        if pool.is_empty() {
            return Err(StartError::NoPorts(config.ports));
        }
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let ports = Arc::new(Mutex::new(pool));
        let counters = Arc::new(Counters::default());
        let sessions = Sessions::default();
        let surroundings = worker::Surroundings {
            clock: Arc::clone(&clock),
            ports: Arc::clone(&ports),
            counters: Arc::clone(&counters),
            sessions: Arc::clone(&sessions),
            events,
            silence_us: u64::try_from(config.silence.as_micros()).unwrap_or(u64::MAX),
        };
        let start = |number| worker::start(number, surroundings.clone());
        let workers = (0..config.workers.max(1)).map(start).collect::<Result<_, _>>();
        let workers = workers.map_err(|error| StartError::Io(error.kind()))?;
        let advertise = config.advertise;
        let last_id = AtomicU64::new(0);
        let shared = EngineShared { advertise, clock, ports, counters, sessions, workers, last_id };
        Ok((Self { shared: Arc::new(shared) }, receiver))
    }

    /// Opens a session with ends 0 to `ends - 1`, each with ports of its own. It relays nothing before a plan is
    /// applied.
    pub fn open(&self, ends: usize) -> Result<Session, OpenError> {
        if ends > ENDS_MAX {
            return Err(OpenError::TooManyEnds);
        }
        let sockets = (0..ends).map(|_| self.shared.bind_end()).collect::<Result<Vec<_>, _>>();
        let sockets = sockets?;
        let id = SessionId(self.shared.last_id.fetch_add(1, Ordering::Relaxed) + 1);
        let locals = sockets.iter().map(|end| self.shared.advertised(end)).collect();
        let worker = self.shared.worker_for(id);
        let session = Arc::new(SessionShared::new(id, worker, locals));
        lock(&self.shared.sessions).insert(id, Arc::clone(&session));
        self.shared.counters.sessions.fetch_add(1, Ordering::Relaxed);
        let ends = sockets.into_iter().map(|sockets| (sockets, seed())).collect();
        self.shared.tell(worker, Control::Open { session: Arc::clone(&session), ends, cname: random() });
        Ok(Session::new(session, Arc::clone(&self.shared)))
    }

    /// The handle of an open session.
    pub fn session(&self, id: SessionId) -> Option<Session> {
        let session = lock(&self.shared.sessions).get(&id).cloned()?;
        Some(Session::new(session, Arc::clone(&self.shared)))
    }

    /// The ids of all open sessions, in order.
    pub fn sessions(&self) -> Vec<SessionId> {
        let mut ids: Vec<_> = lock(&self.shared.sessions).keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// What was relayed and dropped so far, and what is free.
    pub fn counters(&self) -> RtpCounters {
        let ports_free = lock(&self.shared.ports).free_len();
        RtpCounters { ports_free, ..self.shared.counters.read() }
    }
}

impl EngineShared {
    /// Takes a pair of ports and binds it.
    fn bind_end(&self) -> Result<EndSockets, OpenError> {
        EndSockets::bind(&self.ports, self.clock.monotonic_us())
    }

    fn advertised(&self, end: &EndSockets) -> std::net::SocketAddr {
        std::net::SocketAddr::new(self.advertise, end.port())
    }

    fn worker_for(&self, id: SessionId) -> usize {
        let count = u64::try_from(self.workers.len().max(1)).unwrap_or(1);
        usize::try_from(id.0 % count).unwrap_or(0)
    }

    fn tell(&self, worker: usize, control: Control) {
        if let Some(worker) = self.workers.get(worker) {
            worker.tell(control);
        }
    }
}

impl std::fmt::Debug for EngineShared {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Engine").field("workers", &self.workers.len()).finish_non_exhaustive()
    }
}

impl Drop for EngineShared {
    fn drop(&mut self) {
        self.workers.iter().for_each(|worker| worker.tell(Control::Stop));
    }
}

/// Locks what is whole between any two statements, so a panic elsewhere does not matter.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn random() -> u64 {
    getrandom::u64().expect("the kernel has randomness once the machine is up")
}

fn seed() -> StreamSeed {
    let [a, b, c, d, e, f, g, h] = random().to_be_bytes();
    let [i, j, ..] = random().to_be_bytes();
    StreamSeed {
        ssrc: u32::from_be_bytes([a, b, c, d]),
        // The upper half is left free: a stream that starts near its wrap upsets old receivers and recorders.
        sequence: u16::from_be_bytes([i & 0x7f, j]),
        timestamp: u32::from_be_bytes([e, f, g, h]),
    }
}
