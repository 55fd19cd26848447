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
    assert_eq!(script.workload.calls, [Group { count: 4, from: Name::N1, to: Name::N3 }]);
    assert_eq!(script.steps().len(), 1);
    assert_eq!(script.bounds, Bounds::default());
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
