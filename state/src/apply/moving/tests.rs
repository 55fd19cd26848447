use crate::command::Command;
use crate::event::Move;
use crate::fixture::*;
use crate::*;

/// Nodes 1 (east), 2 (east) and 3 (west) with leases, under the rules by which calls move.
fn three() -> State {
    three_under(4)
}

fn three_under(rules: u16) -> State {
    let mut state = marked();
    for id in [1, 2, 3] {
        let mut record = NodeRecord { apply_version: rules, ..node(id) };
        if id == 3 {
            record.site = "west".into();
        }
        run(&mut state, propose(id, 85, Command::NodeStarted { node: record }));
        run(&mut state, propose(id, 0, renew(1, 9)));
    }
    let raised = run(&mut state, propose(1, 86, Command::RaiseApplyVersion { to: rules }));
    assert_eq!(raised.outcomes, [Ok(Reply::Done)]);
    state
}

/// A call of node 1 (or 2) between two legs that was answered.
fn talking(state: &mut State, id: u64) {
    let node = if id == 2 { 2 } else { 1 };
    run(state, propose(node, 100 + 2 * id, create_call(id)));
    let (one, other) =
        (leg(u128::from(id) + 1000, u128::from(id)), leg(u128::from(id) + 2000, u128::from(id)));
    let bridge = [(one.id, BridgeRole::Talk), (other.id, BridgeRole::Talk)].into();
    let change = CallChange {
        phase: Some(CallPhase::Answered),
        legs: vec![one, other],
        attempts: vec![Attempt { answer: Some(ClusterTime(1500)), ..attempt(1) }],
        bridge: Some(bridge),
        ..CallChange::default()
    };
    let applied = run(state, propose(node, 101 + 2 * id, checkpoint(u128::from(id), change)));
    assert_eq!(applied.outcomes, [Ok(Reply::Done)]);
}

fn died(state: &mut State, node: u64) -> Applied {
    let by = if node == 3 { 2 } else { 3 };
    run(state, propose(by, 0, end_lease(node, 1, 1)))
}

fn moves(applied: &Applied) -> Vec<(u64, u64, Move)> {
    let of = |event: &Event| match &event.kind {
        EventKind::CallMoved(facts, moved) => {
            Some((u64::try_from(facts.id.0).unwrap(), facts.node.0, *moved))
        }
        _ => None,
    };
    applied.events.iter().filter_map(of).collect()
}

fn moved(epoch: u64, is_proven: bool) -> Move {
    Move { from: NodeId(1), epoch: CallEpoch(epoch), is_proven }
}

#[test]
fn an_answered_call_goes_on_at_a_node_of_the_same_site_and_one_that_rings_ends() {
    let mut state = three();
    talking(&mut state, 1);
    run(&mut state, propose(1, 90, create_call(4)));
    let applied = died(&mut state, 1);
    assert_eq!(moves(&applied), [(1, 2, moved(2, true))]);
    let ended: Vec<_> = cdrs(&applied).into_iter().map(|cdr| (cdr.call, cdr.cause)).collect();
    assert_eq!(ended, [(CallId(4), Cause::NodeLost)]);
    let call = &state.calls[&CallId(1)];
    assert_eq!((call.owner, call.epoch, call.legs.len()), (NodeId(2), CallEpoch(2), 2));
    assert_eq!(state.usage[&TenantId(1)].calls, 1);
}

#[test]
fn calls_are_spread_by_load_and_over_sites_only_when_their_own_has_nobody() {
    let mut state = three();
    for id in [1, 3, 4] {
        talking(&mut state, id);
    }
    died(&mut state, 2);
    assert_eq!(moves(&died(&mut state, 1)).into_iter().map(|(_, to, _)| to).collect::<Vec<_>>(), [3, 3, 3]);
    let mut state = three();
    for id in [1, 3, 4] {
        talking(&mut state, id);
    }
    state.nodes.get_mut(&NodeId(1)).unwrap().site = "north".into();
    assert_eq!(moves(&died(&mut state, 1)).into_iter().map(|(_, to, _)| to).collect::<Vec<_>>(), [2, 3, 2]);
}

