//! What holds for any sequence of commands, sensible or not.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use tandem_state::archive::{Stream, StreamHead};
use tandem_state::command::IdempotencyKey;
use tandem_state::config::*;
use tandem_state::tables::NEWEST_APPLY_VERSION;
use tandem_state::*;

// Small pools, so that commands meet each other; now and then something out of all bounds.

fn node_id() -> impl Strategy<Value = NodeId> {
    (1u64..4).prop_map(NodeId)
}

fn time() -> impl Strategy<Value = ClusterTime> {
    prop_oneof![4 => 0u64..200_000, 4 => 150_000u64..400_000, 1 => Just(u64::MAX), 1 => any::<u64>()]
        .prop_map(ClusterTime)
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        20 => "[a-c]{1,2}",
        1 => Just(String::new()),
        1 => "\\PC{1,20}",
        1 => Just("é".repeat(400)),
    ]
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![8 => (101u32..104).prop_map(|n| n.to_string()), 1 => text()]
}

fn tenant_name() -> impl Strategy<Value = String> {
    prop_oneof![8 => prop_oneof![Just("acme".to_owned()), Just("globex".to_owned())], 1 => text()]
}

fn tenant_id() -> impl Strategy<Value = TenantId> {
    prop_oneof![6 => 1u32..3, 1 => Just(3)].prop_map(TenantId)
}

fn party() -> impl Strategy<Value = Party> {
    (number(), text()).prop_map(|(number, name)| Party { number, name })
}

fn node() -> impl Strategy<Value = NodeRecord> {
    (node_id(), 1u64..3, text(), 0u16..4).prop_map(|(id, incarnation, site, apply_version)| NodeRecord {
        id,
        name: format!("n{id}"),
        site: if site.is_empty() { "east".into() } else { site },
        role: Role::Full,
        incarnation: Incarnation(incarnation),
        epoch: NodeEpoch(1),
        cluster_address: "127.0.0.1:7400".into(),
        sip_advertise: "127.0.0.1".into(),
        api_url: "http://127.0.0.1:8080".into(),
        version: "0.1.0".into(),
        apply_version,
    })
}

fn config_change() -> impl Strategy<Value = ConfigChange> {
    let limits = (of(0u32..4), of(0u32..4));
    let tenant = (tenant_name(), tenant_name(), limits).prop_map(|(name, domain, (calls, registrations))| {
        let limits = Limits { calls, calls_per_second: None, registrations };
        let (domain, timezone) = (format!("{domain}.example"), "UTC".to_owned());
        ConfigChange::PutTenant(TenantConfig {
            name,
            domain,
            timezone,
            currency: "GBP".into(),
            limits,
            dial_rules: None,
        })
    });
    let extension = (tenant_name(), number(), text(), 0u8..3).prop_map(|(tenant, number, name, digit)| {
        let secret = Digests { md5: digit.to_string().repeat(32), sha256: String::new() };
        let extension = Extension { number, name, secret, caller_id: String::new() };
        ConfigChange::PutExtension { tenant, extension }
    });
    let outside = (tenant_name(), 1u32..4, number()).prop_map(|(tenant, digit, to)| {
        let to = NumberTarget::Extension(to);
        ConfigChange::PutNumber { tenant, number: NumberConfig { number: format!("+44{digit}"), to } }
    });
    prop_oneof![
        4 => tenant,
        6 => extension,
        3 => outside,
        1 => tenant_name().prop_map(|name| ConfigChange::RemoveTenant { name }),
        1 => (tenant_name(), number()).prop_map(|(tenant, number)| ConfigChange::RemoveExtension { tenant, number }),
        1 => (tenant_name(), 1u32..4)
            .prop_map(|(tenant, digit)| ConfigChange::RemoveNumber { tenant, number: format!("+44{digit}") }),
    ]
}

fn key() -> impl Strategy<Value = BindingKey> {
    prop_oneof![
        4 => (1u32..3).prop_map(|n| BindingKey::Contact(format!("sip:{n}"))),
        1 => (text(), 0u32..2).prop_map(|(instance, reg_id)| BindingKey::Instance(instance, reg_id)),
    ]
}

