//! Authority, asked last: what a node says for its calls leaves only while it holds its lease.
//!
//! Without one a node is *fenced*: it sends no request, and of final responses only 503 and the 200 to a BYE. What is stopped
//! here is lost as on a lossy link: who sent it repeats it or has given it up by the time this node may speak again.

use tandem_cluster::Lease;
use tandem_transport::sip::{Gate, Path};

/// Asks this node's lease.
pub(crate) struct LeaseGate(pub(crate) Lease);

impl std::fmt::Debug for LeaseGate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LeaseGate").field(&self.0.holds()).finish()
    }
}

impl Gate for LeaseGate {
    fn may_send(&self, _: &Path, message: &[u8]) -> bool {
        self.0.holds() || may_be_said_without(message)
    }

    fn word(&self) -> Option<u64> {
        self.0.epoch().filter(|_| self.0.holds()).map(|epoch| epoch.0)
    }
}

/// Provisional responses, 503, and the 200 to a BYE.
pub(crate) fn may_be_said_without(message: &[u8]) -> bool {
    let Some(status) = message.strip_prefix(b"SIP/2.0 ").and_then(|rest| rest.first_chunk::<3>()) else {
        return false;
    };
    match status {
        [b'1', ..] | b"503" => true,
        b"200" => is_of_bye(message),
        _ => false,
    }
}

fn is_of_bye(response: &[u8]) -> bool {
    let mut lines = response.split(|byte| *byte == b'\n').take_while(|line| !line.trim_ascii().is_empty());
    let cseq = lines.find(|line| line.get(..5).is_some_and(|name| name.eq_ignore_ascii_case(b"CSeq:")));
    cseq.is_some_and(|line| line.trim_ascii_end().ends_with(b" BYE"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: &str, method: &str) -> Vec<u8> {
        format!("SIP/2.0 {status} X\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nCSeq: 7 {method}\r\n\r\nCSeq: 1 BYE\r\n").into()
    }

    #[test]
    fn without_a_lease_nothing_is_said_but_503_what_is_provisional_and_goodbye_to_who_hung_up() {
        for (status, method) in [("100", "INVITE"), ("183", "INVITE"), ("503", "REGISTER"), ("200", "BYE")] {
            assert!(may_be_said_without(&response(status, method)), "{status} {method}");
        }
        for (status, method) in [("200", "INVITE"), ("200", "OPTIONS"), ("486", "INVITE"), ("481", "BYE")] {
            assert!(!may_be_said_without(&response(status, method)), "{status} {method}");
        }
        for other in [
            &b"BYE sip:a@b SIP/2.0\r\n\r\n"[..],
            b"ACK sip:a SIP/2.0\r\n\r\n",
            b"",
            b"\x00\x01\x02\x03",
            b"SIP/2.0 2",
        ] {
            assert!(!may_be_said_without(other));
        }
    }
}
