//! Short names for what the tests beside the rules are made of.

use crate::archive::Fact;
use crate::config::*;
use crate::*;

pub(crate) fn node(id: u64) -> NodeRecord {
    NodeRecord {
        id: NodeId(id),
        name: format!("n{id}"),
        site: "east".into(),
        role: Role::Full,
        incarnation: Incarnation(1),
        epoch: NodeEpoch(1),
        cluster_address: format!("127.0.0.{id}:7400"),
        sip_advertise: format!("127.0.0.{id}"),
        api_url: format!("http://127.0.0.{id}:8080"),
        version: "0.1.0".into(),
        apply_version: 1,
    }
}

pub(crate) fn tenant(name: &str) -> TenantConfig {
    TenantConfig {
        name: name.into(),
        domain: format!("{name}.example"),
        timezone: "Europe/London".into(),
        currency: "GBP".into(),
        limits: Limits::default(),
        dial_rules: None,
    }
}

pub(crate) fn extension(number: &str) -> Extension {
    let secret = Digests { md5: "0".repeat(32), sha256: "0".repeat(64) };
    Extension { number: number.into(), name: String::new(), secret, caller_id: String::new() }
}

pub(crate) fn put_extension(tenant: &str, number: &str) -> ConfigChange {
    ConfigChange::PutExtension { tenant: tenant.into(), extension: extension(number) }
}

pub(crate) fn limited(name: &str, calls: Option<u32>, registrations: Option<u32>) -> ConfigChange {
    let limits = Limits { calls, calls_per_second: None, registrations };
    ConfigChange::PutTenant(TenantConfig { limits, ..tenant(name) })
}

pub(crate) fn globex() -> Vec<ConfigChange> {
    vec![ConfigChange::PutTenant(tenant("globex"))]
}

pub(crate) fn configure(changes: Vec<ConfigChange>) -> Command {
    Command::Configure { changes }
}

pub(crate) fn propose(node: u64, seq: u64, command: Command) -> Proposal {
    let origin = Origin { node: NodeId(node), incarnation: Incarnation(1), seq, low_water: 0 };
    Proposal { origin, principal: Principal::Node(NodeId(node)), idempotency: None, command }
}

pub(crate) fn batch(stamp: u64, proposals: Vec<Proposal>) -> Batch {
    Batch { stamp: ClusterTime(stamp), proposals }
}

/// Applies one proposal at the next position and the present time.
pub(crate) fn run(state: &mut State, proposal: Proposal) -> Applied {
    run_at(state, 0, proposal)
}

/// Applies one proposal at the next position.
pub(crate) fn run_at(state: &mut State, stamp: u64, proposal: Proposal) -> Applied {
    state.apply(state.position + 1, &batch(stamp, vec![proposal]))
}

/// Nodes 1 and 2 and tenant acme (id 1) with extensions 101 and 102, at time 1,000.
pub(crate) fn started() -> State {
    let mut state = State::default();
    let acme = vec![
        ConfigChange::PutTenant(tenant("acme")),
        put_extension("acme", "101"),
        put_extension("acme", "102"),
    ];
    let proposals = vec![
        propose(1, 1, Command::NodeStarted { node: node(1) }),
        propose(2, 1, Command::NodeStarted { node: node(2) }),
        propose(1, 2, configure(acme)),
    ];
    let applied = state.apply(1, &batch(1000, proposals));
    assert!(applied.outcomes.iter().all(Result::is_ok), "{applied:?}");
    state
}

/// [`started`] with leases in force: each node has renewed once, for 1,800 ms, at position 4 and time 2,000.
pub(crate) fn leased() -> State {
    let mut state = started();
    for id in [1, 2] {
        let node = NodeRecord { apply_version: 2, ..node(id) };
        run(&mut state, propose(id, 70, Command::NodeStarted { node }));
    }
    let proposals = vec![
        propose(1, 71, Command::RaiseApplyVersion { to: 2 }),
        propose(1, 0, renew(1, 1)),
        propose(2, 0, renew(1, 1)),
    ];
    let applied = state.apply(4, &batch(2000, proposals));
    assert!(applied.outcomes.iter().all(Result::is_ok), "{applied:?}");
    state
}

/// [`leased`] with the rules in force since which renewals carry marks.
pub(crate) fn marked() -> State {
    let mut state = leased();
    raise(&mut state, 3);
    state
}

/// Puts these rules in force for nodes 1 and 2.
pub(crate) fn raise(state: &mut State, to: u16) {
    for id in [1, 2] {
        let node = NodeRecord { apply_version: to, ..node(id) };
        run(state, propose(id, 75, Command::NodeStarted { node }));
    }
    let applied = run(state, propose(1, 76, Command::RaiseApplyVersion { to }));
    assert_eq!(applied.outcomes, [Ok(Reply::Done)]);
}

