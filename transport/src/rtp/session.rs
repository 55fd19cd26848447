//! The handle of a session: what a call uses to direct its media.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use tandem_media::plan::{EndId, MediaPlan};
use tandem_media::quality::{Impairment, Quality, quality, worse};
use tandem_media::relay::{ENDS_MAX, EndCounters};
use tokio::sync::oneshot;

use super::worker::Control;
use super::{EngineShared, OpenError, lock, seed};

/// Names a session within one run of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// The counters of a session's ends.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionCounters {
    /// By end, in order of their ids.
    pub ends: Vec<EndCounters>,
}

/// Why a plan was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The session was closed.
    #[error("the session is closed")]
    Closed,
    /// The worker is too far behind to take orders.
    #[error("the media worker is overloaded")]
    Busy,
}

/// A handle; clones name the same session. Dropping it closes nothing.
#[derive(Debug, Clone)]
pub struct Session {
    shared: Arc<Shared>,
    engine: Arc<EngineShared>,
}

/// The last counters of a session that was closed, once its worker has closed it. Need not be awaited.
#[derive(Debug)]
pub struct Closing(oneshot::Receiver<SessionCounters>);

/// What the handles and the worker of a session share. The worker touches it about once a second, never for a packet.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) id: SessionId,
    pub(super) worker: usize,
    pub(super) closed: AtomicBool,
    pub(super) published: Mutex<SessionCounters>,
    locals: Mutex<Vec<SocketAddr>>,
}

impl Shared {
    pub(super) fn new(id: SessionId, worker: usize, locals: Vec<SocketAddr>) -> Self {
        let locals = Mutex::new(locals);
        Self { id, worker, closed: AtomicBool::new(false), published: Mutex::default(), locals }
    }
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>, engine: Arc<EngineShared>) -> Self {
        Self { shared, engine }
    }

    /// The id by which [`super::Engine::session`] finds it again.
    pub fn id(&self) -> SessionId {
        self.shared.id
    }

    /// The address that the session description of an end names for RTP; RTCP is one port above.
    pub fn local_rtp(&self, end: EndId) -> Option<SocketAddr> {
        lock(&self.shared.locals).get(usize::try_from(end.0).ok()?).copied()
    }

    /// How many ends there are.
    pub fn ends_len(&self) -> usize {
        lock(&self.shared.locals).len()
    }

    /// Adds an end with ports of its own. It does nothing before a plan names it.
    pub fn add_end(&self) -> Result<EndId, OpenError> {
        if self.is_closed() {
            return Err(OpenError::Closed);
        }
        let mut locals = lock(&self.shared.locals);
        if locals.len() >= ENDS_MAX {
            return Err(OpenError::TooManyEnds);
        }
        let sockets = self.engine.bind_end()?;
        let end = EndId(u32::try_from(locals.len()).map_err(|_| OpenError::TooManyEnds)?);
        locals.push(self.engine.advertised(&sockets));
        // Told under the lock, so that the worker counts ends in the same order.
        self.tell(Control::AddEnd { session: self.id(), sockets, seed: seed() });
        Ok(end)
    }

    /// Hands a plan to the worker, which carries it out within a millisecond or so. Never waits.
    pub fn apply(&self, plan: MediaPlan) -> Result<(), Refused> {
        if self.is_closed() {
            return Err(Refused::Closed);
        }
        match self.engine.workers.get(self.shared.worker) {
            Some(worker) if worker.has_room() => {
                worker.tell(Control::Apply { session: self.id(), plan });
                Ok(())
            }
            Some(_) | None => Err(Refused::Busy),
        }
    }

    /// The counters as of now. `None` when the session is closed.
    pub async fn counters(&self) -> Option<SessionCounters> {
        let (reply, counters) = oneshot::channel();
        self.tell(Control::Count { session: self.id(), reply });
        counters.await.ok()
    }

    /// The counters as the worker published them last, at most about a second ago; after the close, the final ones.
    pub fn last_counters(&self) -> SessionCounters {
        lock(&self.shared.published).clone()
    }

    /// Closes the session, for all handles. The ports come free after their rest.
    pub fn close(&self) -> Closing {
        let (reply, counters) = oneshot::channel();
        lock(&self.engine.sessions).remove(&self.id());
        if !self.shared.closed.swap(true, Ordering::SeqCst) {
            self.tell(Control::Close { session: self.id(), reply });
        }
        Closing(counters)
    }

    /// Whether it was closed, by anyone.
    pub fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::SeqCst)
    }

    fn tell(&self, control: Control) {
        self.engine.tell(self.shared.worker, control);
    }
}

impl SessionCounters {
    /// The worse of all directions, for the call detail record; `None` when nobody sent anything.
    pub fn quality(&self, codec: Impairment) -> Option<Quality> {
        let of_end = |end: &EndCounters| quality(&end.received, end.rtt_us, codec);
        self.ends.iter().map(of_end).fold(None, worse)
    }
}

impl Future for Closing {
    /// `None` when the session was closed before.
    type Output = Option<SessionCounters>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(Result::ok)
    }
}
