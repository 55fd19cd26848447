use super::*;

fn registration() -> Registration {
    let id = BindingId {
        tenant: TenantId(1),
        number: "101".into(),
        key: BindingKey::Contact("sip:101@127.0.0.1".into()),
    };
    Registration::new(Arc::new(id), NodeEpoch(1), Revision(7), 60_000, 1)
}

/// The command that it has put out.
fn proposed(binding: &mut Registration) -> Option<Command> {
    match binding.poll_output() {
        Some(Output::Propose(command)) => Some(*command),
        Some(Output::Ask | Output::Unanswered) | None => None,
    }
}

fn at(steady_ms: u64) -> Now {
    Now { steady_ms, ..Now::default() }
}

#[test]
fn a_phone_that_does_not_refresh_is_unbound_at_its_granted_expiry() {
    let mut binding = registration();
    binding.handle_timeout(at(59_999));
    assert_eq!(binding.poll_output(), None);
    binding.handle_timeout(at(60_000));
    assert!(matches!(
        proposed(&mut binding),
        Some(Command::Unbind { revision: Revision(7), reason: UnbindReason::Expired, .. })
    ));
    binding.handle_input(at(60_010), Input::Proposed(Some(Ok(Reply::Done))));
    assert!(binding.is_finished());
}

#[test]
fn a_refresh_moves_the_expiry_without_a_log_entry() {
    let mut binding = registration();
    binding.handle_input(at(50_000), Input::Refreshed { expires_s: 60 });
    binding.handle_timeout(at(60_000));
    assert_eq!((binding.poll_output(), binding.poll_timeout()), (None, Some(110_000)));
}

#[test]
fn an_unbind_with_an_unknown_outcome_is_proposed_again() {
    let mut binding = registration();
    binding.handle_timeout(at(60_000));
    assert!(binding.poll_output().is_some());
    binding.handle_input(at(61_000), Input::Proposed(None));
    assert_eq!(binding.poll_timeout(), Some(62_000));
    binding.handle_timeout(at(62_000));
    assert!(binding.poll_output().is_some());
}

#[test]
fn a_refusal_because_the_phone_moved_on_ends_this_actor_alone() {
    let mut binding = registration();
    binding.handle_timeout(at(60_000));
    let moved = Refusal::StaleRevision { current: Revision(9) };
    binding.handle_input(at(60_010), Input::Proposed(Some(Err(moved))));
    assert!(binding.is_finished());
}

#[test]
fn a_binding_that_outlived_a_lease_of_its_node_is_unbound_under_the_next_one() {
    let mut binding = registration();
    binding.handle_timeout(at(60_000));
    assert!(binding.poll_output().is_some());
    let stale = Refusal::StaleNodeEpoch { current: NodeEpoch(2) };
    binding.handle_input(at(60_010), Input::Proposed(Some(Err(stale))));
    assert_eq!((binding.is_finished(), binding.poll_timeout()), (false, Some(61_010)));
    binding.handle_timeout(at(61_010));
    assert!(matches!(proposed(&mut binding), Some(Command::Unbind { node_epoch: NodeEpoch(2), .. })));
}

#[test]
fn a_closed_connection_unbinds_at_once_under_the_newest_revision() {
    let mut binding = registration();
    let bound =
        Input::Bound { revision: Revision(9), expires_s: Some(60), coarse_ms: 480_000, datagrams: false };
    binding.handle_input(at(1_000), bound);
    binding.handle_input(at(2_000), Input::ConnectionClosed);
    let Some(Command::Unbind { revision, reason, .. }) = proposed(&mut binding) else {
        panic!("nothing was proposed")
    };
    assert_eq!((revision, reason), (Revision(9), UnbindReason::ConnectionLost));
    assert_eq!(binding.poll_timeout(), None, "its outcome is awaited");
}

#[test]
fn a_phone_that_is_bound_anew_while_it_is_unbound_lives_on() {
    let mut binding = registration();
    binding.handle_timeout(at(60_000));
    assert!(binding.poll_output().is_some());
    let bound =
        Input::Bound { revision: Revision(9), expires_s: Some(60), coarse_ms: 540_000, datagrams: false };
    binding.handle_input(at(60_005), bound);
    let moved = Refusal::StaleRevision { current: Revision(9) };
    binding.handle_input(at(60_010), Input::Proposed(Some(Err(moved))));
    assert_eq!((binding.is_finished(), binding.poll_timeout()), (false, Some(120_005)));
}

#[test]
fn a_binding_that_left_the_table_ends_without_a_word() {
    let mut binding = registration();
    binding.handle_input(at(1_000), Input::Gone);
    assert_eq!((binding.is_finished(), binding.poll_output(), binding.poll_timeout()), (true, None, None));
}

