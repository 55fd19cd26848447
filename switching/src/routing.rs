//! From what was dialled to whom it rings: one decision over the replicated state.

use std::cmp::Reverse;
use std::net::SocketAddr;

use tandem_state::config::{DialRules, NumberTarget};
use tandem_state::{
    Binding, BindingKey, CallDirection, Cause, Flow, NodeId, Party, State, TenantId, Transport,
};

use crate::call::Way;

/// How many phones of one extension ring at once.
pub const TARGETS_MAX: usize = 10;

/// Where a call goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Seen from the tenant.
    pub direction: CallDirection,
    /// Who is called.
    pub to: Party,
    /// The phones to ring, at most [`TARGETS_MAX`], preferred first.
    pub targets: Vec<Target>,
}

/// One phone to ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its contact URI, the request URI of the INVITE.
    pub contact: String,
    /// `Path` of its registration, the first Route of the INVITE.
    pub path: Vec<String>,
    /// How it is reached.
    pub flow: Flow,
    /// `host:port` of the flow's node as that phone knows it: for Via and Contact.
    pub sent_by: String,
    /// Other flows of the same phone (RFC 5626 section 5.3): tried in this order, one after the other, when this one fails.
    pub next: Vec<Target>,
}

/// The node that routes, for phones whose own node is down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Here {
    /// Itself.
    pub node: NodeId,
    /// Where it speaks SIP over UDP.
    pub udp: Vec<SocketAddr>,
}

/// A call that goes nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoRoute {
    /// Who was meant, as far as known.
    pub to: Party,
    /// Why not.
    pub cause: Cause,
}

/// Finds whom `dialled` reaches for a user of `tenant`.
pub fn route(state: &State, here: &Here, tenant: TenantId, dialled: &str) -> Result<Route, NoRoute> {
    let unknown = |cause| NoRoute { to: Party { number: dialled.to_owned(), name: String::new() }, cause };
    let rules = state.tenants.get(&tenant).and_then(|config| config.dial_rules.as_ref());
    let number = match e164(rules, dialled) {
        Some(number) => own_number(state, tenant, &number).ok_or_else(|| unknown(Cause::UnknownNumber))?,
        None => dialled,
    };
    let extension = state.extension(tenant, number).ok_or_else(|| unknown(Cause::UnknownNumber))?;
    let to = Party { number: extension.number.clone(), name: extension.name.clone() };
    let targets = targets_of(state, here, tenant, number);
    if targets.is_empty() {
        return Err(NoRoute { to, cause: Cause::NotRegistered });
    }
    Ok(Route { direction: CallDirection::Internal, to, targets })
}

/// Whether a request URI's host is this tenant's: its domain, or a bare address or name of the switch, as phones write
/// that know no domain. Another domain, another tenant's too, is a call to outside.
pub fn is_for(state: &State, tenant: TenantId, host: &str) -> bool {
    if let Some((owner, _)) = state.tenant_by_domain(host) {
        return owner == tenant;
    }
    let bare = host.trim_matches(['[', ']']);
    bare.is_empty()
        || bare.parse::<std::net::IpAddr>().is_ok()
        || state.nodes.values().any(|n| n.sip_advertise == host)
}

/// The E.164 form of what was dialled, `None` for an extension or feature code.
pub fn e164(rules: Option<&DialRules>, dialled: &str) -> Option<String> {
    if dialled.starts_with('+') {
        return Some(dialled.to_owned());
    }
    let rules = rules?;
    let prefixed = |prefix: &str| {
        let rest = dialled.strip_prefix(prefix)?;
        (!prefix.is_empty() && rest.len() >= 5).then_some(rest)
    };
    if let Some(rest) = prefixed(&rules.international) {
        return Some(format!("+{rest}"));
    }
    prefixed(&rules.national).map(|rest| format!("+{}{rest}", rules.country))
}

/// The extension behind one of the tenant's own outside numbers.
fn own_number<'a>(state: &'a State, tenant: TenantId, number: &str) -> Option<&'a str> {
    match state.numbers.get(number)? {
        (owner, NumberTarget::Extension(extension)) if *owner == tenant => Some(extension),
        _ => None,
    }
}

