//! What other nodes say about calls, and the pump from the sockets to the endpoint.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tandem_cluster::{PeerFuture, PeerHandler};
use tandem_state::{CallId, Cause, Flow, NodeId};
use tandem_switching::call;
use tandem_switching::registration::BindingId;
use tandem_transport::sip::Incoming;
use tokio::sync::mpsc;

use crate::endpoint::{Order, WAITING_MAX};
use crate::flow;
use crate::shared::Shared;
use crate::wire::{Ask, Tell, Told, decode, encode};

/// Takes messages of other nodes.
pub(crate) struct Peers(pub(crate) Arc<Shared>);

impl PeerHandler for Peers {
    fn call(&self, _from: NodeId, payload: Bytes) -> PeerFuture {
        let told = match decode::<Ask>(&payload) {
            Some(Ask::HangUp { call }) => self.end(call, Cause::AdminHangup),
            Some(Ask::End { call, cause }) => self.end(call, cause),
            Some(Ask::Held { bindings }) => {
                let ids = bindings.into_iter().map(|(tenant, number, key)| BindingId { tenant, number, key });
                Told::Held(ids.map(|id| self.0.held(&id)).collect())
            }
            None => Told::Refused,
        };
        Box::pin(std::future::ready(encode(&told)))
    }

    fn tell(&self, from: NodeId, payload: Bytes) {
        match decode::<Tell>(&payload) {
            Some(Tell::Send { flow, bytes }) => self.send(from, flow, bytes),
            Some(Tell::Received { flow, bytes }) => incoming(&self.0, flow, Bytes::from(bytes)),
            Some(Tell::FlowLost { flow }) => self.0.order(Order::FlowLost { flow }),
            None => tracing::warn!(%from, "a node said something that is not understood"),
        }
    }
}

impl Peers {
    fn end(&self, call: CallId, cause: Cause) -> Told {
        let Some(slot) = self.0.call(call) else { return Told::NotFound };
        if slot.send(call::Input::HangUp(cause)).is_ok() { Told::Done } else { Told::Refused }
    }

    /// A call's owner speaks to its phone through this node. What a former owner said and comes too late is stopped at the
    /// gate.
    fn send(&self, from: NodeId, flow: Flow, bytes: Vec<u8>) {
        if flow.node != self.0.node {
            return;
        }
        if self.0.send_here(&flow, Bytes::from(bytes)).is_err() {
            // The owner's transaction ends now instead of by its timer, if it hears this.
            let _ = self.0.cluster.tell_peer(from, encode(&Tell::FlowLost { flow }));
        }
    }
}

/// Hands a message to the endpoint; past its bound messages are dropped, as by a full link.
fn incoming(shared: &Shared, flow: Flow, bytes: Bytes) {
    if shared.endpoint_depth.fetch_add(1, Ordering::Relaxed) >= WAITING_MAX {
        shared.endpoint_depth.fetch_sub(1, Ordering::Relaxed);
        metrics::counter!("tandem_sip_overload_total").increment(1);
        return;
    }
    shared.order(Order::Incoming { flow, bytes });
}

/// Carries what the sockets receive to the endpoint, until they are closed.
pub(crate) async fn pump(shared: Arc<Shared>, mut sockets: mpsc::Receiver<Incoming>) {
    while let Some(arrived) = sockets.recv().await {
        match arrived {
            Incoming::Message { path, bytes } => incoming(&shared, flow::flow(shared.node, &path), bytes),
            Incoming::Closed { path, .. } => {
                shared.order(Order::Closed { flow: flow::flow(shared.node, &path) })
            }
        }
    }
}
