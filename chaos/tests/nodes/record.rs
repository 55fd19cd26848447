//! What clients asked and were answered, by simulated time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use tandem_chaos::oracle::{Binding, BindingOp, BindingSaid, Model, Number, NumberOp, NumberSaid, Operation};
use tandem_cluster::sim::Network;
use tandem_state::{BindingKey, CallId, State};

use crate::clients::{TENANTS, bound, leads};

/// A phone at an extension of the first tenant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Contact {
    pub(crate) extension: String,
    pub(crate) phone: u64,
}

impl Contact {
    pub(crate) fn key(&self) -> BindingKey {
        BindingKey::Contact(format!("sip:{}@phone{}.example", self.extension, self.phone))
    }
}

type Operations<M> = Vec<Option<Operation<<M as Model>::Op, <M as Model>::Said>>>;

/// Histories by what they are about.
pub(crate) type Histories<K, M> = BTreeMap<K, Operations<M>>;

/// Clones are handles of the same.
#[derive(Clone)]
pub(crate) struct Record {
    network: Network,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) numbers: Histories<String, Number>,
    pub(crate) bindings: Histories<Contact, Binding>,
    /// Calls whose making was acknowledged, and whose end was.
    pub(crate) made: BTreeSet<CallId>,
    pub(crate) ended: BTreeSet<CallId>,
}

/// An operation that was called. Dropped without an answer it stays open.
pub(crate) struct Called<K, M: Model> {
    record: Record,
    key: K,
    at: usize,
    histories: fn(&mut Kept) -> &mut Histories<K, M>,
}

impl Record {
    pub(crate) fn new(network: &Network) -> Record {
        Record { network: network.clone(), kept: Arc::default() }
    }

    pub(crate) fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap()
    }

    pub(crate) fn call_number(&self, number: &str, op: NumberOp) -> Called<String, Number> {
        self.call(number.to_owned(), op, |kept| &mut kept.numbers)
    }

    pub(crate) fn call_binding(&self, contact: &Contact, op: BindingOp) -> Called<Contact, Binding> {
        self.call(contact.clone(), op, |kept| &mut kept.bindings)
    }

    fn call<K: Ord + Clone, M: Model>(
        &self,
        key: K,
        op: M::Op,
        histories: fn(&mut Kept) -> &mut Histories<K, M>,
    ) -> Called<K, M> {
        let operation = Operation { called: self.network.now_us(), answered: None, op };
        let mut kept = self.kept();
        let history = histories(&mut kept).entry(key.clone()).or_default();
        history.push(Some(operation));
        Called { record: self.clone(), key, at: history.len() - 1, histories }
    }

    /// What is read at the end of everything that was written. No other operation may be under way.
    pub(crate) fn read_all(&self, view: &State) {
        let numbers: Vec<String> = self.kept().numbers.keys().cloned().collect();
        for (number, tenant) in numbers.iter().flat_map(|number| TENANTS.map(|tenant| (number, tenant))) {
            let called = self.call_number(number, NumberOp::Read(tenant.into()));
            called.answer(Some(NumberSaid::Leads(leads(view, tenant, number))));
        }
        let contacts: Vec<Contact> = self.kept().bindings.keys().cloned().collect();
        for contact in &contacts {
            let called = self.call_binding(contact, BindingOp::Read);
            called.answer(Some(BindingSaid::There(bound(view, contact).is_some())));
        }
    }

    pub(crate) fn made(&self, call: CallId) {
        self.kept().made.insert(call);
    }

    pub(crate) fn ended(&self, call: CallId) {
        self.kept().ended.insert(call);
    }
}

impl<K: Ord, M: Model> Called<K, M> {
    /// It was answered; `None` leaves open what was done.
    pub(crate) fn answer(self, said: Option<M::Said>) {
        let now_us = self.record.network.now_us();
        self.change(|operation| {
            if let Some(operation) = operation {
                operation.answered = said.map(|said| (now_us, said));
            }
        });
    }

    /// Nothing was done, and nothing said.
    pub(crate) fn forget(self) {
        self.change(|operation| *operation = None);
    }

    fn change(&self, change: impl FnOnce(&mut Option<Operation<M::Op, M::Said>>)) {
        let mut kept = self.record.kept();
        let history = (self.histories)(&mut kept).get_mut(&self.key);
        change(&mut history.expect("it was called")[self.at]);
    }
}