#[test]
fn nothing_that_the_former_owner_still_proposes_is_taken_and_the_successor_ends_the_call() {
    let mut state = three();
    talking(&mut state, 1);
    died(&mut state, 1);
    let stale = Refusal::StaleCallEpoch { owner: NodeId(2), epoch: CallEpoch(2) };
    for command in [checkpoint(1, CallChange::default()), end_call(1, CallChange::default())] {
        let seq = 300 + state.position;
        assert_eq!(run(&mut state, propose(1, seq, command)).outcomes, [Err(stale.clone())]);
    }
    let end = Command::EndCall { call: CallId(1), epoch: CallEpoch(2), change: CallChange::default() };
    let cdr = cdrs(&run_at(&mut state, 9_500, propose(2, 300, end))).remove(0);
    assert_eq!((cdr.node, cdr.epoch, cdr.billed_s), (NodeId(2), CallEpoch(2), 8));
}

#[test]
fn a_lease_that_only_expired_proves_nothing() {
    let mut state = three();
    talking(&mut state, 1);
    let last_renewal = state.leases[&NodeId(1)].last_renewal;
    let applied = run(&mut state, propose(2, 0, expire(1, 1, last_renewal)));
    assert_eq!(moves(&applied), [(1, 2, moved(2, false))]);
}

#[test]
fn a_witness_a_node_without_a_lease_and_older_rules_take_no_call() {
    let mut state = three();
    talking(&mut state, 1);
    state.nodes.get_mut(&NodeId(2)).unwrap().role = Role::Witness;
    died(&mut state, 3);
    assert_eq!(cdrs(&run(&mut state, propose(2, 0, end_lease(1, 1, 1)))).len(), 1);
    let mut state = three();
    state.apply_version = 3;
    talking(&mut state, 1);
    let applied = died(&mut state, 1);
    assert_eq!((moves(&applied), cdrs(&applied).len()), (vec![], 1));
}

#[test]
fn a_call_survives_one_node_after_the_other() {
    let mut state = three();
    talking(&mut state, 1);
    died(&mut state, 1);
    let twice = Move { from: NodeId(2), epoch: CallEpoch(3), is_proven: true };
    assert_eq!(moves(&died(&mut state, 2)), [(1, 3, twice)]);
}

fn hand_over(call: u128, to: u64) -> Command {
    Command::MoveCall {
        call: CallId(call),
        epoch: CallEpoch(1),
        to: NodeId(to),
        change: CallChange::default(),
    }
}

#[test]
fn an_owner_hands_a_call_that_talks_to_a_node_that_takes_calls_and_to_no_other() {
    let mut state = three();
    talking(&mut state, 1);
    run(&mut state, propose(1, 190, create_call(4)));
    let refused =
        |state: &mut State, seq, command| run(state, propose(1, seq, command)).outcomes.remove(0).is_err();
    assert!(refused(&mut state, 191, hand_over(1, 1)) && refused(&mut state, 192, hand_over(1, 9)));
    assert!(refused(&mut state, 193, hand_over(4, 2)), "it rings");
    run(&mut state, propose(1, 194, Command::Drain { node: NodeId(2), on: true }));
    assert!(refused(&mut state, 195, hand_over(1, 2)), "it is being emptied");
    assert!(run(&mut state, propose(2, 190, hand_over(1, 3))).outcomes[0].is_err(), "not its owner");
    let applied = run(&mut state, propose(1, 196, hand_over(1, 3)));
    assert_eq!(moves(&applied), [(1, 3, moved(2, true))]);
}

