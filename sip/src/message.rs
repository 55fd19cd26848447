//! A SIP message: immutable, cheap to clone, over the bytes that came from the wire.
//!
//! Parsing checks what every later step relies on (start line, Via, From, To, Call-ID, CSeq, length), so that the
//! accessors of those have no error. All other headers stay text until asked for.

mod edit;
mod malformed;
mod scan;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use crate::header::{Header, Id};
use crate::method::Method;
use crate::name_addr::{NameAddr, seconds};
use crate::params::Split;
use crate::via::Via;

pub use malformed::refuse_malformed;
pub use scan::ParseError;
pub(crate) use scan::{content_length, is_token};

/// Largest message, in bytes: what fits a datagram.
pub const MESSAGE_MAX: usize = 65_535;
/// Most header lines.
pub const HEADERS_MAX: usize = 256;
/// Longest header with its continuation lines, in bytes.
pub const LINE_MAX: usize = 8_192;

/// A parsed request or response.
#[derive(Clone, Debug)]
pub struct Message {
    inner: Arc<Inner>,
}

#[derive(Clone, Debug)]
struct Inner {
    bytes: Bytes,
    start: Start,
    lines: Vec<Line>,
    body: usize,
    /// The first value of the first Via line.
    via: Span,
    cseq: CSeq,
}

#[derive(Clone, Debug)]
enum Start {
    Request { uri: Span },
    Response { status: u16, reason: Span },
}

/// One header line: which header, and where its name and (trimmed, unfolded) value stand.
#[derive(Clone, Copy, Debug)]
struct Line {
    id: Id,
    name: Span,
    value: Span,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    end: u32,
}

/// The value of CSeq.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CSeq {
    /// The sequence number, below 2^31.
    pub number: u32,
    /// The method.
    pub method: Method,
}

/// The Contact values of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contacts<'a> {
    /// `Contact: *` (RFC 3261 section 10.2.2).
    Star,
    /// The addresses, in order; empty without a Contact.
    List(Vec<NameAddr<'a>>),
}

impl Message {
    /// Scans a whole message: a datagram, or what the framer cut from a stream. Bytes after Content-Length are
    /// dropped; folded lines are joined and bytes that are not UTF-8 become `?` (only then is the text copied).
    pub fn parse(bytes: Bytes) -> Result<Self, ParseError> {
        scan::scan(bytes).map(|inner| Self { inner: Arc::new(inner) })
    }

    /// True for a request.
    pub fn is_request(&self) -> bool {
        matches!(self.inner.start, Start::Request { .. })
    }

    /// True for a response.
    pub fn is_response(&self) -> bool {
        !self.is_request()
    }

    /// The request's method; for a response that of its CSeq.
    pub fn method(&self) -> &Method {
        &self.inner.cseq.method
    }

    /// The Request-URI; empty for a response.
    pub fn request_uri(&self) -> &str {
        match &self.inner.start {
            Start::Request { uri } => self.text(*uri),
            Start::Response { .. } => "",
        }
    }

    /// The status code of a response, 100 to 699.
    pub fn status(&self) -> Option<u16> {
        match &self.inner.start {
            Start::Request { .. } => None,
            Start::Response { status, .. } => Some(*status),
        }
    }

    /// The reason phrase of a response; empty for a request.
    pub fn reason(&self) -> &str {
        match &self.inner.start {
            Start::Request { .. } => "",
            Start::Response { reason, .. } => self.text(*reason),
        }
    }

