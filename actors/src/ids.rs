//! Ids of this node: its own id above, 64 random bits below. Leg ids stand in tags, and who can name a tag can speak in
//! its dialog, so they must not be guessed from others: they come from the kernel's generator.

use tandem_state::{CallId, InteractionId, LegId, NodeId, State};

/// Draws ids.
pub(crate) struct Ids {
    node: NodeId,
}

impl Ids {
    /// For a node.
    pub(crate) fn new(node: NodeId) -> Self {
        Ids { node }
    }

    fn random() -> u64 {
        getrandom::u64().expect("the kernel has randomness once the machine is up")
    }

    fn draw(&self) -> u128 {
        (u128::from(self.node.0) << 64) | u128::from(Self::random())
    }

    /// A secret number for tables whose keys are chosen by strangers.
    pub(crate) fn seed(&self) -> u64 {
        Self::random()
    }

    pub(crate) fn call(&self) -> CallId {
        CallId(self.draw())
    }

    pub(crate) fn interaction(&self) -> InteractionId {
        InteractionId(self.draw())
    }

    pub(crate) fn leg(&self) -> LegId {
        LegId(self.draw())
    }
}

/// The node that a message for this leg belongs to: the owner of its call, or, if the log has no such call, who drew the
/// id, while that is a member. A request of a call that the log has not is not for a node without a lease: that lost all
/// its calls with it, and nobody there might answer.
pub(crate) fn owner_of(view: &State, leg: LegId, is_request: bool) -> Option<NodeId> {
    let recorded = view.legs.get(&leg).and_then(|record| view.calls.get(&record.call)).map(|call| call.owner);
    recorded.or_else(|| {
        let drawer = drawn_by(leg);
        let stands = !view.has_leases() || view.leases.get(&drawer).is_some_and(|lease| lease.stands);
        (view.nodes.contains_key(&drawer) && (stands || !is_request)).then_some(drawer)
    })
}

/// The node that drew an id.
fn drawn_by(leg: LegId) -> NodeId {
    NodeId(u64::try_from(leg.0 >> 64).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_state::{LeaseRecord, NodeRecord};

    /// A cluster of nodes 1 and 2 without calls.
    fn members(stands: impl Fn(u64) -> Option<bool>) -> State {
        let mut state = State::default();
        for id in [1, 2] {
            state.nodes.insert(NodeId(id), NodeRecord { id: NodeId(id), ..record() });
            if let Some(stands) = stands(id) {
                state.apply_version = 2;
                state.leases.insert(NodeId(id), LeaseRecord { stands, ..LeaseRecord::default() });
            }
        }
        state
    }

    fn record() -> NodeRecord {
        NodeRecord {
            id: NodeId(1),
            name: String::new(),
            site: String::new(),
            role: tandem_state::Role::Full,
            incarnation: tandem_state::Incarnation(1),
            epoch: tandem_state::NodeEpoch(1),
            cluster_address: String::new(),
            sip_advertise: String::new(),
            api_url: String::new(),
            version: String::new(),
            apply_version: 2,
        }
    }

    /// Who gets a request, and who a response, for a leg that the node drew.
    fn owners(view: &State, node: u64) -> [Option<NodeId>; 2] {
        let leg = Ids::new(NodeId(node)).leg();
        [true, false].map(|is_request| owner_of(view, leg, is_request))
    }

    #[test]
    fn what_no_call_in_the_log_is_of_goes_to_the_member_that_drew_the_leg() {
        for stands in [None, Some(true)] {
            let view = members(|_| stands);
            assert_eq!((owners(&view, 2), owners(&view, 3)), ([Some(NodeId(2)); 2], [None; 2]));
        }
    }

    #[test]
    fn a_request_for_a_call_that_went_down_with_its_node_is_answered_where_it_came() {
        let view = members(|id| Some(id == 1));
        assert_eq!(owners(&view, 2), [None, Some(NodeId(2))]);
    }

    #[test]
    fn ids_differ_and_name_their_node() {
        let ids = Ids::new(NodeId(7));
        let drawn: std::collections::BTreeSet<LegId> = (0..10_000).map(|_| ids.leg()).collect();
        assert_eq!(drawn.len(), 10_000);
        assert!(drawn.iter().all(|leg| drawn_by(*leg) == NodeId(7)));
    }
}
