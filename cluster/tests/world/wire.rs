//! A wire between nodes, on a port of its own, whose connections break after some bytes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub(crate) struct Wire {
    address: SocketAddr,
    target: watch::Sender<Option<SocketAddr>>,
    passed: Arc<Passed>,
}

#[derive(Default)]
struct Passed {
    bytes: AtomicU64,
    breaks: AtomicU64,
}

impl Wire {
    /// A wire to a place that is not known yet; a connection breaks once it has carried so many bytes there.
    pub(crate) async fn that_breaks_after(bytes: u64) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (target, passed) = (watch::Sender::new(None), Arc::<Passed>::default());
        let (to, counts) = (target.subscribe(), Arc::clone(&passed));
        tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                tokio::spawn(carry(from, to.clone(), bytes, Arc::clone(&counts)));
            }
        });
        Wire { address, target, passed }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn leads_to(&self, target: SocketAddr) {
        self.target.send_replace(Some(target));
    }

    /// Bytes that it has carried there, and how many of its connections broke.
    pub(crate) fn carried(&self) -> (u64, u64) {
        (self.passed.bytes.load(Ordering::Relaxed), self.passed.breaks.load(Ordering::Relaxed))
    }
}

async fn carry(
    from: TcpStream,
    mut to: watch::Receiver<Option<SocketAddr>>,
    bytes: u64,
    passed: Arc<Passed>,
) {
    let target = match to.wait_for(Option::is_some).await {
        Ok(target) => target.expect("waited for"),
        Err(_) => return,
    };
    let Ok(there) = TcpStream::connect(target).await else { return };
    let (mut from, mut back) = from.into_split();
    let (mut answers, mut there) = there.into_split();
    let forth = async {
        let (mut left, mut buffer) = (bytes, [0; 4096]);
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            if there.write_all(&buffer[..count]).await.is_err() {
                return;
            }
            passed.bytes.fetch_add(count as u64, Ordering::Relaxed);
            left = left.saturating_sub(count as u64);
            if left == 0 {
                passed.breaks.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
    };
    tokio::select! {
        () = forth => {}
        _ = tokio::io::copy(&mut answers, &mut back) => {}
    }
}
