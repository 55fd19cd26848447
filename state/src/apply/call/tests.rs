use std::collections::BTreeMap;

use crate::bounds::*;
use crate::command::Command;
use crate::fixture::*;
use crate::*;

fn outcome(state: &mut State, seq: u64, command: Command) -> Outcome {
    run(state, propose(1, seq, command)).outcomes.remove(0)
}

fn with_legs(legs: Vec<LegRecord>) -> CallChange {
    CallChange { legs, ..CallChange::default() }
}

#[test]
fn a_created_call_is_in_the_table_with_its_legs_and_announced() {
    let mut state = started();
    let change = CallChange { legs: vec![leg(7, 1)], attempts: vec![attempt(1)], ..CallChange::default() };
    let applied = run_at(&mut state, 9000, propose(1, 90, create_call_with(1, change)));
    assert_eq!(applied.outcomes, [Ok(Reply::Created(CallEpoch(1)))]);
    let names: Vec<&str> = applied.events.iter().map(|e| e.kind.name()).collect();
    assert_eq!(names, ["call.created"]);
    let call = &state.calls[&CallId(1)];
    assert_eq!((call.phase, call.start, call.answer), (CallPhase::Trying, ClusterTime(9000), None));
    assert_eq!(call.legs.iter().collect::<Vec<_>>(), [&LegId(7)]);
    assert_eq!(state.legs[&LegId(7)], leg(7, 1));
    assert_eq!(state.usage[&TenantId(1)].calls, 1);
}

#[test]
fn a_start_after_the_stamp_is_moved_to_it() {
    let mut state = started();
    let Command::CreateCall { node_epoch, mut call } = create_call(1) else { panic!("no CreateCall") };
    call.start = ClusterTime(999_999);
    run_at(&mut state, 9000, propose(1, 90, Command::CreateCall { node_epoch, call }));
    assert_eq!(state.calls[&CallId(1)].start, ClusterTime(9000));
}

#[test]
fn the_limit_of_calls_refuses_and_is_an_event() {
    let mut state = started();
    run(&mut state, propose(1, 80, configure(vec![limited("acme", Some(1), None)])));
    assert!(outcome(&mut state, 90, create_call(1)).is_ok());
    let applied = run(&mut state, propose(1, 91, create_call(3)));
    assert_eq!(applied.outcomes, [Err(Refusal::LimitReached { name: "calls".into(), limit: 1 })]);
    assert_eq!(applied.events[0].kind, EventKind::LimitHit("calls".into()));
    assert!(outcome(&mut state, 92, end_call(1, CallChange::default())).is_ok());
    assert!(outcome(&mut state, 93, create_call(3)).is_ok());
}

#[test]
fn a_call_or_leg_id_that_is_taken_is_refused() {
    let mut state = started();
    let first = create_call_with(1, with_legs(vec![leg(7, 1)]));
    assert!(outcome(&mut state, 90, first.clone()).is_ok());
    let taken = Refusal::Exists("call 00000000000000000000000000000001".into());
    assert_eq!(outcome(&mut state, 91, first), Err(taken));
    let second = create_call_with(3, with_legs(vec![leg(7, 3)]));
    let taken = Refusal::Exists("leg 00000000000000000000000000000007".into());
    assert_eq!(outcome(&mut state, 92, second), Err(taken));
    assert_eq!(state.calls.len(), 1);
}

#[test]
fn a_checkpoint_puts_legs_attempts_phase_and_bridge_in_place() {
    let mut state = started();
    run_at(&mut state, 9000, propose(1, 90, create_call_with(1, with_legs(vec![leg(7, 1)]))));
    let mut answered = attempt(1);
    answered.answer = Some(ClusterTime(9500));
    let bridge = BTreeMap::from([(LegId(7), BridgeRole::Talk), (LegId(8), BridgeRole::Talk)]);
    let change = CallChange {
        phase: Some(CallPhase::Answered),
        legs: vec![leg(8, 1)],
        attempts: vec![answered],
        bridge: Some(bridge.clone()),
        note: Some(CallNote::Answered),
        ..CallChange::default()
    };
    let applied = run_at(&mut state, 9600, propose(1, 91, checkpoint(1, change)));
    let names: Vec<&str> = applied.events.iter().map(|e| e.kind.name()).collect();
    assert_eq!((applied.outcomes, names), (vec![Ok(Reply::Done)], vec!["call.answered"]));
    let call = &state.calls[&CallId(1)];
    assert_eq!((call.phase, call.answer), (CallPhase::Answered, Some(ClusterTime(9500))));
    assert_eq!((&call.bridge, state.legs.len()), (&bridge, 2));

    let gone = CallChange { legs_gone: vec![LegId(8), LegId(99)], ..CallChange::default() };
    assert_eq!(outcome(&mut state, 92, checkpoint(1, gone)), Ok(Reply::Done));
    let call = &state.calls[&CallId(1)];
    assert_eq!(call.bridge.keys().collect::<Vec<_>>(), [&LegId(7)]);
    assert_eq!(state.legs.keys().collect::<Vec<_>>(), [&LegId(7)]);
}

