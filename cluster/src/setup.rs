//! Preparing a data directory: as a cluster's first node, or as one more.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use tandem_state::{ClusterId, NodeId, Role};

use crate::clock::wall_s;
use crate::config::CERTIFICATE;
use crate::identity::{self, Copies, DirectoryLock, Fork, Identity, LOCK};
use crate::invitation::JoinToken;
use crate::net;
use crate::rpc::handshake::{Client, Grant, HandshakeError, Key, Start, random, random_number};
use crate::secrets::Held;
use crate::segment::SegmentError;
use crate::tls::{Authority, CertificateError, Request, connect_pinned};

/// What `init` made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Initialised {
    /// The new cluster.
    pub cluster_id: ClusterId,
    /// Its first node.
    pub node_id: NodeId,
    /// Whether a copy of the directory will be told from it; not every file system gives what it takes.
    pub tells_copies: bool,
}

/// Why a directory could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// There is a node in it already.
    #[error("{0} is not empty: it holds a node already")]
    Exists(String),
    /// Something is in it that would be in the way, or be lost.
    #[error("{0} is not empty")]
    NotEmpty(String),
    /// Another process prepares it at this moment, or runs its node.
    #[error("{0} is in use by another process")]
    InUse(String),
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// Where.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The CA or a certificate could not be made.
    #[error("{0}")]
    Certificate(String),
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
    /// Whether a copy of the directory will be told from it.
    pub tells_copies: bool,
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
    /// The inviting node could not be reached, or it is not of the token's cluster.
    #[error("the inviting node at {address}: {why}{}", also_late(*.late))]
    Unreachable {
        /// Where.
        address: String,
        /// Why.
        why: String,
        /// By this machine's clock the token has expired.
        late: bool,
    },
    /// The inviting node refused.
    #[error("the inviting node refused: {0}")]
    Refused(String),
}

fn also_late(late: bool) -> &'static str {
    if late { " (by this machine's clock the token has expired, too)" } else { "" }
}

/// Prepares `data` as the first node of a new cluster, offline. Its name, site and addresses are given at its start.
pub fn init(data: &Path) -> Result<Initialised, InitError> {
    init_with(data, || Ok(()))
}

/// The same, with what `more` puts into the directory. Nothing is left of it when that fails.
pub fn init_with(data: &Path, more: impl FnOnce() -> std::io::Result<()>) -> Result<Initialised, InitError> {
    let _lock = claim(data)?;
    let made = || {
        let identity = secrets_of_first(data, vec![random_bytes(data)?])?;
        more().map_err(|source| InitError::Io { path: data.display().to_string(), source })?;
        finish(data, &identity)
    };
    made().inspect_err(|_| undo(data))
}

/// Writes the secrets of a new cluster's first node, with these cluster keys, oldest first; gives its identity, which is not
/// written yet: until then the directory holds no node.
pub(crate) fn secrets_of_first(data: &Path, keys: Vec<Key>) -> Result<Identity, InitError> {
    let cluster = ClusterId(number(&random_bytes(data)?));
    let node = node_id(data)?;
    let authority = Authority::make(cluster)?;
    let request = Request::make(cluster, node)?;
    let until_s = wall_s().saturating_add(CERTIFICATE.as_secs());
    let certificate = authority.issue(cluster, node, &request.der, until_s)?;
    let certificate = request.with(certificate, until_s)?;
    let held = Held { keys, authority, certificate };
    held.store(data).map_err(|e| refused(data, e))?;
    Ok(Identity {
        cluster,
        generation: 1,
        fork: Fork::default(),
        node,
        role: Role::Full,
        first: true,
        members: Vec::new(),
        lost: Vec::new(),
    })
}

