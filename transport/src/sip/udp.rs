//! The UDP sockets: one reader task each, which empties the socket at every wake-up.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::mpsc::Sender;
use tokio::task::AbortHandle;

use super::counters::Counters;
use super::stun;
use super::{Gate, Incoming, Limits, Path, SendError, SipConfig, Transport};

/// Largest payload of a UDP datagram.
const DATAGRAM_MAX: usize = 65_507;
/// Datagrams taken before other tasks get their turn.
const BURST: usize = 64;
/// How long a reader rests after an error of its socket, so that a lasting one does not spin.
const REST: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(super) struct UdpSockets {
    sockets: Vec<Bound>,
    gate: Arc<dyn Gate>,
    counters: Arc<Counters>,
    octets_max: usize,
}

#[derive(Debug)]
struct Bound {
    local: SocketAddr,
    socket: Arc<UdpSocket>,
}

struct Reader {
    local: SocketAddr,
    socket: Arc<UdpSocket>,
    gate: Arc<dyn Gate>,
    consumer: Sender<Incoming>,
    counters: Arc<Counters>,
    octets_max: usize,
}

impl UdpSockets {
    pub(super) fn bind(config: &SipConfig, gate: Arc<dyn Gate>, counters: Arc<Counters>) -> io::Result<Self> {
        let bind = |at: &SocketAddr| {
            Bound::bind(*at, config.limits.receive_buffer_octets)
                .map_err(|error| super::cannot_listen(*at, "udp", &error))
        };
        let sockets = config.udp.iter().map(bind).collect::<io::Result<_>>()?;
        Ok(Self { sockets, gate, counters, octets_max: config.limits.message_octets_max.min(DATAGRAM_MAX) })
    }

    pub(super) fn locals(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.sockets.iter().map(|bound| bound.local)
    }

    pub(super) fn spawn_readers(&self, limits: &Limits, consumer: &Sender<Incoming>) -> Vec<AbortHandle> {
        let reader = |bound: &Bound| Reader {
            local: bound.local,
            socket: Arc::clone(&bound.socket),
            gate: Arc::clone(&self.gate),
            consumer: consumer.clone(),
            counters: Arc::clone(&self.counters),
            octets_max: limits.message_octets_max,
        };
        self.sockets.iter().map(|bound| tokio::spawn(reader(bound).run()).abort_handle()).collect()
    }

    pub(super) fn send(&self, path: &Path, message: &Bytes) -> Result<(), SendError> {
        let bound = self.sockets.iter().find(|bound| bound.local == path.local).ok_or(SendError::Closed)?;
        if message.len() > self.octets_max {
            return Err(SendError::TooLarge);
        }
        if !self.gate.may_send(path, message) {
            self.counters.fenced.add();
            return Err(SendError::Fenced);
        }
        match bound.socket.try_send_to(message, path.remote) {
            Ok(_) => {
                self.counters.sent.add();
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.counters.congested.add();
                Err(SendError::Full)
            }
            Err(error) => Err(SendError::Io(error.kind())),
        }
    }
}

impl Bound {
    fn bind(at: SocketAddr, receive_buffer: usize) -> io::Result<Self> {
        let socket = std::net::UdpSocket::bind(at)?;
        socket.set_nonblocking(true)?;
        // The kernel caps it at net.core.rmem_max; less than asked is no reason not to start.
        if let Err(error) = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, receive_buffer) {
            tracing::warn!(%at, %error, "the receive buffer stays as it is");
        }
        let socket = Arc::new(UdpSocket::from_std(socket)?);
        Ok(Self { local: socket.local_addr()?, socket })
    }
}

impl Reader {
    async fn run(self) {
        let mut buffer = vec![0; DATAGRAM_MAX + 1];
        loop {
            let result = match self.socket.readable().await {
                Ok(()) => self.drain(&mut buffer),
                Err(error) => Err(error),
            };
            if let Err(error) = result {
                tracing::debug!(local = %self.local, %error, "a UDP socket failed to read");
                tokio::time::sleep(REST).await;
            }
            tokio::task::yield_now().await;
        }
    }

    fn drain(&self, buffer: &mut [u8]) -> io::Result<()> {
        for _ in 0..BURST {
            match self.socket.try_recv_from(buffer) {
                Ok((len, remote)) => self.take(buffer.get(..len).unwrap_or_default(), remote),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn take(&self, datagram: &[u8], remote: SocketAddr) {
        // Phones keep their translator's binding open with a few empty octets; they want no answer.
        if datagram.len() <= 4 && datagram.iter().all(|octet| matches!(octet, b'\r' | b'\n' | b' ' | 0)) {
            return self.counters.keepalives.add();
        }
        if datagram.len() > self.octets_max {
            return self.counters.malformed.add();
        }
        let path = Path { transport: Transport::Udp, local: self.local, remote, connection: 0 };
        if stun::is_one(datagram) {
            return self.keep_alive(&path, datagram);
        }
        let message = Incoming::Message { path, bytes: Bytes::copy_from_slice(datagram) };
        match self.consumer.try_send(message) {
            Ok(()) => self.counters.received.add(),
            Err(_) => self.counters.dropped.add(),
        }
    }

    /// A phone asks whether its flow is still one. The gate judges the answer like all that is sent.
    fn keep_alive(&self, path: &Path, datagram: &[u8]) {
        match stun::answer(datagram, path.remote) {
            Some(answer) if self.gate.may_send(path, &answer) => {
                self.counters.keepalives.add();
                // One that is lost is asked for again.
                let _ = self.socket.try_send_to(&answer, path.remote);
            }
            Some(_) => self.counters.fenced.add(),
            None => self.counters.malformed.add(),
        }
    }
}
