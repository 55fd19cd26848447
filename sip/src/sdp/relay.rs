//! What a relay does to descriptions: it puts itself in the place of the far side.

use super::media::{Attribute, Media};
use super::{Connection, Origin, Sdp};

/// Our side of a relayed description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ours<'a> {
    /// Our `o=` id for this leg: never changes while the leg lives.
    pub session_id: u64,
    /// Our `o=` version: one more with each change (RFC 3264 section 8).
    pub version: u64,
    /// The address that phones send media to.
    pub address: &'a str,
    /// Our port for each m-line, in order: `None` (or a missing entry) rejects the line.
    pub ports: &'a [Option<u16>],
    /// True when video lines are relayed too.
    pub video: bool,
}

/// Attributes that bind media to addresses or keys of the far side, which we don't relay (ICE, DTLS, SDES, bundles,
/// RTCP addresses).
const DROPPED: [&str; 21] = [
    "candidate",
    "end-of-candidates",
    "remote-candidates",
    "ice-ufrag",
    "ice-pwd",
    "ice-lite",
    "ice-options",
    "ice-mismatch",
    "ice-pacing",
    "rtcp",
    "rtcp-mux",
    "rtcp-mux-only",
    "rtcp-rsize",
    "crypto",
    "fingerprint",
    "setup",
    "connection",
    "tls-id",
    "group",
    "ssrc",
    "msid",
];

/// True when a relay of plain RTP can carry this line at all.
pub fn is_relayable(media: &Media, video: bool) -> bool {
    let kind = media.kind == "audio" || (video && media.kind == "video");
    kind && media.port != 0 && media.is_plain_rtp()
}

/// The far side's description as ours: our origin, address and ports, nothing of theirs that we don't relay. Lines that
/// can't be relayed are rejected by port 0 and keep their place (RFC 3264 section 6).
pub fn rewrite(theirs: &Sdp, ours: &Ours<'_>) -> Sdp {
    let ports = ours.ports.iter().copied().chain(std::iter::repeat(None));
    let media = theirs.media.iter().zip(ports).map(|(line, port)| rewrite_media(theirs, line, port, ours));
    Sdp {
        origin: origin(ours),
        session_name: "-".to_owned(),
        connection: Some(Connection { address: ours.address.to_owned() }),
        bandwidths: theirs.bandwidths.clone(),
        times: vec![super::UNBOUNDED.to_owned()],
        attributes: kept(&theirs.attributes).filter(|a| super::Direction::parse(&a.name).is_none()).collect(),
        media: media.collect(),
    }
}

/// The answer that follows an offer line by line: what we send back when the far side's answer has fewer lines than
/// the offer, or lines in another order of kinds. Extra lines are rejected.
pub fn aligned(answer: Sdp, offer: &Sdp) -> Sdp {
    let mut lines = answer.media.into_iter().map(Some).collect::<Vec<_>>();
    let media = offer.media.iter().enumerate().map(|(at, asked)| {
        let line = lines.get_mut(at).and_then(|line| line.take_if(|line| line.kind == asked.kind));
        line.unwrap_or_else(|| rejected(asked))
    });
    Sdp { media: media.collect(), ..answer }
}

/// What we said last, said again from another place as a new offer: of each relayed line the formats that the far side has
/// too, so that what was agreed is agreed again.
pub fn renewed(last: &Sdp, theirs: Option<&Sdp>, ours: &Ours<'_>) -> Sdp {
    let mut sdp = rewrite(last, ours);
    for (at, line) in sdp.media.iter_mut().enumerate() {
        let agreed = theirs.and_then(|theirs| theirs.media.get(at)).filter(|far| far.chosen().is_some());
        if let Some(far) = agreed.filter(|_| line.port != 0) {
            line.retain_formats(|format| far.formats.iter().any(|theirs| theirs == format));
        }
    }
    sdp
}

fn origin(ours: &Ours<'_>) -> Origin {
    Origin {
        username: "-".to_owned(),
        session_id: ours.session_id.to_string(),
        version: ours.version,
        address: ours.address.to_owned(),
    }
}

fn rewrite_media(theirs: &Sdp, line: &Media, port: Option<u16>, ours: &Ours<'_>) -> Media {
    let Some(port) = port.filter(|_| is_relayable(line, ours.video)) else { return rejected(line) };
    let mut media = Media {
        kind: line.kind.clone(),
        port,
        protocol: line.protocol.clone(),
        formats: line.formats.clone(),
        connection: None,
        bandwidths: line.bandwidths.clone(),
        attributes: kept(&line.attributes).collect(),
    };
    // The session's direction and the old hold by address are written where every phone looks for them.
    let held = theirs.destination(line).is_some_and(|(address, _)| matches!(address, "0.0.0.0" | "::"));
    let direction = match (theirs.direction(line), held) {
        (super::Direction::SendRecv, true) => super::Direction::SendOnly,
        (super::Direction::RecvOnly, true) => super::Direction::Inactive,
        (direction, _) => direction,
    };
    media.set_direction(direction);
    media
}

fn rejected(line: &Media) -> Media {
    Media {
        kind: line.kind.clone(),
        port: 0,
        protocol: line.protocol.clone(),
        formats: line.formats.clone(),
        connection: None,
        bandwidths: Vec::new(),
        attributes: Vec::new(),
    }
}

fn kept(attributes: &[Attribute]) -> impl Iterator<Item = Attribute> {
    let dropped = |a: &&Attribute| !DROPPED.iter().any(|name| a.name.eq_ignore_ascii_case(name));
    attributes.iter().filter(dropped).cloned()
}
