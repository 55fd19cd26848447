//! Mutated and random input: nothing panics, nothing grows without bound, and what is accepted can be used.
#![cfg(test)]

use bytes::Bytes;
use proptest::prelude::*;
use tandem_sip::digest::{Credentials, NonceKey, ServerChallenge};
use tandem_sip::framing::{Frame, Framer, HEAD_MAX};
use tandem_sip::message::{MESSAGE_MAX, refuse_malformed};
use tandem_sip::sdp::Sdp;
use tandem_sip::sdp::relay::{Ours, rewrite};
use tandem_sip::transaction::{Limits, Output, Peer, Table, Timers};
use tandem_sip::{Dialog, Header, Message, NameAddr, ResponseBuilder, Uri, Via};

const INVITE: &str = "INVITE sip:102@acme.example;user=phone SIP/2.0\r\n\
    Via: SIP/2.0/UDP [2001:db8::1]:5062;branch=z9hG4bK1;rport, SIP/2.0/TCP b;branch=z9hG4bK0\r\n\
    Max-Forwards: 70\r\nf: \"A\\\", n\" <sip:101@acme.example>;tag=a\r\nTo: Bob\r\n <sip:102@acme.example>\r\n\
    i: c1\r\nCSeq: 7 INVITE\r\nm: <sip:101@h:5062>;q=0.5;expires=60, sip:z@h;+sip.instance=\"<u:1>\"\r\n\
    Record-Route: <sip:p1;lr>,<sip:p2>\r\nExpires: 180\r\nc: application/sdp\r\nContent-Length: 5\r\n\r\nv=0\r\n";

const SDP: &str = "v=0\r\no=- 1 2 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\na=sendonly\r\n\
    m=audio 4000 RTP/AVP 8 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\n\
    m=video 4002 RTP/AVPF 96\r\nc=IN IP6 ::1\r\na=rtpmap:96 H264/90000\r\na=rtcp:4003\r\n";

const CREDENTIALS: &str = "Digest username=\"101\", realm=\"r\", nonce=\"n\", uri=\"sip:r\", response=\"00\", \
    algorithm=MD5, cnonce=\"c\", nc=00000001, qop=\"auth,auth-int\", opaque=\"a\\\"b\"";

/// One change to a text of bytes.
#[derive(Clone, Debug)]
enum Edit {
    Set(prop::sample::Index, u8),
    Cut(prop::sample::Index, usize),
    Insert(prop::sample::Index, Vec<u8>),
    Copy(prop::sample::Index, prop::sample::Index, usize),
}

fn telling_bytes() -> impl Strategy<Value = Vec<u8>> {
    let pieces =
        ["\r\n", "\r", "\n", "\0", ":", ";", ",", "\"", "<", ">", "\\", "=", "%", "@", "[", "]", " ", "\t"];
    let more = [
        "\r\n ",
        "\r\n\r\n",
        "ä",
        "99999999999",
        "-1",
        "SIP/2.0",
        "Content-Length: 9\r\n",
        "v: ",
        "a=",
        "m=",
    ];
    let pieces: Vec<&'static str> = pieces.into_iter().chain(more).collect();
    prop_oneof![
        prop::sample::select(pieces).prop_map(|piece| piece.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 1..6),
    ]
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        (at(), 1..40_usize).prop_map(|(at, length)| Edit::Cut(at, length)),
        (at(), telling_bytes()).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        (at(), at(), 1..80_usize).prop_map(|(from, to, length)| Edit::Copy(from, to, length)),
    ]
}

fn mutated(text: &'static str) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(edit(), 0..8).prop_map(move |edits| edits.iter().fold(text.into(), apply))
}

