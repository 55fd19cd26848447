use super::*;

const SCRIPT: &str = "\
workload:
  for_s: 20
  calls:
    - {count: 4, from: n1, to: n3}
steps:
  - {at_s: 2, fault: kill-worker, node: owner, for_s: 5}
invariants: [all]
bounds: {audio_gap_ms: 1500}
";

fn refused(from: &str, to: &str) -> (u64, String) {
    assert!(SCRIPT.contains(from));
    Script::parse("x", &SCRIPT.replace(from, to), 1).map(|_| ()).unwrap_err()
}

#[test]
fn a_script_is_read_with_its_defaults() {
    let script = Script::parse("x", SCRIPT, 1).unwrap();
    assert_eq!((script.name.as_str(), script.standing()), ("x", 4));
    let groups: Vec<Group> = script.workload.calls.iter().map(|group| group.value).collect();
    assert_eq!(groups, [Group { count: 4, from: Name::N1, to: Name::N3 }]);
    assert_eq!(script.steps().len(), 1);
    assert_eq!(script.bounds(), Bounds::default());
    assert_eq!(script.invariants().len(), invariants::ALL.len());
}

#[test]
fn an_unknown_key_is_an_error_with_its_line() {
    let (line, why) = refused("for_s: 5", "for_s: 5, nodes: n2");
    assert_eq!(line, 6);
    assert!(why.contains("nodes"), "{why}");
    assert!(refused("bounds", "bound").1.contains("bound"));
    assert_eq!(refused("audio_gap_ms", "audio_gap").0, 8);
}

#[test]
fn a_fault_without_what_it_needs_or_with_what_it_does_not_take_is_refused() {
    assert_eq!(refused("node: owner, ", ""), (6, "KillWorker needs node".to_owned()));
    assert_eq!(refused("for_s: 5", "for_s: 5, by_s: 3"), (6, "KillWorker takes no by_s".to_owned()));
    let (line, why) = refused("for_s: 5", "for_s: 50");
    assert!(line == 6 && why.contains("within the workload"), "{line} {why}");
    assert_eq!(refused("kill-worker, node: owner", "partition").1, "Partition needs node or site");
    assert_eq!(refused("[all]", "[no-such]"), (7, "no invariant no-such".to_owned()));
}

#[test]
fn a_fault_whose_parts_do_not_fit_is_refused() {
    let fault = |to: &str| refused("kill-worker, node: owner", to);
    assert_eq!(fault("link, node: n1"), (6, "Link needs delay_ms, loss_percent or rate_kbit".to_owned()));
    assert_eq!(fault("link, node: n1, loss_percent: 101"), (6, "Link loses 100 percent at most".to_owned()));
    for target in ["leader", "follower", "owner"] {
        let found = fault(&format!("restored-directory, node: {target}"));
        assert_eq!(found, (6, "RestoredDirectory takes n1, n2 or n3".to_owned()));
    }
    assert_eq!(fault("overload, node: n1, per_second: -5").1, "Overload needs a per_second above 0");
    assert_eq!(fault("random, faults: 0").1, "Random draws one fault at least");
    assert_eq!(refused("at_s: 2", "at_s: .nan").0, 6);
}

#[test]
fn more_calls_than_there_are_phones_for_are_refused() {
    let group = "    - {count: 4, from: n1, to: n3}\n";
    assert_eq!(refused("count: 4", "count: 201"), (4, "a group has 1 to 200 calls, not 201".to_owned()));
    assert_eq!(refused("count: 4", "count: 0").0, 4);
    assert_eq!(refused(group, &group.repeat(5)), (8, "there are phones for 4 groups of calls".to_owned()));
    assert!(Script::parse("x", &SCRIPT.replace(group, &group.repeat(4)), 1).is_ok());
}

#[test]
fn a_script_that_judges_nothing_is_refused() {
    assert_eq!(refused("[all]", "[]"), (7, "names no invariant, so nothing would be judged".to_owned()));
    assert!(refused("invariants: [all]\n", "").1.contains("invariants"));
}

#[test]
fn bounds_that_nothing_exceeds_are_refused() {
    let bound = |to: &str| refused("audio_gap_ms: 1500", to);
    let (line, why) = bound("audio_gap_ms: 20001");
    assert_eq!(
        (line, why.as_str()),
        (8, "audio_gap_ms is 20000 here at most, not 20001: nothing would exceed it")
    );
    for odd in ["audio_gap_p99_ms", "service_gap_ms", "back_s", "billed_off_s", "memory_growth_mb"] {
        let (line, why) = bound(&format!("{odd}: 700000"));
        assert!(line == 8 && why.starts_with(odd), "{line} {why}");
    }
    assert_eq!(bound("calls_lost: 4").1, "calls_lost is below the 4 standing calls, not 4");
    let long = SCRIPT.replace("for_s: 20", "for_s: 3600").replace("1500", "600001");
    assert!(Script::parse("x", &long, 1).unwrap_err().1.starts_with("audio_gap_ms is 600000 here at most"));
}

#[test]
fn times_and_rates_that_are_not_above_zero_are_refused() {
    for number in ["0", "-20", ".nan", ".inf"] {
        let (line, why) = refused("for_s: 20", &format!("for_s: {number}"));
        assert!(line == 2 && why.contains("is no number above 0"), "{line} {why}");
    }
    let short =
        |talk_s| format!("for_s: 20\n  short_calls: {{per_second: 1, talk_s: {talk_s}, from: n1, to: n2}}");
    assert_eq!(refused("for_s: 20", &short("-2")), (3, "-2 is no number above 0".to_owned()));
    assert_eq!(refused("for_s: 20", "for_s: 20\n  writes_per_second: -1").0, 3);
}

#[test]
fn random_faults_are_the_same_for_the_same_seed_and_do_not_overlap() {
    let text = SCRIPT.replace("kill-worker, node: owner, for_s: 5", "random, faults: 4, for_s: 12");
    let steps = |seed| Script::parse("x", &text, seed).unwrap().steps();
    let drawn = steps(7);
    assert_eq!(drawn.len(), 4);
    assert_eq!(drawn, steps(7));
    assert!((8..20).any(|seed| steps(seed) != drawn));
    assert!(drawn.is_sorted_by(|a, b| a.at_s + a.for_s <= b.at_s));
    for step in &drawn {
        assert_eq!(check(step, 20.0), Ok(()));
    }
}
