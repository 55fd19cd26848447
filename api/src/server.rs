//! The listener: bounded connections, slow clients cut off, an orderly end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::api::Api;
use crate::router::router;

/// At the end, connections get this long to finish.
const GRACE: Duration = Duration::from_secs(3);
/// After a failed accept (out of files), so as not to spin.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves the API until [`Api::stop`].
pub async fn serve(api: Api, listener: TcpListener) {
    let slots = Arc::new(Semaphore::new(api.limits.connections_max));
    let service = router(api.clone());
    let mut open = JoinSet::new();
    loop {
        while open.try_join_next().is_some() {}
        let accepted = tokio::select! {
            accepted = accept(&listener, &slots) => accepted,
            () = api.stopped() => break,
        };
        match accepted {
            Ok((stream, slot)) => {
                let (api, service) = (api.clone(), TowerToHyperService::new(service.clone()));
                open.spawn(async move {
                    let _slot = slot;
                    connection(&api, stream, service).await;
                });
            }
            Err(error) => {
                tracing::debug!(%error, "the API cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    let finish = async { while open.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(GRACE, finish).await;
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, slot))
}

async fn connection(api: &Api, stream: TcpStream, service: TowerToHyperService<axum::Router>) {
    if let Err(error) = guard(&stream, api.limits.stream_stall) {
        tracing::debug!(%error, "a connection's options could not be set");
    }
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(api.limits.head_timeout).max_headers(64);
    let serving = server.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = &mut serving => ended,
        () = api.stopped() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection of the API ended badly");
    }
}

/// Peers that vanish or stop reading are noticed by the kernel.
fn guard(stream: &TcpStream, stall: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(stall))?;
    socket.set_tcp_user_timeout(Some(stall))
}