fn apply(mut bytes: Vec<u8>, edit: &Edit) -> Vec<u8> {
    let size = bytes.len().max(1);
    match edit {
        Edit::Set(at, byte) => bytes.iter_mut().skip(at.index(size)).take(1).for_each(|b| *b = *byte),
        Edit::Cut(at, length) => {
            let at = at.index(size).min(bytes.len());
            let end = (at + length).min(bytes.len());
            bytes.drain(at..end);
        }
        Edit::Insert(at, more) => {
            let at = at.index(size).min(bytes.len());
            bytes.splice(at..at, more.iter().copied());
        }
        Edit::Copy(from, to, length) => {
            let copy: Vec<u8> = bytes.iter().skip(from.index(size)).take(*length).copied().collect();
            let at = to.index(size).min(bytes.len());
            bytes.splice(at..at, copy);
        }
    }
    bytes
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn lines(message: &Message) -> Vec<String> {
    message.all_headers().map(|(name, value)| format!("{name}: {value}")).collect()
}

/// Asks a message everything that it can be asked.
fn use_up(message: &Message) {
    let again = Message::parse(message.bytes().clone()).expect("what was read once is read again");
    assert_eq!(lines(&again), lines(message));
    let (from, to, via) = (message.from(), message.to(), message.via_top());
    let _ = (from.tag(), to.display_text(), to.parse_uri(), via.has_magic_cookie(), message.contacts());
    let _ = (message.expires(), message.max_forwards(), message.routes(Header::RecordRoute).count());
    let _ = (message.body_text(), message.has_body_of("application/sdp"), Uri::parse(message.request_uri()));
    let stamped = message.stamped("192.0.2.1:9".parse().unwrap());
    assert_eq!(lines(&Message::parse(stamped.bytes().clone()).unwrap()), lines(&stamped));
    assert_eq!(stamped.body(), message.body());
    if message.is_request() {
        let _ = Dialog::uas(message, "tag").map(|mut dialog| dialog.request(tandem_sip::Method::Bye).build());
        if let Ok(answer) = ResponseBuilder::to(message, 200, "tag").build() {
            assert_eq!((answer.call_id(), answer.cseq()), (message.call_id(), message.cseq()));
            let _ = Dialog::uac(message, &answer);
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Flow(bool);

impl Peer for Flow {
    fn is_reliable(&self) -> bool {
        self.0
    }
}

/// What happens to a table of transactions.
#[derive(Clone, Debug)]
enum Step {
    Receive(&'static str, u8, bool),
    Answer(u16),
    Ask(&'static str, u8, bool),
    Cancel,
    Reply(u16),
    Lose(bool),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let method = || prop::sample::select(vec!["INVITE", "ACK", "CANCEL", "BYE", "REGISTER"]);
    let status = || prop::sample::select(vec![100_u16, 180, 200, 302, 486, 503, 603]);
    prop_oneof![
        4 => (method(), 0..4_u8, any::<bool>()).prop_map(|(m, b, r)| Step::Receive(m, b, r)),
        3 => status().prop_map(Step::Answer),
        3 => (method(), 0..4_u8, any::<bool>()).prop_map(|(m, b, r)| Step::Ask(m, b, r)),
        1 => Just(Step::Cancel),
        3 => status().prop_map(Step::Reply),
        1 => any::<bool>().prop_map(Step::Lose),
        3 => (0..40_000_u64).prop_map(Step::Wait),
    ]
}

fn request(method: &str, branch: u8) -> Message {
    let text = format!(
        "{method} sip:b@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK{branch}\r\nFrom: <sip:a@h>;tag=1\r\n\
         To: <sip:b@h>\r\nCall-ID: c\r\nCSeq: 1 {method}\r\n\r\n"
    );
    Message::parse(text.into()).unwrap()
}

/// Polls everything; each transaction asked and told is kept for later steps.
fn drain(table: &mut Table<Flow>, asked: &mut Vec<Message>, told: &mut Vec<Message>) {
    while let Some(output) = table.poll_output() {
        match output {
            Output::Send { bytes, .. } => {
                let sent = Message::parse(bytes).expect("we send only messages");
                if sent.is_request() {
                    asked.push(sent);
                }
            }
            Output::Request { message, .. } => told.push(message),
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn mutated_messages_are_refused_or_usable(bytes in mutated(INVITE)) {
        let bytes = Bytes::from(bytes);
        match Message::parse(bytes.clone()) {
            Ok(message) => use_up(&message),
            Err(error) => {
                let source = "192.0.2.1:5060".parse().unwrap();
                if let Some(answer) = refuse_malformed(&bytes, error, source, "Tandem") {
                    prop_assert!(answer.len() <= bytes.len() + 300, "an answer is no amplifier");
                    let text = std::str::from_utf8(&answer).expect("an answer is text");
                    prop_assert_eq!(text.matches("\r\n\r\n").count(), 1, "nobody writes our headers: {}", text);
                }
            }
        }
    }

    #[test]
    fn random_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(Message::parse(bytes.into()).is_err());
    }

    #[test]
    fn mutated_values_are_refused_or_usable(bytes in mutated("\"A, \\\"n\" <sip:1;x@[::1]:5060;lr>;tag=a;q=0.5;expires=60")) {
        let text = lossy(&bytes);
        let _ = Via::parse(&text);
        if let Ok(addr) = NameAddr::parse(&text) {
            let _ = (addr.display_text(), addr.q_thousandths(), addr.expires(), addr.parse_uri());
        }
    }

    #[test]
    fn uris_that_are_read_are_the_same_when_written(bytes in mutated("sip:a%20b;c=d:pw@[2001:db8::1]:5060;transport=tcp;lr;x=y?s=1&t=%41")) {
        let text = lossy(&bytes);
        if let Ok(uri) = Uri::parse(&text) {
            let written = uri.to_string();
            let again = Uri::parse(&written);
            prop_assert!(again.is_ok_and(|again| again.is_same(&uri)), "{} -> {}", text, written);
        }
    }

    #[test]
    fn mutated_descriptions_are_refused_or_read_the_same_again(bytes in mutated(SDP)) {
        let text = lossy(&bytes);
        if let Ok(sdp) = Sdp::parse(&text) {
            prop_assert_eq!(&Sdp::parse(&sdp.to_string()).unwrap(), &sdp);
            let ours = Ours { session_id: 1, version: 2, address: "192.0.2.1", ports: &[Some(2), Some(4)], video: true };
            let relayed = rewrite(&sdp, &ours);
            prop_assert_eq!(&Sdp::parse(&relayed.to_string()).unwrap(), &relayed);
            prop_assert_eq!(relayed.media.len(), sdp.media.len());
            let _ = (sdp.is_hold(), sdp.audio().map(|audio| (audio.codecs(), audio.chosen(), audio.ptime_ms())));
        }
    }

    #[test]
    fn mutated_credentials_are_refused_or_usable(bytes in mutated(CREDENTIALS), nonce in ".{0,60}") {
        let text = lossy(&bytes);
        if let Ok(credentials) = Credentials::parse(&text) {
            let _ = credentials.nonce_count();
        }
        let _ = ServerChallenge::parse(&text);
        let _ = NonceKey::new([1; 32]).check("r", &nonce, 0, 1);
    }

    #[test]
    fn a_stream_is_cut_the_same_wherever_the_reads_fall(sizes in prop::collection::vec(1..200_usize, 1..40)) {
        let message = INVITE.replace("f: ", "From: ").into_bytes();
        let stream = [&message[..], b"\r\n\r\n", &message, &message].concat();
        let mut framer = Framer::new();
        let (mut at, mut messages) = (0, Vec::new());
        for size in sizes.into_iter().chain([stream.len()]) {
            let end = (at + size).min(stream.len());
            framer.push(&stream[at..end]);
            at = end;
            while let Some(frame) = framer.next().unwrap() {
                if let Frame::Message(bytes) = frame {
                    messages.push(bytes);
                }
            }
        }
        let message = Bytes::from(message);
        prop_assert_eq!(messages, vec![message.clone(), message.clone(), message]);
    }

    #[test]
    fn a_hostile_stream_ends_or_stays_bounded(chunks in prop::collection::vec(mutated(INVITE), 1..20)) {
        let mut framer = Framer::new();
        'stream: for chunk in chunks {
            framer.push(&chunk);
            loop {
                match framer.next() {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(_) => break 'stream,
                }
            }
            prop_assert!(framer.pending() <= MESSAGE_MAX.max(HEAD_MAX) + chunk.len());
        }
    }

    #[test]
    fn a_table_survives_anything_and_empties_with_time(steps in prop::collection::vec(step(), 1..120)) {
        let limits = Limits { server_max: 6, client_max: 6 };
        let mut table = Table::new(limits, Timers::default(), 3);
        let (mut now, mut asked, mut told) = (0, Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Receive(method, branch, reliable) => table.receive(now, Flow(reliable), request(method, branch)),
                Step::Answer(status) => {
                    if let Some(request) = told.last() {
                        let response = ResponseBuilder::to(request, status, "t").build().unwrap();
                        let _ = table.respond(now, &tandem_sip::transaction::ServerKey::of(request), response);
                    }
                }
                Step::Ask(method, branch, reliable) => {
                    let _ = table.send_request(now, request(method, branch), Flow(reliable));
                }
                Step::Cancel => {
                    if let Some(request) = asked.last() {
                        let _ = table.cancel(now, &tandem_sip::transaction::ClientKey::of(request), None);
                    }
                }
                Step::Reply(status) => {
                    if let Some(request) = asked.last() {
                        let response = ResponseBuilder::to(request, status, "t").build().unwrap();
                        table.receive(now, Flow(false), response);
                    }
                }
                Step::Lose(reliable) => table.transport_error(now, &Flow(reliable)),
                Step::Wait(time) => {
                    now += time;
                    table.handle_timeout(now);
                }
            }
            drain(&mut table, &mut asked, &mut told);
            prop_assert!(table.len() <= 12);
            prop_assert!(table.poll_timeout().is_none_or(|at| at > now));
        }
        // Invites that are never answered have no time limit of their own: the call ends them.
        for request in &told {
            let response = ResponseBuilder::to(request, 500, "t").build().unwrap();
            let _ = table.respond(now, &tandem_sip::transaction::ServerKey::of(request), response);
        }
        for request in &asked {
            let response = ResponseBuilder::to(request, 500, "t").build().unwrap();
            table.receive(now, Flow(false), response);
        }
        while let Some(at) = table.poll_timeout() {
            table.handle_timeout(at);
            drain(&mut table, &mut asked, &mut told);
        }
        prop_assert_eq!(table.len(), 0);
    }
}
