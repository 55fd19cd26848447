//! Is this node's archive whole? Every record is read and its chain checked, those that were found good but once.

use std::sync::{Mutex, TryLockError};

use tandem_state::archive::{Stream, StreamHead};

use super::record::{STREAMS, Stored, extend, ordinal};
use super::store::ArchiveShared;
use super::{ArchiveError, record};
use crate::segment::Cursor;

/// How far the streams were found whole.
#[derive(Debug, Default)]
pub(crate) struct Checked(Mutex<[Option<(Cursor, StreamHead)>; 3]>);

/// What is said while it is being read.
pub(crate) const READING: &str = "is still reading its archive: ask again in a moment";

impl ArchiveShared {
    /// Reads what is new since the last check. The heads of what this node holds from each stream's beginning on. One
    /// reads at a time: others are told to ask again, so that none holds a thread while it waits.
    pub(crate) fn check_whole(&self) -> Result<[StreamHead; 3], String> {
        let mut checked = match self.checked.0.try_lock() {
            Ok(checked) => checked,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(READING.to_owned()),
        };
        self.wait_indexed();
        let mut heads = [StreamHead::default(); 3];
        for (stream, head) in STREAMS.into_iter().zip(&mut heads) {
            let Some(slot) = checked.get_mut(ordinal(stream)) else { continue };
            let (mut cursor, mut reached) = slot.unwrap_or((Cursor::at(0), StreamHead::default()));
            self.check_stream(stream, &mut cursor, &mut reached).map_err(|e| e.to_string())?;
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
