//! What a run of calls shows to who watches it while it goes on: how many calls are up and how many phones hear
//! something, every tenth of a second; each SIP message that reached a phone, sent again or not; each call from its begin
//! to its end; each silence of a phone that should hear something.
//!
//! All times are milliseconds since the watch began. Nothing is forgotten: a watch is for runs of minutes.

use crate::message::{Message, audio_address};
use std::net::SocketAddrV4;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// How often calls and phones are counted.
const SAMPLE_MS: u64 = 100;
/// A phone that heard nothing for so long is not counted as one that hears something.
pub(crate) const AUDIBLE_MS: u64 = 150;
/// A phone that hears nothing for longer, with a packet due every 20 ms, has a silence.
const SILENCE_MS: u64 = 30;

/// A handle; clones show the same.
#[derive(Debug, Clone)]
pub struct Watch {
    began: Instant,
    seen: Arc<Mutex<Seen>>,
}

/// What was seen so far.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The counts, in order of time.
    pub samples: Vec<Sample>,
    /// The messages, in order of time.
    pub heard: Vec<Heard>,
    /// The calls, in order of their begin.
    pub calls: Vec<Call>,
    /// The silences, in order of their end.
    pub silences: Vec<Silence>,
    /// Packets of sound that a phone got which were not of its own call's other side.
    pub crossed: u64,
}

/// One count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// When.
    pub at_ms: u64,
    /// Calls that are answered on both sides.
    pub up: usize,
    /// Phones that should hear something and do.
    pub audible: usize,
}

/// One message that reached a phone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// When.
    pub at_ms: u64,
    /// Who sent the packet.
    pub from: SocketAddrV4,
    /// Its dialog's Call-ID.
    pub call_id: String,
    /// Request or response.
    pub kind: Kind,
    /// The number in its CSeq.
    pub cseq: u32,
    /// The method in its CSeq.
    pub method: String,
    /// Where its session description wants the sound.
    pub media: Option<SocketAddrV4>,
    /// Whether it says when to come again.
    pub retry_after: bool,
    /// The host in its From.
    pub from_host: String,
}

/// What kind of message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A request; its method is the one in CSeq.
    Request,
    /// A response with this status.
    Response(u16),
}

/// One call, as both its phones saw it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Call {
    /// Which pair of phones.
    pub pair: usize,
    /// The caller's number.
    pub from: String,
    /// The called number.
    pub to: String,
    /// The tenant's domain.
    pub domain: String,
    /// The Call-ID of the caller's dialog.
    pub caller_id: String,
    /// The Call-ID of the called phone's dialog, once it was called.
    pub callee_id: Option<String>,
    /// When the caller had its 200.
    pub answered_ms: Option<u64>,
    /// When a phone hung up.
    pub hung_up_ms: Option<u64>,
    /// When both sides were over.
    pub ended_ms: Option<u64>,
    /// Why it failed, or was ended by the switch; `None` if it went as the phones wanted.
    pub failure: Option<String>,
}

/// A phone that should hear something and did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Silence {
    /// Which pair of phones.
    pub pair: usize,
    /// Whether it is the caller who heard nothing.
    pub caller: bool,
    /// The last that it heard before.
    pub from_ms: u64,
    /// The first that it heard after, or the end of its call.
    pub until_ms: u64,
}

impl Heard {
    /// Whether it belongs to a dialog of this call.
    pub fn is_of(&self, call: &Call) -> bool {
        self.call_id == call.caller_id || Some(&self.call_id) == call.callee_id.as_ref()
    }
}

impl Silence {
    /// How long it was.
    pub fn length_ms(&self) -> u64 {
        self.until_ms.saturating_sub(self.from_ms)
    }
}

impl Watch {
    /// Begins to watch; all watches of one instant have the same times.
    pub fn since(began: Instant) -> Watch {
        Watch { began, seen: Arc::default() }
    }

    /// The watch's own time.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// What was seen so far.
    pub fn seen(&self) -> Seen {
        self.lock().clone()
    }

    /// The last count.
    pub fn last(&self) -> Option<Sample> {
        self.lock().samples.last().copied()
    }

    pub(crate) fn is_due(&self) -> bool {
        let last = self.last().map_or(0, |sample| sample.at_ms);
        self.now_ms() >= last + SAMPLE_MS
    }

    pub(crate) fn count(&self, up: usize, audible: usize) {
        let at_ms = self.now_ms();
        self.lock().samples.push(Sample { at_ms, up, audible });
    }

