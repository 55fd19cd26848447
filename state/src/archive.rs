//! Facts that only grow leave the hot state for append-only streams; the state keeps each stream's count and hash chain.

use serde::{Deserialize, Serialize};

use crate::ids::*;

/// A stream of the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Stream {
    /// Call detail records ([`crate::Cdr`]).
    Cdrs,
    /// Named events ([`crate::Event`]).
    Events,
    /// Who changed the configuration, ended calls, invited nodes ([`AuditRecord`]).
    Audit,
}

/// One record on its way to the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveRecord {
    /// Which stream.
    pub stream: Stream,
    /// Its place in the stream, from 0 without gaps.
    pub seq: u64,
    /// The log position that made it.
    pub position: u64,
    /// What it says.
    pub fact: Fact,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fact {
    /// In [`Stream::Cdrs`].
    Cdr(Box<crate::Cdr>),
    /// In [`Stream::Events`].
    Event(Box<crate::Event>),
    /// In [`Stream::Audit`].
    Audit(AuditRecord),
}

/// A stream's head in the hot state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StreamHead {
    /// Records so far.
    pub count: u64,
    /// `chain(n) = SHA-256(chain(n-1) || postcard(record n))`, zeros before the first.
    pub chain: [u8; 32],
}

/// Who did what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// When.
    pub at: ClusterTime,
    /// Who.
    pub principal: crate::Principal,
    /// What, in words without secrets, such as `put extension acme/101`.
    pub action: String,
}

impl StreamHead {
    /// The head after one more record; whoever fetches a segment walks it with this and compares.
    pub fn extend(&mut self, record: &ArchiveRecord) {
        use sha2::{Digest, Sha256};
        let mut bytes = self.chain.to_vec();
        bytes = postcard::to_extend(record, bytes).expect("every record has an encoding");
        self.chain = Sha256::digest(&bytes).into();
        self.count = self.count.saturating_add(1);
    }
}
