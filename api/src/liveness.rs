//! Which members are down, asked of the cluster at most once a second: lists of registrations show it per row.

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
    last: Mutex<Option<(Instant, Arc<BTreeSet<NodeId>>)>>,
}

impl Liveness {
    /// The members that don't answer.
    pub(crate) async fn down(&self, cluster: &Cluster) -> Arc<BTreeSet<NodeId>> {
        let mut last = self.last.lock().await;
        if let Some((_, down)) = last.as_ref().filter(|(at, _)| at.elapsed() < KEPT) {
            return Arc::clone(down);
        }
        let nodes = cluster.status().await.nodes;
        let down = nodes.iter().filter(|node| node.state == MemberState::Down).map(|node| node.id).collect();
        let down = Arc::new(down);
        *last = Some((Instant::now(), Arc::clone(&down)));
        down
    }
}
