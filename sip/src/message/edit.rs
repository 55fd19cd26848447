//! Changing the top Via of a message: the only edit that is done in place of building anew.

use std::fmt::Write;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{Message, ParseError, Span, Start};
use crate::params::Split;
use crate::via::{Rport, Via};

pub(super) fn stamp(message: &Message, source: SocketAddr) -> Message {
    match stamped_value(message.via_top_text(), &message.via_top(), source) {
        Some(value) => splice_top_via(message, &value),
        None => message.clone(),
    }
}

/// A Via value with `received` and `rport`, `None` when it needs neither.
pub(super) fn stamped_value(text: &str, via: &Via<'_>, source: SocketAddr) -> Option<String> {
    let asked = via.rport != Rport::Absent;
    if !asked && via.received.is_none() && via.is_from(source.ip()) {
        return None;
    }
    let mut value = String::with_capacity(text.len().saturating_add(64));
    let mut items = Split::new(text, b';');
    value.push_str(items.next().unwrap_or(""));
    for item in items.filter(|item| !is_param(item, "rport") && !is_param(item, "received")) {
        value.push(';');
        value.push_str(item);
    }
    let written = match asked {
        true => write!(value, ";received={};rport={}", source.ip(), source.port()),
        false => write!(value, ";received={}", source.ip()),
    };
    written.expect("writing to a String can't fail");
    Some(value)
}

pub(super) fn replace_top_via(message: &Message, value: &str) -> Result<Message, ParseError> {
    let value = value.trim();
    if value.chars().any(char::is_control) || Split::new(value, b',').count() != 1 {
        return Err(ParseError::Invalid("Via"));
    }
    Via::parse(value).map_err(|_| ParseError::Invalid("Via"))?;
    Ok(splice_top_via(message, value))
}

fn is_param(item: &str, name: &str) -> bool {
    item.split('=').next().is_some_and(|n| n.trim().eq_ignore_ascii_case(name))
}

/// Puts `value` where the top Via stands and moves everything behind it, without scanning again.
fn splice_top_via(message: &Message, value: &str) -> Message {
    let bytes = message.bytes();
    let Range { start, end } = message.via_span();
    let mut spliced = BytesMut::with_capacity(bytes.len().saturating_add(value.len()));
    spliced.extend_from_slice(bytes.get(..start).unwrap_or_default());
    spliced.extend_from_slice(value.as_bytes());
    spliced.extend_from_slice(bytes.get(end..).unwrap_or_default());
    moved(message, spliced.freeze(), end, start.saturating_add(value.len()))
}

fn moved(message: &Message, bytes: Bytes, from: usize, to: usize) -> Message {
    let shift = |at: usize| if at >= from { at.saturating_sub(from).saturating_add(to) } else { at };
    let shift_span = |span: Span| {
        let range = span.range();
        Span::new(shift(range.start), shift(range.end))
    };
    let mut inner = (*message.inner).clone();
    inner.bytes = bytes;
    inner.body = shift(inner.body);
    inner.via = shift_span(inner.via);
    for line in &mut inner.lines {
        line.name = shift_span(line.name);
        line.value = shift_span(line.value);
    }
    inner.start = match inner.start {
        Start::Request { uri } => Start::Request { uri: shift_span(uri) },
        Start::Response { status, reason } => Start::Response { status, reason: shift_span(reason) },
    };
    Message { inner: Arc::new(inner) }
}