#[test]
fn a_node_that_is_emptied_gets_no_calls_until_it_is_a_new_process_or_told_otherwise() {
    let mut state = three();
    let drain = |on| Command::Drain { node: NodeId(2), on };
    let names = |applied: Applied| applied.events.iter().map(|event| event.kind.name()).collect::<Vec<_>>();
    assert_eq!(names(run(&mut state, propose(1, 190, drain(true)))), ["node.draining"]);
    assert_eq!(names(run(&mut state, propose(1, 191, drain(true)))), [""; 0]);
    assert_eq!(state.successor(NodeId(1)), Some(NodeId(3)));
    assert_eq!(names(run(&mut state, propose(1, 192, drain(false)))), ["node.undrained"]);
    assert_eq!(state.successor(NodeId(1)), Some(NodeId(2)));
    run(&mut state, propose(1, 193, drain(true)));
    let record = NodeRecord { incarnation: Incarnation(2), apply_version: 4, ..node(2) };
    let mut risen = propose(2, 1, Command::NodeStarted { node: record });
    risen.origin.incarnation = Incarnation(2);
    run(&mut state, risen);
    assert!(state.draining.is_empty());
}

#[test]
fn what_began_a_call_is_kept_until_its_end_and_lets_it_ring_on_elsewhere() {
    let mut state = three();
    let Command::CreateCall { node_epoch, call } = create_call(4) else { panic!("no CreateCall") };
    let invite = Invite::from(&b"INVITE"[..]);
    let long = Invite::from(&[b'x'; bounds::INVITE_MAX + 1][..]);
    let refused = Command::CreateCallFrom { node_epoch, call: call.clone(), invite: long };
    assert!(run(&mut state, propose(1, 190, refused)).outcomes[0].is_err());
    run(&mut state, propose(1, 191, Command::CreateCallFrom { node_epoch, call, invite: invite.clone() }));
    assert_eq!(state.invites.get(&CallId(4)), Some(&invite));
    assert_eq!(moves(&died(&mut state, 1)), [(4, 2, moved(2, true))]);
    let end = Command::EndCall { call: CallId(4), epoch: CallEpoch(2), change: CallChange::default() };
    run(&mut state, propose(2, 190, end));
    assert!(state.invites.is_empty());
}

/// Calls 1 and 2 of nodes 1 and 2; the leases of all nodes have ended, that of node 2 last, at this time and not by itself.
fn all_lost(rules: u16) -> (State, ClusterTime) {
    let mut state = three_under(rules);
    talking(&mut state, 1);
    talking(&mut state, 2);
    died(&mut state, 3);
    run(&mut state, propose(3, 0, end_lease(1, 1, 1)));
    let lease = state.leases[&NodeId(2)];
    let applied = run(&mut state, propose(3, 0, expire(2, 1, lease.last_renewal)));
    assert_eq!((applied.outcomes.as_slice(), moves(&applied)), (&[Ok(Reply::Done)][..], vec![]));
    assert_eq!(cdrs(&applied).len(), if rules < 6 { 2 } else { 0 });
    (state, lease.end())
}

#[test]
fn calls_of_the_last_node_wait_for_the_first_that_acts_again_be_it_their_own() {
    for (returns, from) in [(2, 2), (3, 2)] {
        let (mut state, lost) = all_lost(6);
        let applied = run_at(&mut state, lost.0 + 60_000, propose(returns, 0, renew(2, 10)));
        let names: Vec<_> = applied.events.iter().map(|event| event.kind.name()).collect();
        assert_eq!(names, ["node.up", "node.returned", "call.moved", "call.moved"]);
        let moved = |epoch| Move { from: NodeId(from), epoch: CallEpoch(epoch), is_proven: false };
        assert_eq!(moves(&applied), [(1, returns, moved(3)), (2, returns, moved(2))]);
        assert_eq!(state.calls[&CallId(1)].owner, NodeId(returns));
    }
    let (state, _) = all_lost(5);
    assert!(state.calls.is_empty());
}

