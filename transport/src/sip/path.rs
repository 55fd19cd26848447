//! A path: between which two addresses a message travels.

use std::fmt;
use std::net::SocketAddr;

/// How a message is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// A stream.
    Tcp,
}

/// From where to where, as seen from this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path {
    /// How.
    pub transport: Transport,
    /// Our address.
    pub local: SocketAddr,
    /// The other's address.
    pub remote: SocketAddr,
    /// Which connection, never used twice in a process; 0 for datagrams.
    pub connection: u64,
}

impl Transport {
    /// The name as in a Via header (RFC 3261 section 18).
    pub fn name(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        }
    }

    /// Whether it loses, doubles and reorders nothing, so that transactions need not repeat.
    pub fn is_reliable(self) -> bool {
        match self {
            Self::Udp => false,
            Self::Tcp => true,
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {} > {}", self.transport, self.local, self.remote)
    }
}
