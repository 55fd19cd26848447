//! Exact outputs of whole sessions.

use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;
use crate::packet::tests::packet;
use crate::plan::{EndPlan, Link, PayloadType};
use crate::rtcp;

const A: EndId = EndId(0);
const B: EndId = EndId(1);

fn address(text: &str) -> SocketAddr {
    text.parse().expect("a literal address")
}

fn alice() -> SocketAddr {
    address("192.0.2.1:4000")
}

fn bob() -> SocketAddr {
    address("192.0.2.2:5000")
}

fn seed(n: u32) -> StreamSeed {
    StreamSeed { ssrc: 0xa000 + n, sequence: 1000, timestamp: 50_000 }
}

fn plan() -> MediaPlan {
    MediaPlan::bridge(EndPlan::symmetric(A, Some(alice())), EndPlan::symmetric(B, Some(bob())))
}

fn session(ends: u32) -> Relay {
    let mut relay = Relay::new(7);
    for n in 0..ends {
        relay.add_end(seed(n)).expect("fewer than the limit");
    }
    relay.apply(0, &plan());
    relay
}

fn header(sequence: u16) -> Header {
    let timestamp = u32::from(sequence) * 160;
    Header { marker: false, payload_type: 8, sequence, timestamp, ssrc: 0x1111 }
}

/// Everything that comes out for one packet.
fn relayed(
    relay: &mut Relay,
    ms: u64,
    end: EndId,
    from: SocketAddr,
    header: Header,
) -> Vec<(Forward, Header)> {
    let mut bytes = packet(header);
    let Some(mut fan) = relay.handle_rtp(ms * 1000, end, from, &bytes) else { return Vec::new() };
    let mut out = Vec::new();
    while let Some(forward) = relay.forward(&mut fan, &mut bytes) {
        out.push((forward, packet::read(&bytes).expect("still a packet")));
    }
    out
}

#[test]
fn a_packet_goes_to_the_other_party_under_our_name() {
    let mut relay = session(2);
    let sent = Header { marker: true, sequence: 1000, timestamp: 50_000, ssrc: 0xa001, ..header(5) };
    assert_eq!(relayed(&mut relay, 0, A, alice(), header(5)), [(Forward { end: B, to: bob() }, sent)]);
    let next = Header { marker: false, sequence: 1001, timestamp: 50_160, ..sent };
    assert_eq!(relayed(&mut relay, 20, A, alice(), header(6)), [(Forward { end: B, to: bob() }, next)]);
}

#[test]
fn the_answer_goes_to_where_the_caller_really_is() {
    let mut relay = session(2);
    let behind_nat = address("198.51.100.9:61234");
    relayed(&mut relay, 0, A, behind_nat, header(1));
    let out = relayed(&mut relay, 0, B, bob(), header(1));
    assert_eq!(out[0].0, Forward { end: A, to: behind_nat });
    assert_eq!(relay.counters(0, A).expect("an end").remote, Some(behind_nat));
}

#[test]
fn strays_and_junk_and_doubles_are_counted_and_go_nowhere() {
    let mut relay = session(2);
    relayed(&mut relay, 0, A, alice(), header(1));
    assert_eq!(relayed(&mut relay, 1, A, address("203.0.113.5:1"), header(2)), []);
    assert_eq!(relayed(&mut relay, 2, A, alice(), header(1)), []);
    assert!(relay.handle_rtp(3, A, alice(), b"hello").is_none());
    let counters = relay.counters(3000, A).expect("an end");
    assert_eq!((counters.strays, counters.invalid, counters.received.duplicates), (1, 1, 1));
    assert_eq!(counters.received.packets, 1);
}

#[test]
fn a_held_party_hears_nothing_and_is_not_heard_and_its_stream_resumes_without_a_hole() {
    let mut relay = session(2);
    relayed(&mut relay, 0, A, alice(), header(1));
    let mut held = plan();
    held.ends[1].may_receive = false;
    held.ends[1].may_send = false;
    held.watch_silence = false;
    relay.apply(10_000, &held);
    assert_eq!(relayed(&mut relay, 20, A, alice(), header(2)), []);
    assert_eq!(relayed(&mut relay, 20, B, bob(), header(2)), []);
    assert_eq!(relay.silent_since_us(), None);
    relay.apply(2_000_000, &plan());
    let out = relayed(&mut relay, 2000, A, alice(), header(101));
    assert_eq!((out[0].1.sequence, out[0].1.timestamp, out[0].1.marker), (1001, 50_000 + 16_000, true));
    assert_eq!(relay.counters(2_000_000, B).expect("an end").held, 1);
}

