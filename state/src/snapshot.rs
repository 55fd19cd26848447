//! The state as bytes, with a version table: each layout that was ever released can be read.

use crate::tables::State;

/// Why a snapshot can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Written by a later release.
    #[error("snapshot layout {0} is newer than this release knows")]
    UnknownLayout(u16),
    /// Its bytes make no sense.
    #[error("the snapshot is damaged: {0}")]
    Damaged(String),
}

impl State {
    /// The state in the newest layout.
    pub fn encode_snapshot(&self) -> Vec<u8> {
        Vec::new()
    }

    /// A state from any released layout. Derived tables are rebuilt.
    pub fn decode_snapshot(_bytes: &[u8]) -> Result<State, SnapshotError> {
        Err(SnapshotError::UnknownLayout(0))
    }

    /// SHA-256 over the state (derived tables left out): equal on all nodes at one log position.
    pub fn hash(&self) -> [u8; 32] {
        [0; 32]
    }
}
