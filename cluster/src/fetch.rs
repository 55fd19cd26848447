//! Making the archive whole before a snapshot is installed: missing records come from peers, checked by the chain.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tandem_state::archive::{Stream, StreamHead};

use crate::archive::ArchiveError;
use crate::archive::record::{Stored, extend};
use crate::archive::store::ArchiveStore;

/// Records on their way from peers: one answer for each peer that could be asked.
pub(crate) type Fetched<'a> = Pin<Box<dyn Future<Output = Vec<Vec<Stored>>> + Send + 'a>>;

/// Where missing records come from.
pub(crate) trait Fetch: Send + Sync {
    /// Asks peers for records of `stream` from `seq` on. Answers may be short, empty or wrong.
    fn records(&self, stream: Stream, seq: u64) -> Fetched<'_>;

    /// So many of so many records are there.
    fn progress(&self, _have: u64, _of: u64) {}

    /// The node is being stopped: waiting for peers is over.
    fn stopping(&self) -> bool;
}

/// Fetches records of `stream` until it stands at `wanted`. Peers may be away for a while: it tries until the node stops.
pub(crate) async fn complete(
    fetch: &dyn Fetch,
    archive: &mut ArchiveStore,
    stream: Stream,
    wanted: StreamHead,
) -> Result<(), ArchiveError> {
    let mut pause = Duration::from_millis(50);
    loop {
        let head = archive.head(stream);
        fetch.progress(head.count, wanted.count);
        if head.count > wanted.count {
            // Entries after the snapshot were applied here once; `apply` skips what is stored.
            return Ok(());
        }
        if head.count == wanted.count {
            return if head.chain == wanted.chain { Ok(()) } else { Err(differs(stream)) };
        }
        let answers = fetch.records(stream, head.count).await;
        match answers.into_iter().find_map(|records| fitting(head, records, wanted)) {
            Some(records) => {
                archive.append_fetched(stream, records)?;
                pause = Duration::from_millis(50);
            }
            None if fetch.stopping() => {
                return Err(ArchiveError::Storage("stopped while the archive was being fetched".into()));
            }
            None => {
                tracing::warn!(
                    ?stream,
                    have = head.count,
                    wanted = wanted.count,
                    "no peer has the missing records"
                );
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(2));
            }
        }
    }
}

fn differs(stream: Stream) -> ArchiveError {
    ArchiveError::Storage(format!(
        "this node's {stream:?} differ from the cluster's: remove it and join as a new node (deploy/runbooks/disk-rot.md)"
    ))
}

/// The records up to `wanted`, if their chain holds.
fn fitting(mut head: StreamHead, mut records: Vec<Stored>, wanted: StreamHead) -> Option<Vec<Stored>> {
    let room = usize::try_from(wanted.count.saturating_sub(head.count)).unwrap_or(usize::MAX);
    records.truncate(room);
    for stored in &records {
        head = extend(head, stored.record());
        if stored.chain() != Some(head.chain) {
            return None;
        }
    }
    let whole = head.count < wanted.count || head.chain == wanted.chain;
    (whole && !records.is_empty()).then_some(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chained(records: &[&[u8]]) -> (Vec<Stored>, StreamHead) {
        let mut head = StreamHead::default();
        let mut stored = Vec::new();
        for record in records {
            head = extend(head, record);
            stored.push(Stored::new(head.chain, record));
        }
        (stored, head)
    }

    #[test]
    fn records_whose_chain_reaches_the_wanted_head_fit() {
        let (records, head) = chained(&[b"a", b"b"]);
        assert_eq!(fitting(StreamHead::default(), records, head).map(|r| r.len()), Some(2));
    }

    #[test]
    fn records_beyond_the_wanted_head_are_left_out() {
        let (records, _) = chained(&[b"a", b"b", b"c"]);
        let (_, head) = chained(&[b"a", b"b"]);
        assert_eq!(fitting(StreamHead::default(), records, head).map(|r| r.len()), Some(2));
    }

    #[test]
    fn a_changed_record_or_another_history_does_not_fit() {
        let (mut records, head) = chained(&[b"a", b"b"]);
        if let Some(last) = records.last_mut() {
            last.0.push(0);
        }
        assert!(fitting(StreamHead::default(), records, head).is_none());
        let (other, _) = chained(&[b"a", b"x"]);
        assert!(fitting(StreamHead::default(), other, head).is_none());
    }
}