#[test]
fn that_the_former_process_is_gone_is_known_of_a_node_that_started_anew() {
    let (mut state, lost) = all_lost(6);
    let record = NodeRecord { incarnation: Incarnation(2), apply_version: 6, ..node(2) };
    for (seq, command) in [(1, Command::NodeStarted { node: record }), (0, renew(2, 1))] {
        let mut proposal = propose(2, seq, command);
        proposal.origin.incarnation = Incarnation(2);
        let applied = run_at(&mut state, lost.0 + 1_000, proposal);
        let proofs: Vec<bool> = moves(&applied).into_iter().map(|(_, _, moved)| moved.is_proven).collect();
        assert_eq!(proofs, if seq == 0 { vec![true, true] } else { vec![] });
    }
}

#[test]
fn a_call_that_waited_too_long_ends_when_its_owner_was_lost_and_a_witness_takes_none() {
    let (mut state, lost) = all_lost(6);
    state.nodes.get_mut(&NodeId(3)).unwrap().role = Role::Witness;
    assert!(moves(&run(&mut state, propose(3, 0, renew(2, 10)))).is_empty());
    let ended = cdrs(&run_at(&mut state, lost.0 + 60_001, propose(1, 0, renew(2, 10))));
    let told: Vec<_> = ended.iter().map(|cdr| (cdr.call, cdr.cause, cdr.end)).collect();
    assert_eq!(told, [(CallId(1), Cause::NodeLost, lost), (CallId(2), Cause::NodeLost, lost)]);
}

#[test]
fn calls_that_wait_end_when_their_node_is_taken_out() {
    let (mut state, _) = all_lost(6);
    assert_eq!(cdrs(&run(&mut state, propose(3, 200, Command::NodeRemoved { node: NodeId(2) }))).len(), 2);
}

#[test]
fn a_node_that_is_being_emptied_takes_a_call_rather_than_nobody() {
    for (rules, expected) in [(5, vec![]), (6, vec![(1, 3, moved(2, true))])] {
        let mut state = three_under(rules);
        talking(&mut state, 1);
        died(&mut state, 2);
        run(&mut state, propose(3, 200, Command::Drain { node: NodeId(3), on: true }));
        assert_eq!(moves(&died(&mut state, 1)), expected);
    }
}

/// Node `id` as a new process, which renews at once.
fn starts_anew(state: &mut State, now: u64, id: u64) -> Vec<Applied> {
    let record = NodeRecord { incarnation: Incarnation(2), apply_version: 6, ..node(id) };
    let commands = [(1, Command::NodeStarted { node: record }), (0, renew(2, 1))];
    let proposed = commands.map(|(seq, command)| {
        let mut proposal = propose(id, seq, command);
        proposal.origin.incarnation = Incarnation(2);
        run_at(state, now, proposal)
    });
    proposed.into()
}

#[test]
fn after_a_long_power_cut_calls_end_when_their_nodes_were_lost_though_all_leases_stand_in_the_log() {
    for (rules, late) in [(6, true), (6, false), (5, true)] {
        let mut state = three_under(rules);
        talking(&mut state, 1);
        talking(&mut state, 2);
        let lost = |node| state.leases[&NodeId(node)].end();
        let (first, second) = (lost(1), lost(2));
        let now = first.max(second).0 + if late { 60_001 } else { 30_000 };
        let applied: Vec<Applied> =
            [1, 2].into_iter().flat_map(|id| starts_anew(&mut state, now, id)).collect();
        let ended: Vec<_> = applied.iter().flat_map(cdrs).map(|cdr| (cdr.call, cdr.end)).collect();
        let expected =
            if rules == 6 && late { vec![(CallId(1), first), (CallId(2), second)] } else { vec![] };
        assert_eq!(ended, expected);
    }
    // A node that only could not renew may have carried its calls all the time.
    let mut state = three_under(6);
    talking(&mut state, 1);
    let lease = state.leases[&NodeId(1)];
    let applied = run_at(&mut state, 3_600_000, propose(2, 0, expire(1, 1, lease.last_renewal)));
    assert_eq!((moves(&applied).len(), cdrs(&applied).len()), (1, 0));
}