#[test]
fn a_refused_change_changes_nothing() {
    let mut state = started();
    run(&mut state, propose(1, 90, create_call_with(1, with_legs(vec![leg(7, 1)]))));
    let before = (state.calls.clone(), state.legs.clone());
    let bridge = Some(BTreeMap::from([(LegId(55), BridgeRole::Talk)]));
    let long = LegRecord {
        media: MediaRecord { local_sdp: "v".repeat(SDP_MAX + 1), ..MediaRecord::default() },
        ..leg(9, 1)
    };
    let changes = [
        CallChange { legs: vec![leg(8, 1)], bridge, ..CallChange::default() },
        CallChange { legs: vec![leg(8, 1), leg(9, 2)], ..CallChange::default() },
        CallChange { legs: vec![leg(8, 1), long], ..CallChange::default() },
        CallChange { legs: vec![leg(8, 1)], attempts: vec![attempt(0)], ..CallChange::default() },
        CallChange {
            legs: vec![leg(8, 1)],
            attempts: vec![attempt(ATTEMPTS_MAX + 1)],
            ..CallChange::default()
        },
        with_legs((100..100 + LEGS_MAX as u128).map(|id| leg(id, 1)).collect()),
    ];
    for (n, change) in changes.into_iter().enumerate() {
        let refused = outcome(&mut state, 91 + n as u64, checkpoint(1, change));
        assert!(matches!(refused, Err(Refusal::Invalid { .. } | Refusal::LimitReached { .. })), "{n}");
        assert_eq!((state.calls.clone(), state.legs.clone()), before, "{n}");
    }
}

#[test]
fn only_the_owner_under_the_current_epoch_may_change_or_end_a_call() {
    let mut state = started();
    run(&mut state, propose(1, 90, create_call(1)));
    let stale = Refusal::StaleCallEpoch { owner: NodeId(1), epoch: CallEpoch(1) };
    let foreign = run(&mut state, propose(2, 90, end_call(1, CallChange::default()))).outcomes;
    assert_eq!(foreign, [Err(stale.clone())]);
    let change = CallChange::default();
    let old = Command::Checkpoint { call: CallId(1), epoch: CallEpoch(2), change };
    assert_eq!(outcome(&mut state, 91, old), Err(stale));
    assert_eq!(outcome(&mut state, 92, checkpoint(2, CallChange::default())), Err(Refusal::NoCall));
}

#[test]
fn an_ended_call_leaves_no_rows() {
    let mut state = started();
    run(&mut state, propose(1, 90, create_call_with(1, with_legs(vec![leg(7, 1)]))));
    let change = CallChange {
        attempts: vec![attempt(1)],
        note: Some(CallNote::Ringing),
        ..with_legs(vec![leg(8, 1)])
    };
    let applied = run(&mut state, propose(1, 91, end_call(1, change)));
    assert_eq!(applied.outcomes, [Ok(Reply::Ended(1))]);
    let names: Vec<&str> = applied.events.iter().map(|e| e.kind.name()).collect();
    assert_eq!(names, ["call.ringing", "call.ended"]);
    assert!(state.calls.is_empty() && state.legs.is_empty() && state.usage.is_empty());
    assert_eq!(outcome(&mut state, 92, end_call(1, CallChange::default())), Err(Refusal::NoCall));
}

#[test]
fn overlong_names_of_parties_are_cut_at_a_character() {
    let mut state = started();
    let Command::CreateCall { node_epoch, mut call } = create_call(1) else { panic!("no CreateCall") };
    call.from = Party { number: "é".repeat(100), name: "n".repeat(500) };
    assert!(outcome(&mut state, 90, Command::CreateCall { node_epoch, call }).is_ok());
    let from = &state.calls[&CallId(1)].from;
    assert_eq!((from.number.len(), from.name.len()), (PARTY_NUMBER_MAX, SHOWN_NAME_MAX));
}

#[test]
fn a_call_under_a_stale_node_epoch_or_for_another_owner_is_refused() {
    let mut state = started();
    let Command::CreateCall { call, .. } = create_call(1) else { panic!("no CreateCall") };
    let stale = Command::CreateCall { node_epoch: NodeEpoch(9), call: call.clone() };
    assert_eq!(outcome(&mut state, 90, stale), Err(Refusal::StaleNodeEpoch { current: NodeEpoch(1) }));
    let foreign = NewCall { owner: NodeId(2), ..call.clone() };
    let foreign = Command::CreateCall { node_epoch: NodeEpoch(1), call: foreign };
    assert!(matches!(outcome(&mut state, 91, foreign), Err(Refusal::Invalid { .. })));
    let nobody = NewCall { tenant: TenantId(8), ..call };
    let nobody = Command::CreateCall { node_epoch: NodeEpoch(1), call: nobody };
    assert_eq!(outcome(&mut state, 92, nobody), Err(Refusal::NoTenant("8".into())));
}
