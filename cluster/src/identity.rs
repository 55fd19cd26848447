//! Who this node is: the identity file, the directory's lock, the incarnation.
//!
//! The identity file says which file it is: its inode and the nanosecond of its birth. A copy of the directory has other
//! ones, so that it can't act under the original's name; the device's number is left out, as it changes with the
//! order in which disks are found.

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use tandem_state::{ClusterId, Incarnation, NodeId, Role};

use crate::segment::{SegmentError, replace_file, sync_directory};

/// Drawn when a quorum is forced out of one survivor: two that are forced apart come to the same generation, and are two
/// clusters all the same. 0 before that, and where a release that drew none did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Fork(pub(crate) u64);

impl fmt::Display for Fork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A voter that was declared lost when the quorum was forced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lost {
    pub(crate) node: NodeId,
    pub(crate) name: String,
    pub(crate) address: String,
}

/// What the identity file holds. It is written by `init` or `join`, and anew when the quorum is forced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) cluster: ClusterId,
    pub(crate) generation: u64,
    pub(crate) fork: Fork,
    pub(crate) node: NodeId,
    pub(crate) role: Role,
    /// Made by `init`: begins the cluster by itself.
    pub(crate) first: bool,
    /// Where members were when this node joined.
    pub(crate) members: Vec<(NodeId, String)>,
    /// Known to the survivor alone.
    pub(crate) lost: Vec<Lost>,
}

/// Which file it is, as the file system tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Birth {
    inode: u64,
    born_ns: u64,
}

/// Ids as text, so that the file can be read by people.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    layout: u32,
    cluster_id: String,
    generation: u64,
    /// Absent, as in older releases, where no quorum was forced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fork: Option<String>,
    node_id: String,
    role: Role,
    first: bool,
    members: Vec<(String, String)>,
    /// Absent like the fork: id, name, address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    lost: Vec<(String, String, String)>,
    /// Of this file; absent where the file system doesn't tell.
    birth: Option<Birth>,
}

/// Why an identity can't be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    #[error(transparent)]
    File(#[from] SegmentError),
    #[error("{0} is a copy of another node's data directory")]
    Copied(String),
}

/// Whether copies of a directory will be told from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Copies {
    Told,
    NotTold,
}

const FILE: &str = "identity.json";
const LAYOUT: u32 = 2;

/// Whether a directory holds a node.
pub(crate) fn exists(data: &Path) -> bool {
    data.join(FILE).exists()
}

impl Identity {
    /// Writes the identity durably.
    pub(crate) fn store(&self, data: &Path) -> Result<Copies, SegmentError> {
        let path = data.join(FILE);
        let beside = path.with_extension("new");
        let write = || {
            let _ = std::fs::remove_file(&beside);
            let mut file = File::options().create_new(true).write(true).mode(0o600).open(&beside)?;
            let birth = Birth::of(&file)?;
            file.write_all(&serde_json::to_vec_pretty(&self.written(birth))?)?;
            file.sync_all()?;
            std::fs::rename(&beside, &path)?;
            Ok(if birth.is_some() { Copies::Told } else { Copies::NotTold })
        };
        let copies = write().map_err(|e| SegmentError::io(&path, e))?;
        sync_directory(data)?;
        Ok(copies)
    }

    fn written(&self, birth: Option<Birth>) -> Written {
        Written {
            layout: LAYOUT,
            cluster_id: self.cluster.to_string(),
            generation: self.generation,
            fork: (self.fork != Fork::default()).then(|| self.fork.to_string()),
            node_id: self.node.to_string(),
            role: self.role,
            first: self.first,
            members: self.members.iter().map(|(node, address)| (node.to_string(), address.clone())).collect(),
            lost: self.lost.iter().map(Lost::written).collect(),
            birth,
        }
    }

    /// Reads the identity, if this is the very file that was written.
    pub(crate) fn load(data: &Path) -> Result<Identity, IdentityError> {
        match Identity::read(data)? {
            (identity, true) => Ok(identity),
            (_, false) => Err(IdentityError::Copied(data.display().to_string())),
        }
    }

    /// Reads the identity, maybe in a copy, for who only wants to know what is there; and whether this is the very file
    /// that was written.
    pub(crate) fn read(data: &Path) -> Result<(Identity, bool), SegmentError> {
        let path = data.join(FILE);
        let io = |e| SegmentError::io(&path, e);
        let rot = |what: &str| SegmentError::rot(&path, 0, what);
        let file = File::open(&path).map_err(io)?;
        let written: Written =
            serde_json::from_reader(io::BufReader::new(&file)).map_err(|e| rot(&e.to_string()))?;
        let identity = Identity::of(&written).ok_or_else(|| rot("a field makes no sense"))?;
        let is_original = written.birth.is_none() || written.birth == Birth::of(&file).map_err(io)?;
        Ok((identity, is_original))
    }

    fn of(written: &Written) -> Option<Identity> {
        let member = |(node, address): &(String, String)| Some((node.parse().ok()?, address.clone()));
        (written.layout == LAYOUT).then_some(())?;
        Some(Identity {
            cluster: written.cluster_id.parse().ok()?,
            generation: written.generation,
            fork: match &written.fork {
                Some(text) => Fork(u64::from_str_radix(text, 16).ok()?),
                None => Fork::default(),
            },
            node: written.node_id.parse().ok()?,
            role: written.role,
            first: written.first,
            members: written.members.iter().map(member).collect::<Option<_>>()?,
            lost: written.lost.iter().map(Lost::of).collect::<Option<_>>()?,
        })
    }
}

