//! The registrar (RFC 3261 section 10.3): from an authenticated REGISTER to what changes, and to its answer.

mod outbound;

use tandem_sip::header::Header;
use tandem_sip::message::{Contacts, Message};
use tandem_sip::name_addr::NameAddr;
use tandem_sip::uri::Uri;
use tandem_state::{
    Binding, BindingKey, ClusterTime, Command, Flow, NewBinding, NodeEpoch, Party, Revision, State,
    UnbindReason,
};

use crate::admission::User;
use crate::machine::Now;
use crate::registration::BindingId;
pub use outbound::accepted_with;

/// Bounds of what a phone may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Less is answered 423 (RFC 3261 section 10.3 step 7).
    pub expires_min_s: u32,
    /// More is granted this.
    pub expires_max_s: u32,
    /// Asked for nothing, granted this.
    pub expires_default_s: u32,
    /// Contacts of one address of record.
    pub contacts_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds { expires_min_s: 30, expires_max_s: 3_600, expires_default_s: 3_600, contacts_max: 10 }
    }
}

/// The log holds this many times the granted expiry, so that only each such refresh costs an entry.
const COARSE_FACTOR: u64 = 8;
/// A refresh goes to the log when less than so many granted expiries are left there.
const COARSE_LEFT: u64 = 2;

/// What a REGISTER leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Answered at once with a failure.
    Refused {
        /// The status.
        status: u16,
        /// `Min-Expires`, with 423.
        min_expires_s: Option<u32>,
    },
    /// Answered 420: it needs what is not known here (RFC 3261 section 8.2.2.3).
    Unsupported {
        /// `Unsupported`.
        tags: String,
    },
    /// To be carried out in order, all of it, and then answered with the bindings that are there.
    Changes(Vec<Change>),
}

/// One change of a binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Only its exact expiry moves: no log entry.
    Refresh {
        /// Which.
        id: BindingId,
        /// For how long.
        expires_s: u32,
    },
    /// A log entry makes or changes it.
    Bind {
        /// Which.
        id: BindingId,
        /// For how long.
        expires_s: u32,
        /// The command.
        command: Box<Command>,
    },
    /// A log entry removes it.
    Unbind {
        /// Which.
        id: BindingId,
        /// The command.
        command: Box<Command>,
    },
}

/// Who registers, from where, under which lease.
#[derive(Debug, Clone)]
pub struct Source<'a> {
    /// The authenticated user.
    pub user: &'a User,
    /// How the REGISTER came.
    pub flow: &'a Flow,
    /// The acting node's epoch.
    pub node_epoch: NodeEpoch,
}

/// Decides what a REGISTER changes.
pub fn plan(state: &State, now: Now, bounds: &Bounds, source: &Source<'_>, request: &Message) -> Plan {
    let own = Uri::parse(request.to().uri).ok().and_then(|uri| Some(uri.user_text()?.into_owned()));
    if own.as_deref() != Some(source.user.party.number.as_str()) {
        return refused(403);
    }
    let bound: Vec<&Binding> = state.bindings_of(source.user.tenant, &source.user.party.number).collect();
    match request.contacts() {
        Contacts::Star => remove_all(&bound, source, request),
        Contacts::List(contacts) => changes(&bound, now, bounds, source, request, &contacts),
    }
}

/// Whether the log would hear of a REGISTER, if it is by whom it says: what can be known before its proof is looked at.
pub fn needs_log(
    state: &State,
    now: Now,
    bounds: &Bounds,
    flow: &Flow,
    node_epoch: NodeEpoch,
    request: &Message,
) -> bool {
    let Some(user) = claimed(state, request) else { return false };
    let source = Source { user: &user, flow, node_epoch };
    match plan(state, now, bounds, &source, request) {
        Plan::Changes(changes) => changes.iter().any(|change| !matches!(change, Change::Refresh { .. })),
        Plan::Refused { .. } | Plan::Unsupported { .. } => false,
    }
}

