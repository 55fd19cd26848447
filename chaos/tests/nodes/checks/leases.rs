//! While a node believes in its lease, to its very end, no other has applied the end of it.

use super::Checked;
use crate::world::World;

pub(crate) fn no_two_brains(world: &World) -> Checked {
    for machine in &world.machines {
        let _entered = machine.host.enter();
        let Some(node) = machine.cluster() else { continue };
        let lease = node.lease();
        let (Some(epoch), Some(left)) = (lease.epoch(), lease.remaining()) else { continue };
        if left.is_zero() {
            continue;
        }
        let others = world.machines.iter().filter(|other| other.id != machine.id);
        for other in others {
            let known = other.cluster().map(|other| other.view());
            let beyond = known.and_then(|view| view.nodes.get(&node.node_id()).map(|record| record.epoch));
            if beyond.is_some_and(|beyond| beyond > epoch) {
                let (us, machine, other) = (world.network.now_us(), machine.id.0, other.id.0);
                return Err(format!(
                    "at {us} us n{machine} believes in epoch {epoch} for {left:?} more, and n{other} is past it"
                ));
            }
        }
    }
    Ok(())
}
