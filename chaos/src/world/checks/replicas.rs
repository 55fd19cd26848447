//! Replicas are equal: the same answers, events and records of each entry, the same hash at the same position.

use tandem_state::Applied;

use super::Checked;
use crate::world::history::History;
use crate::world::replica::Replica;

/// Positions between two comparisons of hashes.
const HASH_EVERY: u64 = 32;

pub(super) fn same_as_the_first(history: &mut History, replica: &Replica, applied: Applied) -> Checked {
    let position = replica.state.position;
    let at = usize::try_from(position.saturating_sub(1)).unwrap_or(usize::MAX);
    match history.applied.get(at) {
        Some(first) if *first == applied => {}
        Some(_) => return Err(format!("position {position} had another result on another replica")),
        None if at == history.applied.len() => history.applied.push(applied),
        None => return Err(format!("position {position} is applied before the one below it")),
    }
    if !position.is_multiple_of(HASH_EVERY) {
        return Ok(());
    }
    let hash = replica.state.hash();
    if *history.hashes.entry(position).or_insert(hash) != hash {
        return Err(format!("position {position} has another hash on another replica"));
    }
    Ok(())
}

pub(super) fn equal_at_the_end(history: &History, replicas: &[&Replica]) -> Checked {
    let Some(first) = replicas.first() else { return Ok(()) };
    for replica in replicas {
        if replica.state.position != u64::try_from(history.log.len()).unwrap_or(u64::MAX) {
            return Err(format!("one stopped at position {}", replica.state.position));
        }
        if replica.state != first.state || replica.state.hash() != first.state.hash() {
            return Err("two differ at the end".to_owned());
        }
    }
    Ok(())
}
