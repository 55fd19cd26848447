//! Where connections wait that have not proved who is there: few places, and those of members' addresses apart.
//!
//! Anybody can connect and then say nothing, so a place is kept for a short while only, and one is always found for who
//! comes: when all are taken, the connection goes that waits longest of those of the address that holds most of them. A
//! flood from one address drives out itself alone, and one from many addresses no connection of a member, as it has
//! none of the addresses where members are.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tandem_state::NodeId;
use tokio::sync::oneshot;

/// Connections from addresses where no member is known: nodes that join or moved, and strangers.
pub(super) const STRANGERS_MAX: usize = 128;
/// Connections from members' addresses.
pub(super) const NEIGHBOURS_MAX: usize = 128;

/// See the module.
pub(super) struct Hall(Mutex<Inside>);

struct Inside {
    strangers: Waiting<oneshot::Sender<()>>,
    neighbours: Waiting<oneshot::Sender<()>>,
    /// From where each member last proved itself; a small table, for nobody else gets into it.
    proved: BTreeMap<NodeId, IpAddr>,
}

/// Which of the two kinds of places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Strangers,
    Neighbours,
}

/// A place; given back when dropped.
pub(super) struct Place {
    hall: Arc<Hall>,
    side: Side,
    number: u64,
    given_up: oneshot::Receiver<()>,
}

impl Hall {
    pub(super) fn new() -> Arc<Hall> {
        Arc::new(Hall(Mutex::new(Inside {
            strangers: Waiting::of(STRANGERS_MAX),
            neighbours: Waiting::of(NEIGHBOURS_MAX),
            proved: BTreeMap::new(),
        })))
    }

    /// A place for a connection, at the cost of another one when all are taken.
    pub(super) fn enter(self: &Arc<Self>, from: IpAddr, is_of_member: bool) -> Place {
        let (with, given_up) = oneshot::channel();
        let mut inside = self.lock();
        let from = from.to_canonical();
        let is_near = is_of_member || inside.proved.values().any(|proved| *proved == from);
        let side = if is_near { Side::Neighbours } else { Side::Strangers };
        // Who is driven out learns of it by the other end's drop.
        let (number, _) = inside.side(side).enter(network(from), with);
        Place { hall: Arc::clone(self), side, number, given_up }
    }

    /// A member has proved itself from there.
    pub(super) fn proved(&self, node: NodeId, from: IpAddr) {
        self.lock().proved.insert(node, from.to_canonical());
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    fn side(&mut self, side: Side) -> &mut Waiting<oneshot::Sender<()>> {
        match side {
            Side::Strangers => &mut self.strangers,
            Side::Neighbours => &mut self.neighbours,
        }
    }
}

impl Place {
    /// Returns when the place has gone to another connection.
    pub(super) async fn given_up(&mut self) {
        let _ = (&mut self.given_up).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.hall.lock().side(self.side).leave(self.number);
    }
}

/// What one host has to itself: in IPv6 a network of 64 bits.
fn network(from: IpAddr) -> IpAddr {
    match from {
        IpAddr::V4(_) => from,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

/// Who waits, in the order of coming.
struct Waiting<T> {
    places: usize,
    next: u64,
    taken: BTreeMap<u64, (IpAddr, T)>,
}

impl<T> Waiting<T> {
    fn of(places: usize) -> Waiting<T> {
        Waiting { places, next: 0, taken: BTreeMap::new() }
    }

    /// Lets one in. Gives its number, and who had to go for it.
    fn enter(&mut self, from: IpAddr, with: T) -> (u64, Option<T>) {
        let number = self.next;
        self.next += 1;
        self.taken.insert(number, (from, with));
        let gone = (self.taken.len() > self.places).then(|| self.drive_out()).flatten();
        (number, gone)
    }

    /// The oldest of the address that holds most, the newcomer counted; of several such addresses, the oldest of all.
    fn drive_out(&mut self) -> Option<T> {
        let mut held: BTreeMap<IpAddr, usize> = BTreeMap::new();
        for (from, _) in self.taken.values() {
            *held.entry(*from).or_default() += 1;
        }
        let most = held.values().max().copied();
        let oldest = self.taken.iter().find(|(_, (from, _))| held.get(from).copied() == most);
        let number = oldest.map(|(number, _)| *number)?;
        self.taken.remove(&number).map(|(_, with)| with)
    }

    fn leave(&mut self, number: u64) {
        self.taken.remove(&number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(number: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, number])
    }

    /// Four places: who comes from these hosts in turn, by number; who goes for each.
    fn gone(hosts: &[u8]) -> Vec<Option<u64>> {
        let mut waiting = Waiting::of(4);
        let who = |waiting: &Waiting<u64>| waiting.next;
        hosts.iter().map(|from| waiting.enter(host(*from), who(&waiting)).1).collect()
    }

    #[test]
    fn a_flood_from_one_address_drives_out_itself_alone() {
        let asked = gone(&[1, 2, 1, 1, 1, 1, 3, 1]);
        assert_eq!(asked, [None, None, None, None, Some(0), Some(2), Some(3), Some(4)]);
    }

    #[test]
    fn of_many_addresses_the_oldest_goes() {
        assert_eq!(gone(&[1, 2, 3, 4, 5, 6]), [None, None, None, None, Some(0), Some(1)]);
        assert_eq!(gone(&[1, 2, 3, 4, 3, 3]), [None, None, None, None, Some(2), Some(4)]);
    }

    #[test]
    fn who_left_costs_nobody_a_place() {
        let mut waiting = Waiting::of(1);
        let (number, _) = waiting.enter(host(1), 'a');
        waiting.leave(number);
        assert_eq!(waiting.enter(host(2), 'b').1, None);
        assert_eq!(waiting.enter(host(3), 'c').1, Some('b'));
    }

    #[test]
    fn a_host_of_ipv6_has_one_network_whatever_address_of_it_it_takes() {
        let [one, other, elsewhere] =
            ["2001:db8::1", "2001:db8::ffff:2", "2001:db8:0:1::1"].map(|text| network(text.parse().unwrap()));
        assert_eq!(one, other);
        assert_ne!(one, elsewhere);
        assert_eq!(network(host(1)), host(1));
    }

    #[tokio::test]
    async fn strangers_take_no_place_of_a_member_wherever_it_proved_itself() {
        let hall = Hall::new();
        hall.proved(NodeId(2), "::ffff:10.0.0.2".parse().unwrap());
        let (mut known, mut proved) = (hall.enter(host(1), true), hall.enter(host(2), false));
        let mut first = hall.enter(host(3), false);
        let others: Vec<Place> = (0..STRANGERS_MAX).map(|_| hall.enter(host(3), false)).collect();
        first.given_up().await;
        assert_eq!((known.side, proved.side, first.side), {
            (Side::Neighbours, Side::Neighbours, Side::Strangers)
        });
        assert!(known.given_up.try_recv() == Err(oneshot::error::TryRecvError::Empty));
        assert!(proved.given_up.try_recv() == Err(oneshot::error::TryRecvError::Empty));
        drop((first, others));
        assert!(hall.lock().strangers.taken.is_empty());
    }
}
