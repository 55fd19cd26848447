//! What the kernel still holds when the epoch ends under which this node said it: nobody may hear it any more, so the
//! connections are reset.
//!
//! Authority is asked before each write, but a stream's bytes stay with the kernel until the peer has acknowledged them, and
//! are sent anew until then. How many there are is read from the kernel's own table, once at each lapse; healthy connections
//! hold none and live on.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::Gate;
use super::connections::Connections;

/// How often the gate is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// The tables of this process's network namespace.
const TABLES: [&str; 2] = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];

/// Both ends of a connection, ours first.
pub(super) type Ends = (SocketAddr, SocketAddr);

/// Resets connections at each lapse, until the transport ends.
pub(super) async fn watch(gate: Arc<dyn Gate>, connections: Connections) {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut before = gate.epoch();
    loop {
        looks.tick().await;
        let now = gate.epoch();
        if before.is_some() && now != before {
            let held = tokio::task::spawn_blocking(unacknowledged).await.unwrap_or_default();
            let count = connections.reset(&held);
            if count > 0 {
                tracing::warn!(
                    count,
                    "this node may not speak: connections with bytes that it can't take back are reset"
                );
            }
        }
        before = now;
    }
}

/// The connections of this network namespace whose peers have not acknowledged all.
fn unacknowledged() -> HashSet<Ends> {
    let tables = TABLES.map(|path| std::fs::read_to_string(path).unwrap_or_default());
    tables.iter().flat_map(|table| table.lines().skip(1)).filter_map(holding).collect()
}

/// A row of `/proc/net/tcp` (proc(5)) whose send queue holds something.
fn holding(row: &str) -> Option<Ends> {
    let mut columns = row.split_whitespace().skip(1);
    let (local, remote) = (address(columns.next()?)?, address(columns.next()?)?);
    let (queued, _) = columns.nth(1)?.split_once(':')?;
    (u32::from_str_radix(queued, 16).ok()? > 0).then_some((local, remote))
}

/// Hexadecimal, each 32 bits in the byte order of the machine; the port as it is.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let word = |at: usize| Some(u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let bytes = [word(0)?, word(8)?, word(16)?, word(24)?].concat();
            IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn rows_with_bytes_in_the_send_queue_are_found() {
        let row = |queued: &str| {
            format!(
                "   1: 0100007F:13C4 0200007F:E0A1 01 {queued}:00000000 01:00000014 00000000     0        0 7 1"
            )
        };
        let ends = ("127.0.0.1:5060".parse().unwrap(), "127.0.0.2:57505".parse().unwrap());
        assert_eq!(holding(&row("0000002A")), Some(ends));
        assert_eq!(holding(&row("00000000")), None);
        let six = "  0: B80D01200000000000000000010000000:13C4 x 01 0:0";
        assert_eq!(holding(six), None, "a digit too many");
        assert_eq!(
            address("B80D0120000000000000000001000000:13C4"),
            Some("[2001:db8::1]:5060".parse().unwrap())
        );
        assert_eq!(
            address("0000000000000000FFFF00000100007F:0050"),
            Some("127.0.0.1:80".parse().unwrap()),
            "an IPv4 address in an IPv6 socket"
        );
        for broken in ["", "x", "0100007F", "0100007F:xyz12", "01000:1", "é100007F:13C4"] {
            assert_eq!(address(broken), None, "{broken}");
        }
    }
}
