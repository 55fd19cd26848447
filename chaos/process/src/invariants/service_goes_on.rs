//! Registrations and writes are taken all the time: between two acknowledgements passes no more than the bound, whatever
//! node is lost.

use super::Judgement;
use crate::history::History;

pub(super) fn judge(history: &History) -> Judgement {
    let mut judgement = Judgement::default();
    let registered = history.registrations.iter().filter_map(|one| one.acknowledged_ms);
    let written = history.writes.iter().filter_map(|one| one.acknowledged_ms);
    for (what, mut at) in [("registration", registered.collect::<Vec<_>>()), ("write", written.collect())] {
        let asked = if what == "write" { history.writes.len() } else { history.registrations.len() };
        if asked == 0 {
            continue;
        }
        judgement.looked_at += at.len();
        at.extend([history.from_ms, history.until_ms]);
        at.sort_unstable();
        let longest = at.iter().zip(at.iter().skip(1)).max_by_key(|(before, after)| **after - **before);
        let (from, gap) = longest.map_or((0, 0), |(before, after)| (*before, after - before));
        if gap > history.bounds.service_gap_ms {
            let when = history.time(from);
            judgement.broken.push(format!("no {what} was acknowledged for {gap} ms from {when}"));
        }
        judgement.figures += &format!(
            "{}longest time without a {what}: {gap} ms",
            if judgement.figures.is_empty() { "" } else { "; " }
        );
    }
    judgement
}

#[cfg(test)]
mod tests {
    use super::super::made_up;
    use super::*;

    #[test]
    fn a_time_in_which_nobody_is_served_is_found() {
        let mut history = made_up::history();
        history.registrations.retain(|one| one.acknowledged_ms.is_some_and(|at| at < 5_000));
        let broken = judge(&history).broken;
        assert!(broken[0].starts_with("no registration was acknowledged for"), "{broken:?}");
        history.writes.iter_mut().for_each(|write| write.acknowledged_ms = None);
        assert_eq!(judge(&history).broken.len(), 2);
    }
}