/// Writes the identity: from now on the directory holds a node.
pub(crate) fn finish(data: &Path, identity: &Identity) -> Result<Initialised, InitError> {
    let copies = identity.store(data).map_err(|e| refused(data, e))?;
    let (cluster_id, node_id) = (identity.cluster, identity.node);
    Ok(Initialised { cluster_id, node_id, tells_copies: copies == Copies::Told })
}

/// Prepares `data` as a further node that will be called `name`: asks the node that made `token`. The node becomes learner
/// and then voter by itself once it runs.
pub async fn join(data: &Path, token: &str, name: &str) -> Result<Joined, JoinError> {
    let token = JoinToken::parse(token).ok_or(JoinError::BadToken)?;
    let _lock = claim(data)?;
    let node = node_id(data)?;
    let request = Request::make(token.cluster, node).map_err(InitError::from)?;
    let grant = ask_in_turn(&token, (node, name), &request).await?;
    let certificate = request.with(grant.certificate, grant.until_s).map_err(InitError::from)?;
    let held = Held { keys: grant.keys, authority: grant.authority, certificate };
    held.store(data).map_err(|e| refused(data, e))?;
    let identity = Identity {
        cluster: token.cluster,
        generation: grant.generation,
        fork: grant.fork,
        node,
        role: grant.role,
        first: false,
        members: grant.members,
        lost: Vec::new(),
    };
    let copies = identity.store(data).map_err(|e| refused(data, e))?;
    let tells_copies = copies == Copies::Told;
    Ok(Joined { cluster_id: identity.cluster, node_id: node, role: identity.role, tells_copies })
}

/// Asks at the token's addresses until one answers, even with a refusal.
async fn ask_in_turn(
    token: &JoinToken,
    joining: (NodeId, &str),
    request: &Request,
) -> Result<Grant, JoinError> {
    let mut last = JoinError::BadToken;
    for address in &token.addresses {
        match ask(address, token, joining, request).await {
            Err(unreachable @ JoinError::Unreachable { .. }) => last = unreachable,
            answered => return answered,
        }
    }
    Err(last)
}

async fn ask(
    address: &str,
    token: &JoinToken,
    (node, name): (NodeId, &str),
    request: &Request,
) -> Result<Grant, JoinError> {
    const TIMEOUT: Duration = Duration::from_secs(5);
    let late = wall_s() > token.until_s;
    let unreachable = |why: String| JoinError::Unreachable { address: address.to_owned(), why, late };
    let introduction = Client {
        cluster: token.cluster,
        generation: 0,
        fork: Fork::default(),
        node,
        start: Start::default(),
        address: String::new(),
        name: name.to_owned(),
    };
    let asked = tokio::time::timeout(TIMEOUT, async {
        let stream = net::connect(address).await?;
        let mut link = connect_pinned(stream, token.cluster, token.pin).await?;
        let invitation = (token.invitation, &token.secret);
        introduction.join(&mut link, invitation, request.der.clone()).await
    });
    match asked.await {
        Ok(Ok(grant)) => Ok(grant),
        Ok(Err(HandshakeError::Refused(why))) => Err(JoinError::Refused(why.to_string())),
        Ok(Err(other)) => Err(unreachable(other.to_string())),
        Err(_) => Err(unreachable("no answer in time".into())),
    }
}

/// Takes away what a preparation made that came to nothing, in a directory that was [claimed](claim) before; the lock last,
/// for with it the directory is anybody's.
pub(crate) fn undo(data: &Path) {
    let entries = std::fs::read_dir(data).into_iter().flatten().flatten();
    let made = entries.filter(|entry| !is_of_nobody(&entry.file_name())).map(|entry| entry.path());
    for path in made.chain([data.join(LOCK)]) {
        let removed =
            if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        if let Err(error) = removed {
            tracing::warn!(path = %path.display(), %error, "something of the failed preparation is left");
        }
    }
}

