//! The calling side: for each peer and lane a queue and a task that keeps the connection.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tandem_state::NodeId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::handshake::{Client, HandshakeError, Refused};
use super::wire::{FRAME_MAX, Frame, Kind, read};
use super::{Lane, Link, Method};
use crate::acquaintances::Acquaintances;
use crate::net;
use crate::peer::PeerError;
use crate::secrets::Secrets;

/// All peers that this node talks to, and where they are.
pub(crate) struct Peers {
    caller: Arc<Caller>,
    addresses: Arc<Addresses>,
    lanes: Mutex<HashMap<(NodeId, Lane), mpsc::Sender<Outgoing>>>,
    /// The highest generation of this cluster that was heard of.
    newer: Arc<watch::Sender<u64>>,
    stop: watch::Receiver<bool>,
}

/// With what this node calls others.
pub(crate) struct Caller {
    pub(crate) introduction: Client,
    pub(crate) secrets: Arc<Secrets>,
    pub(crate) acquaintances: Arc<Acquaintances>,
    /// Why this node must end, once another one says so.
    pub(crate) condemned: watch::Sender<Option<String>>,
}

#[derive(Default)]
struct Addresses(Mutex<BTreeMap<NodeId, String>>);

impl Addresses {
    fn knows(&self, node: NodeId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&node)
    }

    fn get(&self, node: NodeId) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&node).cloned()
    }
}

struct Outgoing {
    method: Method,
    payload: Bytes,
    reply: Option<oneshot::Sender<Result<Bytes, PeerError>>>,
}

/// Messages that may wait for one peer and lane.
const QUEUE_MAX: usize = 4096;
/// Requests without a response on one connection.
const OPEN_MAX: usize = 16_384;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// After a failed connect, messages are refused for so long without another try.
const COOL_DOWN: Duration = Duration::from_millis(100);
/// How soon a node whose connection ended is tried again.
const WATCH_AGAIN: Duration = Duration::from_millis(5);
/// A peer that owes responses and sends nothing for so long is given up.
const SILENCE: Duration = Duration::from_secs(3);

impl Peers {
    pub(crate) fn new(caller: Caller, stop: watch::Receiver<bool>) -> Peers {
        Peers {
            caller: Arc::new(caller),
            addresses: Arc::default(),
            lanes: Mutex::default(),
            newer: Arc::new(watch::Sender::new(0)),
            stop,
        }
    }

    /// How this node introduces itself.
    pub(crate) fn introduction(&self) -> &Client {
        &self.caller.introduction
    }

    /// Learns of a generation of this cluster.
    pub(crate) fn heard_of(&self, generation: u64) {
        hear(&self.newer, generation);
    }

    /// Returns once a higher generation than this node's was heard of.
    pub(crate) async fn superseded(&self) -> u64 {
        let mut newer = self.newer.subscribe();
        let own = self.caller.introduction.generation;
        let heard = newer.wait_for(|heard| *heard > own).await.map(|heard| *heard);
        match heard {
            Ok(heard) => heard,
            Err(_) => std::future::pending().await,
        }
    }

    /// Learns where a peer is.
    pub(crate) fn set_address(&self, node: NodeId, address: &str) {
        let mut addresses = self.addresses.0.lock().unwrap_or_else(PoisonError::into_inner);
        if addresses.get(&node).is_none_or(|known| known != address) {
            tracing::debug!(%node, address, "peer address");
            addresses.insert(node, address.to_owned());
        }
    }

    /// Learns where a peer may be, if nothing better is known.
    pub(crate) fn hint_address(&self, node: NodeId, address: &str) {
        let mut addresses = self.addresses.0.lock().unwrap_or_else(PoisonError::into_inner);
        addresses.entry(node).or_insert_with(|| address.to_owned());
    }

