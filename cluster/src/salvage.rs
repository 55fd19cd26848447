//! What a lost node's data directory knows that the cluster may not: its CDRs.
//!
//! Those in its archive, and those that the entries of its log make which it had not yet written there when it died.

use std::path::Path;

use tandem_state::archive::{ArchiveRecord, Fact, Stream};
use tandem_state::{Cdr, ClusterId};

use crate::archive::store::ArchiveStore;
use crate::cluster::StartError;
use crate::config::Timing;
use crate::identity::{from_hex, to_hex};
use crate::rescue::Rescue;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Salvaged {
    /// The node's cluster.
    pub cluster_id: ClusterId,
    /// And its generation.
    pub generation: u64,
    /// All its CDRs, oldest first.
    pub cdrs: Vec<Cdr>,
}

/// Bytes read at once.
const PIECE_BYTES: usize = 4 * 1024 * 1024;

/// Reads the CDRs of a stopped node's data directory. It is opened as the node would open it: locked, torn tails cut, marks
/// written, the index made up. So it has to be writable, or a copy; what was acknowledged stays in it.
pub async fn salvage(data: &Path) -> Result<Salvaged, StartError> {
    let rescue = Rescue::open(data).await?;
    let damaged = |e: &dyn std::fmt::Display| StartError::Damaged(e.to_string());
    let (disk, health) = (crate::disk::system(), std::sync::Arc::default());
    let bytes = Timing::default().segment_bytes;
    let archive =
        ArchiveStore::open(&disk, &health, &data.join("archive"), bytes).map_err(|e| damaged(&e))?;
    let mut cdrs = Vec::new();
    let count = archive.head(Stream::Cdrs).count;
    let mut seq = 0;
    while seq < count {
        let found =
            archive.reader().shared.stored_from(Stream::Cdrs, seq, PIECE_BYTES).map_err(|e| damaged(&e))?;
        if found.is_empty() {
            return Err(StartError::Damaged(format!("CDR {seq} of {count} is not there")));
        }
        seq += found.len() as u64;
        for stored in found {
            cdrs.extend(cdr_of(stored.decode().map_err(|e| damaged(&e))?));
        }
    }
    let later = rescue.made.iter().filter(|record| record.stream == Stream::Cdrs && record.seq >= count);
    cdrs.extend(later.cloned().filter_map(cdr_of));
    archive.sync_handle().close().await;
    rescue.log.close().await;
    Ok(Salvaged { cluster_id: rescue.identity.cluster, generation: rescue.identity.generation, cdrs })
}

/// A CDR as text, for the way to another cluster.
pub fn cdr_to_text(cdr: &Cdr) -> String {
    to_hex(&postcard::to_stdvec(cdr).expect("every CDR has an encoding"))
}

/// A CDR of its text; `None` when it is none.
pub fn cdr_of_text(text: &str) -> Option<Cdr> {
    postcard::from_bytes(&from_hex(text)?).ok()
}

fn cdr_of(record: ArchiveRecord) -> Option<Cdr> {
    match record.fact {
        Fact::Cdr(cdr) => Some(*cdr),
        Fact::Event(_) | Fact::Audit(_) => None,
    }
}
