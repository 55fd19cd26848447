//! The checker itself, on histories that are known to be right or wrong.

use tandem_state::{CallEpoch, NodeId};

use super::*;

type Numbers = Vec<Operation<NumberOp, NumberSaid>>;

fn said(called: u64, answered: u64, op: NumberOp, answer: NumberSaid) -> Operation<NumberOp, NumberSaid> {
    Operation { called, answered: Some((answered, answer)), op }
}

fn unanswered(called: u64, op: NumberOp) -> Operation<NumberOp, NumberSaid> {
    Operation { called, answered: None, op }
}

fn take(tenant: &str, to: &str) -> NumberOp {
    NumberOp::Take((tenant.into(), to.into()))
}

fn read(tenant: &str) -> NumberOp {
    NumberOp::Read(tenant.into())
}

fn leads(to: &str) -> NumberSaid {
    NumberSaid::Leads((!to.is_empty()).then(|| to.into()))
}

fn verdict(history: &Numbers) -> Verdict {
    check::<Number>(history)
}

#[test]
fn operations_one_after_the_other_must_fit() {
    let right = vec![
        said(0, 1, take("acme", "101"), NumberSaid::Done),
        said(2, 3, take("globex", "201"), NumberSaid::Refused),
        said(4, 5, read("acme"), leads("101")),
        said(6, 7, NumberOp::Free("acme".into()), NumberSaid::Done),
        said(8, 9, read("acme"), leads("")),
    ];
    assert_eq!(verdict(&right), Verdict::Linearizable);
    let mut two_owners = right.clone();
    two_owners[1] = said(2, 3, take("globex", "201"), NumberSaid::Done);
    assert_eq!(verdict(&two_owners), Verdict::Not);
}

#[test]
fn a_read_that_misses_what_was_acknowledged_before_it_began_is_a_lie() {
    let stale = vec![
        said(0, 1, take("acme", "101"), NumberSaid::Done),
        said(2, 3, take("acme", "102"), NumberSaid::Done),
        said(4, 5, read("acme"), leads("101")),
    ];
    assert_eq!(verdict(&stale), Verdict::Not);
}

#[test]
fn a_read_beside_a_write_may_see_either_but_not_first_the_new_and_then_the_old() {
    let write = said(2, 9, take("acme", "102"), NumberSaid::Done);
    let history = |first: &str, second: &str| {
        vec![
            said(0, 1, take("acme", "101"), NumberSaid::Done),
            write.clone(),
            said(3, 4, read("acme"), leads(first)),
            said(5, 6, read("acme"), leads(second)),
        ]
    };
    assert_eq!(verdict(&history("101", "101")), Verdict::Linearizable);
    assert_eq!(verdict(&history("101", "102")), Verdict::Linearizable);
    assert_eq!(verdict(&history("102", "102")), Verdict::Linearizable);
    assert_eq!(verdict(&history("102", "101")), Verdict::Not);
}

#[test]
fn a_write_without_an_answer_may_have_been_done_late_or_never_but_not_undone() {
    let history = |reads: [&str; 3]| {
        let mut history =
            vec![said(0, 1, take("acme", "101"), NumberSaid::Done), unanswered(2, take("acme", "102"))];
        history.extend((3..).step_by(2).zip(reads).map(|(at, to)| said(at, at + 1, read("acme"), leads(to))));
        history
    };
    assert_eq!(verdict(&history(["101", "101", "101"])), Verdict::Linearizable);
    assert_eq!(verdict(&history(["101", "101", "102"])), Verdict::Linearizable);
    assert_eq!(verdict(&history(["102", "101", "101"])), Verdict::Not);
}

#[test]
fn a_lost_write_is_found_also_between_many_others() {
    // Clients overlap pairwise; the number leads where it was last sent, but for one acknowledged write that nobody saw.
    let mut history: Numbers = Vec::new();
    for at in 0..60_u64 {
        let to = format!("{}", 100 + at);
        history.push(said(at * 10, at * 10 + 6, take("acme", &to), NumberSaid::Done));
        history.push(said(at * 10 + 7, at * 10 + 9, read("acme"), leads(&to)));
    }
    assert_eq!(verdict(&history), Verdict::Linearizable);
    history[61] = said(307, 309, read("acme"), leads("129"));
    assert_eq!(verdict(&history), Verdict::Not);
}