    pub(crate) fn hear(&self, message: &Message, from: SocketAddrV4) {
        let heard = heard(message, from, self.now_ms());
        self.lock().heard.push(heard);
    }

    pub(crate) fn silent(&self, side: usize, since: Instant, until: Instant) {
        let ms = |at: Instant| {
            let passed = at.saturating_duration_since(self.began).as_millis();
            u64::try_from(passed).unwrap_or(u64::MAX)
        };
        let (from_ms, until_ms) = (ms(since), ms(until));
        let silence = Silence { pair: side / 2, caller: side.is_multiple_of(2), from_ms, until_ms };
        if silence.length_ms() > SILENCE_MS {
            self.lock().silences.push(silence);
        }
    }

    pub(crate) fn crossed(&self) {
        self.lock().crossed += 1;
    }

    /// A call begins.
    pub(crate) fn begun(&self, call: Call) {
        self.lock().calls.push(call);
    }

    /// Something becomes known of a pair's present call.
    pub(crate) fn note(&self, pair: usize, note: impl FnOnce(&mut Call, u64)) {
        let now = self.now_ms();
        let mut seen = self.lock();
        if let Some(call) = seen.calls.iter_mut().rev().find(|call| call.pair == pair) {
            note(call, now);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn heard(message: &Message, from: SocketAddrV4, at_ms: u64) -> Heard {
    let text = |name: &str| message.get(name).unwrap_or_default();
    let (cseq, method) = message.cseq().unwrap_or_default();
    Heard {
        at_ms,
        from,
        call_id: text("Call-ID").to_owned(),
        kind: message.status().map_or(Kind::Request, Kind::Response),
        cseq,
        method: method.to_owned(),
        media: audio_address(&message.body),
        retry_after: message.get("Retry-After").is_some(),
        from_host: host_of(crate::message::uri_of(text("From"))).to_owned(),
    }
}

/// The host of a SIP URI, without port and parameters.
fn host_of(uri: &str) -> &str {
    let rest = uri.split_once(':').map_or(uri, |(_, rest)| rest);
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    host.split([':', ';', '?']).next().unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_message_the_sender_dialog_number_and_media_are_kept() {
        let text = "INVITE sip:2001-x@127.0.0.9:5060 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.2;branch=z9hG4bK7\r\n\
            From: <sip:1001@town.example;user=phone>;tag=a\r\nTo: <sip:2001@town.example>;tag=b\r\nCall-ID: c1\r\n\
            CSeq: 131073 INVITE\r\nContact: <sip:token@127.0.0.2:5060>\r\nContent-Length: 0\r\n\r\n\
            v=0\r\nc=IN IP4 127.0.0.2\r\nm=audio 20000 RTP/AVP 0\r\n";
        let message = Message::parse(text.as_bytes()).unwrap();
        let from = "127.0.0.3:5060".parse().unwrap();
        let heard = heard(&message, from, 7);
        assert_eq!((heard.at_ms, heard.from, heard.kind, heard.cseq), (7, from, Kind::Request, 131_073));
        assert_eq!((heard.call_id.as_str(), heard.method.as_str()), ("c1", "INVITE"));
        assert_eq!(heard.media, "127.0.0.2:20000".parse().ok());
        assert_eq!(heard.from_host, "town.example");
    }

    #[test]
    fn a_silence_is_longer_than_the_pauses_of_a_busy_machine() {
        let began = Instant::now();
        let watch = Watch::since(began);
        let at = |ms| began + std::time::Duration::from_millis(ms);
        watch.silent(3, at(100), at(125));
        watch.silent(3, at(200), at(700));
        let silence = Silence { pair: 1, caller: false, from_ms: 200, until_ms: 700 };
        assert_eq!(watch.seen().silences, [silence]);
    }

    #[test]
    fn what_becomes_known_of_a_pair_is_of_its_present_call() {
        let watch = Watch::since(Instant::now());
        watch.begun(Call { pair: 1, caller_id: "one".into(), ..Call::default() });
        watch.begun(Call { pair: 1, caller_id: "two".into(), ..Call::default() });
        watch.note(1, |call, _| call.failure = Some("lost".into()));
        let calls = watch.seen().calls;
        let failures: Vec<_> = calls.iter().map(|call| call.failure.as_deref()).collect();
        assert_eq!(failures, [None, Some("lost")]);
    }
}