    /// Whether a peer is at this address. One that is known by a name alone is at none.
    pub(crate) fn are_at(&self, host: IpAddr) -> bool {
        let addresses = self.addresses.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = addresses.values().filter_map(|address| address.parse::<SocketAddr>().ok());
        known.any(|address| address.ip().to_canonical() == host.to_canonical())
    }

    /// Sends a request and waits for the response.
    pub(crate) async fn call(
        &self,
        node: NodeId,
        method: Method,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, PeerError> {
        let (reply, told) = oneshot::channel();
        self.send(node, Outgoing { method, payload, reply: Some(reply) })?;
        match tokio::time::timeout(timeout, told).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(PeerError::Stopped),
            Err(_) => Err(PeerError::Timeout),
        }
    }

    /// As the leader of a term: a peer has the log on its disk up to there.
    pub(crate) fn acknowledged(&self, node: NodeId, term: u64, position: u64) {
        self.caller.acquaintances.acknowledged(node, term, position);
    }

    /// Queues a one-way message.
    pub(crate) fn tell(&self, node: NodeId, method: Method, payload: Bytes) -> Result<(), PeerError> {
        self.send(node, Outgoing { method, payload, reply: None })
    }

    /// Waits until the node's process is gone: a connection to it ended, and the next is refused. One that is silent, or
    /// that this node can't reach, is not gone.
    pub(crate) async fn until_gone(&self, node: NodeId) {
        let mut ended = None::<Instant>;
        loop {
            match self.watch(node).await {
                // It was taken, maybe by a listener that is just dying, and ended.
                Ok(()) => ended = Some(Instant::now()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && ended.is_some() => return,
                Err(_) => {}
            }
            let fresh = ended.is_some_and(|at| at.elapsed() < Duration::from_secs(1));
            tokio::time::sleep(if fresh { WATCH_AGAIN } else { COOL_DOWN }).await;
        }
    }

    /// Knocks at an address where a node of another time of this cluster was. Who is there learns who calls; what it says of
    /// this node does not count.
    pub(crate) async fn knock(&self, node: NodeId, address: &str) -> Result<(), HandshakeError> {
        let knocked = self.caller.meet(address, Lane::Watch, node);
        let late = || HandshakeError::from(io::Error::from(io::ErrorKind::TimedOut));
        tokio::time::timeout(CONNECT_TIMEOUT, knocked).await.unwrap_or_else(|_| Err(late())).map(drop)
    }

    /// Connects to a node and waits for the connection's end.
    async fn watch(&self, node: NodeId) -> io::Result<()> {
        let address = self.addresses.get(node).ok_or(io::ErrorKind::AddrNotAvailable)?;
        let made = tokio::time::timeout(CONNECT_TIMEOUT, self.caller.dial(&address, Lane::Watch, node)).await;
        let mut link = made.map_err(io::Error::from)?.map_err(|error| match error {
            HandshakeError::Io(error) => error,
            other => io::Error::other(other),
        })?;
        while link.read_u8().await.is_ok() {}
        Ok(())
    }

    fn send(&self, node: NodeId, outgoing: Outgoing) -> Result<(), PeerError> {
        if outgoing.payload.len() > FRAME_MAX / 2 {
            return Err(PeerError::TooLong);
        }
        if !self.addresses.knows(node) {
            return Err(PeerError::NoNode);
        }
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = outgoing.method.lane();
        let sender = lanes.entry((node, lane)).or_insert_with(|| self.open(node, lane));
        sender.try_send(outgoing).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                metrics::counter!("tandem_rpc_overload_total").increment(1);
                PeerError::Overloaded
            }
            mpsc::error::TrySendError::Closed(_) => PeerError::Stopped,
        })
    }

    fn open(&self, node: NodeId, lane: Lane) -> mpsc::Sender<Outgoing> {
        let (sender, queue) = mpsc::channel(QUEUE_MAX);
        let task = LaneTask {
            node,
            lane,
            caller: Arc::clone(&self.caller),
            addresses: Arc::clone(&self.addresses),
            newer: Arc::clone(&self.newer),
            queue,
            refused: None,
            said: String::new(),
        };
        let mut stop = self.stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = task.run() => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        });
        sender
    }
}

