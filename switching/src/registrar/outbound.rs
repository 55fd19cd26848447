//! What a REGISTER asks for by option tags: Path (RFC 3327) and outbound (RFC 5626).

use tandem_sip::header::Header;
use tandem_sip::message::{Contacts, Message};
use tandem_sip::name_addr::NameAddr;
use tandem_sip::uri::Uri;
use tandem_state::{Flow, Transport};

use super::{Plan, refused};

/// The option tags that a REGISTER may require.
const SUPPORTED: [&str; 2] = ["path", "outbound"];

/// What a phone on a connection is told (`Flow-Timer`, RFC 5626 section 4.4): it is to be heard of this often, in seconds.
/// Well below the time after which the transport closes a silent connection.
const FLOW_TIMER_S: &str = "120";

/// Refuses what is required and not known here, a Path that the phone knows nothing of (RFC 3327 section 5.3: an address of
/// record must not be led through a proxy behind its phone's back), and flows that could not be told apart or reached.
pub(super) fn refusal(request: &Message, contacts: &[NameAddr<'_>]) -> Option<Plan> {
    let unknown: Vec<&str> = request.values(Header::Require).filter(|tag| !is_supported(tag)).collect();
    if !unknown.is_empty() {
        return Some(Plan::Unsupported { tags: unknown.join(", ") });
    }
    if request.header(Header::Path).is_some() && !knows(request, "path") {
        return Some(Plan::Unsupported { tags: "path".to_owned() });
    }
    match contacts.iter().filter(|contact| flow_of(request, contact).is_some()).count() {
        0 => None,
        // RFC 5626 section 6.
        1 if keeps_flows(request) => None,
        1 => Some(refused(439)),
        _ => Some(refused(400)),
    }
}

fn is_supported(tag: &str) -> bool {
    SUPPORTED.iter().any(|known| known.eq_ignore_ascii_case(tag))
}

fn knows(request: &Message, tag: &str) -> bool {
    request.has_token(Header::Supported, tag) || request.has_token(Header::Require, tag)
}

/// The first hop holds the flow: that is this node, or a proxy that says so by `ob` in its Path.
fn keeps_flows(request: &Message) -> bool {
    let first_hop = request.routes(Header::Path).last();
    let says_so = first_hop.and_then(|hop| Uri::parse(hop.uri).ok()?.param("ob"));
    request.via_count() == 1 || says_so.is_some()
}

/// Instance and reg-id of a contact that is one of several flows; `None` for any other. A reg-id from a phone that does not
/// know outbound means nothing.
pub(super) fn flow_of<'a>(request: &Message, contact: &NameAddr<'a>) -> Option<(&'a str, u32)> {
    let reg_id = contact.param("reg-id")?.parse().ok().filter(|id| *id > 0)?;
    let instance = instance_of(contact)?;
    knows(request, "outbound").then_some((instance, reg_id))
}

/// `+sip.instance` without its quotes and brackets.
pub(super) fn instance_of<'a>(contact: &NameAddr<'a>) -> Option<&'a str> {
    contact
        .param("+sip.instance")
        .map(|value| value.trim_matches(['"', '<', '>']))
        .filter(|urn| !urn.is_empty())
}

/// What a 200 says besides its contacts: the path that was taken (RFC 3327 section 5.3), what is known here, and that flows
/// are kept (RFC 5626 section 6).
pub fn accepted_with<'a>(request: &'a Message, flow: &Flow) -> Vec<(Header<'static>, &'a str)> {
    let mut headers = vec![(Header::Supported, "path, outbound")];
    headers.extend(request.headers(Header::Path).map(|path| (Header::Path, path)));
    let Contacts::List(contacts) = request.contacts() else { return headers };
    if contacts.iter().any(|contact| flow_of(request, contact).is_some()) {
        headers.push((Header::Require, "outbound"));
        if request.via_count() == 1 && flow.transport != Transport::Udp {
            headers.push((Header::Other("Flow-Timer"), FLOW_TIMER_S));
        }
    }
    headers
}
