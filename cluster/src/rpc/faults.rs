//! Connections between nodes that do what networks do wrong, switched while they run: cut in one or both directions,
//! slow, lossy, narrow. Test builds only.
//!
//! It stands between TCP and TLS. What is cut stands still, as packets that are lost do: nobody is told, and a new
//! connection gets no answer. A lost packet costs what TCP takes to send it again. One process is one node, so there is
//! one switch in it.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tandem_state::NodeId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::Link;

/// What is wrong with the way to and from one other node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Way {
    /// Nothing that it sends arrives.
    pub cut_in: bool,
    /// Nothing arrives there.
    pub cut_out: bool,
    /// What it sends comes later by so much.
    pub delay: Duration,
    /// So many of a hundred pieces that it sends are lost once.
    pub loss_percent: u8,
    /// It comes at so many kilobits a second; 0: as fast as it can.
    pub rate_kbit: u32,
}

static WAYS: LazyLock<Mutex<BTreeMap<NodeId, Way>>> = LazyLock::new(Mutex::default);

fn ways() -> MutexGuard<'static, BTreeMap<NodeId, Way>> {
    WAYS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Changes what is wrong with the way to and from a node.
pub fn set_way(node: NodeId, change: impl FnOnce(&mut Way)) {
    change(ways().entry(node).or_default());
}

/// Nothing is wrong any more.
pub fn heal_ways() {
    ways().clear();
}

fn way(node: NodeId) -> Way {
    ways().get(&node).copied().unwrap_or_default()
}

/// How soon a way that is cut is looked at again.
const LOOK: Duration = Duration::from_millis(10);
/// What TCP waits at least before it sends a lost segment again.
const RESEND: Duration = Duration::from_millis(200);
/// Pieces on their way on one connection.
const WAITING_MAX: usize = 64;

/// Waits as long as nothing gets to a node and back: a connection needs both directions.
pub(super) async fn passable(node: NodeId) {
    while way(node).cut_in || way(node).cut_out {
        tokio::time::sleep(LOOK).await;
    }
}

/// Whose connection it is, once that is known.
#[derive(Clone, Default)]
pub(super) struct Whose(Arc<AtomicU64>);

impl Whose {
    pub(super) fn of(node: NodeId) -> Whose {
        let whose = Whose::default();
        whose.is(node);
        whose
    }

    pub(super) fn is(&self, node: NodeId) {
        self.0.store(node.0, Ordering::Relaxed);
    }

    /// It is of one of the nodes with which something is wrong.
    pub(super) fn is_one_of(&self, is: impl Fn(NodeId) -> bool) {
        if let Some(node) = ways().keys().copied().find(|node| is(*node)) {
            self.is(node);
        }
    }

    fn way(&self) -> Way {
        way(NodeId(self.0.load(Ordering::Relaxed)))
    }
}

/// What arrived and is not handed on yet.
struct Piece {
    due: Instant,
    bytes: Vec<u8>,
}

/// A connection that may go wrong so. On a simulated machine the network does it.
pub(super) fn over(stream: Box<dyn Link>, whose: Whose) -> Box<dyn Link> {
    #[cfg(feature = "faults")]
    if crate::thread::is_simulated() {
        return stream;
    }
    Box::new(Line::over(stream, whose))
}

/// A connection over such a way.
struct Line {
    stream: Box<dyn Link>,
    whose: Whose,
    waiting: VecDeque<Piece>,
    ended: bool,
    pieces: u64,
    again: Pin<Box<Sleep>>,
}

impl Line {
    fn over(stream: Box<dyn Link>, whose: Whose) -> Line {
        let again = Box::pin(tokio::time::sleep(Duration::ZERO));
        Line { stream, whose, waiting: VecDeque::new(), ended: false, pieces: 0, again }
    }

