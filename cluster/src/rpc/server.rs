//! The answering side: takes connections, checks who is there, hands requests to the node.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tandem_state::NodeId;
use tokio::io::AsyncWriteExt;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;

use super::hall::{Hall, Place};
use super::handshake::{Gate, HandshakeError, Hello, Purpose, receive};
use super::wire::{Frame, Kind, read};
use super::{Link, Method};
use crate::net::Listener;
use crate::secrets::Secrets;

/// A response on its way; the error is told in words.
pub(crate) type Answer = Pin<Box<dyn Future<Output = Result<Bytes, String>> + Send>>;

/// What a node does with what others ask.
pub(crate) trait Service: Gate + 'static {
    /// Whether a member is known to be at an address.
    fn is_of_member(&self, host: IpAddr) -> bool;
    /// A request.
    fn request(self: Arc<Self>, from: NodeId, method: Method, payload: Bytes) -> Answer;
    /// Returns when a node has been removed from the cluster.
    fn expelled(self: Arc<Self>, node: NodeId) -> Pin<Box<dyn Future<Output = ()> + Send>>;
    /// A one-way message, in order.
    fn one_way(&self, from: NodeId, method: Method, payload: Bytes);
}

/// Requests of one connection in work at once; more wait in the kernel.
const IN_WORK_MAX: usize = 1024;
/// Connections of members at once; those that have not proved themselves have places of their own ([`Hall`]).
const CONNECTIONS_MAX: usize = 512;
/// Several round trips of the longest links, and a busy machine.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);
/// While responses are owed, the client hears at least this often that the server is alive.
const PULSE: Duration = Duration::from_millis(700);

/// Takes connections until stopped.
pub(crate) async fn serve<S: Service>(
    mut listener: Listener,
    service: Arc<S>,
    secrets: Arc<Secrets>,
    mut stop: watch::Receiver<bool>,
) {
    let doors = Arc::new(Doors {
        service,
        secrets,
        hall: Hall::new(),
        connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        refusals: Refusals::default(),
    });
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "the cluster port can't accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let place = doors.hall.enter(remote.ip(), doors.service.is_of_member(remote.ip()));
        let (doors, mut stop) = (Arc::clone(&doors), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = doors.receive(stream, remote, place) => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        });
    }
}

/// What all connections go through.
struct Doors<S> {
    service: Arc<S>,
    secrets: Arc<Secrets>,
    hall: Arc<Hall>,
    connections: Arc<Semaphore>,
    refusals: Refusals,
}

impl<S: Service> Doors<S> {
    /// One connection, from its first byte to its end.
    async fn receive(&self, stream: Box<dyn Link>, remote: SocketAddr, mut place: Place) {
        let met = tokio::select! {
            met = met(stream, &*self.service, &self.secrets) => met,
            () = place.given_up() => Err(late("its place was needed before it had proved who it is")),
        };
        drop(place);
        let (link, hello) = match met {
            Ok(met) => met,
            Err(error) => return self.refusals.tell(remote, &error),
        };
        if matches!(hello.purpose, Purpose::Join { .. }) {
            return tracing::info!(node = %hello.node, %remote, "a new node was given its certificate");
        }
        self.hall.proved(hello.node, remote.ip());
        match Arc::clone(&self.connections).try_acquire_owned() {
            Ok(_permit) => converse(link, hello.node, Arc::clone(&self.service), remote).await,
            Err(_) => self.refusals.tell(remote, &late("members have too many connections already")),
        }
    }
}

/// Who was refused is logged once a second at most: anybody can call.
#[derive(Default)]
struct Refusals(Mutex<Option<Instant>>);

impl Refusals {
    fn tell(&self, remote: SocketAddr, error: &HandshakeError) {
        const PAUSE: Duration = Duration::from_secs(1);
        metrics::counter!("tandem_rpc_refused_total").increment(1);
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| last.elapsed() < PAUSE) {
            return tracing::debug!(%remote, %error, "a connection to the cluster port was refused");
        }
        *last = Some(Instant::now());
        tracing::warn!(%remote, %error, "a connection to the cluster port was refused");
    }
}

