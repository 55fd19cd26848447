//! Preparing a data directory: as a cluster's first node, or as one more.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use tandem_state::{ClusterId, Incarnation, NodeId, Role};
use tokio::net::TcpStream;

use crate::identity::{self, Identity};
use crate::invitation::JoinToken;
use crate::rpc::Link;
use crate::rpc::handshake::{Client, Grant, HandshakeError, Purpose, random};
use crate::segment::SegmentError;

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
    /// What it will do.
    pub role: Role,
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

/// Prepares `data` as the first node of a new cluster, offline. Its name, site and addresses are given at its start.
pub fn init(data: &Path) -> Result<Initialised, InitError> {
    check_empty(data)?;
    let key = random_bytes(data)?;
    let identity = Identity {
        cluster: ClusterId(number(&random_bytes(data)?)),
        generation: 1,
        node: node_id(&random_bytes(data)?),
        role: Role::Full,
        key,
        first: true,
        members: Vec::new(),
    };
    identity.store(data).map_err(|e| refused(data, e))?;
    Ok(Initialised { cluster_id: identity.cluster, node_id: identity.node })
}

/// Prepares `data` as a further node: asks the node that made `token`. The node becomes learner and then voter by itself
/// once it runs.
pub async fn join(data: &Path, token: &str) -> Result<Joined, JoinError> {
    let token = JoinToken::parse(token).ok_or(JoinError::BadToken)?;
    check_empty(data)?;
    let node = node_id(&random_bytes(data)?);
    let introduction = Client {
        cluster: token.cluster,
        generation: 0,
        node,
        incarnation: Incarnation(0),
        address: String::new(),
        key: token.secret,
    };
    let grant = ask(&introduction, &token).await?;
    let identity = Identity {
        cluster: token.cluster,
        generation: grant.generation,
        node,
        role: grant.role,
        key: grant.sealed_key,
        first: false,
        members: grant.members,
    };
    identity.store(data).map_err(|e| refused(data, e))?;
    Ok(Joined { cluster_id: identity.cluster, node_id: node, role: identity.role })
}

async fn ask(introduction: &Client, token: &JoinToken) -> Result<Grant, JoinError> {
    const TIMEOUT: Duration = Duration::from_secs(5);
    let unreachable = |why: String| JoinError::Unreachable { address: token.address.clone(), why };
    let asked = tokio::time::timeout(TIMEOUT, async {
        let mut link: Box<dyn Link> = Box::new(TcpStream::connect(&token.address).await?);
        introduction.introduce(&mut link, Purpose::Join { invitation: token.invitation }).await
    });
    match asked.await {
        Ok(Ok(Some(grant))) => Ok(grant),
        Ok(Ok(None)) => Err(JoinError::Refused("it gave no cluster key".into())),
        Ok(Err(HandshakeError::Refused(why))) => Err(JoinError::Refused(why.to_string())),
        Ok(Err(other)) => Err(unreachable(other.to_string())),
        Err(_) => Err(unreachable("no answer in time".into())),
    }
}

fn check_empty(data: &Path) -> Result<(), InitError> {
    let io = |source| InitError::Io { path: data.display().to_string(), source };
    std::fs::create_dir_all(data).map_err(io)?;
    std::fs::set_permissions(data, std::fs::Permissions::from_mode(0o700)).map_err(io)?;
    // A directory with another node's log or archive is no empty one either.
    if identity::exists(data) || data.join("raft").exists() || data.join("archive").exists() {
        return Err(InitError::Exists(data.display().to_string()));
    }
    Ok(())
}

fn random_bytes(data: &Path) -> Result<[u8; 32], InitError> {
    random().map_err(|source| InitError::Io { path: data.display().to_string(), source })
}

fn number(bytes: &[u8; 32]) -> u128 {
    bytes.first_chunk().map_or(0, |bytes| u128::from_le_bytes(*bytes))
}

/// Never 0: that is the id of nobody.
fn node_id(bytes: &[u8; 32]) -> NodeId {
    NodeId(bytes.first_chunk().map_or(1, |bytes| u64::from_le_bytes(*bytes)).max(1))
}

fn refused(data: &Path, error: SegmentError) -> InitError {
    InitError::Io { path: data.display().to_string(), source: std::io::Error::other(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_prepared_once_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let made = init(&data).unwrap();
        assert_eq!(Identity::load(&data).unwrap().node, made.node_id);
        let mode = std::fs::metadata(data.join("identity.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(init(&data), Err(InitError::Exists(_))));
    }
}
