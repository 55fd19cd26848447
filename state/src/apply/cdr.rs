//! The end of a call: one CDR per attempt, made from the call's record alone.

use std::collections::BTreeMap;

use super::call::{between, facts};
use super::{Effect, Step};
use crate::bounds::cut_party;
use crate::event::{CallFacts, EventKind};
use crate::ids::*;
use crate::outcome::{Outcome, Refusal, Reply};
use crate::records::*;
use crate::tables::State;

impl State {
    /// Takes a call out of the tables and writes its CDRs. Attempts without an end end now, by `cause` if one is
    /// given. Answers how many CDRs there are.
    pub(super) fn finish_call(&mut self, step: &mut Step<'_>, id: CallId, cause: Option<Cause>) -> u32 {
        self.finish_call_at(step, id, cause, step.now)
    }

    /// [`State::finish_call`], with what is open ending at an earlier time.
    pub(super) fn finish_call_at(
        &mut self,
        step: &mut Step<'_>,
        id: CallId,
        cause: Option<Cause>,
        at: ClusterTime,
    ) -> u32 {
        let Some(mut call) = self.take_call(id) else { return 0 };
        if call.attempts.is_empty() {
            // It ended before anybody was tried: a call is never without a CDR.
            let (to, start) = (call.to.clone(), call.start);
            let attempt = Attempt { number: 1, to, start, answer: None, end: None, quality: None };
            call.attempts.insert(1, attempt);
        }
        end_attempts(&mut call.attempts, at, cause);
        let currency = self.tenants.get(&call.tenant).map_or_else(String::new, |t| t.currency.clone());
        let mut last = Cause::Internal;
        for attempt in call.attempts.values() {
            let cdr = cdr_of(&call, attempt, &currency, step.now);
            last = cdr.cause;
            step.effects.push(Effect::Cdr(Box::new(cdr)));
        }
        step.event(Some(call.tenant), EventKind::CallEnded(facts(&call), last));
        u32::try_from(call.attempts.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn refuse_call(
        &mut self,
        step: &mut Step<'_>,
        epoch: NodeEpoch,
        refused: &RefusedCall,
    ) -> Outcome {
        self.acting_node(step, epoch)?;
        let tenant = self.tenants.get(&refused.tenant);
        let tenant = tenant.ok_or_else(|| Refusal::NoTenant(refused.tenant.to_string()))?;
        if self.calls.contains_key(&refused.id) {
            return Err(Refusal::Exists(format!("call {}", refused.id)));
        }
        let cdr = refused_cdr(refused, step, tenant.currency.clone());
        let facts = CallFacts {
            id: cdr.call,
            interaction: cdr.interaction,
            node: cdr.node,
            from: cdr.from.clone(),
            to: cdr.to.clone(),
        };
        let limit_hit = refused.cause == Cause::LimitReached && !self.is_at_calls_limit(refused.tenant);
        step.effects.push(Effect::Cdr(Box::new(cdr)));
        step.event(Some(refused.tenant), EventKind::CallRefused(facts, refused.cause));
        if limit_hit {
            step.event(Some(refused.tenant), EventKind::LimitHit("calls_per_second".to_owned()));
        }
        Ok(Reply::Ended(1))
    }

    /// When it is not, a call refused for a limit met the rate, which the node that took it judges by itself; the
    /// limit of calls was said by `CreateCall`.
    fn is_at_calls_limit(&self, tenant: TenantId) -> bool {
        let used = self.usage.get(&tenant).map_or(0, |usage| usage.calls);
        let limits = self.tenants.get(&tenant).map(|tenant| tenant.limits).unwrap_or_default();
        limits.calls.is_some_and(|limit| used >= limit) || limits.calls_per_second.is_none()
    }
}

fn end_attempts(attempts: &mut BTreeMap<u32, Attempt>, at: ClusterTime, cause: Option<Cause>) {
    let answered = attempts.values().any(|attempt| attempt.answer.is_some());
    for attempt in attempts.values_mut() {
        let fitting = match (attempt.answer, answered) {
            (Some(_), _) => Cause::NormalClearing,
            (None, true) => Cause::AnsweredElsewhere,
            (None, false) => Cause::Cancelled,
        };
        attempt.end.get_or_insert(AttemptEnd { at, cause: cause.unwrap_or(fitting) });
    }
}

fn cdr_of(call: &Call, attempt: &Attempt, currency: &str, now: ClusterTime) -> Cdr {
    let (at, cause) = attempt.end.as_ref().map_or((now, Cause::Internal), |end| (end.at, end.cause));
    let end = between(attempt.answer.unwrap_or(attempt.start), at, now);
    let billed_s = attempt.answer.map_or(0, |answer| seconds(end.since_ms(answer)).max(1));
    Cdr {
        id: format!("{}-{}", call.id, attempt.number),
        interaction: call.interaction,
        call: call.id,
        attempt: attempt.number,
        tenant: call.tenant,
        direction: call.direction,
        from: call.from.clone(),
        to: attempt.to.clone(),
        start: attempt.start,
        answer: attempt.answer,
        end,
        duration_s: seconds(end.since_ms(attempt.start)).max(billed_s),
        billed_s,
        cost_micros: None,
        currency: currency.to_owned(),
        cause,
        trunk: String::new(),
        node: call.owner,
        epoch: call.epoch,
        quality: attempt.quality,
    }
}

fn refused_cdr(refused: &RefusedCall, step: &Step<'_>, currency: String) -> Cdr {
    let start = refused.start.min(step.now);
    Cdr {
        id: format!("{}-1", refused.id),
        interaction: InteractionId(refused.id.0),
        call: refused.id,
        attempt: 1,
        tenant: refused.tenant,
        direction: refused.direction,
        from: cut_party(&refused.from),
        to: cut_party(&refused.to),
        start,
        answer: None,
        end: start,
        duration_s: 0,
        billed_s: 0,
        cost_micros: None,
        currency,
        cause: refused.cause,
        trunk: String::new(),
        node: step.origin.node,
        epoch: CallEpoch(1),
        quality: None,
    }
}

/// Nearest second, half a second upwards.
fn seconds(ms: u64) -> u32 {
    u32::try_from(ms.saturating_add(500) / 1000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Command;
    use crate::fixture::*;

    fn attempt(number: u32, start: u64, answer: Option<u64>, end: Option<(u64, Cause)>) -> Attempt {
        Attempt {
            number,
            to: party("102"),
            start: ClusterTime(start),
            answer: answer.map(ClusterTime),
            end: end.map(|(at, cause)| AttemptEnd { at: ClusterTime(at), cause }),
            quality: None,
        }
    }

    /// A call that starts at 10,000 and ends at `stamp` with these attempts.
    fn ended(stamp: u64, attempts: Vec<Attempt>) -> Vec<Cdr> {
        let mut state = started();
        run_at(&mut state, 10_000, propose(1, 90, create_call_with(1, CallChange::default())));
        let change = CallChange { attempts, ..CallChange::default() };
        let applied = run_at(&mut state, stamp, propose(1, 91, end_call(1, change)));
        let written = cdrs(&applied);
        assert_eq!(applied.outcomes, [Ok(Reply::Ended(u32::try_from(written.len()).unwrap()))]);
        assert_eq!(applied.events.last().unwrap().kind.name(), "call.ended");
        written
    }

    fn figures(cdrs: &[Cdr]) -> Vec<(u32, u32, u32, Cause)> {
        cdrs.iter().map(|c| (c.attempt, c.duration_s, c.billed_s, c.cause)).collect()
    }

    #[test]
    fn an_answered_attempt_is_billed_from_its_answer_to_the_nearest_second() {
        let one = |end| attempt(1, 10_000, Some(13_000), Some((end, Cause::NormalClearing)));
        assert_eq!(figures(&ended(90_000, vec![one(20_499)])), [(1, 10, 7, Cause::NormalClearing)]);
        assert_eq!(figures(&ended(90_000, vec![one(20_500)])), [(1, 11, 8, Cause::NormalClearing)]);
    }

    #[test]
    fn a_started_answer_counts_one_second() {
        let short = attempt(1, 10_000, Some(10_100), Some((10_150, Cause::NormalClearing)));
        assert_eq!(figures(&ended(90_000, vec![short])), [(1, 1, 1, Cause::NormalClearing)]);
    }

    #[test]
    fn an_attempt_that_was_not_answered_is_billed_nothing() {
        let busy = attempt(1, 10_000, None, Some((14_000, Cause::Busy)));
        let cdrs = ended(90_000, vec![busy]);
        assert_eq!(figures(&cdrs), [(1, 4, 0, Cause::Busy)]);
        assert_eq!((cdrs[0].id.as_str(), cdrs[0].answer), ("00000000000000000000000000000001-1", None));
    }

    #[test]
    fn attempts_without_an_end_end_at_the_stamp_with_a_fitting_cause() {
        let open = vec![attempt(1, 10_000, None, None), attempt(2, 10_000, Some(12_000), None)];
        let expected = [(1, 10, 0, Cause::AnsweredElsewhere), (2, 10, 8, Cause::NormalClearing)];
        assert_eq!(figures(&ended(20_000, open)), expected);
        assert_eq!(
            figures(&ended(20_000, vec![attempt(1, 11_000, None, None)])),
            [(1, 9, 0, Cause::Cancelled)]
        );
    }

    #[test]
    fn a_call_without_attempts_has_one_cdr() {
        let cdrs = ended(12_000, vec![]);
        assert_eq!(figures(&cdrs), [(1, 2, 0, Cause::Cancelled)]);
        assert_eq!(cdrs[0].to, party("102"));
    }

    #[test]
    fn times_of_the_owner_are_kept_between_the_start_of_the_call_and_the_stamp() {
        let wild = attempt(1, 5, Some(99_999_999), Some((7, Cause::NormalClearing)));
        let cdrs = ended(20_000, vec![wild]);
        let times = (cdrs[0].start, cdrs[0].answer, cdrs[0].end);
        assert_eq!(times, (ClusterTime(10_000), Some(ClusterTime(20_000)), ClusterTime(20_000)));
    }

    #[test]
    fn a_refused_call_has_one_cdr_and_no_call() {
        let mut state = started();
        let applied = run_at(&mut state, 10_000, propose(1, 90, refuse_call(5, Cause::UnknownNumber)));
        assert_eq!(applied.outcomes, [Ok(Reply::Ended(1))]);
        let names: Vec<&str> = applied.events.iter().map(|e| e.kind.name()).collect();
        assert_eq!(names, ["call.refused"]);
        assert_eq!(figures(&cdrs(&applied)), [(1, 0, 0, Cause::UnknownNumber)]);
        assert!(state.calls.is_empty());
    }

    #[test]
    fn a_refused_call_of_no_tenant_or_with_the_id_of_a_call_is_refused() {
        let mut state = started();
        run(&mut state, propose(1, 90, create_call(1)));
        let exists = Refusal::Exists("call 00000000000000000000000000000001".into());
        assert_eq!(run(&mut state, propose(1, 91, refuse_call(1, Cause::Busy))).outcomes, [Err(exists)]);
        let Command::RefuseCall { node_epoch, mut refused } = refuse_call(2, Cause::Busy) else { panic!() };
        refused.tenant = TenantId(7);
        let lost = propose(1, 92, Command::RefuseCall { node_epoch, refused });
        assert_eq!(run(&mut state, lost).outcomes, [Err(Refusal::NoTenant("7".into()))]);
    }
}
