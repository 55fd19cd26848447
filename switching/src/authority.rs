//! Whose a call is, and what a node may say for it: the rules that whoever carries out a call's outputs asks, last before the
//! system call.
//!
//! Without a lease a node is *fenced*: it sends no request, and of final responses only 503 and the 200 to a BYE. What is stopped
//! is lost as on a lossy link: who sent it repeats it or has given it up by the time this node may speak again.
//!
//! A request's CSeq tells its ownership: each has a block of numbers. An ACK or a CANCEL bears the number of an INVITE, maybe of
//! a former owner's, and a response the phone's; those ask for the lease alone.

use tandem_sip::header::Header;
use tandem_state::{CallEpoch, LegId, NodeId, State};

use crate::call::{self, Call};

/// A request in a dialog of a call, by its own words.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked {
    /// Of which leg.
    pub leg: LegId,
    /// Under which ownership it was made.
    pub epoch: CallEpoch,
}

/// The node that a message for this leg belongs to: the owner of its call, or, if the log has no such call, who drew the
/// id, while that is a member. A request of a call that the log has not is not for a node without a lease: that lost all
/// its calls with it, and nobody there might answer.
pub fn owner_of(view: &State, leg: LegId, is_request: bool) -> Option<NodeId> {
    view.call_of(leg).map(|call| call.owner).or_else(|| {
        let drawer = drawn_by(leg);
        let stands = !view.has_leases() || view.leases.get(&drawer).is_some_and(|lease| lease.stands);
        (view.nodes.contains_key(&drawer) && (stands || !is_request)).then_some(drawer)
    })
}

/// The node that drew an id.
pub fn drawn_by(leg: LegId) -> NodeId {
    NodeId(u64::try_from(leg.0 >> 64).unwrap_or(0))
}

/// By the log the call is of a later ownership than this request. One that the log does not have (yet, or any more) is not.
pub fn is_outdated(view: &State, asked: &Asked) -> bool {
    view.call_of(asked.leg).is_some_and(|call| asked.epoch < call.epoch)
}

/// A request of a call's machine here, or of a former ownership, while that call is being handed over. What its next owner says
/// by a flow of this node, which may lag behind the log, is not held back.
pub fn is_held_back(call: &Call, asked: &Asked) -> bool {
    call.is_frozen() && asked.epoch <= call.epoch()
}

/// A request of ours that opens or is in a dialog of a call, but for ACK and CANCEL.
pub fn asked(message: &[u8]) -> Option<Asked> {
    if message.starts_with(b"SIP/2.0 ") || message.starts_with(b"ACK ") || message.starts_with(b"CANCEL ") {
        return None;
    }
    let via = header(message, Header::Via)?;
    let branch = via.split(';').find_map(|parameter| parameter.trim().strip_prefix("branch="))?;
    let number = header(message, Header::CSeq)?.split_whitespace().next()?.parse().ok()?;
    Some(Asked { leg: call::branch_leg(branch)?, epoch: call::epoch_of_cseq(number) })
}

/// The first value of a header, which this product wrote itself: by its full name, on one line.
fn header<'a>(message: &'a [u8], name: Header<'_>) -> Option<&'a str> {
    let mut lines = message.split(|byte| *byte == b'\n').take_while(|line| !line.trim_ascii().is_empty());
    let value = lines.find_map(|line| {
        let (found, value) = line.split_at_checked(name.as_str().len())?;
        found.eq_ignore_ascii_case(name.as_str().as_bytes()).then_some(value)?.strip_prefix(b":")
    });
    std::str::from_utf8(value?).ok().map(str::trim)
}

