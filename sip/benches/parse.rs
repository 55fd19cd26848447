//! What a message costs: scanning (with rsip beside us), building an answer, and a whole server transaction.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use rsip::prelude::HeadersExt;
use tandem_sip::transaction::{Limits, Output, Peer, ServerKey, Table, Timers};
use tandem_sip::{Header, Message, ResponseBuilder};

const REGISTER: &str = "REGISTER sip:acme.example SIP/2.0\r\n\
    Via: SIP/2.0/UDP 10.0.0.1:5062;branch=z9hG4bK1;rport\r\nMax-Forwards: 70\r\n\
    From: <sip:101@acme.example>;tag=a1b2c3\r\nTo: <sip:101@acme.example>\r\nCall-ID: 8f3a@10.0.0.1\r\n\
    CSeq: 2 REGISTER\r\nContact: <sip:101@10.0.0.1:5062>;expires=300\r\nUser-Agent: Phone 1.0\r\n\
    Authorization: Digest username=\"101\", realm=\"acme.example\", nonce=\"0000018f\", uri=\"sip:acme.example\", \
    response=\"753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1\", algorithm=SHA-256, cnonce=\"x\", \
    qop=auth, nc=00000001\r\nSupported: path, outbound\r\nExpires: 300\r\nContent-Length: 0\r\n\r\n";

const INVITE: &str = "INVITE sip:102@acme.example SIP/2.0\r\n\
    Via: SIP/2.0/UDP 10.0.0.1:5062;branch=z9hG4bK1;rport\r\nMax-Forwards: 70\r\n\
    From: \"Ann\" <sip:101@acme.example>;tag=a1b2c3\r\nTo: <sip:102@acme.example>\r\nCall-ID: 8f3a@10.0.0.1\r\n\
    CSeq: 2 INVITE\r\nContact: <sip:101@10.0.0.1:5062>\r\nUser-Agent: Phone 1.0\r\nAllow: INVITE, ACK, BYE, CANCEL\r\n\
    Supported: replaces, timer\r\nSession-Expires: 1800\r\nContent-Type: application/sdp\r\nContent-Length: 196\r\n\r\n\
    v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\nm=audio 40000 RTP/AVP 8 0 101\r\n\
    a=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\n";

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Phone(u64);

impl Peer for Phone {
    fn is_reliable(&self) -> bool {
        false
    }
}

fn scanning(c: &mut Criterion) {
    for (name, text) in [("REGISTER", REGISTER), ("INVITE", INVITE)] {
        let bytes = Bytes::from_static(text.as_bytes());
        let mut group = c.benchmark_group(format!("scan {name} and read its Call-ID, tag and branch"));
        group.bench_function("tandem", |b| {
            b.iter(|| {
                let m = Message::parse(black_box(bytes.clone())).unwrap();
                black_box((m.call_id().len(), m.from().tag().map(str::len), m.via_top().branch.map(str::len)))
            });
        });
        group.bench_function("rsip", |b| {
            b.iter(|| {
                let m = rsip::Request::try_from(black_box(bytes.as_ref())).unwrap();
                let tag = m.from_header().unwrap().tag().unwrap();
                let branch = m.transaction_id().unwrap();
                black_box((m.call_id_header().unwrap().clone(), tag, branch))
            });
        });
        group.finish();
    }
}

fn answering(c: &mut Criterion) {
    let invite = Message::parse(Bytes::from_static(INVITE.as_bytes())).unwrap();
    c.bench_function("build a 180", |b| {
        b.iter(|| {
            ResponseBuilder::to(black_box(&invite), 180, "t")
                .header(Header::Contact, "<sip:x@h>")
                .build()
                .unwrap()
        });
    });
    c.bench_function("stamp the source", |b| {
        b.iter(|| black_box(&invite).stamped(([10, 0, 0, 9], 7).into()))
    });
}

/// 20,000 transactions wait for timer J while one more comes, is answered, comes again and is found.
fn transaction(c: &mut Criterion) {
    let request = |n: u64| {
        let text = REGISTER.replace("z9hG4bK1", &format!("z9hG4bK{n}"));
        Message::parse(Bytes::from(text)).unwrap()
    };
    let mut table = Table::new(Limits::default(), Timers::default(), 1);
    let answer = |table: &mut Table<Phone>, message: &Message, now: u64| {
        table.receive(now, Phone(now), message.clone());
        let response = ResponseBuilder::to(message, 200, "t").build().unwrap();
        table.respond(now, &ServerKey::of(message), response).unwrap();
        while let Some(output) = table.poll_output() {
            black_box(matches!(output, Output::Send { .. }));
        }
    };
    for n in 0..20_000 {
        answer(&mut table, &request(n), n);
    }
    let mut n = 20_000;
    c.bench_function(
        "REGISTER transaction among 20,000: begin, 200, retransmission, end of an old one",
        |b| {
            b.iter_batched(
                || {
                    n += 1;
                    (n, request(n))
                },
                |(n, message)| {
                    answer(&mut table, &message, n);
                    table.receive(n, Phone(n), message);
                    black_box(table.poll_output());
                    table.handle_timeout(n + 12_000);
                },
                BatchSize::SmallInput,
            );
        },
    );
}

criterion_group!(benches, scanning, answering, transaction);
criterion_main!(benches);