/// Whom a REGISTER is about, by its own word.
fn claimed(state: &State, request: &Message) -> Option<User> {
    let record = Uri::parse(request.to().uri).ok()?;
    let (tenant, config) = state.tenant_by_domain(record.host)?;
    let extension = state.extension(tenant, &record.user_text()?)?;
    let party = Party { number: extension.number.clone(), name: String::new() };
    Some(User { tenant, domain: config.domain.clone(), party })
}

fn refused(status: u16) -> Plan {
    Plan::Refused { status, min_expires_s: None }
}

/// `Contact: *` stands alone and with `Expires: 0` (section 10.2.2).
fn remove_all(bound: &[&Binding], source: &Source<'_>, request: &Message) -> Plan {
    if request.expires() != Some(0) || request.values(Header::Contact).count() != 1 {
        return refused(400);
    }
    if bound.iter().any(|binding| out_of_order(binding, request)) {
        return refused(500);
    }
    Plan::Changes(bound.iter().map(|binding| unbind(binding, source)).collect())
}

fn changes(
    bound: &[&Binding],
    now: Now,
    bounds: &Bounds,
    source: &Source<'_>,
    request: &Message,
    contacts: &[NameAddr<'_>],
) -> Plan {
    if request.values(Header::Contact).count() != contacts.len() {
        return refused(400);
    }
    if let Some(refusal) = outbound::refusal(request, contacts) {
        return refusal;
    }
    let mut planned = Vec::with_capacity(contacts.len());
    // One contact that stands twice is one binding; what it says first counts.
    let mut seen = Vec::with_capacity(contacts.len());
    for contact in contacts {
        let asked = contact.expires().or(request.expires()).unwrap_or(bounds.expires_default_s);
        let Some(key) = key_of(request, contact).filter(|_| is_callable(contact.uri)) else {
            return refused(400);
        };
        if seen.contains(&key) {
            continue;
        }
        seen.push(key.clone());
        let existing = bound.iter().find(|binding| binding.spec.key == key).copied();
        if existing.is_some_and(|binding| out_of_order(binding, request)) {
            return refused(500);
        }
        if asked == 0 {
            planned.extend(existing.map(|binding| unbind(binding, source)));
            continue;
        }
        if asked < bounds.expires_min_s {
            return Plan::Refused { status: 423, min_expires_s: Some(bounds.expires_min_s) };
        }
        let granted = asked.min(bounds.expires_max_s);
        planned.push(bind(existing, now, source, request, contact, key, granted));
    }
    let added = planned.iter().filter(|change| is_new(change)).count();
    if added > 0 && bound.len() + added > bounds.contacts_max {
        return refused(403);
    }
    Plan::Changes(planned)
}

fn is_new(change: &Change) -> bool {
    match change {
        Change::Bind { command, .. } => matches!(**command, Command::Bind { replaces: None, .. }),
        Change::Refresh { .. } | Change::Unbind { .. } => false,
    }
}

/// Within one Call-ID, CSeq must rise (section 10.3 step 7).
fn out_of_order(binding: &Binding, request: &Message) -> bool {
    binding.spec.call_id == request.call_id() && request.cseq().number <= binding.spec.cseq
}

fn bind(
    existing: Option<&Binding>,
    now: Now,
    source: &Source<'_>,
    request: &Message,
    contact: &NameAddr<'_>,
    key: BindingKey,
    granted_s: u32,
) -> Change {
    let granted_ms = u64::from(granted_s) * 1_000;
    let spec = NewBinding {
        tenant: source.user.tenant,
        number: source.user.party.number.clone(),
        key: key.clone(),
        contact: contact.uri.to_owned(),
        flow: source.flow.clone(),
        path: request.values(Header::Path).map(str::to_owned).collect(),
        call_id: request.call_id().to_owned(),
        cseq: request.cseq().number,
        q_milli: contact.q_thousandths(),
        user_agent: shortened(request.header(Header::UserAgent).unwrap_or_default(), 128),
        expires: now.cluster.plus_ms(granted_ms.saturating_mul(COARSE_FACTOR)),
    };
    let id = BindingId { tenant: spec.tenant, number: spec.number.clone(), key };
    let enough = now.cluster.plus_ms(granted_ms.saturating_mul(COARSE_LEFT));
    if existing.is_some_and(|binding| same_but_time(&binding.spec, &spec) && binding.spec.expires >= enough) {
        return Change::Refresh { id, expires_s: granted_s };
    }
    let replaces = existing.map(|binding| binding.revision);
    let command = Command::Bind { node_epoch: source.node_epoch, binding: spec, replaces };
    Change::Bind { id, expires_s: granted_s, command: Box::new(command) }
}

/// A refresh that changes nothing: Call-ID and CSeq may move on, the log keeps those of the last entry.
fn same_but_time(old: &NewBinding, new: &NewBinding) -> bool {
    old.contact == new.contact
        && old.flow == new.flow
        && old.path == new.path
        && old.q_milli == new.q_milli
        && old.user_agent == new.user_agent
        && old.call_id == new.call_id
}

fn unbind(binding: &Binding, source: &Source<'_>) -> Change {
    let spec = &binding.spec;
    let id = BindingId { tenant: spec.tenant, number: spec.number.clone(), key: spec.key.clone() };
    let command = Command::Unbind {
        node_epoch: source.node_epoch,
        tenant: spec.tenant,
        number: spec.number.clone(),
        key: spec.key.clone(),
        revision: binding.revision,
        reason: UnbindReason::Unregistered,
    };
    Change::Unbind { id, command: Box::new(command) }
}

/// Fit to be the request URI of an INVITE.
fn is_callable(uri: &str) -> bool {
    !uri.is_empty() && uri.bytes().all(|byte| byte.is_ascii_graphic())
}

/// RFC 5626: instance and reg-id of one of several flows, the instance alone of any other phone that gives it, else the
/// contact's URI.
fn key_of(request: &Message, contact: &NameAddr<'_>) -> Option<BindingKey> {
    let uri = Uri::parse(contact.uri).ok()?;
    let flow = outbound::flow_of(request, contact);
    Some(match flow.or_else(|| Some((outbound::instance_of(contact)?, 0))) {
        Some((instance, reg_id)) => BindingKey::Instance(instance.to_owned(), reg_id),
        None => BindingKey::Contact(canonical(&uri)),
    })
}

/// The parts of a contact URI that tell two apart (section 19.1.4, with parameters that phones change left out).
fn canonical(uri: &Uri<'_>) -> String {
    let user = uri.user_text().unwrap_or_default();
    let port = uri.port.map(|port| format!(":{port}")).unwrap_or_default();
    let transport =
        uri.transport().map(|t| format!(";transport={}", t.to_ascii_lowercase())).unwrap_or_default();
    format!("sip:{user}@{}{port}{transport}", uri.host.to_ascii_lowercase())
}

/// A phone's text, cut at a character's end.
fn shortened(text: &str, bytes_max: usize) -> String {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

/// `Contact` values of the answer: every binding with what is left of it.
pub fn contact_values(bindings: &[(Binding, ClusterTime)], now: ClusterTime) -> Vec<String> {
    bindings
        .iter()
        .map(|(binding, expires)| contact_value(binding, expires.since_ms(now).div_ceil(1_000)))
        .collect()
}

fn contact_value(binding: &Binding, left_s: u64) -> String {
    let instance = match &binding.spec.key {
        BindingKey::Instance(urn, 0) => format!(";+sip.instance=\"<{urn}>\""),
        BindingKey::Instance(urn, reg_id) => format!(";+sip.instance=\"<{urn}>\";reg-id={reg_id}"),
        BindingKey::Contact(_) => String::new(),
    };
    format!("<{}>;expires={left_s}{instance}", binding.spec.contact)
}

/// The revision that a `Bind` was given, to be told to its actor.
pub fn bound_revision(reply: &tandem_state::Reply) -> Option<Revision> {
    match reply {
        tandem_state::Reply::Bound(revision) => Some(*revision),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
