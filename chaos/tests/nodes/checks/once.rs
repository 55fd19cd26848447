//! What was acknowledged is there, and was done once: each acknowledged call was made once and, if its end was acknowledged
//! too, has one CDR; no call was made twice or has two CDRs.

use std::collections::BTreeMap;

use tandem_state::{CallId, EventKind, State};

use super::Checked;
use super::replicas::Archived;
use crate::record::Record;

pub(crate) fn applied_once(record: &Record, archived: &Archived, state: &State) -> Checked {
    let mut made: BTreeMap<CallId, usize> = BTreeMap::new();
    for event in &archived.events {
        if let EventKind::CallCreated(call) = &event.kind {
            *made.entry(call.id).or_default() += 1;
        }
    }
    let mut written: BTreeMap<CallId, usize> = BTreeMap::new();
    for cdr in &archived.cdrs {
        *written.entry(cdr.call).or_default() += 1;
    }
    let kept = record.kept();
    if let Some((call, times)) = made.iter().find(|(_, times)| **times > 1) {
        return Err(format!("{call:?} was made {times} times"));
    }
    if let Some((call, times)) = written.iter().find(|(_, times)| **times > 1) {
        return Err(format!("{call:?} has {times} CDRs"));
    }
    if let Some(lost) = kept.made.iter().find(|call| !made.contains_key(*call)) {
        return Err(format!("{lost:?} was acknowledged and is lost"));
    }
    if let Some(lost) = kept.ended.iter().find(|call| !written.contains_key(*call)) {
        return Err(format!("the end of {lost:?} was acknowledged and it has no CDR"));
    }
    let gone = made.keys().find(|call| !written.contains_key(*call) && !state.calls.contains_key(*call));
    gone.map_or(Ok(()), |call| Err(format!("{call:?} is neither up nor has it a CDR")))
}