fn flow() -> impl Strategy<Value = Flow> {
    (node_id(), any::<bool>(), any::<u64>()).prop_map(|(node, tcp, connection)| Flow {
        node,
        transport: if tcp { Transport::Tcp } else { Transport::Udp },
        local: "127.0.0.1:5060".parse().unwrap(),
        remote: "192.0.2.1:5060".parse().unwrap(),
        connection,
    })
}

fn binding() -> impl Strategy<Value = NewBinding> {
    let who = (tenant_id(), number(), key(), flow());
    (who, text(), vec(text(), 0..3), text(), (any::<u32>(), any::<u16>()), time()).prop_map(
        |((tenant, number, key, flow), contact, path, call_id, (cseq, q), expires)| NewBinding {
            tenant,
            number,
            key,
            contact,
            flow,
            path,
            user_agent: call_id.clone(),
            call_id,
            cseq: cseq % 5,
            q_milli: q % 1020,
            expires,
        },
    )
}

fn call_id() -> impl Strategy<Value = CallId> {
    (1u128..5).prop_map(CallId)
}

fn leg() -> impl Strategy<Value = LegRecord> {
    (1u128..8, call_id(), party(), flow(), of(time()), text()).prop_map(
        |(id, call, party, flow, answered, sdp)| LegRecord {
            id: LegId(id),
            call,
            direction: LegDirection::In,
            party,
            flow,
            held: false,
            answered,
            dialog: DialogRecord::default(),
            media: MediaRecord { local_sdp: sdp, ..MediaRecord::default() },
        },
    )
}

fn attempt() -> impl Strategy<Value = Attempt> {
    (prop_oneof![9 => 1u32..4, 1 => Just(0)], party(), time(), of(time()), of(time())).prop_map(
        |(number, to, start, answer, end)| Attempt {
            number,
            to,
            start,
            answer,
            end: end.map(|at| AttemptEnd { at, cause: Cause::Busy }),
            quality: None,
        },
    )
}

fn change() -> impl Strategy<Value = CallChange> {
    let phase = prop_oneof![Just(CallPhase::Ringing), Just(CallPhase::Answered), Just(CallPhase::Held)];
    let note = prop_oneof![Just(CallNote::Ringing), Just(CallNote::Answered)];
    let bridge = vec(1u128..8, 0..3);
    let legs = (vec(leg(), 0..3), vec(1u128..8, 0..2));
    (of(phase), legs, vec(attempt(), 0..3), of(bridge), of(note)).prop_map(
        |(phase, (legs, gone), attempts, bridge, note)| CallChange {
            phase,
            legs,
            legs_gone: gone.into_iter().map(LegId).collect(),
            attempts,
            program: None,
            bridge: bridge.map(|legs| {
                legs.into_iter().map(|leg| (LegId(leg), BridgeRole::Talk)).collect::<BTreeMap<_, _>>()
            }),
            note,
        },
    )
}

fn new_call() -> impl Strategy<Value = NewCall> {
    (call_id(), tenant_id(), node_id(), (party(), party()), time(), change()).prop_map(
        |(id, tenant, owner, (from, to), start, mut change)| {
            change.legs.iter_mut().for_each(|leg| leg.call = id);
            NewCall {
                id,
                interaction: InteractionId(id.0),
                tenant,
                owner,
                direction: CallDirection::Internal,
                from,
                to,
                start,
                program: Program { flow: String::new(), path: vec![] },
                change,
            }
        },
    )
}

fn refused() -> impl Strategy<Value = RefusedCall> {
    (call_id(), tenant_id(), party(), party(), time()).prop_map(|(id, tenant, from, to, start)| RefusedCall {
        id,
        tenant,
        direction: CallDirection::Internal,
        from,
        to,
        start,
        cause: Cause::UnknownNumber,
    })
}

