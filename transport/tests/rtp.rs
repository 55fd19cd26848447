//! Media over real sockets on the loopback network.

#![allow(clippy::indexing_slicing, clippy::panic, reason = "helpers of tests fail like tests")]

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::time::Duration;

use rtp_rs::{RtpPacketBuilder, RtpReader};
use tandem_media::plan::{EndId, EndPlan, MediaPlan};
use tandem_media::quality::Impairment;
use tandem_transport::rtp::{
    Engine, Event, EventReceiver, OpenError, Refused, RtpConfig, Session, StartError,
};
use tokio::time::timeout;

const A: EndId = EndId(0);
const B: EndId = EndId(1);
const PATIENCE: Duration = Duration::from_secs(5);

/// Each test has an address of its own, so that the same ports never meet.
fn engine(host: u8, ports: RangeInclusive<u16>, silence_ms: u64) -> (Engine, EventReceiver) {
    let listen = IpAddr::from([127, 0, 7, host]);
    let silence = Duration::from_millis(silence_ms);
    Engine::start(RtpConfig { listen, advertise: listen, ports, workers: 1, silence }).expect("it starts")
}

fn phone(host: u8) -> UdpSocket {
    let socket = UdpSocket::bind((IpAddr::from([127, 0, 8, host]), 0)).expect("a free port");
    socket.set_read_timeout(Some(PATIENCE)).expect("set");
    socket
}

fn address(socket: &UdpSocket) -> SocketAddr {
    socket.local_addr().expect("bound")
}

fn packet(sequence: u16) -> Vec<u8> {
    RtpPacketBuilder::new()
        .payload_type(8)
        .ssrc(0x1111)
        .sequence(sequence.into())
        .timestamp(u32::from(sequence) * 160)
        .payload(&[0xd5; 160])
        .build()
        .expect("a header and 160 octets fit")
}

/// What a phone hears: SSRC, sequence, payload.
fn hear(phone: &UdpSocket) -> (u32, u16, Vec<u8>, SocketAddr) {
    let mut buffer = [0; 2048];
    let (len, from) = phone.recv_from(&mut buffer).expect("it is heard");
    let reader = RtpReader::new(&buffer[..len]).expect("it is RTP");
    (reader.ssrc(), reader.sequence_number().into(), reader.payload().to_vec(), from)
}

fn bridge(a: SocketAddr, b: SocketAddr) -> MediaPlan {
    MediaPlan::bridge(EndPlan::symmetric(A, Some(a)), EndPlan::symmetric(B, Some(b)))
}

fn local(session: &Session, end: EndId) -> SocketAddr {
    session.local_rtp(end).expect("an end")
}

#[tokio::test]
async fn two_phones_hear_each_other_wherever_they_really_are() {
    let (engine, _events) = engine(1, 21_000..=21_099, 60_000);
    let session = engine.open(2).expect("ports are free");
    let (alice, bob) = (phone(1), phone(2));
    // Alice's description names an address behind a translator, where nobody is.
    session.apply(bridge("127.0.9.9:9".parse().expect("a literal address"), address(&bob))).expect("taken");
    session.counters().await.expect("open");
    alice.send_to(&packet(5), local(&session, A)).expect("sent");
    let (ssrc, first, payload, from) = hear(&bob);
    assert_ne!(ssrc, 0x1111);
    assert_eq!((payload, from), (vec![0xd5; 160], local(&session, B)));
    alice.send_to(&packet(6), local(&session, A)).expect("sent");
    assert_eq!(hear(&bob).1, first.wrapping_add(1));
    bob.send_to(&packet(900), local(&session, B)).expect("sent");
    let (_, _, _, from) = hear(&alice);
    assert_eq!(from, local(&session, A));

    let counters = session.close().await.expect("closed here");
    assert_eq!((counters.ends[0].received.packets, counters.ends[0].sent.packets), (2, 1));
    assert_eq!(counters.ends[0].remote, Some(address(&alice)));
    assert_eq!(counters.quality(Impairment::G711).expect("both sent").loss_ppm, 0);
    assert_eq!(session.last_counters(), counters);
    let totals = engine.counters();
    assert_eq!((totals.received, totals.sent, totals.sessions), (3, 3, 0));
}