    fn look_again<T>(&mut self, at: Instant, context: &mut Context<'_>) -> Poll<T> {
        self.again.as_mut().reset(at);
        if self.again.as_mut().poll(context).is_ready() {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Takes in what has arrived.
    fn take_in(&mut self, way: Way, context: &mut Context<'_>) -> io::Result<()> {
        while !self.ended && self.waiting.len() < WAITING_MAX {
            let mut room = [0; 16 * 1024];
            let mut buffer = ReadBuf::new(&mut room);
            let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(context, &mut buffer) else {
                return Ok(());
            };
            read?;
            let bytes = buffer.filled().to_vec();
            self.ended = bytes.is_empty();
            self.pieces += 1;
            let before = self.waiting.back().map(|piece| piece.due);
            let due = due(way, bytes.len(), self.pieces, Instant::now(), before);
            self.waiting.push_back(Piece { due, bytes });
        }
        Ok(())
    }

    fn hand_on(&mut self, buffer: &mut ReadBuf<'_>) {
        let Some(piece) = self.waiting.front_mut() else { return };
        let rest = piece.bytes.split_off(piece.bytes.len().min(buffer.remaining()));
        buffer.put_slice(&piece.bytes);
        piece.bytes = rest;
        if piece.bytes.is_empty() {
            self.waiting.pop_front();
        }
    }
}

/// When a piece comes that was sent now: after the one before it, for TCP keeps the order.
fn due(way: Way, bytes: usize, number: u64, now: Instant, before: Option<Instant>) -> Instant {
    let bits = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_mul(8);
    let wire = Duration::from_millis(bits.checked_div(u64::from(way.rate_kbit)).unwrap_or(0));
    // The same pieces are lost in each run.
    let drawn = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let lost = drawn % 100 < u64::from(way.loss_percent);
    let resent = if lost { RESEND } else { Duration::ZERO };
    before.map_or(now, |before| before.max(now)).max(now + way.delay + resent) + wire
}

impl AsyncRead for Line {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let line = self.get_mut();
        let way = line.whose.way();
        if way == Way::default() && line.waiting.is_empty() && !line.ended {
            // A way that goes wrong while nothing comes is seen with what comes next.
            return Pin::new(&mut line.stream).poll_read(context, buffer);
        }
        if way.cut_in {
            return line.look_again(Instant::now() + LOOK, context);
        }
        line.take_in(way, context)?;
        match line.waiting.front() {
            Some(piece) if piece.due <= Instant::now() => line.hand_on(buffer),
            Some(piece) => {
                let at = piece.due;
                return line.look_again(at, context);
            }
            None if line.ended => {}
            None => return Poll::Pending,
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Line {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let line = self.get_mut();
        if line.whose.way().cut_out {
            return line.look_again(Instant::now() + LOOK, context);
        }
        Pin::new(&mut line.stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let line = self.get_mut();
        if line.whose.way().cut_out {
            // The word of the end would be lost too; whoever shuts down waits for no answer.
            return Poll::Ready(Ok(()));
        }
        ready!(Pin::new(&mut line.stream).poll_shutdown(context))?;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    const WHOLE: Way =
        Way { cut_in: false, cut_out: false, delay: Duration::ZERO, loss_percent: 0, rate_kbit: 0 };

    #[test]
    fn a_piece_comes_after_delay_loss_and_the_time_on_the_wire_and_never_before_an_earlier_one() {
        let now = Instant::now();
        let ms = Duration::from_millis;
        assert_eq!(due(WHOLE, 1000, 1, now, None), now);
        assert_eq!(due(Way { delay: ms(50), ..WHOLE }, 1000, 1, now, None), now + ms(50));
        assert_eq!(due(Way { rate_kbit: 8, ..WHOLE }, 1000, 1, now, None), now + ms(1000));
        assert_eq!(due(Way { loss_percent: 100, ..WHOLE }, 1000, 1, now, None), now + RESEND);
        assert_eq!(due(WHOLE, 1000, 1, now, Some(now + ms(70))), now + ms(70));
    }

    async fn pair(node: NodeId) -> (Line, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (here, there) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (Line::over(Box::new(here.unwrap()), Whose::of(node)), there.unwrap().0)
    }

    async fn comes(line: &mut Line) -> bool {
        let mut byte = [0];
        tokio::time::timeout(Duration::from_millis(60), line.read_exact(&mut byte)).await.is_ok()
    }

    #[tokio::test]
    async fn what_is_cut_stands_still_until_it_is_healed() {
        // A node that no other test has: the switch is one for the process.
        let node = NodeId(0xfa17);
        let (mut line, mut far) = pair(node).await;
        far.write_all(b"ab").await.unwrap();
        assert!(comes(&mut line).await);
        set_way(node, |way| way.cut_in = true);
        assert!(!comes(&mut line).await);
        line.write_all(b"x").await.unwrap();
        assert_eq!(far.read_u8().await.unwrap(), b'x');
        set_way(node, |way| *way = Way { cut_out: true, ..WHOLE });
        assert!(comes(&mut line).await);
        let written = tokio::time::timeout(Duration::from_millis(60), line.write_all(b"y")).await;
        assert!(written.is_err());
        let passed = tokio::time::timeout(Duration::from_millis(60), passable(node)).await;
        assert!(passed.is_err());
        set_way(node, |way| *way = WHOLE);
        line.write_all(b"z").await.unwrap();
        assert_eq!(far.read_u8().await.unwrap(), b'z');
        passable(node).await;
    }
}
