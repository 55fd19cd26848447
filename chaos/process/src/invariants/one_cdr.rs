//! One CDR per attempt, the same on all nodes, and right. An attempt whose caller was never answered may have none, when its
//! node died before anything of it was committed; never two.

use super::Judgement;
use crate::history::History;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use tandem_phones::watch::Call;

/// Tenant, from, to.
type Who = (String, String, String);

pub(super) fn judge(history: &History) -> Judgement {
    let mut judgement = Judgement::default();
    let Some(first) = history.end.first() else { return judgement };
    judgement.broken.extend(differences(history));
    let mut calls: BTreeMap<Who, Vec<&Call>> = BTreeMap::new();
    for (tenant, call) in history.calls() {
        calls.entry((tenant.to_owned(), call.from.clone(), call.to.clone())).or_default().push(call);
    }
    let mut cdrs: BTreeMap<Who, Vec<&Value>> = BTreeMap::new();
    for cdr in &first.cdrs {
        cdrs.entry((text(cdr, "tenant"), text(cdr, "from"), text(cdr, "to"))).or_default().push(cdr);
    }
    for (who, calls) in &calls {
        let cdrs = cdrs.get(who).cloned().unwrap_or_default();
        judgement.broken.extend(counted(who, calls, &cdrs));
        judgement.broken.extend(billed(history, who, calls, &cdrs));
    }
    judgement.looked_at = calls.values().map(Vec::len).sum();
    judgement.figures = format!("{} attempts, {} CDRs", judgement.looked_at, first.cdrs.len());
    judgement
}

fn text(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn differences(history: &History) -> Vec<String> {
    let all = |cdrs: &[Value]| cdrs.iter().map(Value::to_string).collect::<BTreeSet<String>>();
    let mut broken = Vec::new();
    let first = history.end.first().map(|node| all(&node.cdrs)).unwrap_or_default();
    for node in &history.end {
        let own = all(&node.cdrs);
        if own.len() != node.cdrs.len() {
            broken.push(format!("{}: a CDR is there twice", node.name));
        }
        let different = own.symmetric_difference(&first).count();
        if different > 0 {
            broken.push(format!("{}: {different} CDRs are not those of the first node", node.name));
        }
    }
    broken
}

fn counted((tenant, from, to): &Who, calls: &[&Call], cdrs: &[&Value]) -> Option<String> {
    let answered = calls.iter().filter(|call| call.answered_ms.is_some()).count();
    let with_answer = cdrs.iter().filter(|cdr| text(cdr, "status") == "answered").count();
    let is_right = cdrs.len() <= calls.len() && with_answer >= answered;
    (!is_right).then(|| {
        format!(
            "{tenant}, {from} to {to}: {} attempts of which {answered} were answered, {} CDRs of which {with_answer} say so",
            calls.len(),
            cdrs.len()
        )
    })
}

/// The bill of a pair that talked once; a call whose end nobody heard in time is billed to what the switch knows.
fn billed(history: &History, (tenant, from, to): &Who, calls: &[&Call], cdrs: &[&Value]) -> Option<String> {
    let ([call], [cdr]) = (calls, cdrs) else { return None };
    let (Some(answered), Some(hung_up), None) = (call.answered_ms, call.hung_up_ms, &call.failure) else {
        return None;
    };
    let talked_ms = hung_up.saturating_sub(answered);
    let billed_ms = cdr.get("billed_s")?.as_u64()? * 1_000;
    // It is rounded to the nearest second.
    let off_ms = billed_ms.abs_diff(talked_ms).saturating_sub(500);
    (off_ms > history.bounds.billed_off_s * 1_000)
        .then(|| format!("{tenant}, {from} to {to}: billed {billed_ms} ms, talked {talked_ms} ms"))
}

#[cfg(test)]
mod tests {
    use super::super::made_up;
    use super::*;

    fn broken(change: impl FnOnce(&mut History)) -> String {
        made_up::broken(judge, change)
    }

    #[test]
    fn two_cdrs_of_one_attempt_are_found() {
        let found = broken(|history| {
            for node in &mut history.end {
                let mut second = node.cdrs[0].clone();
                second["id"] = "2".into();
                node.cdrs.push(second);
            }
        });
        assert!(found.contains("1 attempts of which 1 were answered, 2 CDRs"), "{found}");
    }

    #[test]
    fn an_answered_call_without_cdr_is_found() {
        let found = broken(|history| history.end.iter_mut().for_each(|node| node.cdrs.clear()));
        assert!(found.contains("0 CDRs"), "{found}");
    }

    #[test]
    fn nodes_that_tell_different_cdrs_are_found() {
        let found = broken(|history| history.end[2].cdrs[0]["billed_s"] = 11.into());
        assert!(found.contains("n3: 2 CDRs are not those of the first node"), "{found}");
    }

    #[test]
    fn a_wrong_bill_is_found() {
        let found = broken(|history| {
            history.end.iter_mut().for_each(|node| node.cdrs[0]["billed_s"] = 14.into());
        });
        assert!(found.contains("billed 14000 ms, talked 10000 ms"), "{found}");
    }
}
