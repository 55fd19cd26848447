//! Which members are down, asked of the cluster at most once a second: lists of registrations show it per row, `/metrics`
//! is asked often.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tandem_cluster::{Cluster, MemberState};
use tandem_state::NodeId;
use tokio::sync::Mutex;

/// How long an answer is good for.
const KEPT: Duration = Duration::from_secs(1);

/// The last answer, and when it was had.
#[derive(Debug, Default)]
pub(crate) struct Liveness {
    last: Mutex<Option<(Instant, Arc<Members>)>>,
}

/// How the members are.
#[derive(Debug)]
pub(crate) struct Members {
    /// Those without a lease; before leases are in force, those that don't answer.
    pub(crate) down: BTreeSet<NodeId>,
}

impl Liveness {
    /// How the members are, as of a second ago at most.
    pub(crate) async fn members(&self, cluster: &Cluster) -> Arc<Members> {
        let mut last = self.last.lock().await;
        if let Some((_, members)) = last.as_ref().filter(|(at, _)| at.elapsed() < KEPT) {
            return Arc::clone(members);
        }
        let status = cluster.status().await;
        let down = status.nodes.iter().filter(|node| node.state == MemberState::Down).map(|node| node.id);
        let members = Arc::new(Members { down: down.collect() });
        *last = Some((Instant::now(), Arc::clone(&members)));
        members
    }
}
