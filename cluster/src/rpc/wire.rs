//! Frames: `length u32 | kind u8 | id u64 | method u8 | payload`, little endian; the length counts what follows it.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest frame that is sent or taken.
pub(crate) const FRAME_MAX: usize = 64 * 1024 * 1024;
const HEAD: usize = 1 + 8 + 1;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Wants a response of the same id.
    Request,
    /// Wants none.
    OneWay,
    /// A response.
    Done,
    /// A refusal in words.
    Failed,
    /// The server is still at it.
    Pulse,
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Kind::Request => 1,
            Kind::OneWay => 2,
            Kind::Done => 3,
            Kind::Failed => 4,
            Kind::Pulse => 5,
        }
    }

    fn of(byte: u8) -> Option<Kind> {
        [Kind::Request, Kind::OneWay, Kind::Done, Kind::Failed, Kind::Pulse]
            .into_iter()
            .find(|k| k.byte() == byte)
    }
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    pub(crate) id: u64,
    pub(crate) method: u8,
    pub(crate) payload: Bytes,
}

impl Frame {
    /// Appends the frame to `out`.
    pub(crate) fn put(&self, out: &mut BytesMut) {
        out.reserve(4 + HEAD + self.payload.len());
        out.put_u32_le(u32::try_from(HEAD + self.payload.len()).unwrap_or(u32::MAX));
        out.put_u8(self.kind.byte());
        out.put_u64_le(self.id);
        out.put_u8(self.method);
        out.put_slice(&self.payload);
    }

    /// Takes a whole frame from the front of `bytes`, if there is one.
    pub(crate) fn take(bytes: &mut BytesMut) -> io::Result<Option<Frame>> {
        let Some(length) = bytes.first_chunk::<4>() else { return Ok(None) };
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        if !(HEAD..=FRAME_MAX).contains(&length) {
            return Err(invalid("a frame of an impossible length"));
        }
        if bytes.len() < 4 + length {
            bytes.reserve(4 + length - bytes.len());
            return Ok(None);
        }
        bytes.advance(4);
        let mut frame = bytes.split_to(length).freeze();
        let kind = Kind::of(frame.get_u8()).ok_or_else(|| invalid("a frame of an unknown kind"))?;
        let id = frame.get_u64_le();
        let method = frame.get_u8();
        Ok(Some(Frame { kind, id, method, payload: frame }))
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Reads the next frame; `None` at the end of the stream between frames.
pub(crate) async fn read(
    from: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
) -> io::Result<Option<Frame>> {
    loop {
        if let Some(frame) = Frame::take(buffer)? {
            return Ok(Some(frame));
        }
        buffer.reserve(16 * 1024);
        if from.read_buf(buffer).await? == 0 {
            return if buffer.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
    }
}

/// Longest message of a handshake.
const PLAIN_MAX: usize = 16 * 1024;

/// Writes one message of the handshake.
pub(crate) async fn write_plain(
    to: &mut (impl AsyncWrite + Unpin + ?Sized),
    message: &impl serde::Serialize,
) -> io::Result<()> {
    let bytes = postcard::to_stdvec(message).map_err(io::Error::other)?;
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    to.write_all(&length.to_le_bytes()).await?;
    to.write_all(&bytes).await?;
    to.flush().await
}

/// Reads one message of the handshake.
pub(crate) async fn read_plain<T: serde::de::DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin + ?Sized),
) -> io::Result<T> {
    decode_plain(&read_bytes(from).await?)
}

/// The bytes of one message of the handshake.
pub(crate) async fn read_bytes(from: &mut (impl AsyncRead + Unpin + ?Sized)) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length).await?;
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > PLAIN_MAX {
        return Err(invalid("this is not a node's handshake"));
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// What such bytes say.
pub(crate) fn decode_plain<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    postcard::from_bytes(bytes).map_err(|_| invalid("this is not a node's handshake"))
}

/// What bytes say in which an older release leaves out the last fields: a number reads as 0, a text as empty, an option as
/// none. (The other way round, an older release does not look at what follows the fields that it knows.)
pub(crate) fn decode_grown<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    decode_plain(&[bytes, &[0; 8]].concat())
}

/// Reads one such message.
pub(crate) async fn read_grown<T: serde::de::DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin + ?Sized),
) -> io::Result<T> {
    decode_grown(&read_bytes(from).await?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_frame_arrives_as_sent_in_any_pieces(id: u64, method: u8, payload: Vec<u8>, cut: prop::sample::Index) {
            let frame = Frame { kind: Kind::Request, id, method, payload: payload.into() };
            let mut whole = BytesMut::new();
            frame.put(&mut whole);
            let cut = cut.index(whole.len());
            let mut first = BytesMut::from(&whole[..cut]);
            prop_assert_eq!(Frame::take(&mut first).unwrap(), None);
            first.extend_from_slice(&whole[cut..]);
            prop_assert_eq!(Frame::take(&mut first).unwrap(), Some(frame));
            prop_assert!(first.is_empty());
        }

        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>) {
            let mut bytes = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = Frame::take(&mut bytes) {}
        }
    }
}
