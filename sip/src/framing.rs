//! Cutting a byte stream into messages (RFC 3261 section 18.3) and keep-alives (RFC 5626 section 4.4.1).
//!
//! The framer looks for the end of the headers and for Content-Length, and at nothing else; [`crate::Message::parse`] judges
//! what it cut. A stream that can't be cut is to be closed: there is no way to find the next message in it.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem;

use crate::message::{LINE_MAX, MESSAGE_MAX, content_length};

/// Largest header section, in bytes.
pub const HEAD_MAX: usize = 32_768;

/// What stood in the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// One whole message.
    Message(Bytes),
    /// CRLF CRLF between messages: the peer asks for a [`Frame::Pong`].
    Ping,
    /// CRLF between messages on a connection that we opened: the answer to our ping.
    Pong,
}

/// Why a stream must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Headers longer than [`HEAD_MAX`], or without an end of line for too long.
    #[error("headers too long")]
    HeadTooLong,
    /// A message longer than [`MESSAGE_MAX`].
    #[error("message too long")]
    TooLong,
    /// No Content-Length, which RFC 3261 section 18.3 demands on streams, or a broken one.
    #[error("no usable Content-Length")]
    NoLength,
}

/// The bytes of one stream that are not cut yet. Only who opened a connection pings (RFC 5626 section 3.5.1), so line
/// ends between messages are pings on a connection that we accepted and pongs on one that we opened.
#[derive(Debug, Default)]
pub struct Framer {
    opened: bool,
    buffer: BytesMut,
    /// Up to here no end of headers was found: no byte is searched twice.
    searched: usize,
    /// The length of the message at the start of the buffer, once known.
    expected: Option<usize>,
}

impl Framer {
    /// A framer for a connection that we accepted.
    pub fn new() -> Self {
        Self::default()
    }

    /// A framer for a connection that we opened.
    pub fn opened() -> Self {
        Self { opened: true, ..Self::default() }
    }

    /// Adds what was read. The buffer is bounded when every push is followed by [`Framer::next`] until it gives `None`.
    pub fn push(&mut self, read: &[u8]) {
        self.buffer.extend_from_slice(read);
    }

    /// Bytes that wait for the rest of their message.
    pub fn pending(&self) -> usize {
        self.buffer.len()
    }

    /// True while a message has begun and is not whole; line ends that wait are no message.
    pub fn is_mid_message(&self) -> bool {
        let line_ends_max = 3;
        self.expected.is_some()
            || self.buffer.iter().take(line_ends_max + 1).any(|b| !matches!(b, b'\r' | b'\n'))
    }

    /// The next frame, or `None` when more bytes are needed.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        if self.expected.is_none() {
            if let Some(frame) = self.keep_alive() {
                return Ok(Some(frame));
            }
            self.expected = self.measure()?;
        }
        match self.expected {
            Some(length) if self.buffer.len() >= length => {
                self.expected = None;
                self.searched = 0;
                Ok(Some(Frame::Message(self.buffer.split_to(length).freeze())))
            }
            _ => Ok(None),
        }
    }

    /// Takes line ends off the front. Half a ping waits for the rest; a single line end before a message is dropped.
    fn keep_alive(&mut self) -> Option<Frame> {
        if self.opened && self.buffer.starts_with(b"\r\n") {
            self.buffer.advance(2);
            return Some(Frame::Pong);
        }
        if self.buffer.starts_with(b"\r\n\r\n") {
            self.buffer.advance(4);
            return Some(Frame::Ping);
        }
        if self.buffer.starts_with(b"\r\n") && self.buffer.get(2).is_some_and(|next| *next != b'\r') {
            self.buffer.advance(2);
        }
        None
    }

    /// The length of the message that begins the buffer, once its headers are all there.
    fn measure(&mut self) -> Result<Option<usize>, FrameError> {
        let from = self.searched.saturating_sub(3);
        let unseen = self.buffer.get(from..).unwrap_or_default();
        let Some(end) = memmem::find(unseen, b"\r\n\r\n") else {
            self.searched = self.buffer.len();
            return if self.searched > HEAD_MAX { Err(FrameError::HeadTooLong) } else { Ok(None) };
        };
        let head = from.saturating_add(end).saturating_add(4);
        if head > HEAD_MAX {
            return Err(FrameError::HeadTooLong);
        }
        let body = body_length(self.buffer.get(..head).unwrap_or_default())?;
        let length = head.saturating_add(body);
        if length > MESSAGE_MAX { Err(FrameError::TooLong) } else { Ok(Some(length)) }
    }
}

