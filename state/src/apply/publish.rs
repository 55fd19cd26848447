//! Effects become events with ids, and archive records with their place and hash chain.

use super::Effect;
use crate::archive::{ArchiveRecord, AuditRecord, Fact, Stream};
use crate::command::Principal;
use crate::event::{Event, EventId};
use crate::outcome::Applied;
use crate::tables::State;

impl State {
    pub(super) fn publish(&mut self, principal: &Principal, effects: Vec<Effect>, applied: &mut Applied) {
        for effect in effects {
            let (stream, fact) = match effect {
                Effect::Cdr(cdr) => (Stream::Cdrs, Fact::Cdr(cdr)),
                Effect::Audit(action) => {
                    let record = AuditRecord { at: self.time, principal: principal.clone(), action };
                    (Stream::Audit, Fact::Audit(record))
                }
                Effect::Event(tenant, kind) => {
                    let index = u32::try_from(applied.events.len()).unwrap_or(u32::MAX);
                    let id = EventId { position: self.position, index };
                    let event = Event { id, at: self.time, tenant, kind };
                    applied.events.push(event.clone());
                    (Stream::Events, Fact::Event(Box::new(event)))
                }
            };
            applied.archive.push(self.append(stream, fact));
        }
    }

    /// Gives a fact its place in its stream.
    fn append(&mut self, stream: Stream, fact: Fact) -> ArchiveRecord {
        let mut head = self.streams.get(&stream).copied().unwrap_or_default();
        let record = ArchiveRecord { stream, seq: head.count, position: self.position, fact };
        head.extend(&record);
        self.streams.insert(stream, head);
        record
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::StreamHead;
    use crate::command::Command;
    use crate::fixture::*;

    #[test]
    fn event_ids_count_within_an_entry_and_records_chain_over_entries() {
        let mut state = started();
        let before = state.streams.clone();
        let applied = state
            .apply(9, &batch(50, vec![propose(1, 90, configure(globex())), propose(1, 91, bind("101", 1))]));
        assert_eq!(applied.outcomes.iter().filter(|o| o.is_ok()).count(), 2);
        let ids: Vec<String> = applied.events.iter().map(|e| e.id.to_string()).collect();
        assert_eq!(ids, ["9.0", "9.1"]);
        for stream in [Stream::Cdrs, Stream::Events, Stream::Audit] {
            let mut head = before.get(&stream).copied().unwrap_or_default();
            for record in applied.archive.iter().filter(|r| r.stream == stream) {
                assert_eq!(record.seq, head.count);
                head.extend(record);
            }
            assert_eq!(state.streams.get(&stream).copied().unwrap_or_default(), head);
        }
    }

    #[test]
    fn a_changed_record_changes_the_chain() {
        let mut state = started();
        let applied = state.apply(9, &batch(50, vec![propose(1, 90, configure(globex()))]));
        let mut forged = applied.archive[0].clone();
        forged.position += 1;
        let (mut a, mut b) = (StreamHead::default(), StreamHead::default());
        a.extend(&applied.archive[0]);
        b.extend(&forged);
        assert_ne!(a.chain, b.chain);
    }

    #[test]
    fn a_tick_that_ends_nothing_publishes_nothing() {
        let mut state = started();
        let applied = state.apply(9, &batch(50, vec![propose(1, 90, Command::Tick)]));
        assert_eq!(applied, Applied { outcomes: vec![Ok(crate::Reply::Done)], ..Applied::default() });
    }
}
