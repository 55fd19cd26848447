//! One TCP connection: a task that cuts what it reads into messages and writes what is queued, one message at a time.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use tandem_sip::framing::{Frame, Framer};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};

use super::connections::Connections;
use super::counters::Counters;
use super::{CloseReason, Gate, Incoming, Limits, Path};

/// Octets taken by one read.
const READ_OCTETS: usize = 16_384;
/// The answer to a keep-alive (RFC 5626 section 4.4.1).
const PONG: Bytes = Bytes::from_static(b"\r\n");

/// What every connection uses.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) limits: Limits,
    pub(super) gate: Arc<dyn Gate>,
    pub(super) consumer: Sender<Incoming>,
    pub(super) counters: Arc<Counters>,
}

/// The state of a connection's task.
#[derive(Debug)]
pub(super) struct Connection {
    path: Path,
    queue: Receiver<Bytes>,
    /// Ends when the connection is to be reset.
    reset: oneshot::Receiver<Infallible>,
    shared: Shared,
    framer: Framer,
    /// What is left of the message that is being written.
    writing: Bytes,
    pong_due: bool,
    /// When the message that is being written began to wait, or the last whole message came or went.
    since: Instant,
    /// When the message that is not whole yet began to come.
    partial: Option<Instant>,
}

impl Connection {
    pub(super) fn new(
        path: Path,
        queue: Receiver<Bytes>,
        reset: oneshot::Receiver<Infallible>,
        shared: Shared,
    ) -> Self {
        let since = Instant::now();
        let (framer, writing) = (Framer::new(), Bytes::new());
        Self { path, queue, reset, shared, framer, writing, pong_due: false, since, partial: None }
    }

    pub(super) fn path(&self) -> Path {
        self.path
    }

    /// Opens the connection, then runs it.
    pub(super) async fn open(self, socket: TcpSocket, connections: Connections) {
        match timeout(self.shared.limits.connect_timeout, socket.connect(self.path.remote)).await {
            Ok(Ok(stream)) => self.run(stream, connections).await,
            Ok(Err(_)) | Err(_) => connections.ended(self.path, CloseReason::Unreachable).await,
        }
    }

    /// Carries messages until either side ends it.
    pub(super) async fn run(mut self, stream: TcpStream, connections: Connections) {
        self.since = Instant::now();
        let reason = match self.prepare(&stream) {
            Ok(()) => self.carry(&stream).await,
            Err(_) => CloseReason::Failed,
        };
        if reason == CloseReason::Lapsed {
            // Whatever the kernel holds goes with the connection. A socket that can't do that has none.
            let _ = stream.set_zero_linger();
        }
        drop(stream);
        connections.ended(self.path, reason).await;
    }

    fn prepare(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let timeout_ms = u32::try_from(self.shared.limits.write_timeout.as_millis()).unwrap_or(u32::MAX);
        Ok(rustix::net::sockopt::set_tcp_user_timeout(stream, timeout_ms)?)
    }

    async fn carry(&mut self, stream: &TcpStream) -> CloseReason {
        let mut buffer = vec![0; READ_OCTETS];
        loop {
            let busy = !self.writing.is_empty();
            let (deadline, overdue) = self.deadline();
            let step = tokio::select! {
                ready = stream.readable() => match ready {
                    Ok(()) => self.read(stream, &mut buffer).await,
                    Err(_) => Err(CloseReason::Failed),
                },
                ready = stream.writable(), if busy => match ready {
                    Ok(()) => self.write(stream),
                    Err(_) => Err(CloseReason::Failed),
                },
                message = self.queue.recv(), if !busy => match message {
                    Some(message) => self.begin(stream, message),
                    None => Err(CloseReason::ByUs),
                },
                _ = &mut self.reset => Err(CloseReason::Lapsed),
                () = sleep_until(deadline) => Err(overdue),
            };
            if let Err(reason) = step {
                if reason == CloseReason::Partial {
                    self.shared.counters.partial.add();
                }
                return reason;
            }
        }
    }

    /// Until when the peer has to do what is waited for, and what it is called when it doesn't.
    fn deadline(&self) -> (Instant, CloseReason) {
        let limits = &self.shared.limits;
        let quiet = match self.writing.is_empty() {
            true => (self.since + limits.idle_timeout, CloseReason::Idle),
            false => (self.since + limits.write_timeout, CloseReason::Stalled),
        };
        match self.partial.map(|began| began + limits.message_timeout) {
            Some(whole) if whole < quiet.0 => (whole, CloseReason::Partial),
            Some(_) | None => quiet,
        }
    }

    async fn read(&mut self, stream: &TcpStream, buffer: &mut [u8]) -> Result<(), CloseReason> {
        let len = match stream.try_read(buffer) {
            Ok(0) => return Err(CloseReason::ByPeer),
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(_) => return Err(CloseReason::Failed),
        };
        self.framer.push(buffer.get(..len).unwrap_or_default());
        while let Some(frame) = self.next_frame()? {
            self.partial = None;
            self.take(stream, frame).await?;
        }
        match self.framer.is_mid_message() {
            true => self.partial = self.partial.or_else(|| Some(Instant::now())),
            false => self.partial = None,
        }
        Ok(())
    }

    fn next_frame(&mut self) -> Result<Option<Frame>, CloseReason> {
        let frame = self.framer.next().map_err(|_| CloseReason::Framing);
        let too_long = |bytes: &Bytes| bytes.len() > self.shared.limits.message_octets_max;
        match frame {
            Ok(Some(Frame::Message(bytes))) if too_long(&bytes) => {
                self.shared.counters.malformed.add();
                Err(CloseReason::Framing)
            }
            Err(reason) => {
                self.shared.counters.malformed.add();
                Err(reason)
            }
            Ok(frame) => Ok(frame),
        }
    }

    async fn take(&mut self, stream: &TcpStream, frame: Frame) -> Result<(), CloseReason> {
        if self.writing.is_empty() {
            self.since = Instant::now();
        }
        match frame {
            Frame::Message(bytes) => {
                self.shared.counters.received.add();
                let message = Incoming::Message { path: self.path, bytes };
                self.shared.consumer.send(message).await.map_err(|_| CloseReason::ByUs)
            }
            Frame::Ping => {
                self.shared.counters.keepalives.add();
                self.pong_due = true;
                self.pong(stream)
            }
            Frame::Pong => Ok(()),
        }
    }

    /// Answers a keep-alive between messages. It names no call, so the gate is not asked.
    fn pong(&mut self, stream: &TcpStream) -> Result<(), CloseReason> {
        if self.pong_due && self.writing.is_empty() {
            self.pong_due = false;
            self.writing = PONG;
            self.write(stream)?;
        }
        Ok(())
    }

    /// Begins a message, if this node may still say it.
    fn begin(&mut self, stream: &TcpStream, message: Bytes) -> Result<(), CloseReason> {
        if !self.shared.gate.may_send(&self.path, &message) {
            self.shared.counters.fenced.add();
            return Ok(());
        }
        self.since = Instant::now();
        self.writing = message;
        self.shared.counters.sent.add();
        self.write(stream)
    }

    fn write(&mut self, stream: &TcpStream) -> Result<(), CloseReason> {
        while !self.writing.is_empty() {
            match stream.try_write(&self.writing) {
                Ok(len) => {
                    self.writing.advance(len);
                    self.since = Instant::now();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(CloseReason::Failed),
            }
        }
        self.pong(stream)
    }
}
