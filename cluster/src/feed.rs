//! Every applied entry's events, in log order.

use std::sync::Arc;

use tandem_state::{ClusterTime, Event};
use tokio::sync::{broadcast, watch};

/// A reader of applied entries. Each reader has its own place; one that falls behind the bound is told by a `Reset`.
#[derive(Debug)]
pub struct Feed {
    pub(crate) receiver: broadcast::Receiver<FeedItem>,
    pub(crate) stop: watch::Receiver<bool>,
}

/// What a reader of the feed is given.
#[derive(Debug, Clone)]
pub enum FeedItem {
    /// A log entry was applied; `Cluster::view` is at least as new.
    Applied {
        /// The log position.
        position: u64,
        /// The cluster time in force after it.
        time: ClusterTime,
        /// Its events in order; never empty.
        events: Arc<[Event]>,
    },
    /// Events were missed (this reader was too slow, or a snapshot was installed): what the reader holds may be out
    /// of date, it has to be rebuilt from `Cluster::view`. Events up to the view's position may still follow.
    Reset,
}

/// The node has been shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the node has been shut down")]
pub struct FeedClosed;

impl Feed {
    /// The next item.
    pub async fn next(&mut self) -> Result<FeedItem, FeedClosed> {
        let received = tokio::select! {
            received = self.receiver.recv() => received,
            _ = self.stop.wait_for(|stop| *stop) => return Err(FeedClosed),
        };
        match received {
            Ok(item) => Ok(item),
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                metrics::counter!("tandem_feed_missed_total").increment(missed);
                Ok(FeedItem::Reset)
            }
            Err(broadcast::error::RecvError::Closed) => Err(FeedClosed),
        }
    }
}
