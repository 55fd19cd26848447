//! Is this node's archive whole? Every record is read and its chain checked, those that were found good but once.

use std::sync::Mutex;

use tandem_state::archive::{Stream, StreamHead};

use super::record::{STREAMS, Stored, extend, ordinal};
use super::store::ArchiveShared;
use super::{ArchiveError, record};
use crate::segment::Cursor;

/// How far the streams were found whole.
#[derive(Debug, Default)]
pub(crate) struct Checked(Mutex<[Option<(Cursor, StreamHead)>; 3]>);

impl ArchiveShared {
    /// Reads what is new since the last check. The heads of what this node holds from each stream's beginning on.
    pub(crate) fn check_whole(&self) -> Result<[StreamHead; 3], ArchiveError> {
        self.wait_indexed();
        let mut checked = self.checked.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut heads = [StreamHead::default(); 3];
        for (stream, head) in STREAMS.into_iter().zip(&mut heads) {
            let Some(slot) = checked.get_mut(ordinal(stream)) else { continue };
            let (mut cursor, mut reached) = slot.unwrap_or((Cursor::at(0), StreamHead::default()));
            self.check_stream(stream, &mut cursor, &mut reached)?;
            *slot = Some((cursor, reached));
            *head = reached;
        }
        Ok(heads)
    }

    fn check_stream(
        &self,
        stream: Stream,
        cursor: &mut Cursor,
        head: &mut StreamHead,
    ) -> Result<(), ArchiveError> {
        loop {
            let passed = self.reader(stream)?.pass(cursor)?;
            if passed.is_empty() {
                return Ok(());
            }
            for passed in passed {
                let stored = Stored(passed.payload);
                *head = extend(*head, stored.record());
                if stored.chain() != Some(head.chain) {
                    let name = record::directory(stream);
                    let why = format!("the chain of {name} breaks at record {}", passed.number);
                    return Err(ArchiveError::Storage(why));
                }
            }
        }
    }
}
