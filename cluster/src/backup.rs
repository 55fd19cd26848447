//! A backup of the whole cluster, taken from any node while it runs; and a new cluster made of one.
//!
//! It holds the state as of one log position, the archive up to it, and the cluster keys that secrets in the state are
//! sealed by; all of it sealed by a passphrase ([`seal`]). A restored cluster has another id and another CA: nodes and certificates of
//! the old one mean nothing to it, so that both may live. It has the old one's cluster keys, for what they seal.

mod seal;

use std::fmt::Display;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;
use std::sync::Arc;

use openraft::vote::RaftLeaderId;
use openraft::{BasicNode, Membership};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tandem_state::archive::Stream;
use tandem_state::{
    Batch, ClusterId, ClusterTime, Command, Incarnation, NodeId, Origin, Principal, Proposal, State,
};

use crate::archive::record::{STREAMS, Stored};
use crate::archive::store::ArchiveStore;
use crate::config::Timing;
use crate::identity::Identity;
use crate::node::Node;
use crate::raft::snapshot::SnapshotFiles;
use crate::raft::{LogId, SnapshotMeta, StoredMembership};
use crate::rpc::handshake::Key;
use crate::setup::{InitError, Initialised};
use seal::{OpenError, Opener, Sealer};

/// What a backup is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupHead {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The log position of the state.
    pub position: u64,
    /// Cluster time there.
    pub time: ClusterTime,
    /// How many CDRs, events and audit records there are.
    pub records: [u64; 3],
}

/// What stands in a backup, in this order; each is a frame of its own.
#[derive(Serialize, Deserialize)]
enum Part {
    Head(BackupHead),
    /// Cluster keys, oldest first.
    Keys(Vec<Key>),
    /// A piece of the encoded state.
    State(Vec<u8>),
    /// Records of a stream, in order.
    Records(Stream, Vec<Vec<u8>>),
    /// Nothing is missing: SHA-256 of the state.
    End([u8; 32]),
}

/// Why a backup could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// It could not be written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The archive could not be read.
    #[error("the archive: {0}")]
    Archive(String),
}

/// Why a backup was not restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The data directory.
    #[error(transparent)]
    Directory(#[from] InitError),
    /// The file can't be opened: no backup, another passphrase, changed, cut off.
    #[error("{0}")]
    Sealed(String),
    /// It can't be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What is in it doesn't fit together.
    #[error("the backup is damaged: {0}")]
    Damaged(String),
}

/// Bytes of the state, or of records, in one part.
const PART_BYTES: usize = 512 * 1024;

impl Node {
    /// See `Cluster::backup`.
    pub(crate) fn backup(&self, passphrase: &str, to: impl Write) -> Result<BackupHead, BackupError> {
        let state: Arc<State> = self.shared.view.load_full();
        let count = |stream| state.streams.get(&stream).map_or(0, |head| head.count);
        let head = BackupHead {
            cluster_id: self.identity.cluster,
            position: state.position,
            time: state.time,
            records: STREAMS.map(count),
        };
        let mut sealer = Sealer::new(to, passphrase)?;
        put(&mut sealer, &Part::Head(head.clone()))?;
        put(&mut sealer, &Part::Keys(self.secrets.held().keys))?;
        let checksum = put_state(&mut sealer, &state)?;
        for stream in STREAMS {
            self.put_records(&mut sealer, stream, count(stream))?;
        }
        put(&mut sealer, &Part::End(checksum))?;
        sealer.finish()?;
        Ok(head)
    }

    fn put_records(&self, to: &mut impl Write, stream: Stream, count: u64) -> Result<(), BackupError> {
        let mut seq = 0;
        while seq < count {
            let found = self.archive.shared.stored_from(stream, seq, PART_BYTES);
            let found = found.map_err(|e| BackupError::Archive(e.to_string()))?;
            if found.is_empty() {
                return Err(BackupError::Archive(format!("{stream:?} end at {seq}, and {count} were made")));
            }
            let wanted = usize::try_from(count - seq).unwrap_or(usize::MAX);
            let records: Vec<Vec<u8>> = found.into_iter().take(wanted).map(|stored| stored.0).collect();
            seq += records.len() as u64;
            put(to, &Part::Records(stream, records))?;
        }
        Ok(())
    }
}

/// Puts the state piece by piece: it is never in memory a second time as bytes. Its SHA-256.
fn put_state(to: &mut impl Write, state: &State) -> io::Result<[u8; 32]> {
    let mut pieces = Pieces { to, hash: Sha256::new() };
    let mut buffered = BufWriter::with_capacity(PART_BYTES, &mut pieces);
    state.write_snapshot(&mut buffered)?;
    buffered.flush()?;
    drop(buffered);
    Ok(pieces.hash.finalize().into())
}

/// Each write becomes a part.
struct Pieces<'a, W> {
    to: &'a mut W,
    hash: Sha256,
}