#[test]
fn a_node_that_takes_up_a_binding_keeps_it_until_the_logs_expiry() {
    let mut binding = registration();
    binding.handle_timeout(at(60_000));
    assert!(binding.poll_output().is_some());
    let again = Input::Bound { revision: Revision(9), expires_s: None, coarse_ms: 480_000, datagrams: false };
    binding.handle_input(at(60_005), again);
    assert_eq!(binding.poll_timeout(), Some(480_000));
}

/// Reached by datagrams, and registered at 1 s for an hour.
fn asked() -> Registration {
    let mut binding = registration();
    let bound =
        Input::Bound { revision: Revision(9), expires_s: Some(3_600), coarse_ms: 9_000_000, datagrams: true };
    binding.handle_input(at(1_000), bound);
    binding
}

/// Lets what is next due happen: when that was, and what came of it.
fn next(binding: &mut Registration) -> (u64, Option<Output>) {
    let due = binding.poll_timeout().expect("something is due");
    binding.handle_timeout(at(due));
    (due, binding.poll_output())
}

#[test]
fn a_phone_that_is_reached_by_datagrams_is_asked_half_a_minute_after_it_was_last_heard() {
    let mut binding = asked();
    for heard_ms in [1_000, 40_000, 90_000] {
        binding.handle_input(at(heard_ms), Input::Refreshed { expires_s: 3_600 });
        let due = binding.poll_timeout().unwrap();
        assert!((heard_ms + ASK_MS..heard_ms + ASK_MS + ASK_SPREAD_MS).contains(&due), "{due}");
    }
    let (due, output) = next(&mut binding);
    assert_eq!((output, binding.poll_timeout()), (Some(Output::Ask), Some(due + ANSWER_MS)));
    binding.handle_input(at(due + 10), Input::Heard);
    assert!(binding.poll_timeout().unwrap() >= due + 10 + ASK_MS);
    assert!(!binding.is_unreachable());
}

#[test]
fn a_phone_on_a_connection_is_never_asked() {
    let mut binding = asked();
    let moved =
        Input::Bound { revision: Revision(10), expires_s: Some(60), coarse_ms: 480_000, datagrams: false };
    binding.handle_input(at(2_000), moved);
    assert_eq!(binding.poll_timeout(), Some(62_000));
}

#[test]
fn a_phone_that_does_not_answer_three_times_is_unreachable_until_it_is_heard_and_stays_to_its_expiry() {
    let mut binding = asked();
    let (asked_ms, first) = next(&mut binding);
    let answers = [first, next(&mut binding).1, next(&mut binding).1];
    assert_eq!(answers, [Some(Output::Ask), Some(Output::Ask), Some(Output::Ask)]);
    assert!(!binding.is_unreachable());
    assert_eq!(next(&mut binding), (asked_ms + 3 * ANSWER_MS, Some(Output::Unanswered)));
    assert!(binding.is_unreachable());
    // Asked once each time from now on.
    let again: Vec<Option<Output>> = (0..4).map(|_| next(&mut binding).1).collect();
    let (ask, none) = (Some(Output::Ask), Some(Output::Unanswered));
    assert_eq!(again, [ask.clone(), none.clone(), ask, none]);
    binding.handle_input(at(300_000), Input::Heard);
    assert!(!binding.is_unreachable());
    binding.handle_timeout(at(3_600_999));
    assert_eq!(proposed(&mut binding), None, "a millisecond before its expiry");
    binding.handle_timeout(at(3_601_000));
    assert!(matches!(proposed(&mut binding), Some(Command::Unbind { .. })));
}

#[test]
fn what_was_taken_up_from_the_log_is_asked_within_half_a_minute_and_an_echo_changes_nothing() {
    let mut binding = registration();
    let bound = Input::Bound { revision: Revision(7), expires_s: None, coarse_ms: 480_000, datagrams: true };
    binding.handle_input(at(1_000), bound.clone());
    let due = binding.poll_timeout().unwrap();
    assert!((1_000..1_000 + TAKEN_UP_MS).contains(&due), "{due}");
    binding.handle_input(at(1_100), bound);
    assert_eq!(binding.poll_timeout(), Some(due));
}

#[test]
fn what_was_not_asked_says_nothing_about_the_phone() {
    let mut binding = asked();
    let (due, _) = next(&mut binding);
    binding.handle_input(at(due), Input::NotAsked);
    assert!(binding.poll_timeout().unwrap() >= due + ASK_MS);
    assert!(!binding.is_unreachable());
}
