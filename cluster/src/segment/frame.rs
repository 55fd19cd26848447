//! A record's frame: `magic u32 | len u32 | crc u32 | number u64 | durable u64 | payload`, little endian. The checksum
//! covers everything but itself and the magic.

/// Bytes before the payload.
pub(crate) const HEADER: usize = 28;
/// Longest payload that is written or believed.
pub(crate) const PAYLOAD_MAX: usize = 64 * 1024 * 1024;

const RECORD: u32 = 0x54_4e_52_31;
const MARK: u32 = 0x54_4e_4d_31;

/// What a frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// The record's number; of a mark, that of the record that will follow.
    pub(crate) number: u64,
    /// All records below had been synced when this was written.
    pub(crate) durable: u64,
    /// `None` for a mark.
    pub(crate) payload: Option<&'a [u8]>,
    /// Bytes of header and payload.
    pub(crate) size: usize,
}

/// Appends a record's frame to `out`.
pub(crate) fn put_record(out: &mut Vec<u8>, number: u64, durable: u64, payload: &[u8]) {
    put(out, RECORD, number, durable, payload);
}

/// Appends a mark to `out`.
pub(crate) fn put_mark(out: &mut Vec<u8>, number: u64, durable: u64) {
    put(out, MARK, number, durable, &[]);
}

fn put(out: &mut Vec<u8>, magic: u32, number: u64, durable: u64, payload: &[u8]) {
    let len = u32::try_from(payload.len()).expect("callers keep payloads below PAYLOAD_MAX");
    out.extend_from_slice(&magic.to_le_bytes());
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&checksum(magic, len, number, durable, payload).to_le_bytes());
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&durable.to_le_bytes());
    out.extend_from_slice(payload);
}

fn checksum(magic: u32, len: u32, number: u64, durable: u64, payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new_with_initial(magic);
    crc.update(&len.to_le_bytes());
    crc.update(&number.to_le_bytes());
    crc.update(&durable.to_le_bytes());
    crc.update(payload);
    crc.finalize()
}

/// The frame at the start of `bytes`, or what is wrong there.
pub(crate) fn read(bytes: &[u8]) -> Result<Frame<'_>, &'static str> {
    let short = "the record is incomplete";
    let (magic, rest) = take_u32(bytes).ok_or(short)?;
    if magic != RECORD && magic != MARK {
        return Err("no record begins here");
    }
    let (len, rest) = take_u32(rest).ok_or(short)?;
    let (crc, rest) = take_u32(rest).ok_or(short)?;
    let (number, rest) = take_u64(rest).ok_or(short)?;
    let (durable, rest) = take_u64(rest).ok_or(short)?;
    let size =
        usize::try_from(len).ok().filter(|size| *size <= PAYLOAD_MAX).ok_or("its length is impossible")?;
    let payload = rest.get(..size).ok_or(short)?;
    if crc != checksum(magic, len, number, durable, payload) {
        return Err("its checksum does not match");
    }
    let payload = (magic == RECORD).then_some(payload);
    Ok(Frame { number, durable, payload, size: HEADER + size })
}

/// The greatest durable mark of any intact frame that begins anywhere in `bytes`.
pub(crate) fn greatest_mark(bytes: &[u8]) -> Option<u64> {
    let mut greatest = None;
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| rest.len() >= HEADER) {
        match read(rest) {
            Ok(frame) => {
                greatest = greatest.max(Some(frame.durable));
                at += frame.size;
            }
            Err(_) => at += 1,
        }
    }
    greatest
}

fn take_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*head), rest))
}

fn take_u64(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*head), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_frame_reads_back_as_written(number: u64, durable: u64, payload: Vec<u8>) {
            let mut bytes = Vec::new();
            put_record(&mut bytes, number, durable, &payload);
            let frame = read(&bytes).unwrap();
            prop_assert_eq!(frame.size, bytes.len());
            prop_assert_eq!(frame, Frame { number, durable, payload: Some(&payload), size: frame.size });
        }

        #[test]
        fn any_changed_byte_is_noticed(payload: Vec<u8>, at: prop::sample::Index, flip in 1u8..) {
            let mut bytes = Vec::new();
            put_record(&mut bytes, 7, 3, &payload);
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            prop_assert!(read(&bytes).is_err());
        }

        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>) {
            let _ = read(&bytes);
            let _ = greatest_mark(&bytes);
        }
    }
}
