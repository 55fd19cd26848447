//! The checker itself, on histories that are known to be right or wrong.

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
