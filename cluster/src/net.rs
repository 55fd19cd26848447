//! Connections between nodes: TCP, or what stands for it under simulation.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::net::sockopt::{set_socket_keepalive, set_tcp_keepcnt, set_tcp_keepidle, set_tcp_keepintvl};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::rpc::Link;

/// Connects to `host:port`.
pub(crate) async fn connect(address: &str) -> io::Result<Box<dyn Link>> {
    #[cfg(feature = "faults")]
    if let Some(host) = crate::sim::host() {
        return Ok(Box::new(host.connect(address).await?));
    }
    let stream = TcpStream::connect(address).await?;
    prepare(&stream)?;
    Ok(Box::new(stream))
}

/// A peer that lost its power says nothing: its connections end a little later than it could have come back.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    set_socket_keepalive(stream, true)?;
    set_tcp_keepidle(stream, Duration::from_secs(10))?;
    set_tcp_keepintvl(stream, Duration::from_secs(5))?;
    Ok(set_tcp_keepcnt(stream, 3)?)
}

/// Opens a port. A process before this one may be just ending: it has left its directory and not its ports yet.
pub async fn bound<T, F: Future<Output = io::Result<T>>>(open: impl Fn() -> F) -> io::Result<T> {
    let deadline = Instant::now() + FORMER_WAIT;
    loop {
        match open().await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            opened => return opened,
        }
    }
}

/// How long a process that is just ending is waited for.
pub(crate) const FORMER_WAIT: Duration = Duration::from_secs(5);

/// Where others connect to.
pub(crate) enum Listener {
    Tcp(TcpListener),
    #[cfg(feature = "faults")]
    Simulated(crate::sim::Listener),
}

impl Listener {
    pub(crate) async fn bind(address: SocketAddr) -> io::Result<Listener> {
        #[cfg(feature = "faults")]
        if let Some(host) = crate::sim::host() {
            return host.listen(address).map(Listener::Simulated);
        }
        TcpListener::bind(address).await.map(Listener::Tcp)
    }

    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        match self {
            Listener::Tcp(listener) => listener.local_addr(),
            #[cfg(feature = "faults")]
            Listener::Simulated(listener) => Ok(listener.address()),
        }
    }

    /// The next connection, and whose it is.
    pub(crate) async fn accept(&mut self) -> io::Result<(Box<dyn Link>, SocketAddr)> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, remote) = listener.accept().await?;
                // Of one that is gone already it fails: whoever reads from it finds that.
                let _ = prepare(&stream);
                Ok((Box::new(stream), remote))
            }
            #[cfg(feature = "faults")]
            Listener::Simulated(listener) => {
                let (stream, remote) = listener.accept().await?;
                Ok((Box::new(stream), remote))
            }
        }
    }
}