/// Keeps one connection: made when there is something to send, made again after it broke.
struct LaneTask {
    node: NodeId,
    lane: Lane,
    caller: Arc<Caller>,
    addresses: Arc<Addresses>,
    newer: Arc<watch::Sender<u64>>,
    queue: mpsc::Receiver<Outgoing>,
    /// When and why the last try failed.
    refused: Option<(Instant, String)>,
    /// What was logged last, so that it isn't repeated for hours.
    said: String,
}

type Open = Arc<Mutex<HashMap<u64, oneshot::Sender<Result<Bytes, PeerError>>>>>;

impl LaneTask {
    async fn run(mut self) {
        while let Some(first) = self.queue.recv().await {
            match self.connect().await {
                Ok(link) => {
                    self.said.clear();
                    let why = self.talk(link, first).await;
                    tracing::debug!(node = %self.node, lane = ?self.lane, %why, "connection ended");
                }
                Err(why) => {
                    if why != self.said {
                        tracing::warn!(node = %self.node, lane = ?self.lane, %why, "no connection to the node");
                        self.said.clone_from(&why);
                    }
                    refuse(first, &why);
                    while let Ok(waiting) = self.queue.try_recv() {
                        refuse(waiting, &why);
                    }
                }
            }
        }
    }

    async fn connect(&mut self) -> Result<Box<dyn Link>, String> {
        if let Some((at, why)) = &self.refused
            && at.elapsed() < COOL_DOWN
        {
            return Err(why.clone());
        }
        let address = self.addresses.get(self.node).ok_or("its address is not known")?;
        let made =
            tokio::time::timeout(CONNECT_TIMEOUT, self.caller.dial(&address, self.lane, self.node)).await;
        let result = match made {
            Ok(Ok(link)) => Ok(link),
            Ok(Err(error)) => {
                if let HandshakeError::Refused(Refused::Generation { called, .. }) = &error {
                    hear(&self.newer, *called);
                }
                Err(format!("{address}: {error}"))
            }
            Err(_) => Err(format!("{address}: no answer in time")),
        };
        self.refused = result.as_ref().err().map(|why| (Instant::now(), why.clone()));
        result
    }

    /// Sends and receives until the connection ends. Returns why it did.
    async fn talk(&mut self, link: Box<dyn Link>, first: Outgoing) -> String {
        let (mut reading, mut writing) = tokio::io::split(link);
        let open: Open = Arc::default();
        let heard = Arc::new(Mutex::new(Instant::now()));
        let receive = receive(&mut reading, &open, &heard);
        let send = send(&mut self.queue, &mut writing, first, &open);
        let why = tokio::select! {
            ended = receive => ended,
            ended = send => ended,
            () = silence(&open, &heard) => Err(io::ErrorKind::TimedOut.into()),
        };
        let why = why.map_or_else(|e| e.to_string(), |()| "closed".to_owned());
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, reply) in open.drain() {
            let _ = reply.send(Err(PeerError::Unreachable(why.clone())));
        }
        why
    }
}

impl Caller {
    /// [`Caller::meet`]; should the other side know better who this node is, this process is at its end.
    async fn dial(&self, address: &str, lane: Lane, node: NodeId) -> Result<Box<dyn Link>, HandshakeError> {
        let met = self.meet(address, lane, node).await;
        if let Err(HandshakeError::Refused(why)) = &met
            && why.ends(self.introduction.node)
        {
            if matches!(why, Refused::Removed(_))
                && let Err(error) = self.secrets.keep_removed()
            {
                tracing::error!(%error, "that this node was removed could not be written down");
            }
            self.condemned.send_replace(Some(why.to_string()));
        }
        met
    }

