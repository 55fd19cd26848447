//! SIP over UDP and TCP: whole messages in and out, on paths.
//!
//! What arrives goes into one bounded channel as [`Incoming`]. A UDP message that finds it full is dropped and counted
//! (its sender repeats it); a TCP reader waits, so the peer is slowed down. What is sent never waits: [`SipTransport::send`]
//! hands it to the socket or the connection's bounded queue, or refuses.
//!
//! Authority is asked in one place, [`Gate`], just before the system call.

mod connection;
mod connections;
mod counters;
mod gate;
mod lapse;
mod listener;
mod path;
mod stun;
mod udp;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use connections::Connections;
use counters::Counters;
use udp::UdpSockets;

pub use counters::SipCounters;
pub use gate::{Gate, OpenGate};
pub use path::{Path, Transport};

/// Where to listen, and the limits.
#[derive(Debug, Clone, Default)]
pub struct SipConfig {
    /// UDP addresses. Port 0 takes any free one.
    pub udp: Vec<SocketAddr>,
    /// TCP addresses.
    pub tcp: Vec<SocketAddr>,
    /// Limits of queues and tables.
    pub limits: Limits,
}

/// Limits of queues and tables.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at a time.
    pub connections_max: usize,
    /// Connections at a time from one address.
    pub connections_per_source_max: usize,
    /// A connection without a message or keep-alive for this long is closed.
    pub idle_timeout: Duration,
    /// A connection on which a message has begun and is not whole after this long is closed, however it drips.
    pub message_timeout: Duration,
    /// A peer that takes nothing of a message for this long is closed.
    pub write_timeout: Duration,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// Octets of one message, either way.
    pub message_octets_max: usize,
    /// Messages waiting on one connection.
    pub write_queue_max: usize,
    /// Messages waiting for the consumer.
    pub incoming_max: usize,
    /// Receive buffer of each UDP socket, as asked of the kernel.
    pub receive_buffer_octets: usize,
}

/// What arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// One message, framed and not yet parsed.
    Message {
        /// Where it came from, and where an answer goes.
        path: Path,
        /// The message.
        bytes: Bytes,
    },
    /// A connection has ended, or never came about. Messages that were queued on it are lost.
    Closed {
        /// The connection.
        path: Path,
        /// Why.
        reason: CloseReason,
    },
}

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer closed it.
    ByPeer,
    /// We did.
    ByUs,
    /// Nothing came for too long.
    Idle,
    /// A message that had begun did not come whole in time.
    Partial,
    /// The peer took nothing for too long.
    Stalled,
    /// The stream can't be cut into messages.
    Framing,
    /// It could not be opened.
    Unreachable,
    /// The socket failed.
    Failed,
    /// The epoch under which this node spoke ended, and the peer had not acknowledged all of it.
    Lapsed,
}

/// Why a message was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The connection is gone, or the path's socket is not ours.
    #[error("the path is closed")]
    Closed,
    /// The connection's queue or the socket's buffer is full.
    #[error("the path is congested")]
    Full,
    /// Longer than allowed, or than a datagram can be.
    #[error("the message is too long")]
    TooLarge,
    /// This node may not speak now (see [`Gate`]).
    #[error("no authority to send")]
    Fenced,
    /// The kernel refused.
    #[error("the socket failed: {0}")]
    Io(io::ErrorKind),
}

/// Why no connection is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// As many as allowed, altogether or to that address.
    #[error("too many connections")]
    TooMany,
    /// No TCP address of ours is of the remote's family.
    #[error("no local address of that family")]
    NoLocalAddress,
    /// The kernel refused.
    #[error("the socket failed: {0}")]
    Io(io::ErrorKind),
}

/// The SIP sockets of a node. Clones share them.
#[derive(Debug, Clone)]
pub struct SipTransport {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    udp: UdpSockets,
    connections: Connections,
    tcp_locals: Vec<SocketAddr>,
    counters: Arc<Counters>,
    readers: Vec<AbortHandle>,
}

impl SipTransport {
    /// Binds every address, or none; nobody is asked before sending. To be called within a tokio runtime.
    pub fn bind(config: SipConfig) -> io::Result<(Self, mpsc::Receiver<Incoming>)> {
        Self::bind_gated(config, Arc::new(OpenGate))
    }