/// What a node says without a lease: provisional responses, 503, and the 200 to a BYE.
pub fn may_be_said_without(message: &[u8]) -> bool {
    let Some(status) = message.strip_prefix(b"SIP/2.0 ").and_then(|rest| rest.first_chunk::<3>()) else {
        return false;
    };
    match status {
        [b'1', ..] | b"503" => true,
        b"200" => header(message, Header::CSeq).is_some_and(|cseq| cseq.ends_with(" BYE")),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_state::{
        CallDirection, CallId, CallPhase, ClusterTime, Flow, InteractionId, LeaseRecord, LegDirection,
        LegRecord, NodeRecord, Party, Program, TenantId, Transport,
    };

    fn response(status: &str, method: &str) -> Vec<u8> {
        format!("SIP/2.0 {status} X\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nCSeq: 7 {method}\r\n\r\nCSeq: 1 BYE\r\n").into()
    }

    fn request(method: &str, branch: &str, cseq: u32) -> Vec<u8> {
        format!("{method} sip:101@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.1:5060;branch={branch};rport\r\nCSeq: {cseq} {method}\r\n\r\n").into()
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

    #[test]
    fn a_request_tells_its_leg_and_its_ownership() {
        let leg = LegId(0xb0);
        let branch = format!("z9hG4bK{leg}-20001");
        for method in ["INVITE", "BYE", "INFO", "UPDATE"] {
            let told = asked(&request(method, &branch, 131_073));
            assert_eq!(told, Some(Asked { leg, epoch: CallEpoch(2) }), "{method}");
        }
        for method in ["ACK", "CANCEL"] {
            assert_eq!(asked(&request(method, &branch, 131_073)), None, "{method}");
        }
        assert_eq!(asked(&request("OPTIONS", "z9hG4bKquestion", 1)), None);
        assert_eq!(asked(&response("200", "INVITE")), None);
        for broken in [&b""[..], b"BYE", b"BYE sip:a SIP/2.0\r\nVia\r\nCSeq: x\r\n\r\n", b"\xff\n\xff"] {
            assert_eq!(asked(broken), None);
        }
    }

    #[test]
    fn what_a_former_owner_said_is_known_by_its_number() {
        let branch = format!("z9hG4bK{}-20001", LegId(0xb0));
        let epoch = |epoch: u32| asked(&request("BYE", &branch, epoch * 65_536 + 7)).map(|asked| asked.epoch);
        assert_eq!([1, 2, 3].map(epoch), [1, 2, 3].map(|n| Some(CallEpoch(n))));
    }

    #[test]
    fn a_request_of_a_former_ownership_is_outdated_and_one_of_a_call_that_is_not_known_is_not() {
        let mut view = State::default();
        let party = || Party { number: "101".into(), name: String::new() };
        let (leg, id) = (LegId(0xb0), CallId(1));
        let asked = |epoch| Asked { leg, epoch: CallEpoch(epoch) };
        assert!(!is_outdated(&view, &asked(1)));
        let call = tandem_state::Call {
            id,
            interaction: InteractionId(1),
            tenant: TenantId(1),
            owner: NodeId(2),
            epoch: CallEpoch(2),
            direction: CallDirection::Internal,
            from: party(),
            to: party(),
            start: ClusterTime(0),
            answer: None,
            phase: CallPhase::Answered,
            program: Program { flow: String::new(), path: Vec::new() },
            legs: [leg].into_iter().collect(),
            bridge: Default::default(),
            attempts: Default::default(),
        };
        view.calls.insert(id, call);
        let address = "192.0.2.1:5060".parse().unwrap();
        let flow = Flow {
            node: NodeId(1),
            transport: Transport::Udp,
            local: address,
            remote: address,
            connection: 0,
        };
        let record = LegRecord {
            id: leg,
            call: id,
            direction: LegDirection::Out,
            party: party(),
            flow,
            held: false,
            answered: None,
            dialog: Default::default(),
            media: Default::default(),
        };
        view.legs.insert(leg, record);
        assert!(is_outdated(&view, &asked(1)));
        assert!(!is_outdated(&view, &asked(2)));
        assert!(!is_outdated(&view, &asked(3)), "this node may lag behind who has it now");
    }

    /// A cluster of nodes 1 and 2 without calls.
    fn members(stands: impl Fn(u64) -> Option<bool>) -> State {
        let mut state = State::default();
        for id in [1, 2] {
            state.nodes.insert(NodeId(id), NodeRecord { id: NodeId(id), ..record() });
            if let Some(stands) = stands(id) {
                state.apply_version = 2;
                state.leases.insert(NodeId(id), LeaseRecord { stands, ..LeaseRecord::default() });
            }
        }
        state
    }

    fn record() -> NodeRecord {
        NodeRecord {
            id: NodeId(1),
            name: String::new(),
            site: String::new(),
            role: tandem_state::Role::Full,
            incarnation: tandem_state::Incarnation(1),
            epoch: tandem_state::NodeEpoch(1),
            cluster_address: String::new(),
            sip_advertise: String::new(),
            api_url: String::new(),
            version: String::new(),
            apply_version: 2,
        }
    }

    /// Who gets a request, and who a response, for a leg that the node drew.
    fn owners(view: &State, node: u64) -> [Option<NodeId>; 2] {
        let leg = LegId((u128::from(node) << 64) | 7);
        [true, false].map(|is_request| owner_of(view, leg, is_request))
    }

    #[test]
    fn what_no_call_in_the_log_is_of_goes_to_the_member_that_drew_the_leg() {
        for stands in [None, Some(true)] {
            let view = members(|_| stands);
            assert_eq!((owners(&view, 2), owners(&view, 3)), ([Some(NodeId(2)); 2], [None; 2]));
        }
    }

    #[test]
    fn a_request_for_a_call_that_went_down_with_its_node_is_answered_where_it_came() {
        let view = members(|id| Some(id == 1));
        assert_eq!(owners(&view, 2), [None, Some(NodeId(2))]);
    }
}
