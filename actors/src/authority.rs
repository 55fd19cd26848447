//! What a node may say: everything while its lease holds; without one next to nothing.
//!
//! Asked in `transport` just before the system call. A fenced node says no request and no final response but 503, which
//! sends a phone elsewhere, and 200 to a BYE, which ends what is over anyway.

use bytes::Bytes;
use tandem_cluster::Lease;
use tandem_sip::message::Message;
use tandem_sip::method::Method;
use tandem_transport::sip::{Gate, Path};

/// The gate of a node with a lease.
#[derive(Clone)]
pub(crate) struct LeaseGate(pub(crate) Lease);

impl std::fmt::Debug for LeaseGate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LeaseGate").field("holds", &self.0.holds()).finish()
    }
}

impl Gate for LeaseGate {
    fn may_send(&self, _: &Path, message: &[u8]) -> bool {
        self.0.holds() || is_said_without_a_lease(message)
    }
}

/// Keep-alives (RFC 5626), provisional responses, 503, and 200 to a BYE.
pub(crate) fn is_said_without_a_lease(message: &[u8]) -> bool {
    if message.iter().all(|byte| b"\r\n".contains(byte)) {
        return true;
    }
    let Ok(message) = Message::parse(Bytes::copy_from_slice(message)) else { return false };
    match message.status() {
        Some(100..=199 | 503) => true,
        Some(200) => *message.method() == Method::Bye,
        Some(_) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_method(first: &str, method: &str) -> Vec<u8> {
        format!(
            "{first}\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nFrom: <sip:a@x>;tag=1\r\nTo: <sip:b@x>;tag=2\r\n\
             Call-ID: 1\r\nCSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n"
        )
        .into_bytes()
    }

    #[test]
    fn a_fenced_node_says_no_request_and_of_final_responses_only_503_and_200_to_a_bye() {
        let said = |first: &str, method: &str| is_said_without_a_lease(&with_method(first, method));
        assert!(said("SIP/2.0 503 Service Unavailable", "REGISTER"));
        assert!(said("SIP/2.0 200 OK", "BYE"));
        assert!(said("SIP/2.0 100 Trying", "INVITE"));
        assert!(is_said_without_a_lease(b"\r\n\r\n"));
        assert!(!said("SIP/2.0 200 OK", "INVITE"));
        assert!(!said("SIP/2.0 200 OK", "REGISTER"));
        assert!(!said("SIP/2.0 486 Busy Here", "INVITE"));
        for method in ["INVITE", "ACK", "BYE", "CANCEL", "OPTIONS"] {
            assert!(!said(&format!("{method} sip:b@192.0.2.2 SIP/2.0"), method), "{method}");
        }
        assert!(!is_said_without_a_lease(b"not SIP"));
    }
}
