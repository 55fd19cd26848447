//! The ordinary workload: phones register, move and leave, calls are made, answered and ended, the operator changes
//! the configuration meanwhile. It knows nothing but the commands.

use tandem_state::config::*;
use tandem_state::*;

use super::calls::Calls;
use super::phones::Phones;
use super::{View, Workload};
use crate::world::Random;

/// The tenants, by name; their ids follow this order.
const TENANTS: [&str; 2] = ["acme", "globex"];
/// Extensions of each tenant: 101 and up.
pub(super) const EXTENSIONS: u64 = 6;

/// Phones, calls and an operator.
#[derive(Debug, Default)]
pub struct Mixed {
    phones: Phones,
    calls: Calls,
}

impl Workload for Mixed {
    fn genesis(&mut self) -> Vec<Command> {
        let changes = TENANTS.iter().flat_map(|name| {
            let extensions = (1..=EXTENSIONS).map(|n| put_extension(name, 100 + n, 0));
            std::iter::once(put_tenant(name, None)).chain(extensions)
        });
        vec![Command::Configure { changes: changes.collect() }]
    }

    fn turn(&mut self, view: View<'_>, random: &mut Random) -> Vec<Command> {
        match random.between(0, 99) {
            0..=29 => self.phones.turn(view, random).into_iter().collect(),
            30..=69 => self.calls.turn(view, random).into_iter().collect(),
            70..=72 => vec![change_config(random)],
            _ => Vec::new(),
        }
    }

    fn died(&mut self, node: NodeId) {
        self.calls.died(node);
    }
}

fn change_config(random: &mut Random) -> Command {
    let name = random.pick(&TENANTS).copied().unwrap_or("acme");
    let number = random.between(101, 100 + EXTENSIONS);
    let change = match random.between(0, 3) {
        0 => put_tenant(name, Some(u32::try_from(random.between(1, 6)).unwrap_or(1))),
        1 => put_tenant(name, None),
        2 => put_extension(name, number, random.between(0, 3)),
        _ => ConfigChange::RemoveExtension { tenant: name.to_owned(), number: number.to_string() },
    };
    let restore = put_extension(name, number, 0);
    Command::Configure { changes: if random.chance(500) { vec![change] } else { vec![change, restore] } }
}

fn put_tenant(name: &str, calls: Option<u32>) -> ConfigChange {
    ConfigChange::PutTenant(TenantConfig {
        name: name.to_owned(),
        domain: format!("{name}.example"),
        timezone: "UTC".to_owned(),
        currency: "GBP".to_owned(),
        limits: Limits { calls, calls_per_second: None, registrations: Some(8) },
        dial_rules: None,
    })
}

fn put_extension(tenant: &str, number: u64, secret: u64) -> ConfigChange {
    let extension = Extension {
        number: number.to_string(),
        name: format!("Phone {number}"),
        secret: Digests { md5: format!("{secret:032x}"), sha256: String::new() },
        caller_id: String::new(),
    };
    ConfigChange::PutExtension { tenant: tenant.to_owned(), extension }
}
