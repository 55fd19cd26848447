//! What the four machines share: their inputs, their output, their timer values.

use crate::message::Message;

/// The base timers of RFC 3261 section 17.1.1.1, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// Round-trip estimate.
    pub t1_ms: u32,
    /// Longest interval between retransmissions.
    pub t2_ms: u32,
    /// How long a message may stay in the network.
    pub t4_ms: u32,
}

impl Default for Timers {
    fn default() -> Self {
        Self { t1_ms: 500, t2_ms: 4000, t4_ms: 5000 }
    }
}

impl Timers {
    /// T1, at least one millisecond, so that time always moves on.
    pub(super) fn t1(self) -> u64 {
        u64::from(self.t1_ms).max(1)
    }

    pub(super) fn t2(self) -> u64 {
        u64::from(self.t2_ms).max(1)
    }

    pub(super) fn t4(self) -> u64 {
        u64::from(self.t4_ms)
    }

    /// 64 x T1: timers B, F, H, J, L and M.
    pub(super) fn limit(self) -> u64 {
        self.t1().saturating_mul(64)
    }

    /// Timer D: at least 32 seconds.
    pub(super) fn d(self) -> u64 {
        self.limit().max(32_000)
    }
}

/// What a client transaction is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientInput {
    /// A response with its branch and method came.
    Response(Message),
    /// The transaction user wants the INVITE cancelled by this CANCEL (RFC 3261 section 9.1); no other method can be.
    Cancel(Message),
    /// Its user has sent the CANCEL itself.
    Cancelled,
    /// The time of `poll_timeout` has come.
    Time,
    /// The transport could not send.
    TransportError,
}

/// What a server transaction is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerInput {
    /// The request came again, or the ACK of an INVITE.
    Request(Message),
    /// The transaction user answers.
    Respond(Message),
    /// The time of `poll_timeout` has come.
    Time,
    /// The transport could not send.
    TransportError,
}

/// What a machine wants done, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send to the transaction's peer.
    Send(Message),
    /// Hand to the transaction user.
    Deliver(Message),
    /// Now is the time to send the CANCEL that was asked for (RFC 3261 section 9.1).
    SendCancel(Message),
    /// No answer came (timers B, F), or no ACK (timer H).
    Timeout,
    /// The peer can't be reached.
    TransportError,
    /// The transaction is over; nothing follows.
    Terminated,
}

/// Room for the outputs of one input, without an allocation. No input gives more than three.
#[derive(Clone, Debug, Default)]
pub(super) struct Outbox {
    slots: [Option<Output>; 4],
}

impl Outbox {
    pub(super) fn push(&mut self, output: Output) {
        let free = self.slots.iter_mut().find(|slot| slot.is_none());
        debug_assert!(free.is_some(), "outputs must be polled after each input");
        if let Some(slot) = free {
            *slot = Some(output);
        }
    }

    pub(super) fn poll(&mut self) -> Option<Output> {
        let first = self.slots.first_mut().and_then(Option::take);
        self.slots.rotate_left(1);
        first
    }
}
