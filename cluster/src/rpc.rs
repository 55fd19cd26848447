//! Node-to-node RPC: framed messages over mutual TLS ([`crate::tls`]), two connections (lanes) from each node to each
//! other node, so that heartbeats never wait behind bulk. Inside TLS each connection begins with a [`handshake`].

pub(crate) mod client;
#[cfg(any(test, feature = "faults"))]
pub(crate) mod faults;
mod hall;
pub(crate) mod handshake;
pub(crate) mod server;
pub(crate) mod wire;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};

/// A connection, whatever wraps it.
pub(crate) trait Link: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Link for T {}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Lane {
    /// Appends, votes, heartbeats, renewals of leases.
    Raft,
    /// All else.
    Application,
    /// Nothing: its end says that the process is gone.
    Watch,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Append,
    Vote,
    PreVote,
    Transfer,
    Snapshot,
    Propose,
    ReadIndex,
    Ping,
    Hash,
    Records,
    Member,
    Call,
    Tell,
    Lease,
    Gone,
    /// A certificate for the asking member.
    Certify,
    /// A cluster key to be kept.
    KeepKey,
    /// The cluster keys that are kept.
    Keys,
    Held,
    /// The asking node's process is dead.
    Dead,
}

impl Method {
    pub(crate) fn byte(self) -> u8 {
        match self {
            Method::Append => 1,
            Method::Vote => 2,
            Method::PreVote => 3,
            Method::Transfer => 4,
            Method::Snapshot => 5,
            Method::Propose => 6,
            Method::ReadIndex => 7,
            Method::Ping => 8,
            Method::Hash => 9,
            Method::Records => 10,
            Method::Member => 11,
            Method::Call => 12,
            Method::Tell => 13,
            Method::Lease => 14,
            Method::Gone => 15,
            Method::Certify => 16,
            Method::KeepKey => 17,
            Method::Keys => 18,
            Method::Held => 19,
            Method::Dead => 20,
        }
    }

    pub(crate) fn of(byte: u8) -> Option<Method> {
        const ALL: [Method; 20] = [
            Method::Append,
            Method::Vote,
            Method::PreVote,
            Method::Transfer,
            Method::Snapshot,
            Method::Propose,
            Method::ReadIndex,
            Method::Ping,
            Method::Hash,
            Method::Records,
            Method::Member,
            Method::Call,
            Method::Tell,
            Method::Lease,
            Method::Gone,
            Method::Certify,
            Method::KeepKey,
            Method::Keys,
            Method::Held,
            Method::Dead,
        ];
        ALL.into_iter().find(|method| method.byte() == byte)
    }

    /// Which lane carries it.
    pub(crate) fn lane(self) -> Lane {
        match self {
            Method::Append
            | Method::Vote
            | Method::PreVote
            | Method::Transfer
            | Method::Lease
            | Method::Gone
            | Method::Dead => Lane::Raft,
            _ => Lane::Application,
        }
    }
}