    /// Binds every address, or none; `gate` is asked before each write.
    pub fn bind_gated(
        config: SipConfig,
        gate: Arc<dyn Gate>,
    ) -> io::Result<(Self, mpsc::Receiver<Incoming>)> {
        let (sender, receiver) = mpsc::channel(config.limits.incoming_max.max(1));
        let counters = Arc::new(Counters::default());
        let udp = UdpSockets::bind(&config, Arc::clone(&gate), Arc::clone(&counters))?;
        let listen = |at: &SocketAddr| listener::bind(*at).map_err(|error| cannot_listen(*at, "tcp", &error));
        let listeners = config.tcp.iter().map(listen).collect::<io::Result<Vec<_>>>()?;
        let tcp_locals =
            listeners.iter().map(tokio::net::TcpListener::local_addr).collect::<io::Result<_>>()?;
        let connections = Connections::new(
            config.limits.clone(),
            Arc::clone(&gate),
            sender.clone(),
            Arc::clone(&counters),
            Handle::current(),
        );
        let mut readers = udp.spawn_readers(&config.limits, &sender);
        readers.push(tokio::spawn(lapse::watch(gate, connections.clone())).abort_handle());
        for listener in listeners {
            readers.push(tokio::spawn(listener::accept(listener, connections.clone())).abort_handle());
        }
        Ok((Self { shared: Arc::new(Shared { udp, connections, tcp_locals, counters, readers }) }, receiver))
    }

    /// Sends one whole message, now or in its turn on the connection; never waits.
    pub fn send(&self, path: &Path, message: Bytes) -> Result<(), SendError> {
        match path.transport {
            Transport::Udp => self.shared.udp.send(path, &message),
            Transport::Tcp => self.shared.connections.send(path, message),
        }
    }

    /// The path to a remote address over UDP, from our first socket of its family.
    pub fn udp_path(&self, remote: SocketAddr) -> Option<Path> {
        let local = self.shared.udp.locals().find(|local| local.is_ipv4() == remote.is_ipv4())?;
        Some(Path { transport: Transport::Udp, local, remote, connection: 0 })
    }

    /// The connection to a remote address: the one there is, or a new one, on which messages wait until it is open. If
    /// it can't be opened, [`Incoming::Closed`] says so.
    pub fn connect(&self, remote: SocketAddr) -> Result<Path, ConnectError> {
        let local = self.shared.tcp_locals.iter().find(|local| local.is_ipv4() == remote.is_ipv4());
        self.shared.connections.connect(local.ok_or(ConnectError::NoLocalAddress)?.ip(), remote)
    }

    /// Closes one connection after what is queued on it.
    pub fn close(&self, path: &Path) {
        self.shared.connections.close(path);
    }

    /// The addresses that are bound, for either transport.
    pub fn locals(&self, transport: Transport) -> Vec<SocketAddr> {
        match transport {
            Transport::Udp => self.shared.udp.locals().collect(),
            Transport::Tcp => self.shared.tcp_locals.clone(),
        }
    }

    /// What was carried, dropped and refused so far.
    pub fn counters(&self) -> SipCounters {
        SipCounters { connections: self.shared.connections.len(), ..self.shared.counters.read() }
    }

    /// Stops listening, and closes each connection after what is queued on it.
    pub fn shutdown(&self) {
        self.shared.readers.iter().for_each(AbortHandle::abort);
        self.shared.connections.close_all();
    }
}

/// A failure that names the address.
fn cannot_listen(at: SocketAddr, transport: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{at}/{transport}: {error}"))
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.readers.iter().for_each(AbortHandle::abort);
        self.connections.close_all();
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Two thirds of 100,000 phones: three nodes' share while one of them is down.
            connections_max: 66_000,
            connections_per_source_max: 1_000,
            idle_timeout: Duration::from_secs(600),
            message_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(20),
            connect_timeout: Duration::from_secs(5),
            message_octets_max: 65_535,
            write_queue_max: 256,
            incoming_max: 8_192,
            receive_buffer_octets: 4 << 20,
        }
    }
}
