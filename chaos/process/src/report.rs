//! What is shown of runs: a line and a list on the terminal, and one page of HTML with a picture of each script's time. The
//! page needs no other file.

mod timeline;

use crate::run::Ran;
use std::fmt::Write as _;

/// Broken things that are shown of one invariant.
const SHOWN_MAX: usize = 12;

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;max-width:1080px;margin:2em auto;padding:0 1em;color:#1b1f24}\
h2{margin:2.2em 0 .3em}table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.25em .6em;border-bottom:1px \
solid #e3e6ea;vertical-align:top}.good{color:#1a7f37}.bad{color:#c62828;font-weight:600}.none{color:#8a6d00}.note{color:#57606a}\
svg{width:100%;height:auto;background:#fbfcfd;border:1px solid #e3e6ea;margin:.6em 0}svg text{font:11px system-ui,sans-serif;\
fill:#57606a}pre{white-space:pre-wrap;margin:.2em 0;font-size:13px}";

/// One script in one line.
pub(crate) fn line(ran: &Ran) -> String {
    let judged: Vec<_> = ran.verdicts.iter().filter(|(_, judgement)| judgement.is_of_something()).collect();
    let held = judged.iter().filter(|(_, judgement)| judgement.holds()).count();
    let nothing = match ran.verdicts.len() - judged.len() {
        0 => String::new(),
        count => format!(", {count} had nothing to judge"),
    };
    let verdict = if ran.is_good() { "passed" } else { "FAILED" };
    format!(
        "{verdict} {:<20} {held} of {} invariants hold{nothing}, {:.0} s",
        ran.name,
        judged.len(),
        ran.took.as_secs_f64()
    )
}

/// What is wrong with a run.
pub(crate) fn broken(ran: &Ran) -> Vec<String> {
    let mut lines: Vec<String> =
        ran.history.troubles.iter().map(|trouble| format!("  the run itself: {trouble}")).collect();
    for (invariant, judgement) in &ran.verdicts {
        lines.extend(
            judgement.broken.iter().take(SHOWN_MAX).map(|what| format!("  {}: {what}", invariant.name)),
        );
        if judgement.broken.len() > SHOWN_MAX {
            lines.push(format!("  {}: and {} more", invariant.name, judgement.broken.len() - SHOWN_MAX));
        }
    }
    lines
}

/// The page.
pub(crate) fn page(ran: &[Ran]) -> String {
    let good = ran.iter().filter(|one| one.is_good()).count();
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Tandem: chaos</title><style>{STYLE}</style>\
         <h1>Chaos</h1><p>{good} of {} scripts passed. Each ran against three node processes; time 0 is when all standing \
         calls were up.</p><table><tr><th>Script<th>Verdict<th>Took<th>Longest silence, calls, times back</tr>",
        ran.len()
    );
    for one in ran {
        let figures: Vec<&str> = one
            .verdicts
            .iter()
            .filter(|(invariant, _)| ["audio-gap", "calls-go-on", "comes-back"].contains(&invariant.name))
            .map(|(_, judgement)| judgement.figures.as_str())
            .collect();
        let _ = write!(
            page,
            "<tr><td><a href=\"#{0}\">{0}</a><td>{1}<td>{2:.0} s<td class=\"note\">{3}</tr>",
            escaped(&one.name),
            verdict(one.is_good(), true),
            one.took.as_secs_f64(),
            escaped(&figures.join("; "))
        );
    }
    page += "</table>";
    ran.iter().for_each(|one| page += &section(one));
    page + "</html>\n"
}

fn verdict(is_good: bool, is_seen: bool) -> &'static str {
    match (is_good, is_seen) {
        (false, _) => "<span class=\"bad\">broken</span>",
        (true, true) => "<span class=\"good\">holds</span>",
        (true, false) => "<span class=\"none\">nothing to judge</span>",
    }
}

fn section(ran: &Ran) -> String {
    let mut text = format!(
        "<h2 id=\"{0}\">{0} {1}</h2><p class=\"note\">seed {2}, {3:.0} s</p>",
        escaped(&ran.name),
        verdict(ran.is_good(), true),
        ran.seed,
        ran.took.as_secs_f64()
    );
    for trouble in &ran.history.troubles {
        let _ = write!(text, "<p class=\"bad\">The run itself: {}</p>", escaped(trouble));
    }
    text += &timeline::drawn(&ran.history);
    text += "<table>";
    for (invariant, judgement) in &ran.verdicts {
        let _ = write!(
            text,
            "<tr><td>{}<td>{}<br><span class=\"note\">{}</span><td>{}",
            verdict(judgement.holds(), judgement.is_of_something()),
            escaped(invariant.name),
            escaped(invariant.says),
            escaped(&judgement.figures)
        );
        if !judgement.holds() {
            let shown: Vec<&str> = judgement.broken.iter().take(SHOWN_MAX).map(String::as_str).collect();
            let _ = write!(text, "<pre>{}</pre>", escaped(&shown.join("\n")));
        }
        text += "</tr>";
    }
    text + "</table>"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::History;
    use crate::invariants;
    use std::time::Duration;

    fn ran(history: History) -> Ran {
        let verdicts = invariants::ALL.iter().map(|one| (one, (one.judge)(&history))).collect();
        Ran { name: "a<b".into(), seed: 7, took: Duration::from_secs(3), history, verdicts }
    }

    #[test]
    fn a_run_that_went_wrong_is_never_shown_as_good() {
        let nothing = ran(History { troubles: vec!["no node".into()], ..History::default() });
        assert!(!nothing.is_good());
        assert!(line(&nothing).starts_with("FAILED"), "{}", line(&nothing));
        assert!(broken(&nothing)[0].contains("no node"));
        assert!(page(&[nothing]).contains("0 of 1 scripts passed"));
    }

    #[test]
    fn what_looked_at_nothing_is_not_counted_as_holding() {
        let whole = ran(invariants::made_up::history());
        assert!(line(&whole).contains("13 of 13 invariants hold, 3 s"), "{}", line(&whole));
        let mut history = invariants::made_up::history();
        (history.registrations, history.writes) = (Vec::new(), Vec::new());
        let poor = ran(history);
        assert!(line(&poor).contains("10 of 10 invariants hold, 3 had nothing to judge"), "{}", line(&poor));
        let page = page(&[poor]);
        assert_eq!(page.matches("nothing to judge").count(), 3);
    }

    #[test]
    fn a_page_names_everything_and_lets_no_name_be_markup() {
        let page = page(&[ran(invariants::made_up::history())]);
        assert!(page.contains("1 of 1 scripts passed") && page.contains("a&lt;b") && !page.contains("a<b"));
        assert!(page.contains("<svg") && page.contains("kill-worker n1"));
        assert!(invariants::ALL.iter().all(|one| page.contains(one.name)));
        assert!(!page.contains("http"), "no outside files");
    }
}
