//! What a node's proposals need besides their commands.

use tandem_state::Command;
use tandem_state::command::IdempotencyKey;

/// A refused call has no row that would tell a repeat from the first: its id is the key under which it applies once. So is
/// the epoch, for a refusal is kept with its key too, and what the end of a lease refused may be taken under the next.
pub(crate) fn once(command: &Command) -> Option<IdempotencyKey> {
    let Command::RefuseCall { node_epoch, refused } = command else { return None };
    Some(IdempotencyKey { key: format!("refused {} {node_epoch}", refused.id), body_hash: [0; 32] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_state::{CallDirection, CallId, Cause, ClusterTime, NodeEpoch, Party, RefusedCall, TenantId};

    fn refusal(id: u128, epoch: u64) -> Command {
        let party = || Party { number: "101".into(), name: String::new() };
        let refused = RefusedCall {
            id: CallId(id),
            tenant: TenantId(1),
            direction: CallDirection::Internal,
            from: party(),
            to: party(),
            start: ClusterTime(1),
            cause: Cause::LimitReached,
        };
        Command::RefuseCall { node_epoch: NodeEpoch(epoch), refused }
    }

    #[test]
    fn a_refused_call_has_one_key_in_each_lease_of_its_node_and_other_commands_have_none() {
        let key = |id, epoch| once(&refusal(id, epoch)).expect("a key").key;
        assert_eq!(key(1, 1), key(1, 1));
        assert_ne!(key(1, 1), key(1, 2));
        assert_ne!(key(1, 1), key(2, 1));
        assert_eq!(once(&Command::Tick), None);
    }
}
