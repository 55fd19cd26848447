//! Which log entries there are and where: in memory, in a segment file, or both.

use std::collections::VecDeque;
use std::ops::Range;

use openraft::EntryPayload;
use tandem_state::Proposal;

use super::{Entry, LogId, Vote};
use crate::segment::Location;

/// The log as the Raft core sees it; disks follow.
#[derive(Debug, Default)]
pub(crate) struct LogIndex {
    pub(crate) vote: Option<Vote>,
    pub(crate) committed: Option<LogId>,
    pub(crate) purged: Option<LogId>,
    slots: VecDeque<Slot>,
    /// Entries before this index are not kept in memory.
    kept_from: u64,
    kept_bytes: u64,
}

#[derive(Debug)]
struct Slot {
    log_id: LogId,
    /// Which append made it, as a truncated index is used again.
    ticket: u64,
    location: Option<Location>,
    entry: Option<Entry>,
}

/// Where an entry can be had.
#[derive(Debug, Clone)]
pub(crate) enum Found {
    Memory(Entry),
    Disk(Location),
}

/// Bytes of entries kept in memory once they are on disk, for replication and apply. Who is further behind reads the disk.
const KEPT_BYTES: u64 = 8 * 1024 * 1024;

impl Slot {
    /// What its entry takes in memory, roughly, once it could go: a proposal takes the room of the largest command there is,
    /// and what that points to about as much as on disk.
    fn kept_bytes(&self) -> u64 {
        let (Some(entry), Some(location)) = (&self.entry, self.location) else { return 0 };
        let proposals = match &entry.payload {
            EntryPayload::Normal(batch) => batch.0.proposals.len(),
            EntryPayload::Blank | EntryPayload::Membership(_) => 0,
        };
        let room = proposals.saturating_mul(size_of::<Proposal>());
        location.size.saturating_add(u64::try_from(room).unwrap_or(u64::MAX))
    }
}

impl LogIndex {
    pub(crate) fn first_index(&self) -> Option<u64> {
        self.slots.front().map(|slot| slot.log_id.index)
    }

    pub(crate) fn last_log_id(&self) -> Option<LogId> {
        self.slots.back().map(|slot| slot.log_id).or(self.purged)
    }

    /// The last entry that is on disk and was not purged.
    pub(crate) fn durable(&self) -> Option<LogId> {
        self.slots.iter().rev().find(|slot| slot.location.is_some()).map(|slot| slot.log_id)
    }

    /// Adds an entry after the last. False when it leaves a hole.
    pub(crate) fn push(
        &mut self,
        log_id: LogId,
        ticket: u64,
        location: Option<Location>,
        entry: Option<Entry>,
    ) -> bool {
        let fits = self.last_log_id().is_none_or(|last| last.index + 1 == log_id.index);
        self.slots.push_back(Slot { log_id, ticket, location, entry });
        fits
    }

    /// An entry is on disk now.
    pub(crate) fn located(&mut self, index: u64, ticket: u64, location: Location) {
        if let Some(slot) = self.slot_mut(index).filter(|slot| slot.ticket == ticket) {
            slot.location = Some(location);
            self.kept_bytes += slot.kept_bytes();
            self.shed();
        }
    }

    fn shed(&mut self) {
        while self.kept_bytes > KEPT_BYTES {
            let index = self.kept_from.max(self.first_index().unwrap_or(0));
            self.kept_from = index + 1;
            let Some(slot) = self.slot_mut(index) else {
                self.kept_bytes = 0;
                return;
            };
            if slot.location.is_none() {
                self.kept_from = index;
                return;
            }
            let freed = slot.kept_bytes();
            slot.entry = None;
            self.kept_bytes = self.kept_bytes.saturating_sub(freed);
        }
    }

    /// Forgets entries after `last` (all for `None`).
    pub(crate) fn truncate_after(&mut self, last: Option<LogId>) {
        while self.slots.back().is_some_and(|slot| last.is_none_or(|last| slot.log_id.index > last.index)) {
            let gone = self.slots.pop_back();
            self.kept_bytes = self.kept_bytes.saturating_sub(gone.map_or(0, |slot| slot.kept_bytes()));
        }
        self.kept_from = self.kept_from.min(self.last_log_id().map_or(0, |id| id.index + 1));
    }

