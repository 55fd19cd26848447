use crate::command::{Command, Proposal};
use crate::fixture::*;
use crate::*;

fn risen(id: u64, incarnation: u64) -> Proposal {
    risen_with(2, id, incarnation)
}

fn risen_with(apply_version: u16, id: u64, incarnation: u64) -> Proposal {
    let node = NodeRecord { incarnation: Incarnation(incarnation), apply_version, ..node(id) };
    as_incarnation(incarnation, propose(id, 1, Command::NodeStarted { node }))
}

fn as_incarnation(incarnation: u64, mut proposal: Proposal) -> Proposal {
    proposal.origin.incarnation = Incarnation(incarnation);
    proposal
}

fn names(applied: &Applied) -> Vec<&'static str> {
    applied.events.iter().map(|event| event.kind.name()).collect()
}

fn lease(state: &State, node: u64) -> LeaseRecord {
    state.leases[&NodeId(node)]
}

#[test]
fn before_the_rules_are_raised_there_are_no_leases() {
    let mut state = started();
    let refused = Refusal::NotInForce { needs: 2, current: 1 };
    for command in [renew(1, 1), expire(2, 1, 0), end_lease(1, 1, 1)] {
        assert_eq!(run(&mut state, propose(1, 90, command)).outcomes, [Err(refused.clone())]);
    }
    assert!(state.leases.is_empty());
    assert!(run(&mut state, propose(1, 91, create_call(1))).outcomes[0].is_ok());
}

#[test]
fn raised_rules_give_each_member_a_lease_that_can_expire() {
    let mut state = started();
    for id in [1, 2] {
        let node = NodeRecord { apply_version: 2, ..node(id) };
        run(&mut state, propose(id, 70, Command::NodeStarted { node }));
    }
    let applied = run_at(&mut state, 2_000, propose(1, 71, Command::RaiseApplyVersion { to: 2 }));
    assert_eq!((applied.outcomes, applied.events), (vec![Ok(Reply::Done)], vec![]));
    let (last_renewal, renewed) = (state.position, ClusterTime(2_000));
    let given = LeaseRecord { stands: true, last_renewal, attempt: 0, renewed, lease_ms: 5_000 };
    assert_eq!((lease(&state, 1), lease(&state, 2)), (given, given));
    let applied = run(&mut state, propose(1, 0, expire(2, 1, last_renewal)));
    assert_eq!(names(&applied), ["node.down"]);
}

#[test]
fn a_renewal_is_kept_with_its_place_and_says_nothing() {
    let mut state = leased();
    let applied = run_at(&mut state, 2_400, propose(1, 0, renew(1, 2)));
    assert_eq!(applied, Applied { outcomes: vec![Ok(Reply::Done)], ..Applied::default() });
    let renewed = ClusterTime(2_400);
    let expected = LeaseRecord { stands: true, last_renewal: 5, attempt: 2, renewed, lease_ms: 1_800 };
    assert_eq!(lease(&state, 1), expected);
}

#[test]
fn renewals_leave_the_window_of_outcomes_alone() {
    let mut state = leased();
    let before = state.windows.clone();
    for attempt in 2..5 {
        run(&mut state, propose(1, 71, renew(1, attempt)));
    }
    assert_eq!((lease(&state, 1).attempt, &state.windows), (4, &before));
}

#[test]
fn an_attempt_that_comes_again_or_late_renews_nothing() {
    let mut state = leased();
    run(&mut state, propose(1, 0, renew(1, 3)));
    let kept = lease(&state, 1);
    for attempt in [3, 2] {
        let refused = Err(Refusal::StaleAttempt { last: 3 });
        assert_eq!(run(&mut state, propose(1, 0, renew(1, attempt))).outcomes, [refused]);
    }
    assert_eq!(lease(&state, 1), kept);
}

