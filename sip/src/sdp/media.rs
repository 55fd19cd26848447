//! One m-line with what belongs to it.

use std::fmt;

use super::{Connection, write_all, write_connection};

/// An m-line and the lines below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    /// `audio`, `video`, `image`, ... in lower case.
    pub kind: String,
    /// The port; 0 for a line that is rejected.
    pub port: u16,
    /// `RTP/AVP`, `RTP/SAVP`, `udptl`, ...
    pub protocol: String,
    /// The formats: payload types for RTP, in order of preference.
    pub formats: Vec<String>,
    /// The line's own `c=`.
    pub connection: Option<Connection>,
    /// Its `b=` values.
    pub bandwidths: Vec<String>,
    /// Its `a=` lines.
    pub attributes: Vec<Attribute>,
}

/// `a=name` or `a=name:value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// The name, as written.
    pub name: String,
    /// What follows the colon.
    pub value: Option<String>,
}

/// Which way media flows, seen from who writes the description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Both ways.
    SendRecv,
    /// The writer sends only: it holds the other.
    SendOnly,
    /// The writer listens only.
    RecvOnly,
    /// Neither.
    Inactive,
}

/// A payload type with its meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Codec {
    /// The RTP payload type, 0 to 127.
    pub payload_type: u8,
    /// The encoding name, as written: `PCMA`, `opus`, `telephone-event`.
    pub name: String,
    /// The clock rate in Hz.
    pub clock_rate: u32,
    /// Channels; 1 when not written.
    pub channels: u8,
    /// The value of its `fmtp` line.
    pub fmtp: Option<String>,
}

impl Direction {
    /// The direction of an attribute name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::SendRecv, Self::SendOnly, Self::RecvOnly, Self::Inactive]
            .into_iter()
            .find(|d| d.as_str() == name)
    }

    /// The attribute's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }

    /// The same flow seen from the other side: what answers an offer at most (RFC 3264 section 6.1).
    pub fn reversed(self) -> Self {
        match self {
            Self::SendOnly => Self::RecvOnly,
            Self::RecvOnly => Self::SendOnly,
            both => both,
        }
    }
}

impl Attribute {
    /// `a=name`
    pub fn flag(name: &str) -> Self {
        Self { name: name.to_owned(), value: None }
    }