#[test]
fn a_transfer_to_a_third_party_does_not_break_the_stream() {
    let mut relay = session(3);
    relayed(&mut relay, 0, B, bob(), header(1));
    let mut transferred = plan();
    let carol = address("192.0.2.3:6000");
    transferred.ends.push(EndPlan::symmetric(EndId(2), Some(carol)));
    transferred.links = vec![Link { from: A, to: EndId(2) }, Link { from: EndId(2), to: A }];
    relay.apply(100_000, &transferred);
    assert_eq!(relayed(&mut relay, 100, B, bob(), header(2)), []);
    let out = relayed(&mut relay, 100, EndId(2), carol, Header { ssrc: 9, ..header(40_000) });
    let expected = Header { marker: true, payload_type: 8, sequence: 1001, timestamp: 50_800, ssrc: 0xa000 };
    assert_eq!(out, [(Forward { end: A, to: alice() }, expected)]);
}

#[test]
fn one_source_serves_several_sinks_each_under_its_own_name() {
    let mut relay = session(3);
    let mut wide = plan();
    wide.ends.push(EndPlan::symmetric(EndId(2), Some(address("192.0.2.3:6000"))));
    wide.links.push(Link { from: A, to: EndId(2) });
    relay.apply(0, &wide);
    let names: Vec<_> =
        relayed(&mut relay, 0, A, alice(), header(5)).iter().map(|(to, h)| (to.end, h.ssrc)).collect();
    assert_eq!(names, [(B, 0xa001), (EndId(2), 0xa002)]);
}

#[test]
fn payload_numbers_are_translated_and_what_the_sink_lacks_is_dropped() {
    let mut relay = session(2);
    let mut mapped = plan();
    mapped.ends[0].payloads = vec![
        PayloadType::new(8, "PCMA", 8000),
        PayloadType::new(96, "telephone-event", 8000),
        PayloadType::new(9, "G722", 8000),
    ];
    mapped.ends[1].payloads =
        vec![PayloadType::new(8, "PCMA", 8000), PayloadType::new(101, "telephone-event", 8000)];
    relay.apply(0, &mapped);
    let event = Header { payload_type: 96, marker: true, ..header(2) };
    relayed(&mut relay, 0, A, alice(), header(1));
    let out = relayed(&mut relay, 20, A, alice(), event);
    assert_eq!((out[0].1.payload_type, out[0].1.marker, out[0].1.timestamp), (101, true, 50_160));
    assert_eq!(relayed(&mut relay, 40, A, alice(), Header { payload_type: 9, ..header(3) }), []);
    assert_eq!(relayed(&mut relay, 60, A, alice(), Header { payload_type: 77, ..header(4) }), []);
    assert_eq!(relay.counters(60_000, A).expect("an end").unmapped, 2);
}

#[test]
fn silence_counts_from_the_plan_or_the_last_packet_of_anyone() {
    let mut relay = session(2);
    assert_eq!(relay.silent_since_us(), Some(0));
    relayed(&mut relay, 20, A, alice(), header(1));
    relayed(&mut relay, 30, B, bob(), header(1));
    assert_eq!(relay.silent_since_us(), Some(30_000));
    relay.apply(90_000, &plan());
    assert_eq!(relay.silent_since_us(), Some(90_000));
}

