//! What the log may not say, and what must be left after peace: nothing but one CDR of each call.

use tandem_state::archive::Fact;
use tandem_state::{Applied, EventKind, NodeId};

use super::work::Sim;
use crate::oracle::{Ownership, Verdict, check};

impl Sim {
    /// Of each entry, what the first replica that applies it makes of it.
    pub(super) fn log_seen(&mut self, now_ms: u64, id: NodeId, applied: &Applied) -> Result<(), String> {
        let position = self.state(id).position;
        if position <= self.work.witness.seen {
            return Ok(());
        }
        self.work.witness.seen = position;
        for event in &applied.events {
            if let EventKind::CallAnswered(facts) = &event.kind
                && let Some(call) = self.state(id).calls.get(&facts.id)
            {
                let joined: Vec<_> = call.bridge.keys().copied().collect();
                self.work.witness.joined.extend(joined);
            }
            match &event.kind {
                EventKind::CallCreated(facts) => {
                    self.work.report.calls += 1;
                    self.work.witness.created.insert(facts.id);
                }
                EventKind::CallAnswered(_) => self.work.report.answered += 1,
                EventKind::CallMoved(facts, moved) => {
                    self.work.report.moved += 1;
                    self.work.report.waited += usize::from(moved.from == facts.node);
                    self.work.witness.takes(facts.id, facts.node, moved.epoch, now_ms, Some(now_ms));
                }
                EventKind::CallEnded(facts, cause) if self.both_talk(facts.id) => {
                    return Err(format!(
                        "at {now_ms} ms the log ends call {} of n{} ({cause:?}) while both talk",
                        facts.id, facts.node
                    ));
                }
                _ => {}
            }
        }
        for record in &applied.archive {
            if let Fact::Cdr(cdr) = &record.fact {
                self.work.witness.cdrs.entry(cdr.call).or_default().push(cdr.answer.is_some());
            }
        }
        Ok(())
    }

    /// There was peace.
    pub(super) fn all_is_over(&self) -> Result<(), String> {
        let mut hashes = Vec::new();
        for (id, node) in &self.nodes {
            if let Some(call) = node.state.calls.values().next() {
                return Err(format!("after a time of peace n{id} has a call in the log: {call:?}"));
            }
            let held = self.work.processes.get(id).and_then(|process| process.calls.values().next());
            if let Some(held) = held {
                return Err(format!("after a time of peace n{id} still has {:?}", held.machine));
            }
            hashes.push((node.state.position, node.state.hash()));
        }
        // One may be an entry behind; that each makes the same of each entry is seen as they apply it.
        hashes.sort_unstable();
        hashes.dedup();
        if hashes.iter().zip(hashes.iter().skip(1)).any(|(one, other)| one.0 == other.0) {
            return Err(format!("replicas differ: {hashes:?}"));
        }
        if let Some(phone) = self.work.phones.iter().find(|phone| !phone.is_idle()) {
            return Err(format!("after a time of peace a phone is not idle: {phone:#?}"));
        }
        self.one_cdr_each()?;
        self.ownership_is_linearizable()
    }

    fn one_cdr_each(&self) -> Result<(), String> {
        let witness = &self.work.witness;
        for call in witness.created.iter().chain(witness.cdrs.keys()) {
            let talked = witness.talked.contains(call);
            match witness.cdrs.get(call).map(Vec::as_slice) {
                Some([answered]) if *answered || !talked => {}
                other => {
                    return Err(format!(
                        "call {call}, in which two talked: {talked}, has the CDRs {other:?}"
                    ));
                }
            }
        }
        Ok(())
    }

    fn ownership_is_linearizable(&self) -> Result<(), String> {
        for (call, history) in &self.work.witness.histories {
            if check::<Ownership>(history) != Verdict::Linearizable {
                return Err(format!("no order explains who spoke for call {call}: {history:?}"));
            }
        }
        Ok(())
    }
}
