//! What a node is told at its start.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tandem_state::lease::Terms;

/// How a node is started. Everything else is replicated.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Its name, unique in the cluster.
    pub name: String,
    /// The site it stands in.
    pub site: String,
    /// Its data directory, prepared by [`crate::init`] or [`crate::join`].
    pub data: PathBuf,
    /// Where it listens for other nodes; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What other nodes are told to dial, `host:port`; empty means the address it listens on.
    pub advertise: String,
    /// The host that phones are told, without a port.
    pub sip_advertise: String,
    /// The base URL of its HTTP API.
    pub api_url: String,
    /// The release it runs.
    pub version: String,
    /// Intervals and limits.
    pub timing: Timing,
}

impl NodeConfig {
    /// A node of tests, with [`Timing::test`], at a free port of this machine.
    pub fn test(name: impl Into<String>, data: impl Into<PathBuf>) -> NodeConfig {
        NodeConfig {
            name: name.into(),
            site: "east".into(),
            data: data.into(),
            listen: ([127, 0, 0, 1], 0).into(),
            advertise: String::new(),
            sip_advertise: "127.0.0.1".into(),
            api_url: "http://127.0.0.1:1".into(),
            version: "0.1.0".into(),
            timing: Timing::test(),
        }
    }
}

/// Intervals and limits of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// A leader is heard at least this often.
    pub heartbeat: Duration,
    /// A follower that hears nothing stands for election after a random time from here ...
    pub election_min: Duration,
    /// ... to here.
    pub election_max: Duration,
    /// How long a node's certificate is valid; it is renewed when less than a third of this is left.
    pub certificate: Duration,
    /// How long a lease holds, from before its renewal was sent.
    pub lease: Duration,
    /// How often a node renews its lease.
    pub lease_renew: Duration,
    /// How much longer than a lease others wait before they call its node down.
    pub lease_margin: Duration,
    /// How long a leader outside the site with most voters leads before it hands leadership there.
    pub home_after: Duration,
    /// A proposal without an answer becomes [`crate::ProposeError::Unknown`] after this.
    pub propose_deadline: Duration,
    /// A proposal without an answer is sent again after this.
    pub propose_retry: Duration,
    /// How often the leader proposes `Tick` while something can expire.
    pub tick: Duration,
    /// How often it does so while nothing can.
    pub tick_idle: Duration,
    /// Proposals of one node under way at once; more are refused as overload.
    pub proposals_max: usize,
    /// A snapshot is built after this many log entries.
    pub snapshot_after: u64,
    /// Log entries kept behind a snapshot for followers that are a little late.
    pub log_keep: u64,
    /// Longest piece in which a snapshot is sent.
    pub snapshot_part_bytes: usize,
    /// Size at which a segment file is closed and the next begun.
    pub segment_bytes: u64,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            heartbeat: Duration::from_millis(75),
            election_min: Duration::from_millis(300),
            election_max: Duration::from_millis(350),
            certificate: CERTIFICATE,
            lease: Duration::from_millis(1800),
            lease_renew: Duration::from_millis(400),
            lease_margin: Duration::from_millis(200),
            home_after: Duration::from_secs(30),
            propose_deadline: Duration::from_secs(10),
            propose_retry: Duration::from_millis(1500),
            tick: Duration::from_secs(1),
            tick_idle: Duration::from_secs(2),
            proposals_max: 2048,
            snapshot_after: 20_000,
            log_keep: 5_000,
            snapshot_part_bytes: 1024 * 1024,
            segment_bytes: 32 * 1024 * 1024,
        }
    }
}

/// The life of a certificate.
pub(crate) const CERTIFICATE: Duration = Duration::from_secs(90 * 24 * 3600);
/// What 99 of 100 commands commit in, on disks and links that a cluster may stand on.
const COMMIT_P99: Duration = Duration::from_millis(250);

impl Timing {
    /// The spans that leases depend on. An election waits for the dead leader's own lease in Raft, then for the longest
    /// timeout.
    pub fn terms(&self) -> Terms {
        let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Terms {
            lease_ms: ms(self.lease),
            renew_ms: ms(self.lease_renew),
            margin_ms: ms(self.lease_margin),
            election_ms: ms(self.election_max.saturating_mul(2)),
            commit_ms: ms(COMMIT_P99),
        }
    }

    /// For tests on busy machines: elections that a slow scheduler doesn't upset, small segments, early snapshots in small
    /// pieces.
    pub fn test() -> Timing {
        Timing {
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(500),
            election_max: Duration::from_millis(900),
            lease: Duration::from_millis(4000),
            snapshot_after: 200,
            log_keep: 20,
            snapshot_part_bytes: 16 * 1024,
            segment_bytes: 64 * 1024,
            ..Timing::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spans_of_leases_fit_those_of_elections() {
        for timing in [Timing::default(), Timing::test()] {
            assert_eq!(timing.terms().check(), Ok(()));
        }
    }

    #[test]
    fn slow_elections_want_longer_leases() {
        let slow = Timing { election_max: Duration::from_millis(500), ..Timing::default() };
        assert!(slow.terms().check().is_err());
    }
}
