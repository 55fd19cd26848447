//! What the measuring programs share: a node on this machine, and commands for it.
#![allow(dead_code, reason = "each program uses a part of it")]

use std::path::PathBuf;

use tandem_cluster::{NodeConfig, Timing};
use tandem_state::config::{ConfigChange, Digests, Extension, Limits, TenantConfig};
use tandem_state::{
    BindingKey, ClusterTime, Command, Flow, NewBinding, NodeEpoch, NodeId, Revision, TenantId, Transport,
};

pub(crate) type Failed = Box<dyn std::error::Error + Send + Sync>;

/// A node at a free port of this machine.
pub(crate) fn config(name: String, data: PathBuf) -> NodeConfig {
    NodeConfig { timing: Timing::default(), ..NodeConfig::test(name, data) }
}

pub(crate) fn tenant(name: &str, limits: Limits) -> ConfigChange {
    ConfigChange::PutTenant(TenantConfig {
        name: name.into(),
        domain: format!("{name}.example"),
        timezone: "Europe/London".into(),
        currency: "GBP".into(),
        limits,
        dial_rules: None,
    })
}

/// Extensions of a tenant, `count` from the number `first` on.
pub(crate) fn extensions(tenant: &str, first: u32, count: u32) -> impl Iterator<Item = ConfigChange> {
    let of_one = |number: u32| Extension {
        number: number.to_string(),
        name: "Bench".into(),
        secret: Digests { md5: "0".repeat(32), sha256: "0".repeat(64) },
        caller_id: String::new(),
    };
    (first..first + count)
        .map(move |number| ConfigChange::PutExtension { tenant: tenant.into(), extension: of_one(number) })
}

/// A tenant with its extensions.
pub(crate) fn configure(name: &str, first: u32, count: u32) -> Command {
    let changes = std::iter::once(tenant(name, Limits::default())).chain(extensions(name, first, count));
    Command::Configure { changes: changes.collect() }
}

/// The key of each extension's one phone.
pub(crate) fn key() -> BindingKey {
    BindingKey::Instance("urn:uuid:bench".into(), 1)
}

/// A phone registers, anew or in the place of an earlier binding.
pub(crate) fn bind(
    (node, node_epoch): (NodeId, NodeEpoch),
    (tenant, number): (TenantId, &str),
    cseq: u32,
    expires: ClusterTime,
    replaces: Option<Revision>,
) -> Command {
    let local = ([127, 0, 0, 1], 5060).into();
    let flow = Flow { node, transport: Transport::Udp, local, remote: local, connection: 0 };
    Command::Bind {
        node_epoch,
        binding: NewBinding {
            tenant,
            number: number.into(),
            key: key(),
            contact: format!("sip:{number}@127.0.0.1:5060"),
            flow,
            path: Vec::new(),
            call_id: "bench".into(),
            cseq,
            q_milli: 1000,
            user_agent: "bench".into(),
            expires,
        },
        replaces,
    }
}
