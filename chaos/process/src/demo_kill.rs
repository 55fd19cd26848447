//! `make demo-kill`: ten calls talk, `kill -9` hits their node, and a plain account says what happened to each: who talked
//! to whom, at which node before and after, how long nobody was heard, how it ended, and its CDR. All of it is what the
//! phones saw, but the CDR.

use crate::history::{History, PhonesSeen};
use crate::place::Place;
use crate::run::{self, Ran, tidy};
use crate::say;
use crate::script::Script;
use serde_json::Value;
use std::path::Path;
use tandem_phones::watch::{Call, Kind, Silence};

const SCRIPT: &str = include_str!("demo_kill/script.yaml");

/// Runs it; gives whether all went well.
pub(crate) fn run(program: &Path, dir: &Path) -> anyhow::Result<bool> {
    let script =
        Script::parse("demo-kill", SCRIPT, 1).map_err(|(line, why)| anyhow::anyhow!("line {line}: {why}"))?;
    say(
        "Three nodes start, ten calls talk at n1, and n1 is killed with SIGKILL. This takes about half a minute.",
    );
    let ran = run::run(&script, 1, &Place::Loopback, program, dir);
    account(&ran).iter().for_each(|line| say(line));
    if ran.is_good() {
        tidy(dir);
    }
    Ok(ran.is_good())
}

fn account(ran: &Ran) -> Vec<String> {
    let history = &ran.history;
    let mut lines: Vec<String> =
        history.troubles.iter().map(|trouble| format!("It went wrong: {trouble}")).collect();
    if let Some(fault) = history.faults.first() {
        let down = history.down(0).first().map(|(from, _)| history.time(*from));
        let down = down.unwrap_or_else(|| "no time".to_owned());
        lines.push(format!(
            "n1 was killed at {} and called down by the others at {down}.",
            history.time(fault.from_ms)
        ));
    }
    lines.push(String::new());
    lines.push(format!(
        "{:<22} {:<14} {:>17} {:>17}  {:<22} {}",
        "call", "node", "caller heard", "callee heard", "how it ended", "CDR"
    ));
    for phones in history.standing() {
        lines.extend(phones.seen.calls.iter().map(|call| told(history, phones, call)));
    }
    lines.push(String::new());
    for (invariant, judgement) in &ran.verdicts {
        let (verdict, figures) = match (judgement.holds(), judgement.is_of_something()) {
            (false, _) => ("NO", judgement.figures.as_str()),
            (true, true) => ("yes", judgement.figures.as_str()),
            (true, false) => ("-", "nothing to judge"),
        };
        lines.push(format!("{verdict:<4}{} ({figures})", invariant.says));
        lines.extend(judgement.broken.iter().map(|what| format!("      {what}")));
    }
    lines
}

fn told(history: &History, phones: &PhonesSeen, call: &Call) -> String {
    let who = format!("{} to {} ({})", call.from, call.to, phones.tenant);
    let nodes = nodes(history, phones, call);
    let gap = |caller: bool| {
        let silence = history.longest_silence(phones, call, caller);
        format!("nothing for {} ms", silence.as_ref().map_or(0, Silence::length_ms))
    };
    let end = match (&call.failure, call.ended_ms) {
        (Some(failure), _) => failure.clone(),
        (None, Some(at)) => format!("hung up at {}", history.time(call.hung_up_ms.unwrap_or(at))),
        (None, None) => "not at all".to_owned(),
    };
    format!(
        "{who:<22} {nodes:<14} {:>17} {:>17}  {end:<22} {}",
        gap(true),
        gap(false),
        cdr(history, phones, call)
    )
}

/// The owners one after the other, by the hosts that relayed the sound.
fn nodes(history: &History, phones: &PhonesSeen, call: &Call) -> String {
    let of_call = phones.seen.heard.iter().filter(|heard| {
        heard.is_of(call) && (heard.kind == Kind::Request || heard.kind == Kind::Response(200))
    });
    let mut names: Vec<String> =
        of_call.filter_map(|heard| Some(format!("n{}", history.node_at(*heard.media?.ip())? + 1))).collect();
    names.dedup();
    names.join(" then ")
}

fn cdr(history: &History, phones: &PhonesSeen, call: &Call) -> String {
    let text = |cdr: &Value, key: &str| match cdr.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let all = history.end.first().map(|node| node.cdrs.as_slice()).unwrap_or_default();
    let own: Vec<&Value> = all
        .iter()
        .filter(|cdr| {
            text(cdr, "tenant") == phones.tenant
                && text(cdr, "from") == call.from
                && text(cdr, "to") == call.to
        })
        .collect();
    match own.as_slice() {
        [] => "none".to_owned(),
        [cdr] => format!(
            "{}, {} s, {}, node {}, epoch {}",
            text(cdr, "status"),
            text(cdr, "billed_s"),
            text(cdr, "cause"),
            text(cdr, "node"),
            text(cdr, "epoch")
        ),
        more => format!("{} of them", more.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::made_up;

    #[test]
    fn the_script_is_sound() {
        let script = Script::parse("demo-kill", SCRIPT, 1).unwrap();
        assert_eq!(script.standing(), 10);
    }

    #[test]
    fn of_a_run_without_calls_nothing_is_said_to_hold() {
        let script = Script::parse("demo-kill", SCRIPT, 1).unwrap();
        let told = |history: History| {
            let verdicts = script.invariants().into_iter().map(|one| (one, (one.judge)(&history))).collect();
            let took = std::time::Duration::ZERO;
            account(&Ran { name: script.name.clone(), seed: 1, took, history, verdicts })
        };
        let holding = |lines: Vec<String>| lines.iter().filter(|line| line.starts_with("yes")).count();
        assert_eq!(holding(told(made_up::history())), 4);
        let without = told(History::default());
        assert_eq!(
            without.iter().filter(|line| line.ends_with("(nothing to judge)")).count(),
            4,
            "{without:?}"
        );
        assert_eq!(holding(without), 0);
    }

    #[test]
    fn of_a_call_that_moved_both_nodes_and_the_silence_are_told() {
        let history = made_up::history();
        let phones = &history.phones[0];
        let told = told(&history, phones, &phones.seen.calls[0]);
        assert!(told.contains("n1 then n2") && told.contains("nothing for 700 ms"), "{told}");
        assert!(told.contains("hung up at 10.000 s") && told.contains("answered, 10 s"), "{told}");
    }
}
