//! The TCP listeners.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;

use super::connections::Connections;

/// How long to rest when the kernel has no file descriptor left for another connection.
const REST: Duration = Duration::from_millis(100);

pub(super) fn bind(at: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(at)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Accepts until it is aborted. A connection over a limit is closed at once.
pub(super) async fn accept(listener: TcpListener, connections: Connections) {
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => connections.accept(stream, remote),
            Err(error) => {
                tracing::debug!(%error, "a connection was not accepted");
                tokio::time::sleep(REST).await;
            }
        }
    }
}
