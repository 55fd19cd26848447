//! Reads of the archive: CDRs, events and audit records of this node.

use tandem_state::archive::AuditRecord;
use tandem_state::{CallId, Cdr, ClusterTime, Event, EventId, TenantId};

/// A handle for reading. Its calls read files: short, but blocking.
#[derive(Debug, Clone)]
pub struct Archive {}

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
    /// A file can't be read or is damaged.
    #[error("the archive cannot be read: {0}")]
    Storage(String),
}

impl Archive {
    /// CDRs, newest start first.
    pub fn cdrs(&self, _query: &CdrQuery) -> Result<Page<Cdr>, ArchiveError> {
        Ok(Page { items: Vec::new(), next_cursor: None })
    }

    /// The CDRs of a call, in the order of their attempts.
    pub fn cdrs_of_call(&self, _call: CallId) -> Result<Vec<Cdr>, ArchiveError> {
        Ok(Vec::new())
    }

    /// Events after `after` (from the oldest kept when `None`), at most `limit`; `tenant` of `None` gives all.
    pub fn events(
        &self,
        _after: Option<EventId>,
        _tenant: Option<TenantId>,
        _limit: usize,
    ) -> Result<EventsRead, ArchiveError> {
        Ok(EventsRead::Events { events: Vec::new(), last: None, more: false })
    }

    /// Audit records, newest first.
    pub fn audit(&self, _cursor: Option<&str>, _limit: usize) -> Result<Page<AuditRecord>, ArchiveError> {
        Ok(Page { items: Vec::new(), next_cursor: None })
    }
}
