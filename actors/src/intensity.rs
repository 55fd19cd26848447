//! How often a supervisor restarts a child before it gives up.

use std::collections::VecDeque;

/// Restarts within a span of time.
#[derive(Debug, Clone)]
pub(crate) struct Intensity {
    restarts_max: usize,
    span_ms: u64,
    recent_ms: VecDeque<u64>,
}

impl Intensity {
    /// At most `restarts_max` within `span_ms`.
    pub(crate) fn new(restarts_max: usize, span_ms: u64) -> Self {
        Intensity { restarts_max, span_ms, recent_ms: VecDeque::new() }
    }

    /// Counts a restart at `now_ms`; false when it is one too many.
    pub(crate) fn allow(&mut self, now_ms: u64) -> bool {
        while self.recent_ms.front().is_some_and(|at| now_ms.saturating_sub(*at) >= self.span_ms) {
            self.recent_ms.pop_front();
        }
        if self.recent_ms.len() >= self.restarts_max {
            return false;
        }
        self.recent_ms.push_back(now_ms);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_restarted_so_often_in_a_span_and_then_given_up() {
        let mut intensity = Intensity::new(2, 1_000);
        assert!(intensity.allow(0) && intensity.allow(10));
        assert!(!intensity.allow(999));
        assert!(intensity.allow(1_000), "the first is forgotten by now");
    }
}
