//! What the system allows a node.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the open-files limit as far as this process may; gives what holds now.
pub(super) fn raise_open_files() -> u64 {
    let now = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: now.maximum, maximum: now.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, wanted) {
        tracing::warn!(%error, "the open-files limit can't be raised");
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
