//! The table of connections, with its limits.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, Sender};
use tokio::sync::oneshot;

use super::connection::{self, Connection};
use super::counters::Counters;
use super::lapse::Ends;
use super::{ConnectError, Gate, Incoming, Limits, Path, SendError, Transport};

/// Shared by the transport, its listeners and its connections.
#[derive(Debug, Clone)]
pub(super) struct Connections {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    table: Mutex<Table>,
    limits: Limits,
    gate: Arc<dyn Gate>,
    consumer: Sender<Incoming>,
    counters: Arc<Counters>,
    runtime: Handle,
}

#[derive(Debug, Default)]
struct Table {
    last_id: u64,
    open: HashMap<u64, Open>,
    by_remote: HashMap<SocketAddr, u64>,
    per_source: HashMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Open {
    path: Path,
    /// Dropped when the connection is to end after what is queued.
    queue: Option<Sender<Bytes>>,
    /// Dropped when the connection is to be reset.
    life: Option<oneshot::Sender<Infallible>>,
}

impl Connections {
    pub(super) fn new(
        limits: Limits,
        gate: Arc<dyn Gate>,
        consumer: Sender<Incoming>,
        counters: Arc<Counters>,
        runtime: Handle,
    ) -> Self {
        let table = Mutex::default();
        Self { inner: Arc::new(Inner { table, limits, gate, consumer, counters, runtime }) }
    }

    pub(super) fn len(&self) -> usize {
        self.table().open.len()
    }

    pub(super) fn send(&self, path: &Path, message: Bytes) -> Result<(), SendError> {
        if message.len() > self.inner.limits.message_octets_max {
            return Err(SendError::TooLarge);
        }
        let table = self.table();
        // The number alone does not do: a path that is remembered from before a restart may bear another phone's.
        let open = table.open.get(&path.connection).filter(|open| open.path == *path);
        let open = open.ok_or(SendError::Closed)?;
        let queue = open.queue.as_ref().ok_or(SendError::Closed)?;
        queue.try_send(message).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                self.inner.counters.congested.add();
                SendError::Full
            }
            mpsc::error::TrySendError::Closed(_) => SendError::Closed,
        })
    }

    /// Takes over an accepted stream, or drops it.
    pub(super) fn accept(&self, stream: TcpStream, remote: SocketAddr) {
        let Ok(local) = stream.local_addr() else { return };
        let Ok(connection) = self.register(local, remote) else { return };
        self.inner.runtime.spawn(connection.run(stream, self.clone()));
    }

    pub(super) fn connect(&self, local: IpAddr, remote: SocketAddr) -> Result<Path, ConnectError> {
        if let Some(path) = self.table().to(remote) {
            return Ok(path);
        }
        let (socket, local) =
            outgoing_socket(local, remote).map_err(|error| ConnectError::Io(error.kind()))?;
        let connection = self.register(local, remote).map_err(|TooMany| ConnectError::TooMany)?;
        let path = connection.path();
        self.inner.runtime.spawn(connection.open(socket, self.clone()));
        Ok(path)
    }

    pub(super) fn close(&self, path: &Path) {
        let mut table = self.table();
        // A path of a former process may have the number of another connection now.
        if let Some(open) = table.open.get_mut(&path.connection).filter(|open| open.path == *path) {
            open.queue = None;
            table.by_remote.retain(|_, id| *id != path.connection);
        }
    }

    /// Resets those with these ends; gives how many.
    pub(super) fn reset(&self, ends: &HashSet<Ends>) -> usize {
        let mut table = self.table();
        let is_held = |path: &Path| ends.contains(&(path.local, path.remote));
        let held = table.open.values_mut().filter(|open| is_held(&open.path));
        held.filter_map(|open| open.life.take()).count()
    }

    pub(super) fn close_all(&self) {
        let mut table = self.table();
        table.by_remote.clear();
        table.open.values_mut().for_each(|open| open.queue = None);
    }

    /// A connection has ended: forget it and tell the consumer.
    pub(super) async fn ended(&self, path: Path, reason: super::CloseReason) {
        self.table().remove(&path);
        tracing::debug!(%path, ?reason, "connection ended");
        // No consumer: the transport itself is gone.
        let _ = self.inner.consumer.send(Incoming::Closed { path, reason }).await;
    }

    fn register(&self, local: SocketAddr, remote: SocketAddr) -> Result<Connection, TooMany> {
        let inner = &self.inner;
        let (queue, queued) = mpsc::channel(inner.limits.write_queue_max.max(1));
        let (life, end) = oneshot::channel();
        let Some(path) = self.table().insert(local, remote, (queue, life), &inner.limits) else {
            inner.counters.connections_refused.add();
            return Err(TooMany);
        };
        inner.counters.connections_opened.add();
        Ok(Connection::new(
            path,
            queued,
            end,
            connection::Shared {
                limits: inner.limits.clone(),
                gate: Arc::clone(&inner.gate),
                consumer: inner.consumer.clone(),
                counters: Arc::clone(&inner.counters),
            },
        ))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // The table is whole between any two statements of its methods.
        self.inner.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct TooMany;

impl Table {
    fn to(&self, remote: SocketAddr) -> Option<Path> {
        let id = self.by_remote.get(&remote)?;
        self.open.get(id).filter(|open| open.queue.is_some()).map(|open| open.path)
    }

    fn insert(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
        (queue, life): (Sender<Bytes>, oneshot::Sender<Infallible>),
        limits: &Limits,
    ) -> Option<Path> {
        let from_source = self.per_source.get(&remote.ip()).copied().unwrap_or(0);
        if self.open.len() >= limits.connections_max || from_source >= limits.connections_per_source_max {
            return None;
        }
        self.last_id += 1;
        let path = Path { transport: Transport::Tcp, local, remote, connection: self.last_id };
        self.open.insert(self.last_id, Open { path, queue: Some(queue), life: Some(life) });
        self.by_remote.insert(remote, self.last_id);
        self.per_source.insert(remote.ip(), from_source + 1);
        Some(path)
    }

    fn remove(&mut self, path: &Path) {
        if self.open.remove(&path.connection).is_none() {
            return;
        }
        if self.by_remote.get(&path.remote) == Some(&path.connection) {
            self.by_remote.remove(&path.remote);
        }
        if let Some(count) = self.per_source.get_mut(&path.remote.ip()) {
            *count -= 1;
            if *count == 0 {
                self.per_source.remove(&path.remote.ip());
            }
        }
    }
}

/// A socket that leaves from our address, so that the peer sees the node that it knows.
fn outgoing_socket(local: IpAddr, remote: SocketAddr) -> std::io::Result<(TcpSocket, SocketAddr)> {
    let socket = if remote.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind(SocketAddr::new(local, 0))?;
    let local = socket.local_addr()?;
    Ok((socket, local))
}