#[test]
fn only_the_present_process_renews_under_the_present_epoch_and_within_bounds() {
    let mut state = leased();
    let stale = Refusal::StaleNodeEpoch { current: NodeEpoch(1) };
    assert_eq!(run(&mut state, propose(1, 0, renew(2, 2))).outcomes, [Err(stale)]);
    for (node, incarnation) in [(1, 2), (1, 0), (9, 1)] {
        let outcome = run(&mut state, as_incarnation(incarnation, propose(node, 0, renew(1, 2)))).outcomes;
        assert!(outcome[0].is_err(), "{node} {incarnation}");
    }
    for lease_ms in [0, 60_001] {
        let command = Command::Renew { node_epoch: NodeEpoch(1), attempt: 2, lease_ms };
        let outcome = run(&mut state, propose(1, 0, command)).outcomes;
        assert!(matches!(outcome[0], Err(Refusal::Invalid { .. })));
    }
    assert_eq!(lease(&state, 1).attempt, 1);
}

#[test]
fn an_expired_node_is_down_its_calls_end_with_its_lease_and_its_connections_are_gone() {
    let mut state = leased();
    run_at(&mut state, 2_100, propose(1, 80, bind("101", 1)));
    run_at(&mut state, 2_100, propose(1, 81, bind_tcp("102", 1)));
    let mut change = CallChange { attempts: vec![attempt(1)], ..CallChange::default() };
    change.attempts[0].answer = Some(ClusterTime(2_100));
    run_at(&mut state, 2_100, propose(1, 82, create_call_with(1, change)));
    run_at(&mut state, 2_100, propose(2, 80, create_call(2)));
    let applied = run_at(&mut state, 60_000, propose(2, 0, expire(1, 1, 4)));
    assert_eq!(applied.outcomes, [Ok(Reply::Done)]);
    assert_eq!(names(&applied), ["node.down", "call.ended", "registration.removed"]);
    let down = NodeRecord { epoch: NodeEpoch(2), apply_version: 2, ..node(1) };
    assert_eq!(applied.events[0].kind, EventKind::NodeDown(Box::new(down), LeaseEnd::Expired));
    let cdr = cdrs(&applied).pop().unwrap();
    assert_eq!((cdr.cause, cdr.end, cdr.billed_s), (Cause::NodeLost, ClusterTime(3_800), 2));
    assert_eq!(state.calls.keys().collect::<Vec<_>>(), [&CallId(2)]);
    assert_eq!(state.bindings.values().map(|b| b.spec.number.as_str()).collect::<Vec<_>>(), ["101"]);
    assert!(!lease(&state, 1).stands && lease(&state, 2).stands);
}

#[test]
fn a_lease_that_was_renewed_meanwhile_does_not_expire() {
    let mut state = leased();
    run(&mut state, propose(1, 0, renew(1, 2)));
    let refused = Refusal::LeaseRenewed { last_renewal: 5 };
    assert_eq!(run(&mut state, propose(2, 0, expire(1, 1, 4))).outcomes, [Err(refused)]);
    assert!(lease(&state, 1).stands);
}

#[test]
fn a_lease_ends_once() {
    let mut state = leased();
    run(&mut state, propose(2, 0, expire(1, 1, 4)));
    let stale = Refusal::StaleNodeEpoch { current: NodeEpoch(2) };
    for command in [expire(1, 1, 4), end_lease(1, 1, 1), renew(1, 2)] {
        assert_eq!(run(&mut state, propose(1, 0, command)).outcomes, [Err(stale.clone())]);
    }
    let none = Refusal::NoLease { epoch: NodeEpoch(2) };
    for command in [expire(1, 2, 4), end_lease(1, 2, 1)] {
        assert_eq!(run(&mut state, propose(2, 0, command)).outcomes, [Err(none.clone())]);
    }
}

#[test]
fn a_fenced_node_does_nothing_until_it_holds_a_lease_under_its_new_epoch() {
    let mut state = leased();
    run(&mut state, propose(1, 80, create_call(1)));
    run(&mut state, propose(2, 0, expire(1, 1, 4)));
    let stale = Refusal::StaleNodeEpoch { current: NodeEpoch(2) };
    assert_eq!(run(&mut state, propose(1, 81, bind("101", 1))).outcomes, [Err(stale)]);
    let Command::Bind { binding, replaces, .. } = bind("101", 1) else { panic!() };
    let anew = Command::Bind { node_epoch: NodeEpoch(2), binding, replaces };
    let none = Refusal::NoLease { epoch: NodeEpoch(2) };
    assert_eq!(run(&mut state, propose(1, 82, anew.clone())).outcomes, [Err(none)]);
    let applied = run(&mut state, propose(1, 0, renew(2, 2)));
    assert_eq!((applied.outcomes.clone(), names(&applied)), (vec![Ok(Reply::Done)], vec!["node.up"]));
    assert!(run(&mut state, propose(1, 83, anew)).outcomes[0].is_ok());
}