    /// The first value line of a header.
    pub fn header<'n>(&self, name: impl Into<Header<'n>>) -> Option<&str> {
        self.headers(name).next()
    }

    /// The value of each line of a header, in order; comma lists are not split.
    pub fn headers<'s, 'n, N: Into<Header<'n>>>(
        &'s self,
        name: N,
    ) -> impl Iterator<Item = &'s str> + use<'s, 'n, N> {
        let name = name.into();
        let id = name.id();
        let same = move |line: &&Line| {
            line.id == id && (id != Id::Other || self.text(line.name).eq_ignore_ascii_case(name.as_str()))
        };
        self.inner.lines.iter().filter(same).map(move |line| self.text(line.value))
    }

    /// Every value of a list header, split at commas outside of quotes and angle brackets.
    pub fn values<'s, 'n, N: Into<Header<'n>>>(
        &'s self,
        name: N,
    ) -> impl Iterator<Item = &'s str> + use<'s, 'n, N> {
        self.headers(name).flat_map(|line| Split::new(line, b','))
    }

    /// Every header line in order: name and value.
    pub fn all_headers(&self) -> impl Iterator<Item = (Header<'_>, &str)> {
        let lines = self.inner.lines.iter();
        lines.map(|line| (Header::from_id(line.id, self.text(line.name)), self.text(line.value)))
    }

    /// True when a list header such as Supported or Require holds this token.
    pub fn has_token<'n>(&self, name: impl Into<Header<'n>>, token: &str) -> bool {
        self.values(name).any(|value| value.eq_ignore_ascii_case(token))
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        self.inner.bytes.get(self.inner.body..).unwrap_or_default()
    }

    /// The body, sharing the message's memory.
    pub fn body_bytes(&self) -> Bytes {
        self.inner.bytes.slice(self.inner.body..)
    }

    /// The body as text, when it is UTF-8.
    pub fn body_text(&self) -> Option<&str> {
        std::str::from_utf8(self.body()).ok()
    }

    /// True when the body has this media type (compared without parameters, as `application/sdp`).
    pub fn has_body_of(&self, media_type: &str) -> bool {
        let plain =
            |value: &str| value.split(';').next().is_some_and(|t| t.trim().eq_ignore_ascii_case(media_type));
        !self.body().is_empty() && self.header(Header::ContentType).is_some_and(plain)
    }

    /// The whole message as it is sent.
    pub fn bytes(&self) -> &Bytes {
        &self.inner.bytes
    }

    /// The Call-ID.
    pub fn call_id(&self) -> &str {
        self.header(Header::CallId).unwrap_or("")
    }

    /// The CSeq.
    pub fn cseq(&self) -> &CSeq {
        &self.inner.cseq
    }

    /// The From.
    pub fn from(&self) -> NameAddr<'_> {
        self.checked_addr(Header::From)
    }

    /// The To.
    pub fn to(&self) -> NameAddr<'_> {
        self.checked_addr(Header::To)
    }

    /// The top Via: the last hop before us.
    pub fn via_top(&self) -> Via<'_> {
        Via::parse(self.via_top_text()).expect("checked by the scanner")
    }

    /// The top Via as it was written.
    pub fn via_top_text(&self) -> &str {
        self.text(self.inner.via)
    }

    /// How many hops the message took.
    pub fn via_count(&self) -> usize {
        self.values(Header::Via).count()
    }

    /// The contacts; values that are no address are left out.
    pub fn contacts(&self) -> Contacts<'_> {
        if self.values(Header::Contact).any(|value| value == "*") {
            return Contacts::Star;
        }
        Contacts::List(self.values(Header::Contact).filter_map(|v| NameAddr::parse(v).ok()).collect())
    }

    /// The first Contact: the remote target of a dialog.
    pub fn contact(&self) -> Option<NameAddr<'_>> {
        self.values(Header::Contact).find_map(|value| NameAddr::parse(value).ok())
    }

    /// Expires in seconds; a value out of range counts as the largest, a broken one as absent.
    pub fn expires(&self) -> Option<u32> {
        self.header(Header::Expires).and_then(seconds)
    }

    /// Max-Forwards, at most 255; a broken one counts as absent.
    pub fn max_forwards(&self) -> Option<u8> {
        let hops = self.header(Header::MaxForwards).and_then(seconds)?;
        Some(u8::try_from(hops).unwrap_or(u8::MAX))
    }

    /// The addresses of Route, Record-Route, Path or Service-Route, in order.
    pub fn routes<'s>(&'s self, name: Header<'static>) -> impl Iterator<Item = NameAddr<'s>> + use<'s> {
        self.values(name).filter_map(|value| NameAddr::parse(value).ok())
    }

    /// This request with `received` and `rport` in its top Via, as RFC 3261 section 18.2.1 and RFC 3581 section 4 ask of
    /// who receives it. Bytes are copied only when something is to be written.
    pub fn stamped(&self, source: SocketAddr) -> Self {
        edit::stamp(self, source)
    }

    /// This message with another value in place of its top Via, for a flow node that sends what the owner of a
    /// call made. A value with control characters is refused.
    pub fn with_top_via(&self, value: &str) -> Result<Self, ParseError> {
        edit::replace_top_via(self, value)
    }

    fn checked_addr(&self, name: Header<'_>) -> NameAddr<'_> {
        self.header(name).and_then(|v| NameAddr::parse(v).ok()).expect("checked by the scanner")
    }

    fn via_span(&self) -> std::ops::Range<usize> {
        self.inner.via.range()
    }

    fn text(&self, span: Span) -> &str {
        self.inner.text(span)
    }
}

impl Inner {
    fn text(&self, span: Span) -> &str {
        self.bytes.get(span.range()).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or("")
    }
}

impl Span {
    /// Both ends are inside a message of at most [`MESSAGE_MAX`] bytes.
    fn new(start: usize, end: usize) -> Self {
        let small = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Self { start: small(start), end: small(end) }
    }

    fn range(self) -> std::ops::Range<usize> {
        let wide = |at: u32| usize::try_from(at).unwrap_or(usize::MAX);
        wide(self.start)..wide(self.end)
    }
}

/// Two messages are equal when their bytes are.
impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        self.inner.bytes == other.inner.bytes
    }
}

impl Eq for Message {}

#[cfg(test)]
mod tests;