fn token() -> impl Strategy<Value = TokenRecord> {
    (text(), 0u8..3, of(tenant_id())).prop_map(|(id, hash, tenant)| TokenRecord {
        id,
        hash: [hash; 32],
        scope: tenant.map_or(TokenScope::Operator, TokenScope::Tenant),
        created: ClusterTime(0),
    })
}

fn command() -> impl Strategy<Value = Command> {
    let node_epoch = || prop_oneof![9 => Just(NodeEpoch(1)), 1 => Just(NodeEpoch(2))];
    let epoch = || prop_oneof![9 => Just(CallEpoch(1)), 1 => Just(CallEpoch(2))];
    let revision = || prop_oneof![1 => Just(None), 2 => (0u64..60).prop_map(|p| Some(Revision(p)))];
    prop_oneof![
        3 => Just(Command::Tick),
        1 => (0u64..300_000).prop_map(|to| Command::StepTime { to: ClusterTime(to) }),
        1 => (0u16..5).prop_map(|to| Command::RaiseApplyVersion { to }),
        4 => node().prop_map(|node| Command::NodeStarted { node }),
        1 => prop_oneof![1 => node_id(), 9 => Just(NodeId(9))].prop_map(|node| Command::NodeRemoved { node }),
        6 => vec(config_change(), 0..6).prop_map(|changes| Command::Configure { changes }),
        1 => token().prop_map(|token| Command::PutToken { token }),
        1 => text().prop_map(|id| Command::RemoveToken { id }),
        8 => (node_epoch(), binding(), revision())
            .prop_map(|(node_epoch, binding, replaces)| Command::Bind { node_epoch, binding, replaces }),
        4 => (node_epoch(), tenant_id(), number(), key(), 0u64..60).prop_map(|(node_epoch, tenant, number, key, r)| {
            let (revision, reason) = (Revision(r), UnbindReason::Unregistered);
            Command::Unbind { node_epoch, tenant, number, key, revision, reason }
        }),
        8 => (node_epoch(), new_call()).prop_map(|(node_epoch, call)| Command::CreateCall { node_epoch, call }),
        2 => (node_epoch(), new_call(), vec(any::<u8>(), 0..9)).prop_map(|(node_epoch, call, invite)| {
            Command::CreateCallFrom { node_epoch, call, invite: Invite::from(invite.as_slice()) }
        }),
        6 => (call_id(), epoch(), change()).prop_map(|(call, epoch, mut change)| {
            change.legs.iter_mut().skip(1).for_each(|leg| leg.call = call);
            Command::Checkpoint { call, epoch, change }
        }),
        4 => (call_id(), epoch(), change()).prop_map(|(call, epoch, change)| Command::EndCall { call, epoch, change }),
        2 => (node_epoch(), refused()).prop_map(|(node_epoch, refused)| Command::RefuseCall { node_epoch, refused }),
        2 => (call_id(), epoch(), node_id(), change()).prop_map(|(call, epoch, to, mut change)| {
            change.legs.iter_mut().for_each(|leg| leg.call = call);
            Command::MoveCall { call, epoch, to, change }
        }),
        1 => (node_id(), any::<bool>()).prop_map(|(node, on)| Command::Drain { node, on }),
        1 => text().prop_map(|action| Command::Audit { action }),
        4 => (node_epoch(), 0u64..20, prop_oneof![9 => Just(1_800u64), 1 => any::<u64>()])
            .prop_map(|(node_epoch, attempt, lease_ms)| Command::Renew { node_epoch, attempt, lease_ms }),
        4 => (node_epoch(), 0u64..20, 0u64..5, 0u64..60).prop_map(|(node_epoch, attempt, term, position)| {
            let mark = Mark { incarnation: Incarnation(1), process: position, term, position };
            Command::RenewMarked { node_epoch, attempt, lease_ms: 1_800, mark }
        }),
        1 => (of(0u64..3), 0u64..3)
            .prop_map(|(from, to)| Command::UseClusterKey { from: from.map(KeyId), to: KeyId(to) }),
        2 => (node_id(), node_epoch(), 0u64..60)
            .prop_map(|(node, epoch, last_renewal)| Command::ExpireLease { node, epoch, last_renewal }),
        1 => (node_id(), node_epoch(), 1u64..3).prop_map(|(node, epoch, incarnation)| {
            let incarnation = Incarnation(incarnation);
            Command::EndLease { node, epoch, incarnation }
        }),
    ]
}

