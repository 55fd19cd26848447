//! The archive: CDRs, events and audit records, append-only on every node.
//!
//! `apply` hands facts to [`store::ArchiveStore`]; they gather in a [`queue`], and the [`writer`]'s thread writes them
//! to one segment store per stream and then to the [`index`]. Reads go by the index and check each record's checksum. An index that is
//! lost, damaged or bloated is made anew from the segments while the node works ([`rebuild`]); reads that need it are told so meanwhile.

pub(crate) mod index;
mod queue;
mod rebuild;
pub(crate) mod record;
pub(crate) mod sled_index;
pub(crate) mod store;
mod whole;
mod writer;

use std::sync::Arc;

use tandem_state::archive::{ArchiveRecord, AuditRecord, Fact, Stream};
use tandem_state::{CallId, Cdr, ClusterTime, Event, EventId, TenantId};

use crate::segment::SegmentError;
pub(crate) use whole::READING;

/// A handle for reading. Its calls read files: short, but blocking. They include everything that the view of the state
/// had when they were called.
#[derive(Clone)]
pub struct Archive {
    pub(crate) shared: Arc<store::ArchiveShared>,
}

/// Which CDRs are asked for, newest start first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CdrQuery {
    /// Of one tenant, or of all.
    pub tenant: Option<TenantId>,
    /// Started at this time or later.
    pub since: Option<ClusterTime>,
    /// Started before this time.
    pub until: Option<ClusterTime>,
    /// Where the previous page ended.
    pub cursor: Option<String>,
    /// At most so many.
    pub limit: usize,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// What it holds.
    pub items: Vec<T>,
    /// Where the next page begins, if there may be one.
    pub next_cursor: Option<String>,
}

/// What came of reading events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventsRead {
    /// Events in order, after the asked place.
    Events {
        /// Those of the asked tenant.
        events: Vec<Event>,
        /// The last event that was looked at, whoever's it is: where to go on. `None` when there was none.
        last: Option<EventId>,
        /// There were more than the limit.
        more: bool,
    },
    /// The asked place is older than what is kept.
    Reset {
        /// The oldest that is kept.
        oldest: EventId,
    },
}

/// Why the archive can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// The cursor is none of ours.
    #[error("the cursor is not valid")]
    BadCursor,
    /// The index is being made anew from the records, which are all there: ask again.
    #[error("the archive's index is being made anew, {percent} % are done: ask again")]
    Rebuilding {
        /// So much of a hundred is done.
        percent: u8,
    },
    /// A file can't be read or is damaged.
    #[error("the archive cannot be read: {0}")]
    Storage(String),
}

impl From<SegmentError> for ArchiveError {
    fn from(error: SegmentError) -> ArchiveError {
        ArchiveError::Storage(error.to_string())
    }
}

/// Foreign events looked at in one call before it says `more`.
const EVENTS_LOOKED_AT: usize = 5_000;

impl Archive {
    /// CDRs, newest start first.
    pub fn cdrs(&self, query: &CdrQuery) -> Result<Page<Cdr>, ArchiveError> {
        let cursor = query.cursor.as_deref().map(parse_cursor).transpose()?;
        let index = self.shared.index_now()?;
        let range =
            index::CdrRange { tenant: query.tenant, since: query.since, until: query.until, before: cursor };
        let mut found = index.cdrs(&range, query.limit.saturating_add(1))?;
        let more = found.len() > query.limit;
        found.truncate(query.limit);
        let next_cursor = found.last().filter(|_| more).map(|(start, seq)| format!("{}.{seq}", start.0));
        let mut items = Vec::with_capacity(found.len());
        for (_, seq) in found {
            items.push(self.cdr(seq)?);
        }
        Ok(Page { items, next_cursor })
    }

    /// The CDRs of a call, in the order of their attempts.
    pub fn cdrs_of_call(&self, call: CallId) -> Result<Vec<Cdr>, ArchiveError> {
        self.shared.index_now()?.cdrs_of_call(call)?.into_iter().map(|seq| self.cdr(seq)).collect()
    }

    /// Events after `after` (from the oldest kept when `None`), at most `limit`; `tenant` of `None` gives all.
    pub fn events(
        &self,
        after: Option<EventId>,
        tenant: Option<TenantId>,
        limit: usize,
    ) -> Result<EventsRead, ArchiveError> {
        let index = self.shared.index_now()?;
        if let (Some(after), Some((oldest, seq))) = (after, index.oldest_event()?)
            && seq > 0
            && after < oldest
        {
            return Ok(EventsRead::Reset { oldest });
        }
        let found = index.events_after(after, EVENTS_LOOKED_AT + 1)?;
        let mut events = Vec::new();
        let mut last = None;
        for (looked_at, (id, seq)) in found.into_iter().enumerate() {
            if looked_at >= EVENTS_LOOKED_AT || events.len() >= limit {
                return Ok(EventsRead::Events { events, last, more: true });
            }
            last = Some(id);
            if let Fact::Event(event) = self.record(Stream::Events, seq)?.fact
                && (tenant.is_none() || event.tenant == tenant)
            {
                events.push(*event);
            }
        }
        Ok(EventsRead::Events { events, last, more: false })
    }

    /// Audit records, newest first.
    pub fn audit(&self, cursor: Option<&str>, limit: usize) -> Result<Page<AuditRecord>, ArchiveError> {
        let before =
            cursor.map(|text| text.parse::<u64>().map_err(|_| ArchiveError::BadCursor)).transpose()?;
        let (oldest, next) = self.shared.index_now()?.range(Stream::Audit)?;
        let end = before.unwrap_or(next).min(next);
        let count = end.saturating_sub(oldest).min(limit as u64);
        let mut items = Vec::new();
        for seq in (end - count..end).rev() {
            if let Fact::Audit(audit) = self.record(Stream::Audit, seq)?.fact {
                items.push(audit);
            }
        }
        let from = end - count;
        Ok(Page { items, next_cursor: (from > oldest).then(|| from.to_string()) })
    }

    fn cdr(&self, seq: u64) -> Result<Cdr, ArchiveError> {
        match self.record(Stream::Cdrs, seq)?.fact {
            Fact::Cdr(cdr) => Ok(*cdr),
            _ => Err(ArchiveError::Storage(format!("record {seq} is no CDR"))),
        }
    }

    fn record(&self, stream: Stream, seq: u64) -> Result<ArchiveRecord, ArchiveError> {
        let bytes = self.shared.stored(stream, seq)?;
        bytes.decode()
    }
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Archive").finish_non_exhaustive()
    }
}

fn parse_cursor(text: &str) -> Result<(ClusterTime, u64), ArchiveError> {
    let (start, seq) = text.split_once('.').ok_or(ArchiveError::BadCursor)?;
    let start = start.parse().map_err(|_| ArchiveError::BadCursor)?;
    Ok((ClusterTime(start), seq.parse().map_err(|_| ArchiveError::BadCursor)?))
}