#[test]
fn a_goodbye_or_a_proof_of_death_ends_a_lease_whatever_was_renewed() {
    for (by, why) in [(1, LeaseEnd::Goodbye), (2, LeaseEnd::Died)] {
        let mut state = leased();
        run(&mut state, propose(1, 0, renew(1, 2)));
        let applied = run(&mut state, propose(by, 0, end_lease(1, 1, 1)));
        let down = NodeRecord { epoch: NodeEpoch(2), apply_version: 2, ..node(1) };
        assert_eq!(applied.events[0].kind, EventKind::NodeDown(Box::new(down), why));
    }
}

#[test]
fn proof_that_another_incarnation_ended_ends_nothing() {
    let mut state = leased();
    let outcome = run(&mut state, propose(2, 0, end_lease(1, 1, 2))).outcomes;
    assert_eq!(outcome, [Err(Refusal::StaleIncarnation)]);
    assert!(lease(&state, 1).stands);
}

#[test]
fn nobody_who_is_no_member_ends_a_lease() {
    let mut state = leased();
    for command in [expire(1, 1, 4), end_lease(1, 1, 1)] {
        assert!(run(&mut state, propose(9, 0, command)).outcomes[0].is_err());
    }
    let of_nobody = run(&mut state, propose(1, 0, expire(9, 1, 4))).outcomes;
    assert!(matches!(of_nobody[0], Err(Refusal::Invalid { .. })));
    assert!(lease(&state, 1).stands);
}

#[test]
fn a_higher_incarnation_ends_the_former_lease_and_is_up_with_its_first_renewal() {
    let mut state = leased();
    run_at(&mut state, 2_100, propose(1, 80, create_call(1)));
    let applied = run_at(&mut state, 2_500, risen(1, 2));
    assert_eq!(names(&applied), ["node.down", "call.ended"]);
    assert!(matches!(applied.events[0].kind, EventKind::NodeDown(_, LeaseEnd::Restarted)));
    assert_eq!(state.nodes[&NodeId(1)].epoch, NodeEpoch(2));
    assert_eq!(lease(&state, 1), LeaseRecord::default());
    let applied = run(&mut state, as_incarnation(2, propose(1, 0, renew(2, 1))));
    assert_eq!(names(&applied), ["node.up"]);
}

#[test]
fn a_node_that_starts_after_its_lease_ended_loses_nothing_twice() {
    let mut state = leased();
    run(&mut state, propose(1, 0, end_lease(1, 1, 1)));
    let applied = run(&mut state, risen(1, 2));
    assert_eq!((names(&applied), state.nodes[&NodeId(1)].epoch), (vec![], NodeEpoch(2)));
}

#[test]
fn the_same_incarnation_said_again_keeps_its_lease() {
    let mut state = leased();
    let kept = lease(&state, 1);
    assert_eq!(names(&run(&mut state, risen(1, 1))), Vec::<&str>::new());
    assert_eq!((lease(&state, 1), state.nodes[&NodeId(1)].epoch), (kept, NodeEpoch(1)));
}

#[test]
fn a_removed_node_has_no_lease() {
    let mut state = leased();
    run(&mut state, propose(2, 90, Command::NodeRemoved { node: NodeId(1) }));
    assert_eq!(state.leases.keys().collect::<Vec<_>>(), [&NodeId(2)]);
}

fn marked_renewal(attempt: u64, mark: Mark) -> Command {
    Command::RenewMarked { node_epoch: NodeEpoch(1), attempt, lease_ms: 1_800, mark }
}

