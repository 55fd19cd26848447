//! Identifiers and stamps: newtypes, so that no two of them can be swapped by mistake.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $inner:ty, $width:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!("{:0", $width, "x}"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            /// Exactly the lower-case hexadecimal digits that `Display` prints.
            fn from_str(text: &str) -> Result<Self, BadId> {
                let plain = text.len() == $width
                    && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
                if !plain {
                    return Err(BadId);
                }
                <$inner>::from_str_radix(text, 16).map($name).map_err(|_| BadId)
            }
        }
    };
}

/// A text that is no identifier of the asked kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an identifier: expected lower-case hexadecimal digits")]
pub struct BadId;

hex_id!(
    /// A cluster, drawn at `cluster init`.
    ClusterId, u128, 32
);
hex_id!(
    /// A node's identity, drawn at its first start; its Raft id too. A wiped directory is a new node.
    NodeId, u64, 16
);
hex_id!(
    /// A cluster key, by which secrets in the state are sealed. Derived from the key, and tells nothing of it.
    KeyId, u64, 16
);
hex_id!(
    /// A call: a set of legs that share a program and a bridge.
    CallId, u128, 32
);
hex_id!(
    /// One dialog with one phone or carrier, unique in the cluster.
    LegId, u128, 32
);
hex_id!(
    /// What binds the calls of one conversation together over transfers.
    InteractionId, u128, 32
);
number_id!(
    /// A tenant; never used again after the tenant is removed.
    TenantId, u32
);
number_id!(
    /// How often a node's process has been started under this identity.
    Incarnation, u64
);
number_id!(
    /// Counts the leases of a node: it rises when one ends. 1 until leases are in force.
    NodeEpoch, u64
);
number_id!(
    /// Counts the owners of a call. Fixed at 1 until calls move.
    CallEpoch, u64
);
number_id!(
    /// The log position of the `Bind` that last changed a binding.
    Revision, u64
);

/// Cluster time in milliseconds since the Unix epoch, as the leader stamps it. It never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct ClusterTime(pub u64);

impl ClusterTime {
    /// This time plus a span in milliseconds, at the end of time if it overflows.
    pub fn plus_ms(self, span_ms: u64) -> ClusterTime {
        ClusterTime(self.0.saturating_add(span_ms))
    }

    /// Milliseconds from `earlier` to this time, 0 if it is later.
    pub fn since_ms(self, earlier: ClusterTime) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
