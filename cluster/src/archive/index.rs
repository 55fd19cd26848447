//! What the archive needs of an index. Nothing is only in it.

use tandem_state::archive::{ArchiveRecord, Fact, Stream};
use tandem_state::{CallId, ClusterTime, EventId, TenantId};

use super::ArchiveError;
use crate::segment::Location;

/// A record that is on disk, to be indexed.
#[derive(Debug)]
pub(crate) struct Indexed {
    pub(crate) stream: Stream,
    pub(crate) seq: u64,
    pub(crate) location: Location,
    pub(crate) by: By,
}

/// By what a record is found, beside its number.
#[derive(Debug, Clone, Copy)]
pub(crate) enum By {
    Cdr { tenant: TenantId, start: ClusterTime, call: CallId, attempt: u32 },
    Event(EventId),
    Audit,
}

impl From<&ArchiveRecord> for By {
    fn from(record: &ArchiveRecord) -> By {
        match &record.fact {
            Fact::Cdr(cdr) => {
                By::Cdr { tenant: cdr.tenant, start: cdr.start, call: cdr.call, attempt: cdr.attempt }
            }
            Fact::Event(event) => By::Event(event.id),
            Fact::Audit(_) => By::Audit,
        }
    }
}

/// Which CDRs are asked for, newest first.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CdrRange {
    pub(crate) tenant: Option<TenantId>,
    pub(crate) since: Option<ClusterTime>,
    pub(crate) until: Option<ClusterTime>,
    /// Only those before this one in the list's order.
    pub(crate) before: Option<(ClusterTime, u64)>,
}

/// An index over the archive's segments.
pub(crate) trait Index: Send + Sync {
    /// Adds records in order.
    fn put(&self, records: &[Indexed]) -> Result<(), ArchiveError>;
    /// The oldest and the next number that the index has of a stream.
    fn range(&self, stream: Stream) -> Result<(u64, u64), ArchiveError>;
    /// Where a record stands.
    fn location(&self, stream: Stream, seq: u64) -> Result<Option<Location>, ArchiveError>;
    /// Starts and numbers of CDRs, newest start first.
    fn cdrs(&self, range: &CdrRange, limit: usize) -> Result<Vec<(ClusterTime, u64)>, ArchiveError>;
    /// Numbers of a call's CDRs, by attempt.
    fn cdrs_of_call(&self, call: CallId) -> Result<Vec<u64>, ArchiveError>;
    /// Events after a place, oldest first.
    fn events_after(&self, after: Option<EventId>, limit: usize)
    -> Result<Vec<(EventId, u64)>, ArchiveError>;
    /// The oldest event.
    fn oldest_event(&self) -> Result<Option<(EventId, u64)>, ArchiveError>;
}
