//! Who this node is: the identity file, the directory's lock, the incarnation.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tandem_state::{ClusterId, Incarnation, NodeId, Role};

use crate::rpc::handshake::Key;
use crate::segment::{SegmentError, replace_file};

/// What the identity file holds; mode 0600, as the cluster key is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) cluster: ClusterId,
    pub(crate) generation: u64,
    pub(crate) node: NodeId,
    pub(crate) role: Role,
    pub(crate) key: Key,
    /// Made by `init`: begins the cluster by itself.
    pub(crate) first: bool,
    /// Where members were when this node joined.
    pub(crate) members: Vec<(NodeId, String)>,
}

/// Ids and key as text, so that the file can be read by people.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    layout: u32,
    cluster_id: String,
    generation: u64,
    node_id: String,
    role: Role,
    cluster_key: String,
    first: bool,
    members: Vec<(String, String)>,
}

const FILE: &str = "identity.json";
const LAYOUT: u32 = 1;

/// Whether a directory holds a node.
pub(crate) fn exists(data: &Path) -> bool {
    data.join(FILE).exists()
}

impl Identity {
    /// Writes the identity durably.
    pub(crate) fn store(&self, data: &Path) -> Result<(), SegmentError> {
        let written = Written {
            layout: LAYOUT,
            cluster_id: self.cluster.to_string(),
            generation: self.generation,
            node_id: self.node.to_string(),
            role: self.role,
            cluster_key: to_hex(&self.key),
            first: self.first,
            members: self.members.iter().map(|(node, address)| (node.to_string(), address.clone())).collect(),
        };
        let text = serde_json::to_vec_pretty(&written).map_err(|e| SegmentError::Stopped(e.to_string()))?;
        replace_file(&data.join(FILE), &text, 0o600)
    }

    /// Reads the identity.
    pub(crate) fn load(data: &Path) -> Result<Identity, SegmentError> {
        let path = data.join(FILE);
        let text = std::fs::read(&path).map_err(|e| SegmentError::io(&path, e))?;
        let written: Written =
            serde_json::from_slice(&text).map_err(|e| SegmentError::rot(&path, 0, e.to_string()))?;
        Identity::of(&written).ok_or_else(|| SegmentError::rot(&path, 0, "a field makes no sense"))
    }

    fn of(written: &Written) -> Option<Identity> {
        let member = |(node, address): &(String, String)| Some((node.parse().ok()?, address.clone()));
        (written.layout == LAYOUT).then_some(())?;
        Some(Identity {
            cluster: written.cluster_id.parse().ok()?,
            generation: written.generation,
            node: written.node_id.parse().ok()?,
            role: written.role,
            key: from_hex(&written.cluster_key)?.try_into().ok()?,
            first: written.first,
            members: written.members.iter().map(member).collect::<Option<_>>()?,
        })
    }
}

/// Holds the directory for this process; let go when dropped or at the process's end.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Takes the lock; `None` when another process has it.
    pub(crate) fn take(data: &Path) -> Result<Option<DirectoryLock>, SegmentError> {
        let path = data.join("lock");
        let io = |e| SegmentError::io(&path, e);
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(io)?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(DirectoryLock { _file: file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(io(error.into())),
        }
    }
}

/// Raises the incarnation durably. Only under the lock.
pub(crate) fn raise_incarnation(data: &Path, _under: &DirectoryLock) -> Result<Incarnation, SegmentError> {
    let path: PathBuf = data.join("incarnation");
    let last: u64 = match std::fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map_err(|_| SegmentError::rot(&path, 0, "this is no number"))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
        Err(error) => return Err(SegmentError::io(&path, error)),
    };
    replace_file(&path, format!("{}\n", last + 1).as_bytes(), 0o600)?;
    Ok(Incarnation(last + 1))
}

/// Lower-case hexadecimal digits.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of hexadecimal digits.
pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_reads_back_as_written() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity {
            cluster: ClusterId(5),
            generation: 1,
            node: NodeId(6),
            role: Role::Witness,
            key: [0xab; 32],
            first: false,
            members: vec![(NodeId(7), "127.0.0.1:7400".into())],
        };
        identity.store(dir.path()).unwrap();
        assert_eq!(Identity::load(dir.path()).unwrap(), identity);
    }

    #[test]
    fn only_one_holds_the_directory_and_each_start_counts() {
        let dir = tempfile::tempdir().unwrap();
        let lock = DirectoryLock::take(dir.path()).unwrap().unwrap();
        assert!(DirectoryLock::take(dir.path()).unwrap().is_none());
        assert_eq!(raise_incarnation(dir.path(), &lock).unwrap(), Incarnation(1));
        assert_eq!(raise_incarnation(dir.path(), &lock).unwrap(), Incarnation(2));
    }

    #[test]
    fn hexadecimal_digits_read_back() {
        assert_eq!(from_hex(&to_hex(&[0, 0x7f, 0xff])), Some(vec![0, 0x7f, 0xff]));
        assert_eq!((from_hex("abc"), from_hex("zz")), (None, None));
    }
}