/// The phones of an extension: highest `q` first, and of two as good the one registered later. The flows of one instance
/// are one phone.
fn targets_of(state: &State, here: &Here, tenant: TenantId, number: &str) -> Vec<Target> {
    let mut bindings: Vec<&Binding> = state.bindings_of(tenant, number).collect();
    bindings.sort_by_key(|b| (Reverse(b.spec.q_milli), Reverse(b.revision)));
    let mut phones: Vec<(Option<&str>, Target)> = Vec::new();
    for binding in bindings {
        let Some(target) = target(state, here, binding) else { continue };
        let instance = instance_of(&binding.spec.key);
        let known = phones.iter_mut().find(|(other, _)| instance.is_some() && *other == instance);
        match known {
            Some((_, phone)) => phone.next.push(target),
            None => phones.push((instance, target)),
        }
    }
    phones.into_iter().take(TARGETS_MAX).map(|(_, phone)| phone).collect()
}

fn instance_of(key: &BindingKey) -> Option<&str> {
    match key {
        BindingKey::Instance(instance, _) => Some(instance),
        BindingKey::Contact(_) => None,
    }
}

/// `None` for a phone on a connection of a node that is down: it is gone with it until the phone is back.
fn target(state: &State, here: &Here, binding: &Binding) -> Option<Target> {
    let flow = match state.is_down(binding.spec.flow.node) {
        false => binding.spec.flow.clone(),
        true => instead(here, &binding.spec.flow)?,
    };
    let (contact, path) = (binding.spec.contact.clone(), binding.spec.path.clone());
    Some(Target { contact, path, sent_by: sent_by(state, &flow), flow, next: Vec::new() })
}

/// This node's way to the received address of a phone whose own node is down: nobody knows whether it gets there, the
/// INVITE is its own probe.
fn instead(here: &Here, lost: &Flow) -> Option<Flow> {
    let reaches = |local: &&SocketAddr| local.is_ipv4() == lost.remote.is_ipv4();
    let local = *here.udp.iter().find(reaches).filter(|_| lost.transport == Transport::Udp)?;
    Some(Flow { node: here.node, local, ..lost.clone() })
}

/// The phone of a leg.
#[derive(Debug, Clone, Copy)]
pub struct Phone<'a> {
    /// Its extension.
    pub number: &'a str,
    /// The URI of its Contact.
    pub contact: &'a str,
    /// How it was reached.
    pub flow: &'a Flow,
}

/// The ways to the phone of a leg whose call comes to this node, the best first: its own flow, if that is another node's and
/// that is up; a flow by which the same phone has registered since; this node's way to its address.
pub fn ways(state: &State, here: &Here, tenant: TenantId, phone: &Phone<'_>) -> Vec<Way> {
    let lasts = |flow: &Flow| flow.node != here.node && !state.is_down(flow.node);
    let own = Some(phone.flow.clone()).filter(lasts);
    let same = |binding: &&Binding| binding.spec.contact == phone.contact;
    let registered = state.bindings_of(tenant, phone.number).filter(same).map(|b| b.spec.flow.clone());
    let registered = registered.filter(|flow| !state.is_down(flow.node));
    let instead = instead(here, phone.flow);
    let mut ways: Vec<Way> = Vec::new();
    for flow in own.into_iter().chain(registered).chain(instead) {
        if ways.iter().all(|way| way.flow != flow) {
            ways.push(Way { sent_by: sent_by(state, &flow), flow });
        }
    }
    ways
}

/// `host:port` under which the far end of `flow` knows its node.
pub fn sent_by(state: &State, flow: &Flow) -> String {
    let port = flow.local.port();
    match state.nodes.get(&flow.node) {
        Some(node) if !node.sip_advertise.is_empty() => host_port(&node.sip_advertise, port),
        _ => flow.local.to_string(),
    }
}

fn host_port(host: &str, port: u16) -> String {
    match host.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V6(v6)) => format!("[{v6}]:{port}"),
        _ => format!("{host}:{port}"),
    }
}

