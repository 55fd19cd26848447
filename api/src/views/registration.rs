//! A phone's registration.

use serde::{Deserialize, Serialize};
use tandem_state::{Binding, BindingKey, State, Transport};
use utoipa::ToSchema;

use super::{node_name, tenant_name, word};
use crate::switch::Held;
use crate::time::rfc3339;

/// A phone's registration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RegistrationView {
    /// Whose.
    pub tenant: String,
    /// The extension.
    pub number: String,
    /// The contact URI, as the phone wrote it.
    pub contact: String,
    /// The phone's address as the node saw it.
    pub received: String,
    /// `udp`, `tcp`, `tls` or `ws`.
    pub transport: String,
    /// The node that holds the way to it.
    pub node: String,
    /// Its `User-Agent`.
    pub user_agent: String,
    /// Its `+sip.instance`, empty when it gave none.
    pub instance: String,
    /// When it ends unless refreshed, by the node that holds it; while that node doesn't answer, what the log has: several
    /// times as long.
    #[schema(format = DateTime)]
    pub expires_at: String,
    /// `ok`; `unproven`: its node is down, other nodes try its address; `unreachable`: it did not answer when it was last
    /// asked, or its connection went with its node.
    pub state: String,
}

impl RegistrationView {
    /// `held` is what the holding node knows of it, `node_down` whether that node doesn't answer.
    pub(crate) fn of(
        state: &State,
        binding: &Binding,
        held: Option<Held>,
        node_down: bool,
    ) -> RegistrationView {
        let spec = &binding.spec;
        let reach = match (node_down, spec.flow.transport) {
            (false, _) if held.is_some_and(|held| held.unreachable) => "unreachable",
            (false, _) => "ok",
            (true, Transport::Udp) => "unproven",
            (true, Transport::Tcp | Transport::Tls | Transport::Ws) => "unreachable",
        };
        let instance = match &spec.key {
            BindingKey::Instance(instance, _) => instance.clone(),
            BindingKey::Contact(_) => String::new(),
        };
        RegistrationView {
            tenant: tenant_name(state, spec.tenant),
            number: spec.number.clone(),
            contact: spec.contact.clone(),
            received: spec.flow.remote.to_string(),
            transport: word(spec.flow.transport),
            node: node_name(state, spec.flow.node),
            user_agent: spec.user_agent.clone(),
            instance,
            expires_at: rfc3339(held.map_or(spec.expires, |held| held.expires)),
            state: reach.to_owned(),
        }
    }
}
