//! Application messages between nodes: requests with a response, and one-way messages in order.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use tandem_state::NodeId;

/// A response on its way.
pub type PeerFuture = Pin<Box<dyn Future<Output = Bytes> + Send>>;

/// What a node does with messages from other nodes.
pub trait PeerHandler: Send + Sync {
    /// A request; the future's value is the response.
    fn call(&self, from: NodeId, payload: Bytes) -> PeerFuture;

    /// A one-way message. Those of one node arrive in the order in which it sent them. Must not block.
    fn tell(&self, from: NodeId, payload: Bytes);
}

/// Why a message did not reach its node, or why no response came.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// No member has this id, or its address is not known.
    #[error("no such node")]
    NoNode,
    /// No connection could be made, or it ended before the response.
    #[error("the node cannot be reached: {0}")]
    Unreachable(String),
    /// No response in time; the request may have been carried out.
    #[error("no response in time")]
    Timeout,
    /// Too many messages to this node are waiting.
    #[error("too many messages to this node are waiting")]
    Overloaded,
    /// Longer than a frame may be.
    #[error("the message is too long")]
    TooLong,
    /// The node serves no application messages (yet).
    #[error("the node serves no application messages")]
    NoHandler,
    /// This node has been shut down.
    #[error("the node has been shut down")]
    Stopped,
}