/// Makes the directory if it is not there, and holds it against other processes; refuses one with anything in it.
pub(crate) fn claim(data: &Path) -> Result<DirectoryLock, InitError> {
    let name = || data.display().to_string();
    let io = |source| InitError::Io { path: name(), source };
    std::fs::create_dir_all(data).map_err(io)?;
    let names = || -> std::io::Result<Vec<_>> {
        std::fs::read_dir(data)?.map(|entry| entry.map(|entry| entry.file_name())).collect()
    };
    // Nothing is changed in a directory that is not ours to take, not even by a lock.
    refuse_used(data, &names().map_err(io)?)?;
    std::fs::set_permissions(data, std::fs::Permissions::from_mode(0o700)).map_err(io)?;
    let lock = DirectoryLock::take(data).map_err(|e| refused(data, e))?;
    let lock = lock.ok_or_else(|| InitError::InUse(name()))?;
    // Another process may have prepared it in between.
    refuse_used(data, &names().map_err(io)?)?;
    Ok(lock)
}

fn refuse_used(data: &Path, names: &[OsString]) -> Result<(), InitError> {
    let name = data.display().to_string();
    if identity::exists(data) {
        return Err(InitError::Exists(name));
    }
    match names.iter().all(|name| is_of_nobody(name)) {
        true => Ok(()),
        false => Err(InitError::NotEmpty(name)),
    }
}

/// A lock alone is what an attempt left behind that was refused, and a disk of its own begins with `lost+found`.
fn is_of_nobody(name: &OsStr) -> bool {
    name == LOCK || name == "lost+found"
}

fn random_bytes(data: &Path) -> Result<[u8; 32], InitError> {
    random().map_err(|source| InitError::Io { path: data.display().to_string(), source })
}

fn number(bytes: &[u8; 32]) -> u128 {
    bytes.first_chunk().map_or(0, |bytes| u128::from_le_bytes(*bytes))
}

/// Never 0: that is the id of nobody.
fn node_id(data: &Path) -> Result<NodeId, InitError> {
    let drawn = random_number();
    let number = drawn.map_err(|source| InitError::Io { path: data.display().to_string(), source })?;
    Ok(NodeId(number.max(1)))
}

fn refused(data: &Path, error: SegmentError) -> InitError {
    InitError::Io { path: data.display().to_string(), source: std::io::Error::other(error) }
}

impl From<CertificateError> for InitError {
    fn from(error: CertificateError) -> InitError {
        InitError::Certificate(error.to_string())
    }
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
        for file in ["identity.json", "secrets.json"] {
            let mode = std::fs::metadata(data.join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
        assert!(matches!(init(&data), Err(InitError::Exists(_))));
    }

    #[test]
    fn of_preparations_at_one_moment_one_is_made_and_the_rest_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let all_at_once = std::sync::Barrier::new(8);
        let attempt = || {
            all_at_once.wait();
            init(&data)
        };
        let made: Vec<_> = std::thread::scope(|scope| {
            let attempts: Vec<_> = (0..8).map(|_| scope.spawn(attempt)).collect();
            attempts.into_iter().filter_map(|attempt| attempt.join().unwrap().ok()).collect()
        });
        assert_eq!(made.len(), 1);
        assert_eq!(Identity::load(&data).unwrap().node, made[0].node_id);
    }

    #[test]
    fn a_preparation_that_fails_leaves_what_was_there_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("lost+found")).unwrap();
        let full = || Err(std::io::Error::from(std::io::ErrorKind::StorageFull));
        assert!(matches!(init_with(dir.path(), full), Err(InitError::Io { .. })));
        let left: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["lost+found"]);
        init(dir.path()).unwrap();
    }

    #[test]
    fn a_directory_with_anything_in_it_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("notes"), "mine").unwrap();
        assert!(matches!(init(dir.path()), Err(InitError::NotEmpty(_))));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        // What a refused attempt left is in nobody's way.
        std::fs::rename(dir.path().join("notes"), dir.path().join(LOCK)).unwrap();
        init(dir.path()).unwrap();
    }
}
