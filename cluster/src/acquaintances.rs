//! What was seen of each node, in the log and on connections: nobody may show less than that.
//!
//! A removed node, an older process, and a data directory that is an older copy of what it was, or lost what it had
//! acknowledged to this node while that led, are known by it. Both
//! sides of a connection look: who knows better neither takes votes and writes from such a node nor asks it for any.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tandem_state::{Incarnation, NodeId, State};

use crate::rpc::handshake::{Refused, Start};
use crate::shared::Shared;

/// See the module.
pub(crate) struct Acquaintances {
    shared: Arc<Shared>,
    /// Nodes have proved who they are before they are entered here, so that it stays small.
    met: Mutex<BTreeMap<NodeId, Met>>,
}

/// What this process knows of a node's newest process.
struct Met {
    start: Start,
    /// The term of this node's lead and the last log position that the other acknowledged in it.
    acknowledged: Option<(u64, u64)>,
}

impl Met {
    /// What was acknowledged and is not there. Under a later vote another leader may have overwritten it.
    fn lost(&self, shown: Start) -> Option<(u64, u64)> {
        let (term, position) = self.acknowledged?;
        let is_there = shown.term > term || (shown.term == term && shown.position >= position);
        (!is_there).then_some((term, position))
    }
}

/// The state takes nothing of a removed node any more: its window says so.
const REMOVED: Incarnation = Incarnation(u64::MAX);

impl Acquaintances {
    pub(crate) fn new(shared: Arc<Shared>) -> Acquaintances {
        Acquaintances { shared, met: Mutex::default() }
    }

    /// A node shows how its process began.
    pub(crate) fn meet(&self, node: NodeId, shown: Start) -> Result<(), Refused> {
        check(&self.shared.view.load(), node, shown)?;
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        let known = met.entry(node).or_insert(Met { start: shown, acknowledged: None });
        let seen = known.start;
        if seen.incarnation > shown.incarnation {
            return Err(Refused::Incarnation { node, shown: shown.incarnation, seen: seen.incarnation });
        }
        if seen.incarnation == shown.incarnation && seen != shown {
            return Err(behind(node, shown, (seen.term, seen.position)));
        }
        if seen.incarnation < shown.incarnation
            && let Some(lost) = known.lost(shown)
        {
            return Err(behind(node, shown, lost));
        }
        known.start = shown;
        Ok(())
    }

    /// A node said to this one, the leader of a term, that it has the log on its disk up to there.
    pub(crate) fn acknowledged(&self, node: NodeId, term: u64, position: u64) {
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = met.get_mut(&node) {
            known.acknowledged = known.acknowledged.max(Some((term, position)));
        }
    }

    /// Whether a node may join: it must not be one that was removed.
    pub(crate) fn may_join(&self, node: NodeId) -> Result<(), Refused> {
        check_removed(&self.shared.view.load(), node)
    }
}

fn check_removed(view: &State, node: NodeId) -> Result<(), Refused> {
    let removed = view.windows.get(&node).is_some_and(|window| window.incarnation == REMOVED);
    if removed { Err(Refused::Removed(node)) } else { Ok(()) }
}

fn check(view: &State, node: NodeId, shown: Start) -> Result<(), Refused> {
    check_removed(view, node)?;
    let seen = view.windows.get(&node).map_or(Incarnation(0), |window| window.incarnation);
    if seen > shown.incarnation {
        return Err(Refused::Incarnation { node, shown: shown.incarnation, seen });
    }
    let Some(mark) = view.marks.get(&node) else { return Ok(()) };
    let fine = if shown.incarnation > mark.incarnation {
        shown.term >= mark.term && shown.position >= mark.position
    } else {
        // It must be the very process that said it: a restored directory can come to the same incarnation once more.
        shown.process == mark.process
    };
    if fine { Ok(()) } else { Err(behind(node, shown, (mark.term, mark.position))) }
}

fn behind(node: NodeId, shown: Start, seen: (u64, u64)) -> Refused {
    Refused::Behind { node, shown: (shown.term, shown.position), seen }
}

#[cfg(test)]
mod tests {
    use tandem_state::Mark;
    use tandem_state::lease::Terms;
    use tandem_state::tables::Window;

    use super::*;
    use crate::config::Timing;

    const NODE: NodeId = NodeId(2);

