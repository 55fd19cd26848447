//! Where the leader should stand: on the site with most voters, so that a commit needs no trip to another site, and the loss of
//! a smaller site no election.
//!
//! Leadership goes there by itself once a leader elsewhere has led undisturbed for a while. An operator's `transfer-leader` to
//! another site therefore holds for that long.

use std::collections::BTreeMap;

use tandem_state::NodeId;
use tokio::time::Instant;

use crate::member::MemberAnswer;
use crate::node::Node;

/// A voter.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Voter {
    id: NodeId,
    site: String,
}

/// The site with most voters; of several the first by name. None is preferred where all voters stand on one site, or each on a
/// site of its own.
fn home(voters: &[Voter]) -> Option<&str> {
    let mut sites: BTreeMap<&str, usize> = BTreeMap::new();
    for voter in voters {
        *sites.entry(&voter.site).or_default() += 1;
    }
    let most = *sites.values().max()?;
    let differs = sites.values().any(|count| *count < most);
    sites.into_iter().find(|(_, count)| differs && *count == most).map(|(site, _)| site)
}

/// Who may be asked to lead instead of `leader`: nobody if it is at home.
fn better(voters: &[Voter], leader: NodeId) -> Vec<NodeId> {
    let Some(home) = home(voters) else { return Vec::new() };
    let at_home = |id: NodeId| voters.iter().any(|voter| voter.id == id && voter.site == home);
    if at_home(leader) {
        return Vec::new();
    }
    voters.iter().map(|voter| voter.id).filter(|id| at_home(*id)).collect()
}

/// Since when this node leads undisturbed.
#[derive(Debug, Default)]
pub(crate) struct Reign(Option<Instant>);

impl Reign {
    pub(crate) fn ended(&mut self) {
        self.0 = None;
    }
}

impl Node {
    /// While this node leads: hands leadership to the preferred site when it is time. One that can't take it is not asked again
    /// before the same time has passed.
    pub(crate) async fn lead_from_home(&self, reign: &mut Reign) {
        if reign.0.get_or_insert_with(Instant::now).elapsed() < self.timing.home_after {
            return;
        }
        reign.0 = Some(Instant::now());
        let better = better(&self.voters_by_site(), self.id());
        if better.is_empty() {
            return;
        }
        // One whose clock is off would give leadership up again.
        let clocks_off = self.clocks_off(&self.measured().await);
        for to in better.into_iter().filter(|id| !clocks_off.contains_key(id)) {
            match self.hand_over(to).await {
                Ok(MemberAnswer::Done) => {
                    tracing::info!(node = %to, "leadership is handed to the site with most voters");
                    return;
                }
                other => {
                    tracing::info!(node = %to, ?other, "leadership was not handed to the site with most voters")
                }
            }
        }
    }

    fn voters_by_site(&self) -> Vec<Voter> {
        let view = self.shared.view.load();
        let site = |id: NodeId| view.nodes.get(&id).map_or_else(String::new, |record| record.site.clone());
        self.voters().map(|id| Voter { id, site: site(id) }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voters(sites: &[&str]) -> Vec<Voter> {
        sites.iter().zip(1..).map(|(site, id)| Voter { id: NodeId(id), site: (*site).to_owned() }).collect()
    }

    #[test]
    fn the_site_with_most_voters_is_preferred() {
        let three = voters(&["east", "east", "west"]);
        assert_eq!(better(&three, NodeId(3)), [NodeId(1), NodeId(2)]);
        assert_eq!(better(&three, NodeId(1)), []);
    }

    #[test]
    fn sites_with_equally_many_voters_leave_the_leader_where_it_is() {
        for sites in [&["here", "here", "here"][..], &["a", "b", "c"], &["a", "b"], &["a"], &[]] {
            assert_eq!(better(&voters(sites), NodeId(1)), [], "{sites:?}");
        }
    }

    #[test]
    fn of_two_large_sites_the_first_by_name_is_preferred_over_a_small_one() {
        assert_eq!(better(&voters(&["b", "b", "a", "a", "c"]), NodeId(5)), [NodeId(3), NodeId(4)]);
    }
}
