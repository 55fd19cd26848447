//! Bindings never resurrect: each accepted `Bind` adds at most one, a removed one comes back by a new `Bind` alone,
//! revisions only grow, and what is left is what the events say.

use std::collections::BTreeMap;

use tandem_state::tables::BindingRow;
use tandem_state::{Binding, Command, EventKind, Revision};

use super::Checked;
use crate::world::history::History;
use crate::world::replica::Replica;

pub(super) fn never_resurrect(history: &History, replicas: &[&Replica]) -> Checked {
    let mut last: BTreeMap<BindingRow, Revision> = BTreeMap::new();
    let mut live: BTreeMap<BindingRow, Revision> = BTreeMap::new();
    let mut added = 0;
    for event in history.events() {
        match &event.kind {
            EventKind::RegistrationAdded(binding) => {
                added += 1;
                grows(&mut last, binding)?;
                if live.insert(row(binding), binding.revision).is_some() {
                    return Err(format!("{:?} is added at {} while it is there", row(binding), event.id));
                }
            }
            EventKind::RegistrationChanged(binding) => {
                grows(&mut last, binding)?;
                if live.insert(row(binding), binding.revision).is_none() {
                    return Err(format!("{:?} is changed at {} after it ended", row(binding), event.id));
                }
            }
            EventKind::RegistrationRemoved(binding, _) => {
                let was = live.remove(&row(binding));
                was.ok_or_else(|| {
                    format!("{:?} is removed at {} and was not there", row(binding), event.id)
                })?;
            }
            _ => {}
        }
    }
    let fresh = history.first_outcomes().into_values().filter(|(_, proposal, outcome)| {
        outcome.is_ok() && matches!(proposal.command, Command::Bind { replaces: None, .. })
    });
    let fresh = fresh.count();
    if fresh != added {
        return Err(format!("{fresh} binds were accepted as new and {added} bindings were added"));
    }
    match replicas.first() {
        Some(replica) if !replica.state.bindings.keys().eq(live.keys()) => {
            Err("the table and the events name other bindings".to_owned())
        }
        Some(_) | None => Ok(()),
    }
}

fn row(binding: &Binding) -> BindingRow {
    (binding.spec.tenant, binding.spec.number.clone(), binding.spec.key.clone())
}

fn grows(last: &mut BTreeMap<BindingRow, Revision>, binding: &Binding) -> Checked {
    match last.insert(row(binding), binding.revision) {
        Some(before) if before > binding.revision => {
            Err(format!("{:?} has revision {} after {before}", row(binding), binding.revision))
        }
        Some(_) | None => Ok(()),
    }
}
