//! The answering side: takes connections, checks who is there, hands requests to the node.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tandem_state::NodeId;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};

use super::handshake::{Gate, Purpose, receive};
use super::wire::{Frame, Kind, read};
use super::{Link, Method};

/// A response on its way; the error is told in words.
pub(crate) type Answer = Pin<Box<dyn Future<Output = Result<Bytes, String>> + Send>>;

/// What a node does with what others ask.
pub(crate) trait Service: Gate + 'static {
    /// A request.
    fn request(self: Arc<Self>, from: NodeId, method: Method, payload: Bytes) -> Answer;
    /// A one-way message, in order.
    fn one_way(&self, from: NodeId, method: Method, payload: Bytes);
}

/// Requests of one connection in work at once; more wait in the kernel.
const IN_WORK_MAX: usize = 1024;
/// Connections at once.
const CONNECTIONS_MAX: usize = 512;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// While responses are owed, the client hears at least this often that the server is alive.
const PULSE: Duration = Duration::from_millis(700);

/// Takes connections until stopped.
pub(crate) async fn serve<S: Service>(
    listener: TcpListener,
    service: Arc<S>,
    mut stop: watch::Receiver<bool>,
) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
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
        let Ok(place) = Arc::clone(&connections).try_acquire_owned() else {
            metrics::counter!("tandem_rpc_refused_total").increment(1);
            continue;
        };
        let (service, mut stop) = (Arc::clone(&service), stop.clone());
        tokio::spawn(async move {
            let talk = async {
                if let Err(error) = connection(stream, service).await {
                    tracing::debug!(%remote, %error, "a node's connection ended");
                }
            };
            tokio::select! {
                () = talk => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
            drop(place);
        });
    }
}

async fn connection<S: Service>(stream: TcpStream, service: Arc<S>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut link: Box<dyn Link> = Box::new(stream);
    let hello = match tokio::time::timeout(HANDSHAKE_TIMEOUT, receive(&mut link, &*service)).await {
        Ok(Ok(hello)) => hello,
        Ok(Err(error)) => {
            metrics::counter!("tandem_rpc_refused_total").increment(1);
            tracing::info!(%error, "a connection to the cluster port was refused");
            return Ok(());
        }
        Err(_) => return Ok(()),
    };
    if matches!(hello.purpose, Purpose::Join { .. }) {
        return Ok(());
    }
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
            buffer.clear();
        }
    };
    let read = async move {
        let mut buffer = BytesMut::new();
        while let Some(frame) = read(&mut reading, &mut buffer).await? {
            let Some(method) = Method::of(frame.method) else { continue };
            match frame.kind {
                Kind::OneWay => service.one_way(hello.node, method, frame.payload),
                Kind::Request => {
                    let Ok(place) = Arc::clone(&in_work).acquire_owned().await else { break };
                    let answer = Arc::clone(&service).request(hello.node, method, frame.payload);
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