    /// `a=name:value`
    pub fn new(name: &str, value: impl Into<String>) -> Self {
        Self { name: name.to_owned(), value: Some(value.into()) }
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{}:{value}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl Media {
    /// An audio line with these codecs, G.711 and telephone-event among them or not.
    pub fn audio(port: u16, codecs: &[Codec]) -> Self {
        let mut media = Self {
            kind: "audio".to_owned(),
            port,
            protocol: "RTP/AVP".to_owned(),
            formats: codecs.iter().map(|c| c.payload_type.to_string()).collect(),
            connection: None,
            bandwidths: Vec::new(),
            attributes: Vec::new(),
        };
        for codec in codecs {
            media.attributes.push(Attribute::new("rtpmap", format!("{} {codec}", codec.payload_type)));
            if let Some(fmtp) = &codec.fmtp {
                media.attributes.push(Attribute::new("fmtp", format!("{} {fmtp}", codec.payload_type)));
            }
        }
        media
    }

    /// The value of the first attribute of that name; `""` for one without a value.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|a| a.name == name).map(|a| a.value.as_deref().unwrap_or(""))
    }

    /// The line's own direction attribute; the last one counts.
    pub fn own_direction(&self) -> Option<Direction> {
        self.attributes.iter().rev().find_map(|a| Direction::parse(&a.name))
    }

    /// Replaces the direction attribute.
    pub fn set_direction(&mut self, direction: Direction) {
        self.attributes.retain(|a| Direction::parse(&a.name).is_none());
        self.attributes.push(Attribute::flag(direction.as_str()));
    }

    /// Keeps the formats that are wanted, with what is said of them, unless no codec that carries sound were left.
    pub fn retain_formats(&mut self, is_wanted: impl Fn(&str) -> bool) {
        let mut kept = self.clone();
        kept.formats.retain(|format| is_wanted(format));
        let of_format = |a: &Attribute| matches!(a.name.as_str(), "rtpmap" | "fmtp" | "rtcp-fb");
        let formats = kept.formats.clone();
        kept.attributes.retain(|a| {
            let named = a.value.as_deref().and_then(|value| value.split_whitespace().next());
            !of_format(a) || named.is_none_or(|named| named == "*" || formats.iter().any(|f| f == named))
        });
        if kept.chosen().is_some() {
            *self = kept;
        }
    }

    /// True for RTP/AVP and RTP/AVPF, which a relay passes without keys.
    pub fn is_plain_rtp(&self) -> bool {
        matches!(self.protocol.as_str(), "RTP/AVP" | "RTP/AVPF")
    }

    /// The packet time in milliseconds.
    pub fn ptime_ms(&self) -> Option<u16> {
        self.attribute("ptime")?.trim().parse().ok()
    }

    /// The port that `a=rtcp` names (RFC 3605); else RTCP is at the next odd port.
    pub fn rtcp_port(&self) -> Option<u16> {
        self.attribute("rtcp")?.split_whitespace().next()?.parse().ok()
    }

    /// True when RTP and RTCP share a port (RFC 5761).
    pub fn has_rtcp_mux(&self) -> bool {
        self.attribute("rtcp-mux").is_some()
    }

    /// The codecs of the formats, in order of preference; static payload types need no rtpmap (RFC 3551).
    pub fn codecs(&self) -> Vec<Codec> {
        self.formats.iter().filter_map(|format| self.codec(format.parse().ok()?)).collect()
    }

    /// The meaning of one payload type in this line.
    pub fn codec(&self, payload_type: u8) -> Option<Codec> {
        let map = self.per_payload("rtpmap", payload_type).and_then(rtpmap);
        let (name, clock_rate, channels) = map.or_else(|| static_codec(payload_type))?;
        let fmtp = self.per_payload("fmtp", payload_type).map(str::to_owned);
        Some(Codec { payload_type, name: name.to_owned(), clock_rate, channels, fmtp })
    }

    /// The first codec that carries sound: what is used when this is an answer.
    pub fn chosen(&self) -> Option<Codec> {
        self.codecs().into_iter().find(|codec| !codec.is_side_stream())
    }

    /// The payload type of telephone-event at 8 kHz (RFC 4733), or else at any rate.
    pub fn telephone_event(&self) -> Option<u8> {
        let mut events: Vec<Codec> = self.codecs().into_iter().filter(Codec::is_telephone_event).collect();
        events.sort_by_key(|codec| codec.clock_rate != 8000);
        events.first().map(|codec| codec.payload_type)
    }

    fn per_payload(&self, name: &str, payload_type: u8) -> Option<&str> {
        let lines = self.attributes.iter().filter(|a| a.name == name).filter_map(|a| a.value.as_deref());
        let mut pairs = lines.filter_map(|value| value.trim().split_once(' '));
        pairs.find(|(pt, _)| pt.parse() == Ok(payload_type)).map(|(_, rest)| rest.trim())
    }
}

impl Codec {
    /// `PCMA/8000` in capitals: the same codec has the same text in every description.
    pub fn label(&self) -> String {
        self.to_string().to_ascii_uppercase()
    }

    /// True for telephone-event.
    pub fn is_telephone_event(&self) -> bool {
        self.name.eq_ignore_ascii_case("telephone-event")
    }

    /// True for comfort noise, telephone-event and redundancy, which need a main codec beside them.
    pub fn is_side_stream(&self) -> bool {
        let side = ["telephone-event", "CN", "red", "ulpfec", "flexfec", "rtx"];
        side.iter().any(|name| self.name.eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.clock_rate)?;
        if self.channels > 1 { write!(f, "/{}", self.channels) } else { Ok(()) }
    }
}

impl fmt::Display for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m={} {} {}", self.kind, self.port, self.protocol)?;
        self.formats.iter().try_for_each(|format| write!(f, " {format}"))?;
        f.write_str("\r\n")?;
        write_connection(f, self.connection.as_ref())?;
        write_all(f, "b", &self.bandwidths)?;
        write_all(f, "a", &self.attributes)
    }
}

fn rtpmap(value: &str) -> Option<(&str, u32, u8)> {
    let mut parts = value.split('/');
    let name = parts.next().filter(|name| !name.is_empty())?;
    let clock_rate = parts.next()?.trim().parse().ok()?;
    let channels = parts.next().and_then(|c| c.trim().parse().ok()).unwrap_or(1);
    Some((name, clock_rate, channels))
}

/// RFC 3551 table 4, as far as telephones use it.
fn static_codec(payload_type: u8) -> Option<(&'static str, u32, u8)> {
    match payload_type {
        0 => Some(("PCMU", 8000, 1)),
        3 => Some(("GSM", 8000, 1)),
        4 => Some(("G723", 8000, 1)),
        8 => Some(("PCMA", 8000, 1)),
        9 => Some(("G722", 8000, 1)),
        10 => Some(("L16", 44100, 2)),
        11 => Some(("L16", 44100, 1)),
        13 => Some(("CN", 8000, 1)),
        15 => Some(("G728", 8000, 1)),
        18 => Some(("G729", 8000, 1)),
        26 => Some(("JPEG", 90000, 1)),
        31 => Some(("H261", 90000, 1)),
        34 => Some(("H263", 90000, 1)),
        _ => None,
    }
}