    fn start(incarnation: u64, term: u64, position: u64) -> Start {
        Start { incarnation: Incarnation(incarnation), process: incarnation, term, position }
    }

    /// Node 2 was seen in incarnation 3, with term 5 and position 100 durable.
    fn view() -> State {
        let mut state = State::default();
        state.windows.insert(NODE, Window { incarnation: Incarnation(3), ..Window::default() });
        state.marks.insert(NODE, Mark { incarnation: Incarnation(3), process: 3, term: 5, position: 100 });
        state
    }

    #[test]
    fn a_node_that_kept_what_it_had_is_welcome() {
        for shown in [start(3, 2, 40), start(4, 5, 100), start(9, 6, 200)] {
            assert_eq!(check(&view(), NODE, shown), Ok(()), "{shown:?}");
        }
        assert_eq!(check(&view(), NodeId(7), start(1, 0, 0)), Ok(()));
    }

    #[test]
    fn a_directory_from_before_is_told_by_its_incarnation_its_vote_or_its_log() {
        let seen = (5, 100);
        let older = Refused::Incarnation { node: NODE, shown: Incarnation(2), seen: Incarnation(3) };
        assert_eq!(check(&view(), NODE, start(2, 5, 100)), Err(older));
        let behind = |shown| Err(Refused::Behind { node: NODE, shown, seen });
        assert_eq!(check(&view(), NODE, start(4, 4, 100)), behind((4, 100)));
        assert_eq!(check(&view(), NODE, start(4, 5, 99)), behind((5, 99)));
        let another_process = Start { process: 4, ..start(3, 2, 40) };
        assert_eq!(check(&view(), NODE, another_process), behind((2, 40)));
    }

    #[test]
    fn a_removed_node_is_told_so_whatever_it_shows() {
        let mut state = view();
        state.windows.insert(NODE, Window { incarnation: REMOVED, ..Window::default() });
        assert_eq!(check(&state, NODE, start(9, 9, 999)), Err(Refused::Removed(NODE)));
    }

    #[test]
    fn an_older_process_than_was_met_is_refused_even_if_the_log_has_not_heard_of_it() {
        let terms: Terms = Timing::test().terms();
        let shared = Arc::new(Shared::new(NodeId(1), Incarnation(1), terms));
        let acquaintances = Acquaintances::new(shared);
        assert_eq!(acquaintances.meet(NODE, start(1, 0, 0)), Ok(()));
        assert_eq!(acquaintances.meet(NODE, start(2, 0, 0)), Ok(()));
        assert_eq!(acquaintances.meet(NODE, start(2, 0, 0)), Ok(()));
        let older = Refused::Incarnation { node: NODE, shown: Incarnation(1), seen: Incarnation(2) };
        assert_eq!(acquaintances.meet(NODE, start(1, 0, 0)), Err(older));
        let another_process = Start { process: 3, ..start(2, 0, 1) };
        let behind = Refused::Behind { node: NODE, shown: (0, 1), seen: (0, 0) };
        assert_eq!(acquaintances.meet(NODE, another_process), Err(behind));
        assert_eq!(acquaintances.may_join(NODE), Ok(()));
    }

    #[test]
    fn a_node_that_lost_what_it_had_acknowledged_is_told_so_when_it_starts_again() {
        let shared = Arc::new(Shared::new(NodeId(1), Incarnation(1), Timing::test().terms()));
        let acquaintances = Acquaintances::new(shared);
        assert_eq!(acquaintances.meet(NODE, start(1, 4, 10)), Ok(()));
        acquaintances.acknowledged(NODE, 5, 40);
        acquaintances.acknowledged(NODE, 5, 39);
        assert_eq!(
            acquaintances.meet(NODE, start(1, 4, 10)),
            Ok(()),
            "one more connection of the same process"
        );
        for shown in [start(2, 5, 39), start(2, 4, 40)] {
            let behind = Refused::Behind { node: NODE, shown: (shown.term, shown.position), seen: (5, 40) };
            assert_eq!(acquaintances.meet(NODE, shown), Err(behind));
        }
        assert_eq!(acquaintances.meet(NODE, start(2, 5, 40)), Ok(()));
        assert_eq!(acquaintances.meet(NODE, start(3, 6, 30)), Ok(()), "a later leader had less");
    }
}
