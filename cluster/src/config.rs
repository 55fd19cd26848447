//! What a node is told at its start.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

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

/// Intervals and limits of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// A leader is heard at least this often.
    pub heartbeat: Duration,
    /// A follower that hears nothing stands for election after a random time from here ...
    pub election_min: Duration,
    /// ... to here.
    pub election_max: Duration,
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
    /// Size at which a segment file is closed and the next begun.
    pub segment_bytes: u64,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            heartbeat: Duration::from_millis(75),
            election_min: Duration::from_millis(300),
            election_max: Duration::from_millis(350),
            propose_deadline: Duration::from_secs(10),
            propose_retry: Duration::from_millis(1500),
            tick: Duration::from_secs(1),
            tick_idle: Duration::from_secs(2),
            proposals_max: 2048,
            snapshot_after: 20_000,
            log_keep: 5_000,
            segment_bytes: 32 * 1024 * 1024,
        }
    }
}

impl Timing {
    /// For tests on busy machines: elections that a slow scheduler doesn't upset, small segments, early snapshots.
    pub fn test() -> Timing {
        Timing {
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(500),
            election_max: Duration::from_millis(900),
            snapshot_after: 200,
            log_keep: 20,
            segment_bytes: 64 * 1024,
            ..Timing::default()
        }
    }
}
