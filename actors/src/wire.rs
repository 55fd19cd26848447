//! What nodes say to each other about calls. Versioned by the cluster's protocol; variants are only added.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tandem_state::{BindingKey, CallId, Cause, Flow, TenantId};

use crate::held::Held;

/// One-way messages, in order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Tell {
    /// To a flow node: send this to the phone.
    Send {
        /// By this flow of yours.
        flow: Flow,
        /// The whole message.
        bytes: Vec<u8>,
    },
    /// To the owner of a call: this came from one of its phones.
    Received {
        /// By this flow of mine.
        flow: Flow,
        /// The whole message.
        bytes: Vec<u8>,
    },
    /// To the owner of a call: a flow that it used is gone.
    FlowLost {
        /// This one.
        flow: Flow,
    },
}

/// Requests with a response.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// End a call that you own.
    HangUp {
        /// This one.
        call: CallId,
    },
    /// Say when these bindings, whose flows you hold, end exactly, and whether their phones answer.
    Held {
        /// One page of a list at most.
        bindings: Vec<(TenantId, String, BindingKey)>,
    },
    /// End a call that you own, for this.
    End {
        /// This one.
        call: CallId,
        /// Why.
        cause: Cause,
    },
}

/// Their responses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Told {
    /// It is being done.
    Done,
    /// There is no such thing here.
    NotFound,
    /// Not understood.
    Refused,
    /// For each binding in order; `None` where it is not known here.
    Held(Vec<Option<Held>>),
}

/// Bytes for the wire.
pub(crate) fn encode<T: Serialize>(value: &T) -> Bytes {
    postcard::to_stdvec(value).map(Bytes::from).expect("plain data always encodes")
}

/// A value from another node, if it is one.
pub(crate) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    postcard::from_bytes(bytes).ok()
}
