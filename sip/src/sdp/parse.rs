//! Reading a description line by line.

use super::media::{Attribute, Media};
use super::{Connection, LINES_MAX, MEDIA_MAX, Origin, SDP_MAX, Sdp, SdpError};

pub(super) fn parse(text: &str) -> Result<Sdp, SdpError> {
    if text.len() > SDP_MAX || text.lines().count() > LINES_MAX {
        return Err(SdpError::TooLong);
    }
    let mut sdp = Sdp::new(0, 0, "");
    sdp.connection = None;
    sdp.times.clear();
    let mut origin = None;
    let mut lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty());
    if lines.next() != Some("v=0") {
        return Err(SdpError::Version);
    }
    for line in lines {
        if line.bytes().any(|b| matches!(b, b'\r' | 0)) {
            return Err(SdpError::Line);
        }
        let (letter, value) = line.split_once('=').filter(|(l, _)| l.len() == 1).ok_or(SdpError::Line)?;
        match letter {
            "o" if origin.is_none() => origin = Some(parse_origin(value).ok_or(SdpError::Origin)?),
            "m" if sdp.media.len() >= MEDIA_MAX => return Err(SdpError::TooLong),
            "m" => sdp.media.push(parse_media(value).ok_or(SdpError::Media)?),
            _ => take(&mut sdp, letter, value)?,
        }
    }
    if sdp.times.is_empty() {
        sdp.times.push(super::UNBOUNDED.to_owned());
    }
    sdp.origin = origin.ok_or(SdpError::Origin)?;
    Ok(sdp)
}

/// A line that belongs to the last m-line, or before the first one to the session. Unknown ones (`i=`, `k=`, ...) are
/// left out.
fn take(sdp: &mut Sdp, letter: &str, value: &str) -> Result<(), SdpError> {
    let (connection, bandwidths, attributes) = match sdp.media.last_mut() {
        Some(media) => (&mut media.connection, &mut media.bandwidths, &mut media.attributes),
        None => (&mut sdp.connection, &mut sdp.bandwidths, &mut sdp.attributes),
    };
    match letter {
        "c" => *connection = Some(parse_connection(value).ok_or(SdpError::Connection)?),
        "b" => bandwidths.push(value.to_owned()),
        "a" => attributes.push(parse_attribute(value)),
        // Nothing is no name (RFC 8866 section 5.3): it reads as the `-` that stands for none.
        "s" if sdp.media.is_empty() => {
            sdp.session_name = if value.is_empty() { "-" } else { value }.to_owned()
        }
        "t" if sdp.media.is_empty() => sdp.times.push(value.to_owned()),
        _ => {}
    }
    Ok(())
}

fn parse_origin(value: &str) -> Option<Origin> {
    let mut parts = value.split_whitespace();
    let (username, session_id, version) = (parts.next()?, parts.next()?, parts.next()?);
    let address = parts.nth(2)?;
    if !version.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(Origin {
        username: username.to_owned(),
        session_id: session_id.to_owned(),
        version: version.parse().unwrap_or(u64::MAX),
        address: address.to_owned(),
    })
}

fn parse_connection(value: &str) -> Option<Connection> {
    let mut parts = value.split_whitespace();
    let (network, family, address) = (parts.next()?, parts.next()?, parts.next()?);
    if network != "IN" || !matches!(family, "IP4" | "IP6") {
        return None;
    }
    let address = address.split('/').next().filter(|address| !address.is_empty())?;
    Some(Connection { address: address.to_owned() })
}

fn parse_media(value: &str) -> Option<Media> {
    let mut parts = value.split_whitespace();
    let (kind, port, protocol) = (parts.next()?, parts.next()?, parts.next()?);
    let port = port.split('/').next()?.parse().ok()?;
    Some(Media {
        kind: kind.to_ascii_lowercase(),
        port,
        protocol: protocol.to_owned(),
        formats: parts.map(str::to_owned).collect(),
        connection: None,
        bandwidths: Vec::new(),
        attributes: Vec::new(),
    })
}

fn parse_attribute(value: &str) -> Attribute {
    match value.split_once(':') {
        Some((name, value)) => Attribute::new(name.trim(), value),
        None => Attribute::flag(value.trim()),
    }
}