#[test]
fn reports_are_about_the_leg_they_are_sent_on_and_measure_its_round_trip() {
    let mut relay = session(2);
    relayed(&mut relay, 0, A, alice(), header(1));
    relayed(&mut relay, 40, A, alice(), header(3));
    let mut out = [0; 256];
    let second = 1u64 << 32;
    assert_eq!(relay.poll_rtcp(1_000_000, second, A, &mut out), None);
    let due = relay.poll_rtcp(9_000_000, 9 * second, A, &mut out).expect("a report is due");
    assert_eq!((due.to, due.muxed), (address("192.0.2.1:4001"), false));
    let reports: Vec<_> = rtcp::read(&out[..due.len]).expect("well-formed").collect();
    let block = reports[0].blocks().next().expect("alice was heard");
    assert_eq!((block.ssrc, block.lost, block.fraction_lost, block.highest_sequence), (0x1111, 1, 85, 3));
    assert!(matches!(reports[0], rtcp::Packet::ReceiverReport { ssrc: 0xa000, .. }));

    let due = relay.poll_rtcp(9_000_000, 9 * second, B, &mut out).expect("a report is due");
    let mut reports = rtcp::read(&out[..due.len]).expect("well-formed");
    let Some(rtcp::Packet::SenderReport { ssrc, packets, octets, timestamp, .. }) = reports.next() else {
        panic!("bob was sent something")
    };
    assert_eq!((ssrc, packets, octets, timestamp), (0xa001, 2, 320, 50_320 + 8 * 8960));

    let reply = rtcp::Report {
        ssrc: 5,
        sender: None,
        block: Some(rtcp::ReportBlock {
            ssrc: 0xa001,
            fraction_lost: 0,
            lost: 0,
            highest_sequence: 0,
            jitter: 0,
            last_report: 9 << 16,
            delay: 1 << 16,
        }),
        cname: 0,
    };
    let len = rtcp::write_report(&reply, &mut out).expect("room enough");
    let datagram = out[..len].to_vec();
    let now = 10 * second + second / 4;
    assert_eq!(relay.handle_rtcp(10_250_000, now, B, bob(), &datagram, &mut out), None);
    assert_eq!(relay.counters(10_250_000, B).expect("an end").rtt_us, 250_000);
}

#[test]
fn a_request_for_a_picture_reaches_the_source_in_its_own_numbers() {
    let mut relay = session(2);
    relayed(&mut relay, 0, A, alice(), header(5));
    let mut bytes = [0; 64];
    let request = rtcp::Request::Packets { sequence: 1000, following: 1 };
    let len = rtcp::write_feedback(&rtcp::Feedback { sender: 3, media: 0xa001, request }, &mut bytes);
    let mut out = [0; 64];
    let sent =
        relay.handle_rtcp(1, 1, B, bob(), &bytes[..len.expect("room enough")], &mut out).expect("passed on");
    assert_eq!((sent.end, sent.to), (A, address("192.0.2.1:4001")));
    let packets: Vec<_> = rtcp::read(&out[..sent.len]).expect("well-formed").collect();
    let expected = rtcp::Packet::Feedback {
        payload_specific: false,
        format: 1,
        sender: 0xa000,
        media: 0x1111,
        control: &[0, 5, 0, 1],
    };
    assert_eq!(packets[1], expected);
}

proptest! {
    #[test]
    fn any_datagrams_on_any_end_neither_panic_nor_miscount(
        datagrams in proptest::collection::vec(
            (0u32..4, 0u16..3, proptest::collection::vec(any::<u8>(), 0..64), any::<bool>(), 0u64..50_000), 0..60),
    ) {
        let mut relay = session(2);
        let mut out = [0; 256];
        let (mut now_us, mut taken) = (0, 0);
        for (end, port, mut bytes, valid, step) in datagrams {
            now_us += step;
            if valid && let [first, ..] = bytes.as_mut_slice() {
                *first = 0x80;
            }
            let from = SocketAddr::from(([192, 0, 2, 1], 4000 + port));
            if let Some(mut fan) = relay.handle_rtp(now_us, EndId(end), from, &bytes) {
                taken += 1;
                while relay.forward(&mut fan, &mut bytes).is_some() {}
            }
            relay.handle_rtcp(now_us, now_us, EndId(end), from, &bytes, &mut out);
            relay.poll_rtcp(now_us, now_us, EndId(end), &mut out);
        }
        let counted: u64 = [A, B].iter().filter_map(|end| relay.counters(now_us, *end)).map(|c| c.received.packets).sum();
        prop_assert_eq!(counted, taken);
    }

    #[test]
    fn whatever_the_sources_do_the_receiver_sees_one_ssrc_and_small_steps(
        steps in proptest::collection::vec((0u16..6, 0u32..3, 0u64..200), 1..200),
    ) {
        let mut relay = session(2);
        let (mut sequence, mut now_ms) = (40_000u16, 0);
        let mut highest: Option<u16> = None;
        for (ahead, source, wait) in steps {
            sequence = sequence.wrapping_add(ahead);
            now_ms += wait;
            let sent = Header { ssrc: 0x1111 + source, ..header(sequence) };
            for (_, out) in relayed(&mut relay, now_ms, A, alice(), sent) {
                prop_assert_eq!(out.ssrc, 0xa001);
                let step = highest.map_or(1, |highest| out.sequence.wrapping_sub(highest).cast_signed());
                prop_assert!((-64..1200).contains(&step), "step {}", step);
                highest = Some(highest.map_or(out.sequence, |h| if step > 0 { out.sequence } else { h }));
            }
        }
    }
}
