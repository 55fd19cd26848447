//! What the tests of this crate begin with: two tenants whose extensions have the same numbers.

use tandem_sip::digest::{ha1_md5, ha1_sha256};
use tandem_sip::message::Message;
use tandem_state::config::*;
use tandem_state::*;

use crate::machine::Now;

pub(crate) fn now(ms: u64) -> Now {
    Now { steady_ms: ms, cluster: ClusterTime(ms) }
}

/// Node 1; acme (1) and globex (2), each with 101 and 102, whose passwords are `pw-acme-101` and so on.
pub(crate) fn state() -> State {
    let mut state = State::default();
    apply(&mut state, 1_000, Command::NodeStarted { node: node() });
    for name in ["acme", "globex"] {
        let changes = vec![put_tenant(name), put_extension(name, "101"), put_extension(name, "102")];
        apply(&mut state, 1_000, Command::Configure { changes });
    }
    state
}

/// Carries out a command that is not refused.
pub(crate) fn apply(state: &mut State, stamp: u64, command: Command) -> Reply {
    let position = state.position + 1;
    let origin = Origin { node: NodeId(1), incarnation: Incarnation(1), seq: position, low_water: 0 };
    let proposal = Proposal { origin, principal: Principal::Node(NodeId(1)), idempotency: None, command };
    let batch = Batch { stamp: ClusterTime(stamp), proposals: vec![proposal] };
    state.apply(position, &batch).outcomes.remove(0).expect("the fixture is in order")
}

fn node() -> NodeRecord {
    NodeRecord {
        id: NodeId(1),
        name: "n1".into(),
        site: "east".into(),
        role: Role::Full,
        incarnation: Incarnation(1),
        epoch: NodeEpoch(1),
        cluster_address: "127.0.0.1:7400".into(),
        sip_advertise: "sip.example".into(),
        api_url: "http://127.0.0.1:8080".into(),
        version: "0.1.0".into(),
        apply_version: 1,
    }
}

fn put_tenant(name: &str) -> ConfigChange {
    ConfigChange::PutTenant(TenantConfig {
        name: name.into(),
        domain: format!("{name}.example"),
        timezone: "UTC".into(),
        currency: "GBP".into(),
        limits: Limits::default(),
        dial_rules: None,
    })
}

fn put_extension(tenant: &str, number: &str) -> ConfigChange {
    let (realm, password) = (format!("{tenant}.example"), format!("pw-{tenant}-{number}"));
    let secret =
        Digests { md5: ha1_md5(number, &realm, &password), sha256: ha1_sha256(number, &realm, &password) };
    let (number, name) = (number.to_owned(), format!("Phone {number}"));
    let extension = Extension { number, name, secret, caller_id: String::new() };
    ConfigChange::PutExtension { tenant: tenant.into(), extension }
}

pub(crate) fn flow(connection: u64) -> Flow {
    Flow {
        node: NodeId(1),
        transport: if connection == 0 { Transport::Udp } else { Transport::Tcp },
        local: "127.0.0.1:5060".parse().unwrap(),
        remote: "192.0.2.1:5060".parse().unwrap(),
        connection,
    }
}

/// A REGISTER of `user@domain` with further header lines.
pub(crate) fn register(user: &str, domain: &str, cseq: u32, more: &[&str]) -> Message {
    let more: String = more.iter().map(|line| format!("{line}\r\n")).collect();
    let text = format!(
        "REGISTER sip:{domain} SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK{cseq}\r\n\
         From: <sip:{user}@{domain}>;tag=a\r\nTo: <sip:{user}@{domain}>\r\nCall-ID: r1\r\nCSeq: {cseq} REGISTER\r\n\
         {more}Content-Length: 0\r\n\r\n"
    );
    Message::parse(text.into()).unwrap()
}
