//! Authority, asked last: what a node says for its calls leaves only while it holds its lease, of requests only what no later
//! ownership has outdated, and none of a call that is being handed over. The rules are [`tandem_switching::authority`].

use std::sync::{OnceLock, Weak};

use tandem_cluster::{Cluster, Lease};
use tandem_switching::authority::{Asked, asked, is_held_back, is_outdated, may_be_said_without};
use tandem_transport::sip::{Gate, Path};

use crate::shared::Shared;

/// Asks this node's lease, its view of the log, and its calls.
pub(crate) struct Authority {
    lease: Lease,
    cluster: Cluster,
    /// Once the node serves.
    shared: OnceLock<Weak<Shared>>,
}

impl Authority {
    pub(crate) fn new(cluster: &Cluster) -> Self {
        Authority { lease: cluster.lease(), cluster: cluster.clone(), shared: OnceLock::new() }
    }

    /// The calls to be asked from now on.
    pub(crate) fn serve(&self, shared: Weak<Shared>) {
        let _ = self.shared.set(shared);
    }

    fn may_ask(&self, asked: &Asked) -> bool {
        !is_outdated(&self.cluster.view(), asked) && !self.is_held_back(asked)
    }

    fn is_held_back(&self, asked: &Asked) -> bool {
        let slot = self.shared.get().and_then(Weak::upgrade).and_then(|shared| shared.leg(asked.leg));
        slot.is_some_and(|slot| slot.with(|call| is_held_back(call, asked)))
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Authority").field(&self.lease.holds()).finish()
    }
}

impl Gate for Authority {
    fn may_send(&self, _: &Path, message: &[u8]) -> bool {
        match self.lease.holds() {
            true => asked(message).is_none_or(|asked| self.may_ask(&asked)),
            false => may_be_said_without(message),
        }
    }

    fn epoch(&self) -> Option<u64> {
        self.lease.epoch().filter(|_| self.lease.holds()).map(|epoch| epoch.0)
    }
}
