//! Building messages. A built message is scanned like one from outside, so that nothing leaves that we would refuse
//! ourselves; CR, LF and NUL in any value are refused, so that no value can add a header.

mod request;
mod response;

use bytes::Bytes;

use crate::header::Header;
use crate::message::{Message, ParseError};

pub use request::{RequestBuilder, ack_for, cancel_for};
pub use response::ResponseBuilder;

/// Why a message could not be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// A value holds a CR, LF or NUL, or a header name is no token.
    #[error("a value would add a header")]
    Injection,
    /// What was put together is no message: usually a header is missing.
    #[error("not a message: {0}")]
    Incomplete(#[from] ParseError),
}

/// The text of a message while it grows.
#[derive(Clone, Debug)]
struct Draft {
    text: Vec<u8>,
    injected: bool,
}

impl Draft {
    fn new(start_line: &[&str]) -> Self {
        let mut draft = Self { text: Vec::with_capacity(1024), injected: false };
        start_line.iter().for_each(|part| draft.put(part));
        draft.text.extend_from_slice(b"\r\n");
        draft
    }

    fn put(&mut self, value: &str) {
        self.injected |= value.bytes().any(|b| matches!(b, b'\r' | b'\n' | 0));
        self.text.extend_from_slice(value.as_bytes());
    }

    fn header(&mut self, name: Header<'_>, value: &[&str]) {
        self.injected |= !name.as_str().bytes().all(crate::message::is_token);
        self.put(name.as_str());
        self.text.extend_from_slice(b": ");
        value.iter().for_each(|part| self.put(part));
        self.text.extend_from_slice(b"\r\n");
    }

    fn finish(mut self, body: &[u8]) -> Result<Message, BuildError> {
        self.header(Header::ContentLength, &[&body.len().to_string()]);
        if self.injected {
            return Err(BuildError::Injection);
        }
        self.text.extend_from_slice(b"\r\n");
        self.text.extend_from_slice(body);
        // What is sent may be kept for half a minute, a hundred thousand times: it takes no more room than it needs.
        Ok(Message::parse(Bytes::copy_from_slice(&self.text))?)
    }
}

#[cfg(test)]
mod tests;