/// TLS, and the handshake inside it.
async fn met<S: Service>(
    stream: Box<dyn Link>,
    service: &S,
    secrets: &Secrets,
) -> Result<(Box<dyn Link>, Hello), HandshakeError> {
    let meet = async {
        #[cfg(any(test, feature = "faults"))]
        let whose = super::faults::Whose::default();
        #[cfg(any(test, feature = "faults"))]
        let stream = super::faults::over(stream, whose.clone());
        let (mut link, presented) = secrets.ends().accept(stream).await?;
        #[cfg(any(test, feature = "faults"))]
        whose.is_one_of(|node| presented.names(service.me().0, node));
        let hello = receive(&mut link, &presented, service).await?;
        #[cfg(any(test, feature = "faults"))]
        whose.is(hello.node);
        Ok((link, hello))
    };
    let met = tokio::time::timeout(HANDSHAKE_TIMEOUT, meet).await;
    met.unwrap_or_else(|_| Err(late("no handshake in time")))
}

fn late(why: &str) -> HandshakeError {
    io::Error::new(io::ErrorKind::TimedOut, why).into()
}

async fn converse<S: Service>(link: Box<dyn Link>, from: NodeId, service: Arc<S>, remote: SocketAddr) {
    let expelled = Arc::clone(&service).expelled(from);
    let ended = tokio::select! {
        ended = serve_link(link, from, service) => ended.err().map(|error| error.to_string()),
        () = expelled => Some("it was removed from the cluster".to_owned()),
    };
    if let Some(why) = ended {
        tracing::debug!(node = %from, %remote, why, "a node's connection ended");
    }
}

async fn serve_link<S: Service>(link: Box<dyn Link>, from: NodeId, service: Arc<S>) -> io::Result<()> {
    let (mut reading, mut writing) = tokio::io::split(link);
    let (responses, mut to_write) = mpsc::channel::<Frame>(IN_WORK_MAX);
    let in_work = Arc::new(Semaphore::new(IN_WORK_MAX));
    let owed = Arc::clone(&in_work);
    let write = async move {
        let mut buffer = BytesMut::new();
        loop {
            match tokio::time::timeout(PULSE, to_write.recv()).await {
                Ok(Some(frame)) => frame.put(&mut buffer),
                Ok(None) => return Ok(()),
                Err(_) if owed.available_permits() == IN_WORK_MAX => continue,
                Err(_) => {
                    Frame { kind: Kind::Pulse, id: 0, method: 0, payload: Bytes::new() }.put(&mut buffer)
                }
            }
            while let Ok(frame) = to_write.try_recv() {
                frame.put(&mut buffer);
            }
            writing.write_all(&buffer).await?;
            writing.flush().await?;
            buffer.clear();
        }
    };
    let read = async move {
        let mut buffer = BytesMut::new();
        while let Some(frame) = read(&mut reading, &mut buffer).await? {
            let Some(method) = Method::of(frame.method) else { continue };
            match frame.kind {
                Kind::OneWay => service.one_way(from, method, frame.payload),
                Kind::Request => {
                    let Ok(place) = Arc::clone(&in_work).acquire_owned().await else { break };
                    let answer = Arc::clone(&service).request(from, method, frame.payload);
                    let responses = responses.clone();
                    tokio::spawn(async move {
                        let (kind, payload) = match answer.await {
                            Ok(payload) => (Kind::Done, payload),
                            Err(why) => (Kind::Failed, Bytes::from(why)),
                        };
                        let _ =
                            responses.send(Frame { kind, id: frame.id, method: frame.method, payload }).await;
                        drop(place);
                    });
                }
                Kind::Done | Kind::Failed | Kind::Pulse => {}
            }
        }
        Ok(())
    };
    tokio::select! {
        ended = read => ended,
        ended = write => ended,
    }
}

#[cfg(test)]
mod tests;