/// The transport in a Via of ours.
pub(crate) fn via_transport(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "UDP",
        Transport::Tcp => "TCP",
        Transport::Tls => "TLS",
        Transport::Ws => "WS",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{self, apply};
    use tandem_state::{Command, NewBinding, NodeEpoch};

    fn british() -> DialRules {
        DialRules {
            country: "44".into(),
            international: "00".into(),
            national: "0".into(),
            emergency: vec!["999".into()],
        }
    }

    #[test]
    fn dialled_digits_become_e164_by_the_tenants_rules() {
        let rules = british();
        let rules = Some(&rules);
        assert_eq!(e164(rules, "02075866660").as_deref(), Some("+442075866660"));
        assert_eq!(e164(rules, "0049301234567").as_deref(), Some("+49301234567"));
        assert_eq!(e164(rules, "+33123456789").as_deref(), Some("+33123456789"));
        assert_eq!(e164(rules, "101"), None);
        assert_eq!(e164(None, "02075866660"), None);
    }

    #[test]
    fn an_unknown_number_is_told_from_an_absent_phone() {
        let state = State::default();
        let refused = route(&state, &here(), TenantId(1), "555").expect_err("nothing is configured");
        assert_eq!(refused.cause, Cause::UnknownNumber);
    }

    fn here() -> Here {
        Here { node: NodeId(9), udp: vec!["127.0.0.9:5060".parse().unwrap()] }
    }

    /// Binds extension 101 of acme to node 1.
    fn bind(state: &mut State, key: BindingKey, contact: &str, flow: Flow) {
        let binding = NewBinding {
            tenant: TenantId(1),
            number: "101".into(),
            key,
            contact: contact.into(),
            flow,
            path: vec![],
            call_id: contact.into(),
            cseq: 1,
            q_milli: 1_000,
            user_agent: String::new(),
            expires: tandem_state::ClusterTime(9_000_000),
        };
        apply(state, 2_000, Command::Bind { node_epoch: NodeEpoch(1), binding, replaces: None });
    }

    fn flow_of(reg_id: u32) -> BindingKey {
        BindingKey::Instance("urn:uuid:1".into(), reg_id)
    }

    fn contacts(targets: &[Target]) -> Vec<&str> {
        targets.iter().map(|target| target.contact.as_str()).collect()
    }

    #[test]
    fn the_flows_of_one_phone_are_one_target_that_is_reached_by_the_newest_first() {
        let mut state = fixture::state();
        bind(&mut state, flow_of(1), "sip:a@192.0.2.1", fixture::flow(1));
        bind(&mut state, BindingKey::Contact("sip:b@192.0.2.2".into()), "sip:b@192.0.2.2", fixture::flow(0));
        bind(&mut state, flow_of(2), "sip:c@192.0.2.1", fixture::flow(2));
        let targets = targets_of(&state, &here(), TenantId(1), "101");
        assert_eq!(contacts(&targets), ["sip:c@192.0.2.1", "sip:b@192.0.2.2"]);
        assert_eq!(contacts(&targets[0].next), ["sip:a@192.0.2.1"]);
        assert_eq!(targets[1].next, []);
    }

    #[test]
    fn a_phone_of_a_lost_node_is_tried_at_its_address_from_here_and_a_connection_is_gone() {
        let mut state = fixture::state();
        bind(&mut state, BindingKey::Contact("sip:b@192.0.2.2".into()), "sip:b@192.0.2.2", fixture::flow(0));
        bind(&mut state, flow_of(1), "sip:a@192.0.2.1", fixture::flow(1));
        state.apply_version = 2;
        let targets = targets_of(&state, &here(), TenantId(1), "101");
        let expected = Flow { node: NodeId(9), local: here().udp[0], ..fixture::flow(0) };
        assert_eq!(contacts(&targets), ["sip:b@192.0.2.2"], "no lease stands");
        assert_eq!((&targets[0].flow, targets[0].sent_by.as_str()), (&expected, "127.0.0.9:5060"));
        let six = Here { udp: vec!["[::1]:5060".parse().unwrap()], ..here() };
        assert_eq!(targets_of(&state, &six, TenantId(1), "101"), [], "no socket of its family");
    }
}
