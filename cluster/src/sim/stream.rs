//! One end of a simulated connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::network::{Ends, Network};

/// See the module. Its drop closes it.
#[derive(Debug)]
pub struct Stream {
    network: Network,
    ends: Ends,
}

impl Stream {
    pub(super) fn new(network: Network, ends: Ends) -> Stream {
        Stream { network, ends }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.network.close(self.ends);
    }
}

fn gone<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let room = into.remaining();
        let read = self.network.pipe(self.ends.reads, |pipe| pipe.poll_read(context, room));
        into.put_slice(&ready!(read.unwrap_or_else(gone))?);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let room = self.network.pipe(self.ends.writes, |pipe| pipe.poll_room(context));
        let room = ready!(room.unwrap_or_else(gone))?;
        let taken = bytes.get(..room).unwrap_or(bytes);
        if !taken.is_empty() {
            self.network.send(self.ends.writes, Bytes::copy_from_slice(taken));
        }
        Poll::Ready(Ok(taken.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.network.send(self.ends.writes, Bytes::new());
        Poll::Ready(Ok(()))
    }
}
