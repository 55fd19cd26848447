//! A node is emptied before maintenance: it takes no new work, and hands its calls over one by one.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tandem_state::Command;
use tandem_switching::call::Input;

use crate::ports::LINGER;
use crate::shared::Shared;

/// Between two calls, so that neither the log nor their phones are flooded.
const BETWEEN: Duration = Duration::from_millis(10);
/// What could not be moved at once is tried again after this: a call in the middle of an exchange, or one that rings.
const AGAIN: Duration = Duration::from_millis(500);

/// The log says whether this node is to be emptied.
pub(crate) fn follow(shared: &Arc<Shared>, on: bool) {
    let was_on = shared.draining.swap(on, Ordering::Relaxed);
    if on && !was_on {
        tracing::info!(calls = shared.calls_count(), "this node is emptied");
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            while shared.is_draining() && shared.calls_count() > 0 {
                hand_over(&shared).await;
                tokio::time::sleep(AGAIN).await;
            }
        });
    } else if was_on && !on {
        tracing::info!("this node takes work again");
    }
}

/// Asks each call once to go; where to is decided for each anew, so that they are spread. False when nobody takes any.
pub(crate) async fn hand_over(shared: &Shared) -> bool {
    for id in shared.call_ids() {
        let Some(to) = shared.cluster.view().successor(shared.node) else { return false };
        if let Some(slot) = shared.call(id) {
            let _ = slot.send(Input::Move { to });
        }
        tokio::time::sleep(BETWEEN).await;
    }
    true
}

/// A node that stops hands calls over for so long: four hundred, and a moment for the last ones' phones. What is left goes with
/// its goodbye.
const LEAVE: Duration = Duration::from_secs(7);
/// How long the others may take to hear that it takes no calls.
const TOLD: Duration = Duration::from_millis(500);
/// Nodes that were told to stop at one time hear of each other within this.
const TOGETHER: Duration = Duration::from_millis(150);

/// Before the end of the process, while there are calls: the others hear that this node takes none, then its calls go. False
/// when nobody takes any.
pub(crate) async fn leave(shared: &Arc<Shared>) -> bool {
    let drain = Command::Drain { node: shared.node, on: true };
    let emptied = async {
        let _ = tokio::time::timeout(TOLD, shared.propose(drain)).await;
        tokio::time::sleep(TOGETHER).await;
        if shared.calls_count() == 0 {
            return;
        }
        while shared.calls_count() > 0 {
            if !hand_over(shared).await {
                return;
            }
            tokio::time::sleep(BETWEEN).await;
        }
        // The last ones' phones still send here, until they have heard of the new owner.
        tokio::time::sleep(LINGER).await;
    };
    let _ = tokio::time::timeout(LEAVE, emptied).await;
    shared.cluster.view().successor(shared.node).is_some()
}

/// Where all nodes stop at once, one that is done stays for what the others end: their phones may be reached by it, and the log
/// wants a quorum.
pub(crate) async fn stay(shared: &Shared, until: Instant) {
    let others_end = || {
        let view = shared.cluster.view();
        view.successor(shared.node).is_none() && !view.calls.is_empty()
    };
    while others_end() && Instant::now() < until {
        tokio::time::sleep(BETWEEN).await;
    }
}