/// The value of Content-Length in a header section. Two that differ are as bad as none: they smuggle.
fn body_length(head: &[u8]) -> Result<usize, FrameError> {
    let mut length = None;
    for line in head.split(|b| *b == b'\n') {
        if line.len() > LINE_MAX {
            return Err(FrameError::HeadTooLong);
        }
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let (name, value) = line.split_at_checked(colon).ok_or(FrameError::NoLength)?;
        let name = name.trim_ascii();
        if !(name.eq_ignore_ascii_case(b"content-length") || name.eq_ignore_ascii_case(b"l")) {
            continue;
        }
        let value =
            content_length(value.get(1..).unwrap_or_default().trim_ascii()).ok_or(FrameError::NoLength)?;
        if length.replace(value).is_some_and(|before| before != value) {
            return Err(FrameError::NoLength);
        }
    }
    length.ok_or(FrameError::NoLength)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &[u8] = b"OPTIONS sip:a SIP/2.0\r\nContent-Length: 3\r\n\r\nabc";
    const TWO: &[u8] = b"BYE sip:a SIP/2.0\r\nl : 0\r\n\r\n";

    fn frames(framer: &mut Framer) -> Vec<Frame> {
        std::iter::from_fn(|| framer.next().unwrap()).collect()
    }

    #[test]
    fn messages_and_keep_alives_are_cut_wherever_the_reads_fall() {
        let stream = [ONE, b"\r\n\r\n", TWO, ONE, b"\r\n\r\n\r\n\r\n"].concat();
        let whole = {
            let mut framer = Framer::new();
            framer.push(&stream);
            frames(&mut framer)
        };
        assert_eq!(
            whole,
            [
                Frame::Message(ONE.into()),
                Frame::Ping,
                Frame::Message(TWO.into()),
                Frame::Message(ONE.into()),
                Frame::Ping,
                Frame::Ping
            ]
        );
        let mut framer = Framer::new();
        let mut byte_by_byte = Vec::new();
        for byte in &stream {
            framer.push(&[*byte]);
            byte_by_byte.extend(frames(&mut framer));
        }
        assert_eq!((byte_by_byte, framer.pending()), (whole, 0));
    }

    #[test]
    fn on_a_connection_that_we_opened_a_line_end_is_a_pong() {
        let mut framer = Framer::opened();
        framer.push(b"\r\n");
        assert_eq!(frames(&mut framer), [Frame::Pong]);
        framer.push(&[b"\r\n", TWO].concat());
        assert_eq!(frames(&mut framer), [Frame::Pong, Frame::Message(TWO.into())]);
    }

    #[test]
    fn a_single_line_end_before_a_message_is_dropped() {
        let mut framer = Framer::new();
        framer.push(&[b"\r\n", TWO].concat());
        assert_eq!(frames(&mut framer), [Frame::Message(TWO.into())]);
    }

    #[test]
    fn half_a_message_is_told_from_half_a_keep_alive() {
        let mut framer = Framer::new();
        let mut after = |bytes: &[u8]| {
            framer.push(bytes);
            while framer.next().unwrap().is_some() {}
            framer.is_mid_message()
        };
        assert!(!after(b""));
        assert!(!after(b"\r\n\r"));
        assert!(!after(b"\n"));
        assert!(!after(b"\r\n"));
        assert!(after(b"O"));
        assert!(after(ONE.get(1..ONE.len() - 1).unwrap()));
        assert!(!after(b"c"));
        assert!(!after(&[TWO, b"\r"].concat()));
    }

    #[test]
    fn streams_that_cannot_be_cut_are_refused() {
        let refused = |bytes: &[u8]| {
            let mut framer = Framer::new();
            framer.push(bytes);
            framer.next()
        };
        assert_eq!(refused(b"BYE sip:a SIP/2.0\r\n\r\n"), Err(FrameError::NoLength));
        assert_eq!(refused(b"BYE sip:a SIP/2.0\r\nl: 1\r\nl: 2\r\n\r\n"), Err(FrameError::NoLength));
        assert_eq!(refused(b"BYE sip:a SIP/2.0\r\nl: -1\r\n\r\n"), Err(FrameError::NoLength));
        assert_eq!(refused(b"BYE sip:a SIP/2.0\r\nl: 999999\r\n\r\n"), Err(FrameError::TooLong));
        assert_eq!(refused(&vec![b'x'; HEAD_MAX + 1]), Err(FrameError::HeadTooLong));
    }
}