#[tokio::test]
async fn a_session_is_found_again_by_its_id_until_it_is_closed() {
    let (engine, _events) = engine(2, 21_000..=21_099, 60_000);
    let session = engine.open(2).expect("ports are free");
    let (id, end) = (session.id(), local(&session, A));
    drop(session);
    let found = engine.session(id).expect("it outlives its handles");
    assert_eq!(local(&found, A), end);
    assert_eq!(engine.sessions(), [id]);
    found.close().await.expect("closed here");
    assert!(engine.session(id).is_none());
    assert_eq!(found.apply(MediaPlan::default()), Err(Refused::Closed));
    assert_eq!(found.close().await, None);
}

#[tokio::test]
async fn ports_are_even_and_come_back_after_the_close() {
    let (engine, _events) = engine(3, 21_000..=21_007, 60_000);
    let session = engine.open(3).expect("ports are free");
    assert_eq!(session.add_end(), Ok(EndId(3)));
    assert!((0..4).all(|end| local(&session, EndId(end)).port().is_multiple_of(2)));
    assert_eq!(session.add_end(), Err(OpenError::NoPorts));
    assert_eq!(engine.open(1).err(), Some(OpenError::NoPorts));
    assert_eq!(engine.counters().ports_free, 0);
    session.close().await.expect("closed here");
    session.counters().await.ok_or(()).expect_err("closed");
    assert_eq!(engine.counters().ports_free, 4);
}

#[tokio::test]
async fn an_added_end_is_heard_without_a_break_in_the_stream() {
    let (engine, _events) = engine(4, 21_000..=21_099, 60_000);
    let session = engine.open(2).expect("ports are free");
    let (alice, bob, carol) = (phone(1), phone(2), phone(3));
    session.apply(bridge(address(&alice), address(&bob))).expect("taken");
    session.counters().await.expect("open");
    bob.send_to(&packet(1), local(&session, B)).expect("sent");
    let (ssrc, sequence, _, _) = hear(&alice);
    let end = session.add_end().expect("ports are free");
    let mut plan = bridge(address(&alice), address(&carol));
    plan.ends[1].end = end;
    plan.links.iter_mut().for_each(|link| {
        link.from = if link.from == B { end } else { link.from };
        link.to = if link.to == B { end } else { link.to };
    });
    session.apply(plan).expect("taken");
    session.counters().await.expect("open");
    carol.send_to(&packet(5000), local(&session, end)).expect("sent");
    let heard = hear(&alice);
    assert_eq!((heard.0, heard.1), (ssrc, sequence.wrapping_add(1)));
}

#[tokio::test]
async fn silence_is_told_once_and_a_held_call_may_be_silent() {
    let (engine, mut events) = engine(5, 21_000..=21_099, 300);
    let held = engine.open(2).expect("ports are free");
    let (alice, bob) = (phone(1), phone(2));
    let plan = bridge(address(&alice), address(&bob));
    held.apply(MediaPlan { watch_silence: false, ..plan.clone() }).expect("taken");
    let session = engine.open(2).expect("ports are free");
    session.apply(plan).expect("taken");
    let event = timeout(PATIENCE, events.recv()).await.expect("in time").expect("the engine lives");
    let Event::Silent { session: id, since_ms } = event else { panic!("it failed") };
    assert_eq!(id, session.id());
    assert!((300..3000).contains(&since_ms));
    assert!(timeout(Duration::from_millis(1300), events.recv()).await.is_err());
}

#[test]
fn a_range_without_a_pair_is_refused() {
    let listen = IpAddr::from([127, 0, 7, 6]);
    let silence = Duration::from_secs(1);
    let config = RtpConfig { listen, advertise: listen, ports: 21_001..=21_002, workers: 1, silence };
    assert_eq!(Engine::start(config).err(), Some(StartError::NoPorts(21_001..=21_002)));
}
