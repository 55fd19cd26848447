//! A record as it is stored and fetched: the chain up to it, then its bytes.

use sha2::{Digest, Sha256};
use tandem_state::archive::{ArchiveRecord, Stream, StreamHead};

use super::ArchiveError;

/// The streams, in the order in which tables hold them.
pub(crate) const STREAMS: [Stream; 3] = [Stream::Cdrs, Stream::Events, Stream::Audit];

/// A stream's place in tables.
pub(crate) fn ordinal(stream: Stream) -> usize {
    match stream {
        Stream::Cdrs => 0,
        Stream::Events => 1,
        Stream::Audit => 2,
    }
}

/// A stream's directory.
pub(crate) fn directory(stream: Stream) -> &'static str {
    match stream {
        Stream::Cdrs => "cdrs",
        Stream::Events => "events",
        Stream::Audit => "audit",
    }
}

/// `chain(n) = SHA-256(chain(n-1) || record n)`.
pub(crate) fn extend(head: StreamHead, record: &[u8]) -> StreamHead {
    let mut hash = Sha256::new();
    hash.update(head.chain);
    hash.update(record);
    StreamHead { count: head.count + 1, chain: hash.finalize().into() }
}

/// What a segment holds for one record: 32 bytes of chain including it, then the record.
#[derive(Debug, Clone)]
pub(crate) struct Stored(pub(crate) Vec<u8>);

impl Stored {
    pub(crate) fn new(chain: [u8; 32], record: &[u8]) -> Stored {
        let mut bytes = Vec::with_capacity(32 + record.len());
        bytes.extend_from_slice(&chain);
        bytes.extend_from_slice(record);
        Stored(bytes)
    }

    pub(crate) fn chain(&self) -> Option<[u8; 32]> {
        self.0.first_chunk::<32>().copied()
    }

    pub(crate) fn record(&self) -> &[u8] {
        self.0.get(32..).unwrap_or_default()
    }

    pub(crate) fn decode(&self) -> Result<ArchiveRecord, ArchiveError> {
        postcard::from_bytes(self.record()).map_err(|e| ArchiveError::Storage(e.to_string()))
    }
}
