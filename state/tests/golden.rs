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

/// The log entries of a version of the rules, one JSON object a line.
fn entries(version: u16) -> Vec<Batch> {
    let text = fs::read_to_string(path(&format!("log-v{version}.jsonl"))).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Applies the entries at positions from 1.
fn replayed(version: u16) -> (State, String) {
    let (mut state, mut story) = (State::default(), String::new());
    for (entry, position) in entries(version).iter().zip(1..) {
        let applied = state.apply(position, entry);
        for outcome in &applied.outcomes {
            match outcome {
                Ok(reply) => writeln!(story, "{position} ok {reply:?}").unwrap(),
                Err(refusal) => writeln!(story, "{position} refused: {refusal}").unwrap(),
            }
        }
        for event in &applied.events {
            writeln!(story, "{position}   event {} {}", event.id, event.kind.name()).unwrap();
        }
        writeln!(story, "{position}   hash {}", hex(&state.hash())).unwrap();
    }
    for (stream, head) in &state.streams {
        writeln!(story, "{stream:?}: {} records, chain {}", head.count, hex(&head.chain)).unwrap();
    }
    (state, story)
}

/// The rules that have been released, or will be.
const VERSIONS: [u16; 3] = [1, 2, 3];

#[test]
fn the_entries_of_each_version_give_what_they_gave() {
    for version in VERSIONS {
        let (_, story) = replayed(version);
        matches_golden(&format!("replay-v{version}.txt"), story.as_bytes());
    }
}

#[test]
fn a_snapshot_of_each_version_is_read_and_written_as_it_was() {
    for version in VERSIONS {
        let (state, _) = replayed(version);
        let name = format!("snapshot-v{version}.bin");
        matches_golden(&name, &state.encode_snapshot());
        let golden = fs::read(path(&name)).unwrap();
        assert_eq!(golden[9], u8::try_from(version).unwrap(), "the layout of the rules in force");
        assert_eq!(State::decode_snapshot(&golden), Ok(state));
    }
}

#[test]
fn log_entries_of_each_version_are_encoded_as_they_were() {
    for version in VERSIONS {
        let (entries, name) = (entries(version), format!("log-v{version}.bin"));
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
    let text = fs::read_to_string(path("log-v3.jsonl")).unwrap();
    for name in ["RenewMarked", "UseClusterKey"] {
        assert!(text.contains(&format!("\"{name}\"")), "{name} is not in log-v3.jsonl");
    }
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
