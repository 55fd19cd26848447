//! Golden flows: whole calls as text in `tests/data/flows`.
//!
//! A line that begins with a time is what happens; the indented lines below it are everything that the call puts out, in
//! order. `TANDEM_REWRITE=1` writes the indented lines anew; the diff is reviewed.

use std::fs;
use std::path::{Path, PathBuf};

use super::bench::Bench;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/data/flows")
}

/// Plays a transcript; gives it as it should read.
fn play(text: &str) -> String {
    let (mut bench, mut played) = (Bench::new(), String::new());
    for line in text.lines().filter(|line| !line.starts_with("  ")) {
        played.push_str(line);
        played.push('\n');
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        for shown in bench.line(line) {
            played.push_str(&format!("  {shown}\n"));
        }
    }
    played
}

fn transcripts() -> Vec<PathBuf> {
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|e| e == "txt")).collect();
    files.sort();
    files
}

fn difference(path: &Path, wanted: &str, played: &str) -> String {
    let at = wanted.lines().zip(played.lines()).take_while(|(a, b)| a == b).count();
    let line = |text: &str| text.lines().nth(at).unwrap_or("(the end)").to_owned();
    format!("{}:{}:\n  wanted {}\n  played {}", path.display(), at + 1, line(wanted), line(played))
}

#[test]
fn every_transcript_of_a_call_is_played_to_the_letter() {
    let rewrite = std::env::var_os("TANDEM_REWRITE").is_some();
    let files = transcripts();
    assert!(files.len() >= 20, "only {} transcripts", files.len());
    let mut wrong = Vec::new();
    for path in files {
        let wanted = fs::read_to_string(&path).unwrap();
        let played = play(&wanted);
        if rewrite {
            fs::write(&path, &played).unwrap();
        } else if wanted != played {
            wrong.push(difference(&path, &wanted, &played));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Transcripts that are tests of their own: each shows what a takeover or a move must not get wrong.
macro_rules! named {
    ($($name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                let path = folder().join(concat!(stringify!($name), ".txt"));
                let wanted = fs::read_to_string(&path).unwrap();
                let played = play(&wanted);
                assert!(wanted == played, "{}", difference(&path, &wanted, &played));
            }
        )*
    };
}

named! {
    bye_while_moving,
    move_outcome_unknown,
    second_takeover,
    takeover_200_lost,
    takeover_ack_never_sent,
    takeover_cseq_monotonic,
    takeover_early_call,
    takeover_flow_node_dies,
    takeover_flow_node_dies_while_asked,
    takeover_held_call,
    takeover_held_call_unheard,
    takeover_keeps_transport,
    takeover_never_worsens,
    takeover_route_set_order,
    takeover_sdp_version_rises,
    timers_fire_once,
}

#[test]
fn every_transcript_says_what_it_shows_and_ends_its_call() {
    for path in transcripts() {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# "), "{}", path.display());
        assert_eq!(text.lines().last(), Some("  over"), "{}", path.display());
    }
}
