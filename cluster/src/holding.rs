//! Who has the archive whole: asked before a learner votes, and before a voter goes.
//!
//! A node answers by reading every record it has and checking the chain ([`Archive`](crate::Archive) keeps what it found
//! good), so a file that was lost or has rotted is noticed while the others still have it.

use std::time::Duration;

use bytes::Bytes;
use tandem_state::NodeId;
use tandem_state::archive::StreamHead;

use crate::archive::READING;
use crate::archive::record::STREAMS;
use crate::node::Node;
use crate::rpc::Method;

/// The heads of what a node has whole, or why it has not.
pub(crate) type Held = Result<[StreamHead; 3], String>;

/// A node catches up for so long before it answers.
const WAIT: Duration = Duration::from_secs(4);
const TIMEOUT: Duration = Duration::from_secs(8);

impl Node {
    /// What this node has whole, once it has applied a position.
    pub(crate) async fn held_here(&self, position: u64) -> Held {
        if !self.wait_applied(position, WAIT).await {
            return Err(format!("has not applied position {position} yet"));
        }
        let archive = self.archive.clone();
        let check = tokio::task::spawn_blocking(move || archive.shared.check_whole());
        match tokio::time::timeout(WAIT, check).await {
            Ok(Ok(checked)) => checked,
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(READING.to_owned()),
        }
    }

    async fn held_by(&self, id: NodeId, position: u64) -> Held {
        if id == self.id() {
            return self.held_here(position).await;
        }
        let question = postcard::to_stdvec(&position).map_err(|e| e.to_string())?;
        let answer = self.peers.call(id, Method::Held, Bytes::from(question), TIMEOUT).await;
        postcard::from_bytes::<Held>(&answer.map_err(|e| e.to_string())?).map_err(|e| e.to_string())?
    }

    /// Why a node has not the whole archive, as far as this one knows it.
    pub(crate) async fn lacks_archive(&self, id: NodeId) -> Option<String> {
        let view = self.shared.view.load_full();
        let held = match self.held_by(id, view.position).await {
            Ok(held) => held,
            Err(why) => return Some(why),
        };
        STREAMS.into_iter().zip(held).find_map(|(stream, head)| {
            let wanted = view.streams.get(&stream).copied().unwrap_or_default();
            lacking(head, wanted).map(|what| format!("of its {stream:?}, {what}"))
        })
    }

    /// Why a voter can't go: too few of those that stay have the archive whole.
    pub(crate) async fn archive_needs(&self, leaving: NodeId) -> Option<String> {
        let voters: Vec<NodeId> = self.metrics().membership_config.voter_ids().map(NodeId).collect();
        let staying: Vec<NodeId> = voters.into_iter().filter(|id| *id != leaving).collect();
        let asks = staying.iter().map(|id| async { (*id, self.lacks_archive(*id).await) });
        let lacking: Vec<String> = futures_util::future::join_all(asks)
            .await
            .into_iter()
            .filter_map(|(id, lacks)| {
                Some(format!("{}: {}", self.name_of(&self.shared.view.load(), id), lacks?))
            })
            .collect();
        let (holders, needed) = (staying.len() - lacking.len(), staying.len() / 2 + 1);
        (holders < needed).then(|| {
            format!(
                "the archive (CDRs, events, audit) is whole on {holders} of the {} voters that would stay, and {needed} are needed; {}",
                staying.len(),
                lacking.join("; ")
            )
        })
    }
}

/// More than is wanted is fine: the node has gone on meanwhile, and its own apply compares each record's chain.
fn lacking(head: StreamHead, wanted: StreamHead) -> Option<String> {
    if head.count < wanted.count {
        return Some(format!("{} of {} records are there", head.count, wanted.count));
    }
    (head.count == wanted.count && head.chain != wanted.chain)
        .then(|| "the records differ from the cluster's".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(count: u64, byte: u8) -> StreamHead {
        StreamHead { count, chain: [byte; 32] }
    }

    #[test]
    fn fewer_records_or_others_are_lacking_and_more_are_not() {
        assert_eq!(lacking(head(2, 1), head(3, 2)), Some("2 of 3 records are there".to_owned()));
        assert_eq!(lacking(head(3, 1), head(3, 2)), Some("the records differ from the cluster's".to_owned()));
        assert_eq!(lacking(head(3, 2), head(3, 2)), None);
        assert_eq!(lacking(head(4, 9), head(3, 2)), None);
    }
}
