//! Preparing a data directory: as a cluster's first node, or as one more.

use std::path::Path;

use tandem_state::{ClusterId, NodeId};

/// What `init` made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Initialised {
    /// The new cluster.
    pub cluster_id: ClusterId,
    /// Its first node.
    pub node_id: NodeId,
}

/// Why a directory could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// There is a node in it already.
    #[error("{0} holds a node already")]
    Exists(String),
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// Where.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// What `join` made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joined {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The new node.
    pub node_id: NodeId,
}

/// Why a node could not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The data directory.
    #[error(transparent)]
    Directory(#[from] InitError),
    /// Not a join token.
    #[error("this is not a join token")]
    BadToken,
    /// The inviting node could not be reached.
    #[error("the inviting node at {address} cannot be reached: {why}")]
    Unreachable {
        /// Where.
        address: String,
        /// Why.
        why: String,
    },
    /// The inviting node refused.
    #[error("the inviting node refused: {0}")]
    Refused(String),
}

/// Prepares `data` as the first node of a new cluster, offline. The node's name is the replicated record's, given at its
/// start.
pub fn init(data: &Path) -> Result<Initialised, InitError> {
    Err(InitError::Exists(data.display().to_string()))
}

/// Prepares `data` as a further node: asks the node that made `token`. The node becomes learner and then voter by itself
/// once it runs.
pub async fn join(_data: &Path, _token: &str) -> Result<Joined, JoinError> {
    Err(JoinError::BadToken)
}
