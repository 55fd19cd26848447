//! The OPTIONS that are out: which binding each one asks about. Bounded at once and by time; past that phones are asked later.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tandem_switching::registration::BindingId;

/// Questions of the last [`KEPT_MS`] at most: about 4,000 a second, three times what 100,000 phones need.
const ASKED_MAX: usize = 32_768;
/// An answer that comes later than this is no answer.
const KEPT_MS: u64 = 8_000;

/// See the module.
#[derive(Default)]
pub(crate) struct Questions(Mutex<Asked>);

#[derive(Default)]
struct Asked {
    open: HashMap<u64, Arc<BindingId>>,
    /// In the order in which they were asked, answered ones too.
    order: VecDeque<(u64, u64)>,
}

impl Questions {
    /// Notes a question; false when there are too many.
    pub(crate) fn begin(&self, now_ms: u64, token: u64, about: Arc<BindingId>) -> bool {
        let mut asked = self.asked();
        asked.forget_before(now_ms.saturating_sub(KEPT_MS));
        if asked.order.len() >= ASKED_MAX {
            return false;
        }
        asked.order.push_back((now_ms, token));
        asked.open.insert(token, about);
        true
    }

    /// The binding that an answer is about, once.
    pub(crate) fn end(&self, token: u64) -> Option<Arc<BindingId>> {
        self.asked().open.remove(&token)
    }

    /// How many are not answered yet.
    pub(crate) fn len(&self) -> usize {
        self.asked().open.len()
    }

    /// Each change is whole before the lock is let go.
    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asked {
    fn forget_before(&mut self, before_ms: u64) {
        while let Some((_, token)) = self.order.front().copied().filter(|(asked_ms, _)| *asked_ms < before_ms)
        {
            self.order.pop_front();
            self.open.remove(&token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_state::{BindingKey, TenantId};

    fn about(number: &str) -> Arc<BindingId> {
        let key = BindingKey::Contact(String::new());
        Arc::new(BindingId { tenant: TenantId(1), number: number.into(), key })
    }

    #[test]
    fn an_answer_finds_its_question_once_and_not_when_it_comes_late() {
        let questions = Questions::default();
        assert!(questions.begin(0, 7, about("101")) && questions.begin(1, 8, about("102")));
        assert_eq!(questions.end(7), Some(about("101")));
        assert_eq!(questions.end(7), None);
        assert!(questions.begin(KEPT_MS + 2, 9, about("103")));
        assert_eq!((questions.end(8), questions.len()), (None, 1));
    }

    #[test]
    fn too_many_in_a_while_are_not_asked() {
        let questions = Questions::default();
        let asked =
            |at: u64| (0..ASKED_MAX as u64 + 5).filter(|n| questions.begin(at, *n, about("1"))).count();
        assert_eq!(asked(0), ASKED_MAX);
        assert_eq!(asked(KEPT_MS), 0);
        assert_eq!(asked(KEPT_MS + 1), ASKED_MAX);
    }
}