impl<W: Write> Write for Pieces<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = bytes.get(..PART_BYTES).unwrap_or(bytes);
        put(self.to, &Part::State(piece.to_vec()))?;
        self.hash.update(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn put(to: &mut impl Write, part: &Part) -> io::Result<()> {
    let bytes = postcard::to_stdvec(part).map_err(io::Error::other)?;
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    to.write_all(&length.to_le_bytes())?;
    to.write_all(&bytes)
}

/// Prepares `data` as the first node of a new cluster with the state and archive of a backup, offline. Its calls are ended, its
/// phones must register again, its tokens hold.
pub async fn restore(
    data: &Path,
    from: impl Read,
    passphrase: &str,
) -> Result<(Initialised, BackupHead), RestoreError> {
    let mut parts = Parts { opener: Opener::new(from, passphrase).map_err(sealed)?, waiting: Vec::new() };
    let Part::Head(head) = parts.next()? else { return Err(damaged("it begins without a head")) };
    let Part::Keys(keys) = parts.next()? else { return Err(damaged("it has no keys")) };
    let _lock = crate::setup::claim(data)?;
    match fill(data, &mut parts, keys, &head).await {
        // The identity comes last: a half restored directory holds no node.
        Ok(identity) => Ok((crate::setup::finish(data, &identity)?, head)),
        Err(error) => {
            crate::setup::undo(data);
            Err(error)
        }
    }
}

async fn fill(
    data: &Path,
    parts: &mut Parts<impl Read>,
    keys: Vec<Key>,
    head: &BackupHead,
) -> Result<Identity, RestoreError> {
    if keys.is_empty() {
        return Err(damaged("it has no keys"));
    }
    let identity = crate::setup::secrets_of_first(data, keys)?;
    let (disk, health) = (crate::disk::system(), Arc::default());
    let segment_bytes = Timing::default().segment_bytes;
    let archive = ArchiveStore::open(&disk, &health, &data.join("archive"), segment_bytes);
    let mut archive = archive.map_err(|e| damaged(&e))?;
    let mut encoded = Vec::new();
    let checksum = loop {
        match parts.next()? {
            Part::State(piece) => encoded.extend(piece),
            Part::Records(stream, records) => {
                let records = records.into_iter().map(Stored).collect();
                archive.append_fetched(stream, records).map_err(|e| damaged(&e))?;
                // No more waits in memory than this part.
                archive.sync_handle().sync().await.map_err(|e| damaged(&e))?;
            }
            Part::End(checksum) => break checksum,
            Part::Head(_) | Part::Keys(_) => return Err(damaged("a part stands where it can't")),
        }
    };
    if !parts.is_at_end()? {
        return Err(damaged("more follows its end"));
    }
    if sha256(&encoded) != checksum {
        return Err(damaged("the state's checksum does not match"));
    }
    let mut state = State::decode_snapshot(&encoded).map_err(|e| damaged(&e))?;
    let is_whole =
        |stream: &Stream| state.streams.get(stream).copied().unwrap_or_default() == archive.head(*stream);
    if state.position != head.position || !STREAMS.iter().all(is_whole) {
        return Err(damaged("state and archive are not of the same position"));
    }
    let position = head.position + 1;
    let applied = state.apply_unchecked(position, &without_nodes(&state, identity.node));
    archive.append(&applied.archive).map_err(|e| damaged(&e))?;
    archive.sync_handle().sync().await.map_err(|e| damaged(&e))?;
    archive.sync_handle().close().await;
    let snapshots = SnapshotFiles::open(&disk, &data.join("snapshots")).map_err(|e| damaged(&e))?;
    snapshots.store(&alone(identity.node, position), &state).map_err(|e| damaged(&e))?;
    Ok(identity)
}

/// Takes every node of the old cluster out of its state: their calls end, their bindings go.
fn without_nodes(state: &State, me: NodeId) -> Batch {
    let remove = |(seq, node): (u64, &NodeId)| Proposal {
        // Before this node's first start, whose incarnation is 1.
        origin: Origin { node: me, incarnation: Incarnation(0), seq, low_water: 0 },
        principal: Principal::Node(me),
        idempotency: None,
        command: Command::NodeRemoved { node: *node },
    };
    Batch { stamp: state.time, proposals: (1..).zip(state.nodes.keys()).map(remove).collect() }
}

/// A snapshot's head in which this node is all there is.
fn alone(node: NodeId, position: u64) -> SnapshotMeta {
    let log_id = LogId::new(RaftLeaderId::new(1, node.0), position);
    let members = Membership::new_with_defaults(vec![[node.0].into()], []);
    let _: &Membership<u64, BasicNode> = &members;
    SnapshotMeta { last_log_id: Some(log_id), last_membership: StoredMembership::new(Some(log_id), members) }
}

/// The parts of an opened backup.
struct Parts<R> {
    opener: Opener<R>,
    waiting: Vec<u8>,
}

impl<R: Read> Parts<R> {
    fn next(&mut self) -> Result<Part, RestoreError> {
        let length = self.take(4)?;
        let length: [u8; 4] = length.try_into().map_err(|_| damaged("a length is missing"))?;
        let length = usize::try_from(u32::from_le_bytes(length)).map_err(|e| damaged(&e))?;
        postcard::from_bytes(&self.take(length)?).map_err(|e| damaged(&e))
    }

    fn is_at_end(&mut self) -> Result<bool, RestoreError> {
        Ok(self.waiting.is_empty()
            && self.opener.next().map_err(sealed)?.is_none()
            && self.opener.is_at_end()?)
    }

    fn take(&mut self, count: usize) -> Result<Vec<u8>, RestoreError> {
        while self.waiting.len() < count {
            match self.opener.next().map_err(sealed)? {
                Some(piece) => self.waiting.extend(piece),
                None => return Err(damaged("it ends early")),
            }
        }
        let rest = self.waiting.split_off(count);
        Ok(std::mem::replace(&mut self.waiting, rest))
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn damaged(why: &(impl Display + ?Sized)) -> RestoreError {
    RestoreError::Damaged(why.to_string())
}

fn sealed(error: OpenError) -> RestoreError {
    RestoreError::Sealed(error.to_string())
}