fn proposal() -> impl Strategy<Value = Proposal> {
    let origin = (node_id(), prop_oneof![120 => Just(1u64), 1 => Just(2u64)], 1u64..200, 0u64..60);
    let key = of((0u8..4, 0u8..2));
    (origin, key, any::<bool>(), command()).prop_map(
        |((node, incarnation, seq, behind), key, token, command)| {
            let command = aimed(command, node, Incarnation(incarnation));
            Proposal {
                origin: Origin {
                    node,
                    incarnation: Incarnation(incarnation),
                    seq,
                    low_water: if behind == 0 { seq } else { 0 },
                },
                principal: if token { Principal::Token("t".into()) } else { Principal::Node(node) },
                idempotency: key
                    .filter(|_| token)
                    .map(|(key, body)| IdempotencyKey { key: key.to_string(), body_hash: [body; 32] }),
                command,
            }
        },
    )
}

/// A command as its proposer could mean it: about itself.
fn aimed(mut command: Command, by: NodeId, incarnation: Incarnation) -> Command {
    match &mut command {
        Command::NodeStarted { node } => {
            (node.id, node.incarnation, node.name) = (by, incarnation, format!("n{by}"));
        }
        Command::Bind { binding, .. } => binding.flow.node = by,
        Command::CreateCall { call, .. } | Command::CreateCallFrom { call, .. } => call.owner = by,
        Command::Tick
        | Command::StepTime { .. }
        | Command::RaiseApplyVersion { .. }
        | Command::NodeRemoved { .. }
        | Command::Configure { .. }
        | Command::PutToken { .. }
        | Command::RemoveToken { .. }
        | Command::Unbind { .. }
        | Command::Checkpoint { .. }
        | Command::EndCall { .. }
        | Command::RefuseCall { .. }
        | Command::Audit { .. }
        | Command::Renew { .. }
        | Command::RenewMarked { .. }
        | Command::UseClusterKey { .. }
        | Command::ExpireLease { .. }
        | Command::EndLease { .. }
        | Command::MoveCall { .. }
        | Command::Drain { .. }
        | Command::Salvage { .. } => {}
    }
    command
}

/// A log that begins with two nodes and two tenants, so that what follows has something to work on.
fn log() -> impl Strategy<Value = Vec<Batch>> {
    let entry = (0u64..150_000, vec(proposal(), 1..5));
    (vec(entry, 1..60), 1u16..=NEWEST_APPLY_VERSION).prop_map(|(entries, rules)| {
        let entries =
            entries.into_iter().map(|(stamp, proposals)| Batch { stamp: ClusterTime(stamp), proposals });
        std::iter::once(genesis()).chain((rules > 1).then(|| rules_raised(rules))).chain(entries).collect()
    })
}

/// Every node says that it can follow these rules, and they are put in force.
fn rules_raised(to: u16) -> Batch {
    let first = genesis().proposals.into_iter();
    let mut proposals: Vec<Proposal> =
        first.filter(|proposal| matches!(proposal.command, Command::NodeStarted { .. })).collect();
    for (proposal, seq) in proposals.iter_mut().zip(2000..) {
        proposal.origin.seq = seq;
        if let Command::NodeStarted { node } = &mut proposal.command {
            node.apply_version = to;
        }
    }
    let mut raise = proposals[0].clone();
    (raise.origin.seq, raise.command) = (2100, Command::RaiseApplyVersion { to });
    proposals.push(raise);
    Batch { stamp: ClusterTime(1500), proposals }
}

