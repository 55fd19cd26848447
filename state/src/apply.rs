//! The rules: one log entry in, the answers out.

use crate::command::Batch;
use crate::outcome::Applied;
use crate::tables::State;

impl State {
    /// Applies one log entry at `position`.
    pub fn apply(&mut self, position: u64, _batch: &Batch) -> Applied {
        self.position = position;
        Applied::default()
    }
}
