//! Pairs of ports: an even one for RTP and the odd one above it for RTCP (RFC 3550 section 11).

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::time::Duration;

use super::{OpenError, lock};

/// Pairs tried before giving up: another program may hold some of our range.
const TRIES: usize = 32;

/// The pairs that are free. Their order is random, so that the next one can't be guessed.
#[derive(Debug)]
pub(super) struct PortPool {
    listen: IpAddr,
    free: VecDeque<u16>,
    /// Pairs that rest, in the order in which their rest ends.
    resting: VecDeque<(u64, u16)>,
    cool_down_us: u64,
}

/// The two sockets of one end.
#[derive(Debug)]
pub(super) struct EndSockets {
    pub(super) rtp: UdpSocket,
    pub(super) rtcp: UdpSocket,
    port: u16,
}

impl PortPool {
    pub(super) fn new(listen: IpAddr, ports: RangeInclusive<u16>, cool_down: Duration, random: u64) -> Self {
        let last = *ports.end();
        let mut free: Vec<u16> = ports.filter(|port| port % 2 == 0 && *port != 0 && *port < last).collect();
        shuffle(&mut free, random);
        let cool_down_us = u64::try_from(cool_down.as_micros()).unwrap_or(u64::MAX);
        Self { listen, free: free.into(), resting: VecDeque::new(), cool_down_us }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.free_len() == 0
    }

    /// Pairs that are not in use.
    pub(super) fn free_len(&self) -> usize {
        self.free.len() + self.resting.len()
    }

    /// Takes a pair that has rested.
    pub(super) fn take(&mut self, now_us: u64) -> Option<u16> {
        while let Some((_, port)) = self.resting.front().copied().filter(|(until, _)| *until <= now_us) {
            self.resting.pop_front();
            self.free.push_back(port);
        }
        self.free.pop_front()
    }

    /// Gives a pair back.
    pub(super) fn give_back(&mut self, now_us: u64, port: u16) {
        self.resting.push_back((now_us.saturating_add(self.cool_down_us), port));
    }
}

impl EndSockets {
    /// Takes a pair from the pool and binds it. A pair that another program holds goes to rest.
    pub(super) fn bind(pool: &Mutex<PortPool>, now_us: u64) -> Result<Self, OpenError> {
        for _ in 0..TRIES {
            let (listen, port) = {
                let mut pool = lock(pool);
                (pool.listen, pool.take(now_us).ok_or(OpenError::NoPorts)?)
            };
            match Self::bind_pair(listen, port) {
                Ok(sockets) => return Ok(sockets),
                Err(error) => {
                    lock(pool).give_back(now_us, port);
                    if error.kind() != io::ErrorKind::AddrInUse {
                        return Err(OpenError::Io(error.kind()));
                    }
                }
            }
        }
        Err(OpenError::NoPorts)
    }

    fn bind_pair(listen: IpAddr, port: u16) -> io::Result<Self> {
        let bind = |port| {
            let socket = UdpSocket::bind(SocketAddr::new(listen, port))?;
            socket.set_nonblocking(true)?;
            Ok::<_, io::Error>(socket)
        };
        Ok(Self { rtp: bind(port)?, rtcp: bind(port + 1)?, port })
    }

    /// The even port.
    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

/// Fisher and Yates, with xorshift: unpredictable enough for an order.
fn shuffle(ports: &mut [u16], random: u64) {
    let mut state = random | 1;
    for last in (1..ports.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let other = usize::try_from(state % (last as u64 + 1)).unwrap_or(0);
        ports.swap(last, other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(ports: RangeInclusive<u16>) -> PortPool {
        PortPool::new(IpAddr::from([127, 0, 0, 1]), ports, Duration::from_secs(5), 42)
    }

    #[test]
    fn a_range_gives_only_whole_pairs() {
        let mut pool = pool(20_001..=20_006);
        let mut taken: Vec<u16> = std::iter::from_fn(|| pool.take(0)).collect();
        taken.sort_unstable();
        assert_eq!(taken, [20_002, 20_004]);
    }

    #[test]
    fn a_pair_rests_before_it_is_given_out_again() {
        let mut pool = pool(20_000..=20_001);
        assert_eq!(pool.take(0), Some(20_000));
        assert!(pool.is_empty());
        pool.give_back(1_000_000, 20_000);
        assert_eq!((pool.take(5_999_999), pool.free_len()), (None, 1));
        assert_eq!(pool.take(6_000_000), Some(20_000));
    }

    #[test]
    fn the_whole_range_of_a_node_is_five_thousand_pairs_in_no_plain_order() {
        let mut pool = pool(20_000..=29_999);
        assert_eq!(pool.free_len(), 5_000);
        let first: Vec<_> = (0..3).filter_map(|_| pool.take(0)).collect();
        assert_ne!(first, [20_000, 20_002, 20_004]);
    }
}