fn genesis() -> Batch {
    let text = include_str!("../../tests/data/state/log-v1.jsonl");
    let mut proposals: Vec<Proposal> = text
        .lines()
        .take(2)
        .flat_map(|line| serde_json::from_str::<Batch>(line).unwrap().proposals)
        .collect();
    for (proposal, seq) in proposals.iter_mut().zip(1000..) {
        proposal.origin.seq = seq;
        proposal.origin.low_water = 0;
    }
    Batch { stamp: ClusterTime(1000), proposals }
}

fn replay(log: &[Batch]) -> (State, Vec<Applied>) {
    let mut state = State::default();
    let applied =
        log.iter().zip(1..).map(|(entry, position)| state.apply_unchecked(position, entry)).collect();
    (state, applied)
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn invariants_hold_after_every_entry(log in log()) {
        let mut state = State::default();
        for (entry, position) in log.iter().zip(1..) {
            let time = state.time;
            let applied = state.apply_unchecked(position, entry);
            prop_assert_eq!(state.check_invariants(), Ok(()));
            prop_assert_eq!(applied.outcomes.len(), entry.proposals.len());
            prop_assert!(state.time >= time);
        }
    }

    #[test]
    fn a_replica_that_comes_back_by_any_snapshot_is_equal_to_the_end(log in log(), at: prop::sample::Index) {
        let at = at.index(log.len());
        let (state, applied) = replay(&log);
        let (early, _) = replay(&log[..at]);
        let mut late = State::decode_snapshot(&early.encode_snapshot()).unwrap();
        prop_assert_eq!(&late, &early);
        for ((entry, position), expected) in log.iter().zip(1..).zip(&applied).skip(at) {
            prop_assert_eq!(&late.apply_unchecked(position, entry), expected);
        }
        prop_assert_eq!(late.hash(), state.hash());
        prop_assert_eq!(late, state);
    }

    #[test]
    fn a_retried_entry_changes_nothing_but_the_position(log in log()) {
        let mut state = State::default();
        for (entry, position) in log.iter().zip(1..) {
            let first = state.apply_unchecked(2 * position, entry);
            // Those are compare-and-set, and tried anew whenever they come.
            if entry.proposals.iter().any(|proposal| proposal.command.is_of_leases()) {
                continue;
            }
            let before = state.clone();
            let again = state.apply_unchecked(2 * position + 1, entry);
            prop_assert_eq!(&again.archive, &Vec::new());
            prop_assert_eq!(&again.events, &Vec::new());
            for (first, again) in first.outcomes.iter().zip(&again.outcomes) {
                let gone = matches!(
                    again,
                    Err(Refusal::OutcomeForgotten | Refusal::StaleIncarnation | Refusal::LimitReached { .. })
                );
                prop_assert!(first == again || gone, "{:?} then {:?}", first, again);
            }
            prop_assert_eq!((&state.calls, &state.bindings), (&before.calls, &before.bindings));
            prop_assert_eq!((&state.tenants, &state.tokens), (&before.tenants, &before.tokens));
        }
    }

    #[test]
    fn the_archive_has_no_gap_and_its_chain_is_that_of_the_state(log in log()) {
        let (state, applied) = replay(&log);
        let mut heads: BTreeMap<Stream, StreamHead> = BTreeMap::new();
        for record in applied.iter().flat_map(|applied| &applied.archive) {
            let head = heads.entry(record.stream).or_default();
            prop_assert_eq!(record.seq, head.count);
            head.extend(record);
        }
        prop_assert_eq!(heads, state.streams.iter().map(|(stream, head)| (*stream, *head)).collect());
    }

    #[test]
    fn events_are_in_order_and_each_is_archived(log in log()) {
        let (_, applied) = replay(&log);
        let mut last = None;
        for applied in &applied {
            let archived = applied.archive.iter().filter(|record| record.stream == Stream::Events).count();
            prop_assert_eq!(archived, applied.events.len());
            for event in &applied.events {
                prop_assert!(Some(event.id) > last);
                last = Some(event.id);
            }
        }
    }
}
