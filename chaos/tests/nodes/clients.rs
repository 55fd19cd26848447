//! What the nodes' clients do: numbers are taken and given back, phones register and leave, calls are made and ended. Each
//! client works on one node and ends with it; what was not answered by then stays open.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tandem_chaos::oracle::{BindingOp, BindingSaid, NumberOp, NumberSaid};
use tandem_chaos::world::Random;
use tandem_cluster::Cluster;
use tandem_state::config::*;
use tandem_state::*;

use crate::record::{Contact, Record};

pub(crate) const TENANTS: [&str; 2] = ["acme", "globex"];
const NUMBERS: u64 = 3;
const EXTENSIONS: u64 = 2;
const PHONES: u64 = 2;

/// What clients share.
#[derive(Clone)]
pub(crate) struct Clients {
    pub(crate) record: Record,
    /// They begin nothing more.
    pub(crate) quiet: Arc<AtomicBool>,
    /// Mutant: a read that must be consistent takes the node's own view.
    pub(crate) reads_own_view: bool,
}

/// The tenants and extensions.
pub(crate) fn genesis() -> Command {
    let changes = TENANTS.iter().flat_map(|name| {
        let extensions = (1..=EXTENSIONS).map(|at| put_extension(name, 100 + at));
        std::iter::once(put_tenant(name)).chain(extensions)
    });
    Command::Configure { changes: changes.collect() }
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

fn put_extension(tenant: &str, number: u64) -> ConfigChange {
    let extension = Extension {
        number: number.to_string(),
        name: format!("Phone {number}"),
        secret: Digests { md5: format!("{number:032x}"), sha256: String::new() },
        caller_id: String::new(),
    };
    ConfigChange::PutExtension { tenant: tenant.into(), extension }
}

/// What came of a command: an outcome by the state, or nothing known.
pub(crate) async fn put(node: &Cluster, command: Command) -> Option<Outcome> {
    let principal = Principal::Node(node.node_id());
    match node.propose(principal, None, command).await {
        Ok(committed) => Some(committed.outcome),
        Err(_) => None,
    }
}

/// The state as it is at some instant between call and return.
pub(crate) async fn read(node: &Cluster) -> Option<Arc<State>> {
    let position = node.read_index().await.ok()?;
    node.wait_applied(position, Duration::from_secs(2)).await.then(|| node.view())
}

/// A refusal that leaves open whether a first try was carried out.
fn is_open(outcome: &Outcome) -> bool {
    matches!(outcome, Err(Refusal::OutcomeForgotten | Refusal::StaleIncarnation))
}

/// One client of one node.
pub(crate) struct Client {
    pub(crate) node: Cluster,
    pub(crate) random: Random,
    pub(crate) clients: Clients,
}

impl Client {
    /// Goes on until it is to be quiet.
    pub(crate) async fn run(mut self) {
        while !self.node.announced(Duration::from_secs(5)).await {}
        while !self.clients.quiet.load(Ordering::Relaxed) {
            match self.random.between(0, 99) {
                0..40 => self.on_a_number().await,
                40..80 => self.on_a_binding().await,
                80 => self.lead().await,
                _ => self.on_a_call().await,
            }
            tokio::time::sleep(Duration::from_millis(self.random.between(5, 60))).await;
        }
    }

    /// An operator hands leadership to this node.
    async fn lead(&mut self) {
        let refused = self.node.transfer_leader(self.node.node_id()).await;
        drop(refused);
    }

    /// A consistent read.
    async fn read(&mut self) -> Option<Arc<State>> {
        if self.clients.reads_own_view { Some(self.node.view()) } else { read(&self.node).await }
    }

    async fn on_a_number(&mut self) {
        let number = format!("+44207000000{}", self.random.between(1, NUMBERS));
        let tenant = TENANTS[self.random.between(0, 1) as usize].to_owned();
        let op = match self.random.between(0, 9) {
            0..=3 => NumberOp::Take((tenant.clone(), (100 + self.random.between(1, EXTENSIONS)).to_string())),
            4 => NumberOp::Free(tenant.clone()),
            _ => NumberOp::Read(tenant.clone()),
        };
        let record = self.clients.record.clone();
        let called = record.call_number(&number, op.clone());
        match op {
            NumberOp::Take((_, to)) => {
                let config = NumberConfig { number, to: NumberTarget::Extension(to) };
                let change = ConfigChange::PutNumber { tenant, number: config };
                called.answer(number_said(self.configure(change).await));
            }
            NumberOp::Free(_) => {
                let change = ConfigChange::RemoveNumber { tenant, number };
                called.answer(number_said(self.configure(change).await));
            }
            NumberOp::Read(_) => match self.read().await {
                Some(view) => called.answer(Some(NumberSaid::Leads(leads(&view, &tenant, &number)))),
                None => called.forget(),
            },
        }
    }

    async fn configure(&mut self, change: ConfigChange) -> Option<Outcome> {
        put(&self.node, Command::Configure { changes: vec![change] }).await
    }

    async fn on_a_binding(&mut self) {
        let extension = (100 + self.random.between(1, EXTENSIONS)).to_string();
        let contact = Contact { extension, phone: self.random.between(1, PHONES) };
        let op = match self.random.between(0, 9) {
            0..=3 => BindingOp::Bind,
            4..=5 => BindingOp::Unbind,
            _ => BindingOp::Read,
        };
        let record = self.clients.record.clone();
        let called = record.call_binding(&contact, op);
        if op == BindingOp::Read {
            return match self.read().await {
                Some(view) => called.answer(Some(BindingSaid::There(bound(&view, &contact).is_some()))),
                None => called.forget(),
            };
        }
        let view = self.node.view();
        let command = match (op, bound(&view, &contact)) {
            (BindingOp::Bind, former) => self.bind(&view, &contact, former),
            (_, Some(former)) => self.unbind(&view, &contact, former),
            (_, None) => return called.forget(),
        };
        match put(&self.node, command).await {
            None => called.answer(None),
            Some(outcome) if is_open(&outcome) => called.answer(None),
            Some(Ok(_)) => called.answer(Some(BindingSaid::Done)),
            // The view was too old: nothing was done, and the phone would be told to try again.
            Some(Err(_)) => called.forget(),
        }
    }

    fn bind(&mut self, view: &State, contact: &Contact, former: Option<&Binding>) -> Command {
        let flow = Flow {
            node: self.node.node_id(),
            transport: Transport::Udp,
            local: ([10, 0, 0, 1], 5060).into(),
            remote: ([192, 0, 2, 1], 5060).into(),
            connection: 0,
        };
        let binding = NewBinding {
            tenant: acme(view),
            number: contact.extension.clone(),
            key: contact.key(),
            contact: format!("sip:{}@192.0.2.1", contact.extension),
            flow,
            path: Vec::new(),
            call_id: format!("{:x}", self.random.id()),
            cseq: 1,
            q_milli: 1000,
            user_agent: String::new(),
            expires: view.time.plus_ms(24 * 3600 * 1000),
        };
        let replaces = former.map(|former| former.revision);
        Command::Bind { node_epoch: self.node.node_epoch(), binding, replaces }
    }

    fn unbind(&mut self, view: &State, contact: &Contact, former: &Binding) -> Command {
        Command::Unbind {
            node_epoch: self.node.node_epoch(),
            tenant: acme(view),
            number: contact.extension.clone(),
            key: contact.key(),
            revision: former.revision,
            reason: UnbindReason::Unregistered,
        }
    }

    /// A call that is made and, if all goes well, ended.
    async fn on_a_call(&mut self) {
        let (id, view) = (CallId(self.random.id()), self.node.view());
        let party = |number: &str| Party { name: String::new(), number: number.into() };
        let attempt =
            Attempt { number: 1, to: party("102"), start: view.time, answer: None, end: None, quality: None };
        let call = NewCall {
            id,
            interaction: InteractionId(id.0),
            tenant: acme(&view),
            owner: self.node.node_id(),
            direction: CallDirection::Internal,
            from: party("101"),
            to: party("102"),
            start: view.time,
            program: Program { flow: String::new(), path: Vec::new() },
            change: CallChange { attempts: vec![attempt], ..CallChange::default() },
        };
        let create = Command::CreateCall { node_epoch: self.node.node_epoch(), call };
        let Some(Ok(Reply::Created(epoch))) = put(&self.node, create).await else { return };
        self.clients.record.made(id);
        tokio::time::sleep(Duration::from_millis(self.random.between(10, 800))).await;
        let end = Command::EndCall { call: id, epoch, change: CallChange::default() };
        if let Some(Ok(_)) = put(&self.node, end).await {
            self.clients.record.ended(id);
        }
    }
}

fn number_said(outcome: Option<Outcome>) -> Option<NumberSaid> {
    match outcome? {
        Ok(_) => Some(NumberSaid::Done),
        Err(Refusal::Taken { .. } | Refusal::NoNumber(_)) => Some(NumberSaid::Refused),
        Err(_) => None,
    }
}

pub(crate) fn leads(view: &State, tenant: &str, number: &str) -> Option<String> {
    let id = view.tenant_by_name(tenant)?.0;
    let (owner, NumberTarget::Extension(to)) = view.numbers.get(number)?;
    (*owner == id).then(|| to.clone())
}

pub(crate) fn bound<'a>(view: &'a State, contact: &Contact) -> Option<&'a Binding> {
    view.bindings.get(&(acme(view), contact.extension.clone(), contact.key()))
}

fn acme(view: &State) -> TenantId {
    view.tenant_by_name("acme").map_or(TenantId(0), |(id, _)| id)
}