    /// Connects, proves who is there on both sides, and introduces this node.
    async fn meet(&self, address: &str, lane: Lane, node: NodeId) -> Result<Box<dyn Link>, HandshakeError> {
        #[cfg(any(test, feature = "faults"))]
        super::faults::passable(node).await;
        let stream = net::connect(address).await?;
        #[cfg(any(test, feature = "faults"))]
        let stream = super::faults::over(stream, super::faults::Whose::of(node));
        let ends = self.secrets.ends();
        let mut link = ends.connect(stream, self.introduction.cluster, node).await?;
        let met = self.introduction.open(&mut link, lane, node).await?;
        self.acquaintances.meet(node, met).map_err(HandshakeError::Refusing)?;
        Ok(link)
    }
}

fn hear(newer: &watch::Sender<u64>, generation: u64) {
    newer.send_if_modified(|heard| std::mem::replace(heard, generation.max(*heard)) < generation);
}

fn refuse(outgoing: Outgoing, why: &str) {
    match outgoing.reply {
        Some(reply) => drop(reply.send(Err(PeerError::Unreachable(why.to_owned())))),
        None => metrics::counter!("tandem_rpc_dropped_total").increment(1),
    }
}

async fn send(
    queue: &mut mpsc::Receiver<Outgoing>,
    to: &mut (impl tokio::io::AsyncWrite + Unpin),
    first: Outgoing,
    open: &Open,
) -> io::Result<()> {
    const BUFFER: usize = 64 * 1024;
    let mut id = 0;
    let mut buffer = BytesMut::new();
    let mut next = Some(first);
    while let Some(outgoing) = next.take() {
        id += 1;
        frame(outgoing, id, open, &mut buffer);
        while buffer.len() < BUFFER {
            let Ok(more) = queue.try_recv() else { break };
            id += 1;
            frame(more, id, open, &mut buffer);
        }
        to.write_all(&buffer).await?;
        to.flush().await?;
        buffer.clear();
        next = queue.recv().await;
    }
    Ok(())
}

fn frame(outgoing: Outgoing, id: u64, open: &Open, buffer: &mut BytesMut) {
    let kind = if let Some(reply) = outgoing.reply {
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= OPEN_MAX {
            open.retain(|_, reply| !reply.is_closed());
        }
        if open.len() >= OPEN_MAX {
            let _ = reply.send(Err(PeerError::Overloaded));
            return;
        }
        open.insert(id, reply);
        Kind::Request
    } else {
        Kind::OneWay
    };
    Frame { kind, id, method: outgoing.method.byte(), payload: outgoing.payload }.put(buffer);
}

async fn receive(
    from: &mut (impl tokio::io::AsyncRead + Unpin),
    open: &Open,
    heard: &Mutex<Instant>,
) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    while let Some(frame) = read(from, &mut buffer).await? {
        *heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        let result = match frame.kind {
            Kind::Done => Ok(frame.payload),
            Kind::Failed => Err(failure(&frame.payload)),
            Kind::Pulse | Kind::Request | Kind::OneWay => continue,
        };
        if let Some(reply) = open.lock().unwrap_or_else(PoisonError::into_inner).remove(&frame.id) {
            let _ = reply.send(result);
        }
    }
    Ok(())
}

/// A refusal as the server wrote it.
fn failure(payload: &[u8]) -> PeerError {
    match payload {
        b"no handler" => PeerError::NoHandler,
        other => PeerError::Unreachable(String::from_utf8_lossy(other).into_owned()),
    }
}

/// Returns when responses are owed and nothing was heard for too long.
async fn silence(open: &Open, heard: &Mutex<Instant>) {
    let mut idle_since = Instant::now();
    loop {
        tokio::time::sleep(Duration::from_millis(250)).await;
        let owed = !open.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        if !owed {
            idle_since = Instant::now();
        }
        let last = *heard.lock().unwrap_or_else(PoisonError::into_inner);
        if owed && last.max(idle_since).elapsed() > SILENCE {
            return;
        }
    }
}
