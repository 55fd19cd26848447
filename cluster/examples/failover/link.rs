//! The way to a node: direct, or through a forwarder that holds each piece back for a while.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// See the module.
pub(crate) struct Link {
    delay: Duration,
    inner: SocketAddr,
    outer: SocketAddr,
    open: Option<Arc<AtomicBool>>,
}

impl Link {
    pub(crate) fn new(delay: Duration) -> io::Result<Link> {
        let inner = free()?;
        let outer = if delay.is_zero() { inner } else { free()? };
        Ok(Link { delay, inner, outer, open: None })
    }

    /// Where the node listens.
    pub(crate) fn inner(&self) -> SocketAddr {
        self.inner
    }

    /// Where it is called.
    pub(crate) fn outer(&self) -> SocketAddr {
        self.outer
    }

    pub(crate) fn open(&mut self) -> io::Result<()> {
        if self.delay.is_zero() {
            return Ok(());
        }
        let listener = TcpListener::bind(self.outer)?;
        let open = Arc::new(AtomicBool::new(true));
        self.open = Some(Arc::clone(&open));
        let (inner, delay) = (self.inner, self.delay);
        std::thread::spawn(move || {
            for taken in listener.incoming() {
                if !open.load(Ordering::Acquire) {
                    return;
                }
                let Ok(taken) = taken else { continue };
                // A node that is not there yet: the caller sees its connection end.
                let _ = forward(taken, inner, delay);
            }
        });
        Ok(())
    }

    /// From now on connections are refused.
    pub(crate) fn close(&mut self) {
        if let Some(open) = self.open.take() {
            open.store(false, Ordering::Release);
            // Wakes the listener; that it is refused then is what is wanted.
            let _ = TcpStream::connect(self.outer);
        }
    }
}

/// A port that nobody has; nothing else on this address takes ports while the bench runs.
fn free() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn forward(taken: TcpStream, inner: SocketAddr, delay: Duration) -> io::Result<()> {
    let node = TcpStream::connect(inner)?;
    taken.set_nodelay(true)?;
    node.set_nodelay(true)?;
    carry(taken.try_clone()?, node.try_clone()?, delay);
    carry(node, taken, delay);
    Ok(())
}

/// Carries bytes one way, each piece late, its end too.
fn carry(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let (pieces, late) = mpsc::sync_channel::<(Instant, Vec<u8>)>(4096);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length) = from.read(&mut buffer) {
            let piece = buffer.get(..length).unwrap_or_default().to_vec();
            if pieces.send((Instant::now() + delay, piece)).is_err() || length == 0 {
                return;
            }
        }
    });
    std::thread::spawn(move || {
        for (due, piece) in late {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if piece.is_empty() || to.write_all(&piece).is_err() {
                break;
            }
        }
        // Both ways: whoever reads here must hear of it.
        let _ = to.shutdown(Shutdown::Both);
    });
}