    /// Forgets entries up to `log_id`.
    pub(crate) fn purge(&mut self, log_id: LogId) {
        while self.slots.front().is_some_and(|slot| slot.log_id.index <= log_id.index) {
            let gone = self.slots.pop_front();
            self.kept_bytes = self.kept_bytes.saturating_sub(gone.map_or(0, |slot| slot.kept_bytes()));
        }
        self.purged = self.purged.max(Some(log_id));
    }

    /// The file in which the oldest entry stands, once it is on disk.
    pub(crate) fn oldest_segment(&self) -> Option<u64> {
        self.slots.front().and_then(|slot| slot.location).map(|location| location.segment)
    }

    /// No entries at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The entries of `range` that there are, without a hole, from the first.
    pub(crate) fn find(&self, range: Range<u64>) -> Vec<(LogId, Found)> {
        let Some(first) = self.first_index() else { return Vec::new() };
        let from = range.start.saturating_sub(first);
        let count = range.end.saturating_sub(range.start.max(first));
        let (Ok(from), Ok(count)) = (usize::try_from(from), usize::try_from(count)) else {
            return Vec::new();
        };
        let found = |slot: &Slot| match (&slot.entry, slot.location) {
            (Some(entry), _) => Some((slot.log_id, Found::Memory(entry.clone()))),
            (None, Some(location)) => Some((slot.log_id, Found::Disk(location))),
            (None, None) => None,
        };
        self.slots.iter().skip(from).take(count).map_while(found).collect()
    }

    fn slot_mut(&mut self, index: u64) -> Option<&mut Slot> {
        let first = self.first_index()?;
        self.slots.get_mut(usize::try_from(index.checked_sub(first)?).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tandem_state::{Batch, ClusterTime, Command, Incarnation, NodeEpoch, NodeId, Origin, Principal};

    fn log_id(index: u64) -> LogId {
        LogId::new(openraft::vote::RaftLeaderId::new(1, 1), index)
    }

    /// What an idle cluster writes several times a second: one renewal, less than a hundred bytes on disk.
    fn renewal(index: u64) -> Entry {
        let (node, incarnation) = (NodeId(1), Incarnation(1));
        let origin = Origin { node, incarnation, seq: 0, low_water: 0 };
        let command = Command::Renew { node_epoch: NodeEpoch(1), attempt: index, lease_ms: 1_800 };
        let proposal = Proposal { origin, principal: Principal::Node(node), idempotency: None, command };
        let batch = Batch { stamp: ClusterTime(index), proposals: vec![proposal] };
        Entry { log_id: log_id(index), payload: EntryPayload::Normal(crate::raft::LogBatch(Arc::new(batch))) }
    }

    /// A log of so many renewals, all of them on disk.
    fn renewed(count: u64) -> LogIndex {
        let mut index = LogIndex::default();
        for at in 1..=count {
            assert!(index.push(log_id(at), at, None, Some(renewal(at))));
            index.located(at, at, Location { segment: 1, offset: 100 * at, size: 100 });
        }
        index
    }

    fn in_memory(index: &LogIndex) -> u64 {
        let all = index.find(0..u64::MAX);
        all.iter().filter(|(_, found)| matches!(found, Found::Memory(_))).count() as u64
    }

    #[test]
    fn what_entries_take_in_memory_is_bounded_however_small_they_are_on_disk() {
        let index = renewed(25_000);
        let each = 100 + size_of::<Proposal>() as u64;
        assert_eq!(in_memory(&index), KEPT_BYTES / each);
        assert_eq!(index.kept_bytes, KEPT_BYTES / each * each);
        assert_eq!(index.find(1..25_001).len(), 25_000, "the others are on disk");
    }

    #[test]
    fn nothing_is_counted_of_entries_that_are_gone() {
        let mut index = renewed(25_000);
        index.truncate_after(Some(log_id(24_000)));
        index.purge(log_id(23_000));
        let each = 100 + size_of::<Proposal>() as u64;
        assert_eq!((in_memory(&index), index.kept_bytes), (1_000, 1_000 * each));
        index.truncate_after(None);
        assert_eq!(index.kept_bytes, 0);
    }
}
