//! What other nodes say about calls, and the pump from the sockets to the endpoint.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tandem_cluster::{PeerFuture, PeerHandler};
use tandem_sip::Message;
use tandem_sip::method::Method;
use tandem_state::{CallEpoch, Cause, Flow, NodeId};
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
            Some(Ask::HangUp { call }) => match self.0.call(call) {
                Some(slot) => {
                    let taken = slot.send(call::Input::HangUp(Cause::AdminHangup));
                    if taken.is_ok() { Told::Done } else { Told::Refused }
                }
                None => Told::NotFound,
            },
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
    /// A call's owner speaks to its phone through this node.
    fn send(&self, from: NodeId, flow: Flow, bytes: Vec<u8>) {
        if flow.node != self.0.node {
            return;
        }
        if self.is_of_before(&bytes) {
            metrics::counter!("tandem_sip_fenced_total").increment(1);
            return tracing::debug!(%from, "what a former owner of a call said comes too late");
        }
        if self.0.send_here(&flow, Bytes::from(bytes)).is_err() {
            // The owner's transaction ends now instead of by its timer, if it hears this.
            let _ = self.0.cluster.tell_peer(from, encode(&Tell::FlowLost { flow }));
        }
    }

    /// Whether a request is of an owner that has lost its call since: it was under way while its node was cut off. The phone
    /// would refuse it by its number; it is better not asked.
    fn is_of_before(&self, bytes: &[u8]) -> bool {
        if bytes.starts_with(b"SIP/2.0 ") {
            // The number of a response is the phone's.
            return false;
        }
        let Ok(message) = Message::parse(Bytes::copy_from_slice(bytes)) else { return false };
        let view = self.0.cluster.view();
        let leg = message.from().tag().and_then(call::leg_of_tag);
        let record = leg.and_then(|leg| view.legs.get(&leg));
        let present = record.and_then(|leg| view.calls.get(&leg.call)).map(|call| call.epoch);
        is_earlier(&message, present)
    }
}

/// Whether a request was made under an epoch before the one that the log has of its call. A later one is no surprise: its
/// owner may have applied more of the log than this node.
fn is_earlier(message: &Message, present: Option<CallEpoch>) -> bool {
    // An ACK and a CANCEL go with a request of before, whoever sends them.
    let own = !matches!(message.method(), Method::Ack | Method::Cancel);
    own && present.is_some_and(|present| call::epoch_of_cseq(message.cseq().number) < present)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn message(start: &str, cseq: u32) -> Message {
        let method = if start.starts_with("CANCEL") { "CANCEL" } else { "BYE" };
        let text = format!(
            "{start}\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK1\r\nFrom: <sip:1@a>;tag=1\r\nTo: <sip:2@a>;tag=2\r\n\
             Call-ID: c\r\nCSeq: {cseq} {method}\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        );
        Message::parse(Bytes::from(text)).unwrap()
    }

    #[test]
    fn what_a_former_owner_said_is_known_by_its_number() {
        let bye = |epoch: u32| message("BYE sip:2@127.0.0.9 SIP/2.0", epoch * 65_536 + 7);
        let present = Some(CallEpoch(2));
        assert!(is_earlier(&bye(1), present));
        assert!(!is_earlier(&bye(2), present) && !is_earlier(&bye(3), present));
        assert!(!is_earlier(&bye(1), None), "a call that the log has not");
        assert!(!is_earlier(&message("CANCEL sip:2@127.0.0.9 SIP/2.0", 65_537), present));
    }
}