#[test]
fn twenty_operations_at_once_are_no_trouble() {
    let history: Numbers = (0..20)
        .map(|at| said(at, 1000 + at, take("acme", &at.to_string()), NumberSaid::Done))
        .chain([said(2000, 2001, read("acme"), leads("7"))])
        .collect();
    assert_eq!(verdict(&history), Verdict::Linearizable);
    let mut wrong = history;
    wrong[20] = said(2000, 2001, read("acme"), leads("99"));
    assert_ne!(verdict(&wrong), Verdict::Linearizable);
}

#[test]
fn a_binding_that_was_acknowledged_is_there_until_it_is_taken_away() {
    let done = |called, answered, op, said| Operation { called, answered: Some((answered, said)), op };
    let right = [
        done(0, 1, BindingOp::Read, BindingSaid::There(false)),
        done(2, 3, BindingOp::Bind, BindingSaid::Done),
        done(4, 5, BindingOp::Read, BindingSaid::There(true)),
        done(6, 9, BindingOp::Unbind, BindingSaid::Done),
        done(7, 8, BindingOp::Read, BindingSaid::There(true)),
        done(10, 11, BindingOp::Read, BindingSaid::There(false)),
    ];
    assert_eq!(check::<Binding>(&right), Verdict::Linearizable);
    let lost = [right[1].clone(), done(4, 5, BindingOp::Read, BindingSaid::There(false))];
    assert_eq!(check::<Binding>(&lost), Verdict::Not);
}

type Owned = Operation<OwnershipOp, OwnershipSaid>;

fn took(called: u64, answered: Option<u64>, node: u64, epoch: u64) -> Owned {
    let op = OwnershipOp::Take(NodeId(node), CallEpoch(epoch));
    Operation { called, answered: answered.map(|at| (at, OwnershipSaid::Done)), op }
}

fn acted(called: u64, answered: u64, node: u64, epoch: u64) -> Owned {
    let op = OwnershipOp::Act(NodeId(node), CallEpoch(epoch));
    Operation { called, answered: Some((answered, OwnershipSaid::Done)), op }
}

#[test]
fn a_node_speaks_for_a_call_from_when_it_has_it_until_another_has() {
    let right = [
        took(0, Some(4), 1, 1),
        acted(1, 2, 1, 1),
        took(5, Some(9), 2, 2),
        acted(6, 8, 1, 1),
        acted(7, 9, 2, 2),
    ];
    assert_eq!(check::<Ownership>(&right), Verdict::Linearizable);
    let after_another = [right[0].clone(), right[2].clone(), acted(6, 7, 2, 2), acted(8, 10, 1, 1)];
    assert_eq!(check::<Ownership>(&after_another), Verdict::Not);
    let after_it_was_acknowledged = [right[0].clone(), right[2].clone(), acted(10, 11, 1, 1)];
    assert_eq!(check::<Ownership>(&after_it_was_acknowledged), Verdict::Not);
    let before_it_had_it = [right[0].clone(), right[2].clone(), acted(3, 4, 2, 2)];
    assert_eq!(check::<Ownership>(&before_it_had_it), Verdict::Not);
}

#[test]
fn two_nodes_never_speak_under_one_epoch_nor_does_an_epoch_come_twice() {
    let two = [took(0, Some(1), 1, 1), acted(2, 3, 1, 1), acted(2, 3, 2, 1)];
    assert_eq!(check::<Ownership>(&two), Verdict::Not);
    let twice = [took(0, Some(1), 1, 1), took(2, Some(3), 2, 2), took(4, Some(5), 3, 2)];
    assert_eq!(check::<Ownership>(&twice), Verdict::Not);
    let back = [took(0, Some(1), 1, 1), took(2, Some(3), 2, 2), took(4, Some(5), 1, 3), acted(6, 7, 1, 1)];
    assert_eq!(check::<Ownership>(&back), Verdict::Not, "it has the call again, under another epoch");
}

#[test]
fn a_move_whose_outcome_nobody_heard_counts_once_the_new_owner_speaks() {
    let history = |acts: [Owned; 2]| {
        [took(0, Some(1), 1, 1), took(2, None, 2, 2)].into_iter().chain(acts).collect::<Vec<_>>()
    };
    assert_eq!(check::<Ownership>(&history([acted(3, 4, 1, 1), acted(5, 6, 1, 1)])), Verdict::Linearizable);
    assert_eq!(check::<Ownership>(&history([acted(3, 4, 1, 1), acted(5, 6, 2, 2)])), Verdict::Linearizable);
    assert_eq!(check::<Ownership>(&history([acted(3, 4, 2, 2), acted(5, 6, 1, 1)])), Verdict::Not);
}
