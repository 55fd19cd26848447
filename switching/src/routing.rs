//! From what was dialled to whom it rings: one decision over the replicated state.

use tandem_state::config::{DialRules, NumberTarget};
use tandem_state::{Binding, CallDirection, Cause, Flow, Party, State, TenantId};

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
pub fn route(state: &State, tenant: TenantId, dialled: &str) -> Result<Route, NoRoute> {
    let unknown = |cause| NoRoute { to: Party { number: dialled.to_owned(), name: String::new() }, cause };
    let rules = state.tenants.get(&tenant).and_then(|config| config.dial_rules.as_ref());
    let number = match e164(rules, dialled) {
        Some(number) => own_number(state, tenant, &number).ok_or_else(|| unknown(Cause::UnknownNumber))?,
        None => dialled,
    };
    let extension = state.extension(tenant, number).ok_or_else(|| unknown(Cause::UnknownNumber))?;
    let to = Party { number: extension.number.clone(), name: extension.name.clone() };
    let targets = targets_of(state, tenant, number);
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

/// The phones of an extension: highest `q` first, and of two as good the one registered later.
fn targets_of(state: &State, tenant: TenantId, number: &str) -> Vec<Target> {
    let mut bindings: Vec<&Binding> = state.bindings_of(tenant, number).collect();
    bindings.sort_by_key(|b| (std::cmp::Reverse(b.spec.q_milli), std::cmp::Reverse(b.revision)));
    bindings.into_iter().take(TARGETS_MAX).map(|binding| target(state, binding)).collect()
}

fn target(state: &State, binding: &Binding) -> Target {
    Target {
        contact: binding.spec.contact.clone(),
        path: binding.spec.path.clone(),
        flow: binding.spec.flow.clone(),
        sent_by: sent_by(state, &binding.spec.flow),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

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
        let refused = route(&state, TenantId(1), "555").expect_err("nothing is configured");
        assert_eq!(refused.cause, Cause::UnknownNumber);
    }
}
