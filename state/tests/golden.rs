//! Released encodings and rules are frozen: a fixed list of log entries must always give the same outcomes, hash,
//! snapshot and archive. The files are in `tests/data/state`; `TANDEM_REWRITE=1 cargo test -p tandem-state` writes
//! those that are made (not the list of entries), and the diff is reviewed.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test that reads files is not pure"
)]

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use tandem_state::{Batch, State};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/data/state").join(name)
}

/// Compares with a file, or writes it when asked to.
fn matches_golden(name: &str, bytes: &[u8]) {
    if std::env::var_os("TANDEM_REWRITE").is_some() {
        fs::write(path(name), bytes).unwrap();
    }
    let golden = fs::read(path(name)).unwrap();
    assert!(golden == bytes, "{name} differs:\n{}", String::from_utf8_lossy(bytes));
}

/// The log entries of a story, one JSON object a line.
fn entries(story: &str) -> Vec<Batch> {
    let text = fs::read_to_string(path(&format!("log-{story}.jsonl"))).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Applies the entries at positions from 1.
fn replayed(story: &str) -> (State, String) {
    let (mut state, mut told) = (State::default(), String::new());
    for (entry, position) in entries(story).iter().zip(1..) {
        let applied = state.apply(position, entry);
        for outcome in &applied.outcomes {
            match outcome {
                Ok(reply) => writeln!(told, "{position} ok {reply:?}").unwrap(),
                Err(refusal) => writeln!(told, "{position} refused: {refusal}").unwrap(),
            }
        }
        for event in &applied.events {
            writeln!(told, "{position}   event {} {}", event.id, event.kind.name()).unwrap();
        }
        writeln!(told, "{position}   hash {}", hex(&state.hash())).unwrap();
    }
    for (stream, head) in &state.streams {
        writeln!(told, "{stream:?}: {} records, chain {}", head.count, hex(&head.chain)).unwrap();
    }
    (state, told)
}

/// Stories under the rules that have been released, or will be, and the layout of snapshots at their end.
const STORIES: [(&str, u8); 8] =
    [("v1", 1), ("v2", 2), ("v3", 3), ("v3-keys", 3), ("v3-salvage", 3), ("v4", 4), ("v5", 4), ("v6", 4)];

#[test]
fn the_entries_of_each_story_give_what_they_gave() {
    for (story, _) in STORIES {
        let (_, told) = replayed(story);
        matches_golden(&format!("replay-{story}.txt"), told.as_bytes());
    }
}

#[test]
fn a_snapshot_of_each_story_is_read_and_written_as_it_was() {
    for (story, layout) in STORIES {
        let (state, _) = replayed(story);
        let name = format!("snapshot-{story}.bin");
        matches_golden(&name, &state.encode_snapshot());
        let golden = fs::read(path(&name)).unwrap();
        assert_eq!(golden[9], layout, "the layout of the rules in force");
        assert_eq!(State::decode_snapshot(&golden), Ok(state));
    }
}

#[test]
fn log_entries_of_each_story_are_encoded_as_they_were() {
    for (story, _) in STORIES {
        let (entries, name) = (entries(story), format!("log-{story}.bin"));
        matches_golden(&name, &postcard::to_stdvec(&entries).unwrap());
        let golden = fs::read(path(&name)).unwrap();
        assert_eq!(postcard::from_bytes::<Vec<Batch>>(&golden), Ok(entries));
    }
}

#[test]
fn the_entries_of_the_second_rules_cover_every_command_of_theirs() {
    let text = fs::read_to_string(path("log-v2.jsonl")).unwrap();
    for name in ["Renew", "ExpireLease", "EndLease", "Audit"] {
        assert!(text.contains(&format!("\"{name}\"")), "{name} is not in log-v2.jsonl");
    }
}

#[test]
fn the_entries_of_the_third_rules_cover_every_command_of_theirs() {
    let texts =
        ["v3", "v3-salvage"].map(|story| fs::read_to_string(path(&format!("log-{story}.jsonl"))).unwrap());
    for name in ["RenewMarked", "UseClusterKey", "Salvage"] {
        assert!(
            texts.iter().any(|text| text.contains(&format!("\"{name}\""))),
            "{name} is in no log of theirs"
        );
    }
}

#[test]
fn the_entries_of_the_fourth_rules_cover_every_command_of_theirs() {
    let text = fs::read_to_string(path("log-v4.jsonl")).unwrap();
    for name in ["CreateCallFrom", "MoveCall", "Drain"] {
        assert!(text.contains(&format!("\"{name}\"")), "{name} is not in log-v4.jsonl");
    }
}

#[test]
fn the_entries_of_the_fifth_rules_meet_what_is_new_in_them() {
    let told = fs::read_to_string(path("replay-v5.txt")).unwrap();
    let count = |name: &str| told.matches(name).count();
    assert_eq!((count("node.down"), count("node.fenced"), count("node.returned")), (3, 1, 3), "{told}");
}

#[test]
fn the_entries_of_the_sixth_rules_meet_what_is_new_in_them() {
    let told = fs::read_to_string(path("replay-v6.txt")).unwrap();
    let moved = |position: u32| {
        let of = |line: &&str| line.starts_with(&format!("{position} ")) && line.ends_with("call.moved");
        told.lines().filter(of).count()
    };
    // To a node that is emptied, to the first that acts again, and to the lost one itself; those that waited too long end.
    assert_eq!([6, 7, 8, 9, 10, 11, 12].map(moved), [4, 0, 4, 0, 4, 0, 0], "{told}");
    assert_eq!(told.matches("call.ended").count(), 4, "{told}");
}

#[test]
fn the_entries_of_the_third_rules_meet_what_is_new_in_them() {
    let told = fs::read_to_string(path("replay-v3-keys.txt")).unwrap();
    assert!(
        told.contains("refused: apply version 3 is in force, and this release follows 2 at most"),
        "{told}"
    );
    let (state, _) = replayed("v3-keys");
    assert_eq!((state.node_keys, state.idempotency.len()), (1, 2));
}

#[test]
fn the_entries_cover_every_command_and_change() {
    let text = fs::read_to_string(path("log-v1.jsonl")).unwrap();
    for name in [
        "Tick",
        "StepTime",
        "RaiseApplyVersion",
        "NodeStarted",
        "NodeRemoved",
        "Configure",
        "PutToken",
        "RemoveToken",
        "Bind",
        "Unbind",
        "CreateCall",
        "Checkpoint",
        "EndCall",
        "RefuseCall",
        "PutTenant",
        "RemoveTenant",
        "PutExtension",
        "RemoveExtension",
        "PutNumber",
        "RemoveNumber",
    ] {
        assert!(text.contains(&format!("\"{name}\"")), "{name} is not in log-v1.jsonl");
    }
}
