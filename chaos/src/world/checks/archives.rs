//! Archives are equal and chained: every replica has every record, and its chain leads to the head in the state.

use tandem_state::archive::{Stream, StreamHead};

use super::Checked;
use crate::world::history::History;
use crate::world::replica::Replica;

pub(super) fn equal_and_chained(history: &History, replicas: &[&Replica]) -> Checked {
    for stream in [Stream::Cdrs, Stream::Events, Stream::Audit] {
        let expected: Vec<_> = history.archive().filter(|record| record.stream == stream).collect();
        let mut head = StreamHead::default();
        expected.iter().for_each(|record| head.extend(record));
        for replica in replicas {
            if !replica.stream(stream).iter().eq(expected.iter().copied()) {
                return Err(format!("{stream:?} differ"));
            }
            if replica.state.streams.get(&stream).copied().unwrap_or_default() != head {
                return Err(format!("the chain of {stream:?} does not lead to its head"));
            }
        }
    }
    Ok(())
}