#[test]
fn a_renewal_says_how_far_the_disk_is_and_what_was_said_is_never_taken_back() {
    let mut state = marked();
    let said = |term, position| Mark { incarnation: Incarnation(9), process: 2, term, position };
    let kept = |term, position| Mark { incarnation: Incarnation(1), ..said(term, position) };
    let position = state.position;
    let steps = [
        (2, said(3, 5), kept(3, 5)),
        (3, said(4, 6), kept(4, 6)),
        (4, said(1, 2), kept(4, 6)),
        (5, said(4, 1_000), kept(4, position + 4)),
    ];
    for (attempt, said, kept) in steps {
        let applied = run(&mut state, propose(1, 0, marked_renewal(attempt, said)));
        assert_eq!(applied.outcomes, [Ok(Reply::Done)]);
        assert_eq!((state.marks[&NodeId(1)], lease(&state, 1).attempt), (kept, attempt));
    }
    let late = run(&mut state, propose(1, 0, marked_renewal(5, said(9, 9))));
    assert_eq!(late.outcomes, [Err(Refusal::StaleAttempt { last: 5 })]);
    assert_eq!(state.marks[&NodeId(1)], kept(4, position + 4));
    run(&mut state, propose(2, 90, Command::NodeRemoved { node: NodeId(1) }));
    assert!(state.marks.is_empty());
}

/// [`leased`] under the rules since which fences are told.
fn fencing() -> State {
    let mut state = leased();
    raise(&mut state, 5);
    state
}

#[test]
fn a_node_whose_lease_ran_out_is_fenced_and_returns_as_the_same_process() {
    let mut state = fencing();
    let applied = run(&mut state, propose(2, 0, expire(1, 1, 4)));
    assert_eq!(names(&applied), ["node.fenced", "node.down"]);
    let former = NodeRecord { apply_version: 5, ..node(1) };
    assert_eq!(applied.events[0].kind, EventKind::NodeFenced(Box::new(former), LeaseEnd::Expired));
    let applied = run(&mut state, propose(1, 0, renew(2, 2)));
    assert_eq!(names(&applied), ["node.up", "node.returned"]);
    let returned = NodeRecord { epoch: NodeEpoch(2), apply_version: 5, ..node(1) };
    assert_eq!(applied.events[1].kind, EventKind::NodeReturned(Box::new(returned), false));
    assert_eq!(names(&run(&mut state, propose(1, 0, renew(2, 3)))), Vec::<&str>::new());
}

#[test]
fn a_node_whose_process_is_known_to_have_ended_is_not_fenced_and_returns_as_another() {
    let ends = [propose(1, 0, end_lease(1, 1, 1)), propose(2, 0, end_lease(1, 1, 1)), risen_with(5, 1, 2)];
    for end in ends {
        let mut state = fencing();
        assert_eq!(names(&run(&mut state, end)), ["node.down"]);
        run(&mut state, risen_with(5, 1, 3));
        let applied = run(&mut state, as_incarnation(3, propose(1, 0, renew(2, 1))));
        assert_eq!(names(&applied), ["node.up", "node.returned"]);
        assert!(matches!(applied.events[1].kind, EventKind::NodeReturned(_, true)));
    }
}

#[test]
fn a_fenced_node_that_starts_anew_returns_as_another_process() {
    let mut state = fencing();
    run(&mut state, propose(2, 0, expire(1, 1, 4)));
    run(&mut state, risen_with(5, 1, 2));
    let applied = run(&mut state, as_incarnation(2, propose(1, 0, renew(2, 1))));
    assert!(matches!(applied.events[1].kind, EventKind::NodeReturned(_, true)));
}

#[test]
fn the_lease_that_came_with_the_rules_is_no_new_process() {
    let mut state = started();
    raise(&mut state, 5);
    let given = state.position;
    run(&mut state, propose(2, 0, expire(1, 1, given)));
    let applied = run(&mut state, propose(1, 0, renew(2, 1)));
    assert!(matches!(applied.events[1].kind, EventKind::NodeReturned(_, false)));
}

#[test]
fn a_node_that_holds_its_first_lease_has_not_returned() {
    let mut state = fencing();
    run(&mut state, risen_with(5, 3, 1));
    assert_eq!(names(&run(&mut state, propose(3, 0, renew(1, 1)))), ["node.up"]);
}
