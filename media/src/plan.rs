//! The media plan: a graph of ends and links, made by the call machine and carried out by a relay.
//!
//! An end is one transport address pair of ours that faces one far party. A link says that what one end receives is sent
//! to another. A two-party call has two ends and two links; music, conference and recording add sources, mixers and taps
//! as further kinds of node, which is why ends are named by id and links are a list and not a pair.

use std::net::SocketAddr;

/// One end of a session: the index that the session gave it when its ports were opened, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndId(pub u32);

/// What is to be done with the media of one session, in full: a plan replaces the one before it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MediaPlan {
    /// The ends that take part; an end that the session has and the plan leaves out neither receives nor is sent to.
    pub ends: Vec<EndPlan>,
    /// Who is heard by whom. A sink has one source: of several links to one end the last counts. A source may have
    /// several sinks.
    pub links: Vec<Link>,
    /// Report it when no end at all has sent media for the configured time. Off while a call is held or not answered.
    pub watch_silence: bool,
}

/// What signalling has agreed with the far party of one end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndPlan {
    /// Which end this is.
    pub end: EndId,
    /// Where the far party's session description says that it receives RTP; `None` before it is known.
    pub remote: Option<SocketAddr>,
    /// Where it receives RTCP, if it said so (`a=rtcp`, RFC 3605); otherwise RTP's port plus one.
    pub remote_rtcp: Option<SocketAddr>,
    /// RTCP comes and goes on the RTP port (`a=rtcp-mux`, RFC 5761).
    pub rtcp_mux: bool,
    /// Send to where packets come from (RFC 4961) instead of to `remote`; right for every phone that may sit behind a
    /// network address translator. Without it only packets from `remote`'s host are taken.
    pub symmetric: bool,
    /// The far party may send: what it sends is taken. False for `recvonly` and `inactive` as seen by it.
    pub may_send: bool,
    /// The far party may receive: it is sent to. False for `sendonly` and `inactive` as seen by it.
    pub may_receive: bool,
    /// The payload type numbers agreed on this leg; empty means that numbers pass unchanged.
    pub payloads: Vec<PayloadType>,
}

/// A payload type number of one leg and the codec that it stands for there (RFC 8866 `a=rtpmap`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadType {
    /// 0 to 127.
    pub number: u8,
    /// What the number stands for.
    pub codec: Codec,
}

/// A codec as two legs must agree on it. Format parameters are not compared: offer and answer have settled them.
#[derive(Debug, Clone)]
pub struct Codec {
    /// The encoding name, such as `PCMA`, `opus`, `telephone-event`; compared without case.
    pub name: String,
    /// Clock rate in Hz, 8000 for most telephone codecs.
    pub clock_rate: u32,
    /// Number of channels; 1 where the description has none.
    pub channels: u8,
}

/// What `from` receives is sent to `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The source.
    pub from: EndId,
    /// The sink.
    pub to: EndId,
}

impl MediaPlan {
    /// Two parties who hear each other.
    pub fn bridge(a: EndPlan, b: EndPlan) -> Self {
        let links = vec![Link { from: a.end, to: b.end }, Link { from: b.end, to: a.end }];
        Self { ends: vec![a, b], links, watch_silence: true }
    }

    /// The plan of one end.
    pub fn end(&self, end: EndId) -> Option<&EndPlan> {
        self.ends.iter().find(|plan| plan.end == end)
    }

    /// Whom `sink` hears.
    pub fn source_of(&self, sink: EndId) -> Option<EndId> {
        self.links.iter().rev().find(|link| link.to == sink).map(|link| link.from)
    }
}

impl EndPlan {
    /// A symmetric end that sends and receives, with payload numbers passed unchanged.
    pub fn symmetric(end: EndId, remote: Option<SocketAddr>) -> Self {
        Self {
            end,
            remote,
            remote_rtcp: None,
            rtcp_mux: false,
            symmetric: true,
            may_send: true,
            may_receive: true,
            payloads: Vec::new(),
        }
    }
}

impl PayloadType {
    /// A single-channel codec under a number.
    pub fn new(number: u8, name: &str, clock_rate: u32) -> Self {
        Self { number, codec: Codec { name: name.to_owned(), clock_rate, channels: 1 } }
    }
}

impl Codec {
    /// RFC 4733 named events.
    pub fn is_event(&self) -> bool {
        self.name.eq_ignore_ascii_case("telephone-event")
    }
}

impl PartialEq for Codec {
    fn eq(&self, other: &Self) -> bool {
        self.name.eq_ignore_ascii_case(&other.name)
            && self.clock_rate == other.clock_rate
            && self.channels == other.channels
    }
}

impl Eq for Codec {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codecs_are_compared_without_case_and_with_their_clock() {
        let a = PayloadType::new(0, "PCMU", 8000).codec;
        assert_eq!(a, PayloadType::new(96, "pcmu", 8000).codec);
        assert_ne!(a, PayloadType::new(96, "pcmu", 16000).codec);
    }

    #[test]
    fn the_last_link_to_a_sink_is_the_one_that_counts() {
        let mut plan =
            MediaPlan::bridge(EndPlan::symmetric(EndId(0), None), EndPlan::symmetric(EndId(1), None));
        plan.links.push(Link { from: EndId(2), to: EndId(1) });
        assert_eq!(plan.source_of(EndId(1)), Some(EndId(2)));
        assert_eq!(plan.source_of(EndId(0)), Some(EndId(1)));
        assert_eq!(plan.source_of(EndId(3)), None);
    }
}
