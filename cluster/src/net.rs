//! Connections between nodes: TCP, or what stands for it under simulation.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};

use crate::rpc::Link;

/// Connects to `host:port`.
pub(crate) async fn connect(address: &str) -> io::Result<Box<dyn Link>> {
    #[cfg(feature = "faults")]
    if let Some(host) = crate::sim::host() {
        return Ok(Box::new(host.connect(address).await?));
    }
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(Box::new(stream))
}

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
                stream.set_nodelay(true)?;
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
