//! Phones that register at any node, refresh, move and leave.

use std::collections::BTreeMap;

use tandem_state::*;

use super::View;
use super::mixed::EXTENSIONS;
use crate::world::Random;

/// What the phones remember: the CSeq of their next REGISTER. They outlive every node.
#[derive(Debug, Default)]
pub(super) struct Phones {
    last_cseq: BTreeMap<(TenantId, u64, u64), u32>,
}

impl Phones {
    /// A phone's REGISTER arrives at a node, which proposes by what its replica knows.
    pub(super) fn turn(&mut self, view: View<'_>, random: &mut Random) -> Option<Command> {
        let tenant = TenantId(u32::try_from(random.between(1, 2)).ok()?);
        let (extension, phone) = (random.between(101, 100 + EXTENSIONS), random.between(1, 2));
        let key = BindingKey::Contact(format!("sip:{extension}@192.0.2.{phone}"));
        let number = extension.to_string();
        let known = view.state.bindings.get(&(tenant, number.clone(), key.clone()));
        if let Some(binding) = known
            && random.chance(350)
        {
            let (node_epoch, revision) = (NodeEpoch(1), binding.revision);
            let reason = UnbindReason::Unregistered;
            return Some(Command::Unbind { node_epoch, tenant, number, key, revision, reason });
        }
        let cseq = self.last_cseq.entry((tenant, extension, phone)).or_default();
        // Now and then the network brings an old REGISTER again.
        *cseq = if random.chance(50) { *cseq } else { *cseq + 1 };
        let binding = NewBinding {
            tenant,
            number,
            contact: format!("sip:{extension}@192.0.2.{phone}:{}", random.between(5060, 5062)),
            key,
            flow: flow(view.node, random),
            path: Vec::new(),
            call_id: format!("phone-{extension}-{phone}"),
            cseq: *cseq,
            q_milli: 1000,
            user_agent: "simulated".to_owned(),
            expires: view.now.plus_ms(random.between(500, 8_000)),
        };
        Some(Command::Bind { node_epoch: NodeEpoch(1), binding, replaces: known.map(|known| known.revision) })
    }
}

/// A way to a phone by this node.
pub(super) fn flow(node: NodeId, random: &mut Random) -> Flow {
    let tcp = random.chance(400);
    Flow {
        node,
        transport: if tcp { Transport::Tcp } else { Transport::Udp },
        local: ([127, 0, 0, 1], 5060).into(),
        remote: ([192, 0, 2, 1], 5060).into(),
        connection: if tcp { random.between(1, 1000) } else { 0 },
    }
}
