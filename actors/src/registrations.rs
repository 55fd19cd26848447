//! The registry of this node's bindings: by what they are, and by the connection that reaches them, so that a connection
//! that closes is no walk over all.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tandem_state::{Flow, Transport};
use tandem_switching::Registration;
use tandem_switching::registration::BindingId;

use crate::ports::RegistrationPorts;
use crate::slot::Slot;

/// See the module.
#[derive(Default)]
pub(crate) struct Registrations {
    by_id: HashMap<Arc<BindingId>, Entry>,
    by_connection: HashMap<Flow, BTreeSet<Arc<BindingId>>>,
}

/// One binding's machine, and the way to its phone.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) slot: Arc<Slot<Registration>>,
    pub(crate) ports: Arc<RegistrationPorts>,
    pub(crate) flow: Flow,
}

impl Registrations {
    pub(crate) fn get(&self, id: &BindingId) -> Option<&Entry> {
        self.by_id.get(id)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Arc<BindingId>, &Entry)> {
        self.by_id.iter()
    }

    /// Puts a binding in, or in the place of its former machine.
    pub(crate) fn insert(&mut self, id: Arc<BindingId>, entry: Entry) {
        self.remove(&id);
        self.connect(&id, &entry.flow);
        self.by_id.insert(id, entry);
    }

    /// The binding is reached by another flow from now on.
    pub(crate) fn move_to(&mut self, id: &BindingId, flow: &Flow) {
        let Some((id, entry)) = self.by_id.get_key_value(id) else { return };
        if entry.flow == *flow {
            return;
        }
        let (id, former) = (Arc::clone(id), entry.flow.clone());
        self.disconnect(&id, &former);
        self.connect(&id, flow);
        if let Some(entry) = self.by_id.get_mut(&id) {
            entry.flow = flow.clone();
        }
    }

    pub(crate) fn remove(&mut self, id: &BindingId) {
        if let Some((id, entry)) = self.by_id.remove_entry(id) {
            self.disconnect(&id, &entry.flow);
        }
    }

    /// The bindings that are reached over a connection.
    pub(crate) fn over(&self, flow: &Flow) -> Vec<Arc<Slot<Registration>>> {
        let ids = self.by_connection.get(flow).into_iter().flatten();
        ids.filter_map(|id| self.by_id.get(id)).map(|entry| Arc::clone(&entry.slot)).collect()
    }

    fn connect(&mut self, id: &Arc<BindingId>, flow: &Flow) {
        if is_connection(flow) {
            self.by_connection.entry(flow.clone()).or_default().insert(Arc::clone(id));
        }
    }

    fn disconnect(&mut self, id: &BindingId, flow: &Flow) {
        let Some(ids) = self.by_connection.get_mut(flow) else { return };
        ids.remove(id);
        if ids.is_empty() {
            self.by_connection.remove(flow);
        }
    }
}

/// A flow that can close.
pub(crate) fn is_connection(flow: &Flow) -> bool {
    flow.transport != Transport::Udp
}