pub(crate) fn renew(epoch: u64, attempt: u64) -> Command {
    Command::Renew { node_epoch: NodeEpoch(epoch), attempt, lease_ms: 1_800 }
}

pub(crate) fn expire(node: u64, epoch: u64, last_renewal: u64) -> Command {
    Command::ExpireLease { node: NodeId(node), epoch: NodeEpoch(epoch), last_renewal }
}

pub(crate) fn end_lease(node: u64, epoch: u64, incarnation: u64) -> Command {
    let (node, epoch) = (NodeId(node), NodeEpoch(epoch));
    Command::EndLease { node, epoch, incarnation: Incarnation(incarnation) }
}

pub(crate) fn flow(node: u64, transport: Transport) -> Flow {
    Flow {
        node: NodeId(node),
        transport,
        local: "127.0.0.1:5060".parse().unwrap(),
        remote: "192.0.2.1:5060".parse().unwrap(),
        connection: u64::from(transport != Transport::Udp),
    }
}

/// A binding of an extension of acme to node 1 over UDP.
pub(crate) fn bind(number: &str, cseq: u32) -> Command {
    bind_over(number, cseq, Transport::Udp)
}

pub(crate) fn bind_tcp(number: &str, cseq: u32) -> Command {
    bind_over(number, cseq, Transport::Tcp)
}

fn bind_over(number: &str, cseq: u32, transport: Transport) -> Command {
    let contact = format!("sip:{number}@192.0.2.1");
    let binding = NewBinding {
        tenant: TenantId(1),
        number: number.into(),
        key: BindingKey::Contact(contact.clone()),
        contact,
        flow: flow(1, transport),
        path: vec![],
        call_id: "reg".into(),
        cseq,
        q_milli: 1000,
        user_agent: "test".into(),
        expires: ClusterTime(10_000_000),
    };
    Command::Bind { node_epoch: NodeEpoch(1), binding, replaces: None }
}

pub(crate) fn party(number: &str) -> Party {
    Party { number: number.into(), name: String::new() }
}

pub(crate) fn attempt(number: u32) -> Attempt {
    let start = ClusterTime(1000);
    Attempt { number, to: party("102"), start, answer: None, end: None, quality: None }
}

pub(crate) fn leg(id: u128, call: u128) -> LegRecord {
    LegRecord {
        id: LegId(id),
        call: CallId(call),
        direction: LegDirection::In,
        party: party("101"),
        flow: flow(1, Transport::Udp),
        held: false,
        answered: None,
        dialog: DialogRecord::default(),
        media: MediaRecord::default(),
    }
}

/// A call of acme from 101 to 102 with one attempt; its id is that of its owner too.
pub(crate) fn create_call(id: u64) -> Command {
    let mut change = CallChange { attempts: vec![attempt(1)], ..CallChange::default() };
    change.legs = vec![leg(u128::from(id) + 1000, u128::from(id))];
    create_call_with(id, change)
}

pub(crate) fn create_call_with(id: u64, change: CallChange) -> Command {
    let owner = if id == 2 { NodeId(2) } else { NodeId(1) };
    let ring_until = ClusterTime(60_000);
    let step = Step { id: "dial".into(), kind: StepKind::Dial { number: "102".into(), ring_until } };
    let call = NewCall {
        id: CallId(u128::from(id)),
        interaction: InteractionId(u128::from(id)),
        tenant: TenantId(1),
        owner,
        direction: CallDirection::Internal,
        from: party("101"),
        to: party("102"),
        start: ClusterTime(u64::MAX),
        program: Program { flow: String::new(), path: vec![step] },
        change,
    };
    Command::CreateCall { node_epoch: NodeEpoch(1), call }
}

pub(crate) fn checkpoint(id: u128, change: CallChange) -> Command {
    Command::Checkpoint { call: CallId(id), epoch: CallEpoch(1), change }
}

pub(crate) fn end_call(id: u128, change: CallChange) -> Command {
    Command::EndCall { call: CallId(id), epoch: CallEpoch(1), change }
}

pub(crate) fn refuse_call(id: u128, cause: Cause) -> Command {
    let refused = RefusedCall {
        id: CallId(id),
        tenant: TenantId(1),
        direction: CallDirection::Internal,
        from: party("101"),
        to: party("999"),
        start: ClusterTime(u64::MAX),
        cause,
    };
    Command::RefuseCall { node_epoch: NodeEpoch(1), refused }
}

/// The CDRs that an entry wrote.
pub(crate) fn cdrs(applied: &Applied) -> Vec<Cdr> {
    let of = |record: &archive::ArchiveRecord| match &record.fact {
        Fact::Cdr(cdr) => Some((**cdr).clone()),
        Fact::Event(_) | Fact::Audit(_) => None,
    };
    applied.archive.iter().filter_map(of).collect()
}
