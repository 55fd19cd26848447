//! Session descriptions (RFC 8866) and the offer/answer steps of a relay (RFC 3264).
//!
//! The parser is tolerant (unknown lines are kept or skipped, order is hardly checked) and bounded. [`relay`] makes the
//! description that we send out of the one that came from the other side.

mod media;
mod parse;
pub mod relay;

use std::fmt;

pub use media::{Attribute, Codec, Direction, Media};

/// Longest description, in bytes.
pub const SDP_MAX: usize = 32_768;
/// Most m-lines.
pub const MEDIA_MAX: usize = 16;
/// Most lines in all.
pub const LINES_MAX: usize = 512;

/// The time of a session without end.
const UNBOUNDED: &str = "0 0";

/// A session description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sdp {
    /// `o=`
    pub origin: Origin,
    /// `s=`
    pub session_name: String,
    /// The session's `c=`.
    pub connection: Option<Connection>,
    /// `b=` values of the session.
    pub bandwidths: Vec<String>,
    /// `t=` values; `0 0` where there was none.
    pub times: Vec<String>,
    /// `a=` lines of the session.
    pub attributes: Vec<Attribute>,
    /// The m-lines in order.
    pub media: Vec<Media>,
}

/// `o=`: who made it, and which version it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The user; `-` for none.
    pub username: String,
    /// The session's id; text, because some phones write more than 64 bits.
    pub session_id: String,
    /// Its version; saturated at 64 bits.
    pub version: u64,
    /// The address behind `IN IP4` or `IN IP6`.
    pub address: String,
}

/// `c=`: where media goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The address without TTL.
    pub address: String,
}

/// Why a text is no description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    /// Over [`SDP_MAX`], [`LINES_MAX`] or [`MEDIA_MAX`].
    #[error("SDP too long")]
    TooLong,
    /// A line without `x=`.
    #[error("bad SDP line")]
    Line,
    /// Another version than 0.
    #[error("not SDP version 0")]
    Version,
    /// No `o=`, or a broken one.
    #[error("bad SDP origin")]
    Origin,
    /// A broken `c=`.
    #[error("bad SDP connection")]
    Connection,
    /// A broken `m=`.
    #[error("bad SDP media line")]
    Media,
}

impl Sdp {
    /// Parses a description.
    pub fn parse(text: &str) -> Result<Self, SdpError> {
        parse::parse(text)
    }

    /// An empty description of ours.
    pub fn new(session_id: u64, version: u64, address: &str) -> Self {
        Self {
            origin: Origin {
                username: "-".to_owned(),
                session_id: session_id.to_string(),
                version,
                address: address.to_owned(),
            },
            session_name: "-".to_owned(),
            connection: Some(Connection { address: address.to_owned() }),
            bandwidths: Vec::new(),
            times: vec![UNBOUNDED.to_owned()],
            attributes: Vec::new(),
            media: Vec::new(),
        }
    }

    /// The first audio line that isn't rejected.
    pub fn audio(&self) -> Option<&Media> {
        self.media.iter().find(|m| m.kind == "audio" && m.port != 0)
    }

    /// Where the media of this line is to be sent: address and port. `None` for a rejected line.
    pub fn destination<'a>(&'a self, media: &'a Media) -> Option<(&'a str, u16)> {
        let connection = media.connection.as_ref().or(self.connection.as_ref())?;
        (media.port != 0).then_some((connection.address.as_str(), media.port))
    }

    /// The direction of a line: its own, else the session's, else both ways.
    pub fn direction(&self, media: &Media) -> Direction {
        let session = self.attributes.iter().rev().find_map(|a| Direction::parse(&a.name));
        media.own_direction().or(session).unwrap_or(Direction::SendRecv)
    }

    /// True when the sender asks us not to send: its audio is `sendonly` or `inactive`, or points to `0.0.0.0`
    /// (RFC 3264 section 8.4 and its older form).
    pub fn is_hold(&self) -> bool {
        let Some(audio) = self.audio() else { return false };
        let nowhere = self.destination(audio).is_some_and(|(address, _)| matches!(address, "0.0.0.0" | "::"));
        nowhere || matches!(self.direction(audio), Direction::SendOnly | Direction::Inactive)
    }
}

impl fmt::Display for Sdp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Origin { username, session_id, version, address } = &self.origin;
        write!(f, "v=0\r\no={username} {session_id} {version} {}\r\n", net(address))?;
        write!(f, "s={}\r\n", if self.session_name.is_empty() { "-" } else { &self.session_name })?;
        write_connection(f, self.connection.as_ref())?;
        write_all(f, "b", &self.bandwidths)?;
        write_all(f, "t", &self.times)?;
        write_all(f, "a", &self.attributes)?;
        self.media.iter().try_for_each(|media| write!(f, "{media}"))
    }
}

fn write_connection(f: &mut fmt::Formatter<'_>, connection: Option<&Connection>) -> fmt::Result {
    match connection {
        Some(connection) => write!(f, "c={}\r\n", net(&connection.address)),
        None => Ok(()),
    }
}

fn write_all<T: fmt::Display>(f: &mut fmt::Formatter<'_>, letter: &str, values: &[T]) -> fmt::Result {
    values.iter().try_for_each(|value| write!(f, "{letter}={value}\r\n"))
}

fn net(address: &str) -> String {
    let family = if address.contains(':') { "IP6" } else { "IP4" };
    format!("IN {family} {address}")
}

#[cfg(test)]
mod tests;
