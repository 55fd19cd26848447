//! The scanner: one walk over the bytes, bounded, no copy in the usual case.

use std::ops::Range;

use bytes::Bytes;
use memchr::memchr;

use super::{CSeq, HEADERS_MAX, Inner, LINE_MAX, Line, MESSAGE_MAX, Span, Start};
use crate::header::Id;
use crate::method::Method;
use crate::name_addr::NameAddr;
use crate::params::Split;
use crate::via::Via;

/// Why bytes are no message. Who sends such things hears it only where [`super::refuse_malformed`] can say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Only line ends: a keep-alive (RFC 5626 section 4.4.1).
    #[error("empty: a keep-alive")]
    Empty,
    /// Longer than [`MESSAGE_MAX`], or more body than that.
    #[error("message too long")]
    TooLong,
    /// A header longer than [`LINE_MAX`].
    #[error("header line too long")]
    LineTooLong,
    /// More than [`HEADERS_MAX`] header lines.
    #[error("too many headers")]
    TooManyHeaders,
    /// The headers do not end, or Content-Length is more than what is there.
    #[error("message cut off")]
    Truncated,
    /// The first line is neither a request line nor a status line.
    #[error("bad start line")]
    StartLine,
    /// Another version than SIP/2.0.
    #[error("not SIP/2.0")]
    Version,
    /// A line without a name and a colon, a bare CR or a NUL.
    #[error("bad header line")]
    HeaderLine,
    /// One of Via, From, To, Call-ID, CSeq is missing.
    #[error("missing {0}")]
    Missing(&'static str),
    /// One of the headers that exist once is there twice.
    #[error("more than one {0}")]
    Repeated(&'static str),
    /// One of them has no meaning, or CSeq and the request disagree.
    #[error("bad {0}")]
    Invalid(&'static str),
}

pub(super) fn scan(bytes: Bytes) -> Result<Inner, ParseError> {
    if bytes.len() > MESSAGE_MAX {
        return Err(ParseError::TooLong);
    }
    let first = bytes.iter().position(|b| !matches!(b, b'\r' | b'\n')).ok_or(ParseError::Empty)?;
    let bytes = bytes.slice(first..);
    let head = Head::walk(&bytes)?;
    let bytes = cleaned(&bytes, &head)?;
    let start = start_line(&bytes, head.start_line.clone())?;
    let inner = Inner {
        bytes,
        start: start.1,
        lines: head.lines,
        body: head.end,
        via: Span::new(0, 0),
        cseq: no_cseq(),
    };
    finish(inner, start.0)
}

/// What the first walk finds: the lines, and whether the text must be copied to be cleaned.
pub(super) struct Head {
    pub(super) start_line: Range<usize>,
    pub(super) lines: Vec<Line>,
    folds: Vec<usize>,
    end: usize,
}

impl Head {
    pub(super) fn walk(bytes: &[u8]) -> Result<Self, ParseError> {
        let (start_line, mut at) = line(bytes, 0)?;
        let mut head =
            Self { start_line, lines: Vec::with_capacity(lines_of(bytes)), folds: Vec::new(), end: 0 };
        loop {
            let (range, next) = line(bytes, at)?;
            let text = bytes.get(range.clone()).unwrap_or_default();
            match text.first() {
                None => {
                    head.end = next;
                    return Ok(head);
                }
                Some(b' ' | b'\t') => head.fold(at, &range, bytes)?,
                Some(_) => head.header(&range, text)?,
            }
            at = next;
        }
    }

    fn header(&mut self, range: &Range<usize>, text: &[u8]) -> Result<(), ParseError> {
        if self.lines.len() >= HEADERS_MAX {
            return Err(ParseError::TooManyHeaders);
        }
        let colon = memchr(b':', text).ok_or(ParseError::HeaderLine)?;
        let (name, value) = text.split_at_checked(colon).ok_or(ParseError::HeaderLine)?;
        let name = name.trim_ascii_end();
        if name.is_empty() || !name.iter().all(|b| is_token(*b)) {
            return Err(ParseError::HeaderLine);
        }
        let value_start = range.start.saturating_add(colon).saturating_add(1);
        let value = trimmed(value_start, value.get(1..).unwrap_or_default());
        let name_span = Span::new(range.start, range.start.saturating_add(name.len()));
        self.lines.push(Line { id: Id::parse(name), name: name_span, value });
        Ok(())
    }

    /// A continuation line belongs to the header before it (RFC 3261 section 7.3.1).
    fn fold(&mut self, at: usize, range: &Range<usize>, bytes: &[u8]) -> Result<(), ParseError> {
        let last = self.lines.last_mut().ok_or(ParseError::HeaderLine)?;
        let start = last.value.range().start;
        if range.end.saturating_sub(start) > LINE_MAX {
            return Err(ParseError::LineTooLong);
        }
        last.value = trimmed(start, bytes.get(start..range.end).unwrap_or_default());
        self.folds.push(at);
        Ok(())
    }
}

/// How many header lines a message may have: so that the index, which lives as long as the message, has no room to spare.
fn lines_of(bytes: &[u8]) -> usize {
    let head = memchr::memmem::find(bytes, b"\r\n\r\n").and_then(|end| bytes.get(..end)).unwrap_or(bytes);
    memchr::memchr_iter(b'\n', head).take(HEADERS_MAX).count()
}

/// The next line without its end, and where the one after it begins. A lone LF ends a line too.
fn line(bytes: &[u8], at: usize) -> Result<(Range<usize>, usize), ParseError> {
    let rest = bytes.get(at..).unwrap_or_default();
    let window = rest.get(..LINE_MAX).unwrap_or(rest);
    let Some(length) = memchr(b'\n', window) else {
        return Err(if rest.len() > LINE_MAX { ParseError::LineTooLong } else { ParseError::Truncated });
    };
    let text = window.get(..length).unwrap_or_default();
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    if memchr::memchr2(b'\r', 0, text).is_some() {
        return Err(ParseError::HeaderLine);
    }
    Ok((at..at.saturating_add(text.len()), at.saturating_add(length).saturating_add(1)))
}

fn trimmed(start: usize, text: &[u8]) -> Span {
    let lead = text.len().saturating_sub(text.trim_ascii_start().len());
    let start = start.saturating_add(lead);
    Span::new(start, start.saturating_add(text.trim_ascii().len()))
}

/// The same bytes cut at Content-Length; when lines are folded or the head is not UTF-8, a copy of the same length
/// in which every line is one line and all text is text.
fn cleaned(bytes: &Bytes, head: &Head) -> Result<Bytes, ParseError> {
    Ok(as_text(bytes.slice(..message_end(bytes, head)?), head))
}

/// The same without the cut.
pub(super) fn as_text(bytes: Bytes, head: &Head) -> Bytes {
    let text = bytes.get(..head.end).unwrap_or_default();
    if head.folds.is_empty() && std::str::from_utf8(text).is_ok() {
        return bytes;
    }
    let mut copy = bytes.to_vec();
    for fold in &head.folds {
        let before = copy.get_mut(..*fold).unwrap_or_default();
        before.iter_mut().rev().take_while(|b| matches!(b, b'\r' | b'\n')).for_each(|b| *b = b' ');
    }
    replace_non_utf8(copy.get_mut(..head.end).unwrap_or_default());
    Bytes::from(copy)
}

fn replace_non_utf8(mut text: &mut [u8]) {
    while let Err(error) = std::str::from_utf8(text) {
        let bad = error.valid_up_to();
        if let Some(byte) = text.get_mut(bad) {
            *byte = b'?';
        }
        text = text.get_mut(bad..).unwrap_or_default();
    }
}

fn message_end(bytes: &[u8], head: &Head) -> Result<usize, ParseError> {
    let mut length = None;
    for line in head.lines.iter().filter(|line| line.id == Id::ContentLength) {
        let value = bytes.get(line.value.range()).and_then(content_length);
        let value = value.ok_or(ParseError::Invalid("Content-Length"))?;
        if length.replace(value).is_some_and(|before| before != value) {
            return Err(ParseError::Repeated("Content-Length"));
        }
    }
    let there = bytes.len().saturating_sub(head.end);
    match length {
        Some(length) if length > there => Err(ParseError::Truncated),
        Some(length) => Ok(head.end.saturating_add(length)),
        None => Ok(bytes.len()),
    }
}

/// Digits only; `+5` and `0x5` are no lengths.
pub(crate) fn content_length(value: &[u8]) -> Option<usize> {
    if value.is_empty() || value.len() > 9 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

fn start_line(bytes: &[u8], range: Range<usize>) -> Result<(Option<Method>, Start), ParseError> {
    let text =
        bytes.get(range.clone()).and_then(|b| std::str::from_utf8(b).ok()).ok_or(ParseError::StartLine)?;
    match text.split_at_checked(8) {
        Some((version, rest)) if version.eq_ignore_ascii_case("SIP/2.0 ") => {
            status_line(rest, range.start.saturating_add(8)).map(|start| (None, start))
        }
        _ => request_line(text, range.start).map(|(method, start)| (Some(method), start)),
    }
}

fn status_line(rest: &str, at: usize) -> Result<Start, ParseError> {
    let (code, reason) = rest.split_at_checked(3).ok_or(ParseError::StartLine)?;
    if !code.bytes().all(|b| b.is_ascii_digit()) || !(reason.is_empty() || reason.starts_with(' ')) {
        return Err(ParseError::StartLine);
    }
    let status = code.parse().map_err(|_| ParseError::StartLine)?;
    if !(100..=699).contains(&status) {
        return Err(ParseError::StartLine);
    }
    Ok(Start::Response { status, reason: trimmed(at.saturating_add(3), reason.as_bytes()) })
}

fn request_line(text: &str, at: usize) -> Result<(Method, Start), ParseError> {
    let (method, rest) = text.split_once(' ').ok_or(ParseError::StartLine)?;
    let (uri, version) = rest.trim_end().rsplit_once(' ').ok_or(ParseError::StartLine)?;
    if method.is_empty() || !method.bytes().all(is_token) {
        return Err(ParseError::StartLine);
    }
    if !version.eq_ignore_ascii_case("SIP/2.0") {
        return Err(if version.starts_with("SIP/") { ParseError::Version } else { ParseError::StartLine });
    }
    if uri.is_empty() || uri.starts_with('<') || uri.bytes().any(|b| b.is_ascii_whitespace()) {
        return Err(ParseError::StartLine);
    }
    let start = at.saturating_add(method.len()).saturating_add(1);
    Ok((Method::parse(method), Start::Request { uri: Span::new(start, start.saturating_add(uri.len())) }))
}

/// Checks the headers that every message has, so that reading them later can't fail.
fn finish(mut inner: Inner, method: Option<Method>) -> Result<Inner, ParseError> {
    NameAddr::parse(one(&inner, Id::From, "From")?).map_err(|_| ParseError::Invalid("From"))?;
    NameAddr::parse(one(&inner, Id::To, "To")?).map_err(|_| ParseError::Invalid("To"))?;
    if one(&inner, Id::CallId, "Call-ID")?.is_empty() {
        return Err(ParseError::Invalid("Call-ID"));
    }
    inner.via = top_via(&inner)?;
    let cseq = parse_cseq(one(&inner, Id::CSeq, "CSeq")?).ok_or(ParseError::Invalid("CSeq"))?;
    if method.is_some_and(|method| method != cseq.method) {
        return Err(ParseError::Invalid("CSeq"));
    }
    inner.cseq = cseq;
    Ok(inner)
}

fn top_via(inner: &Inner) -> Result<Span, ParseError> {
    let line = inner.lines.iter().find(|line| line.id == Id::Via).ok_or(ParseError::Missing("Via"))?;
    let text = inner.text(line.value);
    let value = Split::new(text, b',').next().ok_or(ParseError::Invalid("Via"))?;
    Via::parse(value).map_err(|_| ParseError::Invalid("Via"))?;
    let offset = value.as_ptr().addr().saturating_sub(text.as_ptr().addr());
    let start = line.value.range().start.saturating_add(offset);
    Ok(Span::new(start, start.saturating_add(value.len())))
}

fn one<'m>(inner: &'m Inner, id: Id, name: &'static str) -> Result<&'m str, ParseError> {
    let mut lines = inner.lines.iter().filter(|line| line.id == id);
    let line = lines.next().ok_or(ParseError::Missing(name))?;
    if lines.next().is_some() {
        return Err(ParseError::Repeated(name));
    }
    Ok(inner.text(line.value))
}

/// RFC 3261 section 8.1.1.5: below 2^31, then the method.
fn parse_cseq(value: &str) -> Option<CSeq> {
    let (number, method) = value.split_once([' ', '\t'])?;
    let method = method.trim();
    if !number.bytes().all(|b| b.is_ascii_digit()) || method.is_empty() || !method.bytes().all(is_token) {
        return None;
    }
    let number: u32 = number.parse().ok().filter(|n| *n < 1 << 31)?;
    Some(CSeq { number, method: Method::parse(method) })
}

fn no_cseq() -> CSeq {
    CSeq { number: 0, method: Method::Ack }
}

/// RFC 3261 section 25.1 `token`.
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~')
}