impl Lost {
    fn written(&self) -> (String, String, String) {
        (self.node.to_string(), self.name.clone(), self.address.clone())
    }

    fn of((node, name, address): &(String, String, String)) -> Option<Lost> {
        Some(Lost { node: node.parse().ok()?, name: name.clone(), address: address.clone() })
    }
}

impl Birth {
    fn of(file: &File) -> io::Result<Option<Birth>> {
        let metadata = file.metadata()?;
        let born = match metadata.created() {
            Ok(born) => born.duration_since(UNIX_EPOCH).ok(),
            Err(error) if error.kind() == ErrorKind::Unsupported => None,
            Err(error) => return Err(error),
        };
        let born_ns = born.and_then(|since| u64::try_from(since.as_nanos()).ok()).filter(|ns| *ns > 0);
        Ok(born_ns.map(|born_ns| Birth { inode: metadata.ino(), born_ns }))
    }
}

/// The file that is locked.
pub(crate) const LOCK: &str = "lock";

/// Holds the directory for this process; let go when dropped or at the process's end.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Takes the lock; `None` when another process has it.
    pub(crate) fn take(data: &Path) -> Result<Option<DirectoryLock>, SegmentError> {
        let path = data.join(LOCK);
        let io = |e| SegmentError::io(&path, e);
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(io)?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(DirectoryLock { _file: file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(io(error.into())),
        }
    }
}

/// Where the incarnation is kept.
const INCARNATION: &str = "incarnation";

/// Whether a node was ever started in the directory.
pub(crate) fn has_run(data: &Path) -> bool {
    data.join(INCARNATION).exists()
}

/// Raises the incarnation durably. Only under the lock.
pub(crate) fn raise_incarnation(data: &Path, _under: &DirectoryLock) -> Result<Incarnation, SegmentError> {
    let path: PathBuf = data.join(INCARNATION);
    let last: u64 = match std::fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map_err(|_| SegmentError::rot(&path, 0, "this is no number"))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
        Err(error) => return Err(SegmentError::io(&path, error)),
    };
    replace_file(&path, format!("{}\n", last + 1).as_bytes())?;
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

    fn identity() -> Identity {
        Identity {
            cluster: ClusterId(5),
            generation: 1,
            fork: Fork::default(),
            node: NodeId(6),
            role: Role::Witness,
            first: false,
            members: vec![(NodeId(7), "127.0.0.1:7400".into())],
            lost: Vec::new(),
        }
    }

    #[test]
    fn a_file_of_a_release_without_forks_reads_and_is_written_as_ever_until_a_quorum_is_forced() {
        let dir = tempfile::tempdir().unwrap();
        let older = r#"{"layout":2,"cluster_id":"00000000000000000000000000000005","generation":1,
            "node_id":"0000000000000006","role":"witness","first":false,
            "members":[["0000000000000007","127.0.0.1:7400"]],"birth":null}"#;
        std::fs::write(dir.path().join(FILE), older).unwrap();
        assert_eq!(Identity::load(dir.path()).unwrap(), identity());
        let again = serde_json::to_value(identity().written(None)).unwrap();
        assert_eq!(again, serde_json::from_str::<serde_json::Value>(older).unwrap());

        let lost = Lost { node: NodeId(7), name: "n7".into(), address: "127.0.0.1:7400".into() };
        let forced = Identity { generation: 2, fork: Fork(0xab), lost: vec![lost], ..identity() };
        forced.store(dir.path()).unwrap();
        assert_eq!(Identity::load(dir.path()).unwrap(), forced);
    }

    #[test]
    fn an_identity_reads_back_as_written_and_after_its_directory_was_moved() {
        let dir = tempfile::tempdir().unwrap();
        let [here, there] = ["here", "there"].map(|name| dir.path().join(name));
        std::fs::create_dir(&here).unwrap();
        identity().store(&here).unwrap();
        assert_eq!(Identity::load(&here).unwrap(), identity());
        std::fs::rename(&here, &there).unwrap();
        assert_eq!(Identity::load(&there).unwrap(), identity());
    }

    #[test]
    fn a_copied_file_is_no_identity_where_births_are_known() {
        let dir = tempfile::tempdir().unwrap();
        let copy = tempfile::tempdir().unwrap();
        let copies = identity().store(dir.path()).unwrap();
        std::fs::copy(dir.path().join(FILE), copy.path().join(FILE)).unwrap();
        let loaded = Identity::load(copy.path());
        match copies {
            Copies::Told => assert!(matches!(loaded, Err(IdentityError::Copied(_))), "{loaded:?}"),
            Copies::NotTold => assert_eq!(loaded.unwrap(), identity()),
        }
    }

    #[test]
    fn where_no_birth_was_known_a_copy_is_not_told() {
        let dir = tempfile::tempdir().unwrap();
        let text = serde_json::to_vec(&identity().written(None)).unwrap();
        std::fs::write(dir.path().join(FILE), text).unwrap();
        assert_eq!(Identity::load(dir.path()).unwrap(), identity());
        let text = serde_json::to_vec(&identity().written(Some(Birth { inode: 1, born_ns: 1 }))).unwrap();
        std::fs::write(dir.path().join(FILE), text).unwrap();
        assert!(matches!(Identity::load(dir.path()), Err(IdentityError::Copied(_))));
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
