//! Cost of one relayed packet without system calls: `cargo bench -p tandem-media`.

#![allow(missing_docs, reason = "criterion makes the functions")]

use std::hint::black_box;
use std::net::SocketAddr;

use criterion::{Criterion, criterion_group, criterion_main};
use rtp_rs::RtpPacketBuilder;
use tandem_media::plan::{EndPlan, MediaPlan, PayloadType};
use tandem_media::stream::StreamSeed;
use tandem_media::{EndId, Relay};

fn relay() -> Relay {
    let mut relay = Relay::new(1);
    for ssrc in 0..2 {
        relay.add_end(StreamSeed { ssrc, sequence: 0, timestamp: 0 });
    }
    let payloads = vec![PayloadType::new(8, "PCMA", 8000), PayloadType::new(101, "telephone-event", 8000)];
    let end = |n: u32| EndPlan {
        payloads: payloads.clone(),
        ..EndPlan::symmetric(EndId(n), Some(SocketAddr::from(([192, 0, 2, 1], 4000))))
    };
    relay.apply(0, &MediaPlan::bridge(end(0), end(1)));
    relay
}

fn bench(criterion: &mut Criterion) {
    let mut relay = relay();
    let from = SocketAddr::from(([192, 0, 2, 1], 4000));
    let mut sequence = 0u16;
    let mut now_us = 0;
    let mut packet =
        RtpPacketBuilder::new().payload_type(8).payload(&[0xd5; 160]).build().unwrap_or_default();
    criterion.bench_function("relay one G.711 packet", |bencher| {
        bencher.iter(|| {
            sequence = sequence.wrapping_add(1);
            now_us += 20_000;
            let header = tandem_media::packet::Header {
                marker: false,
                payload_type: 8,
                sequence,
                timestamp: u32::from(sequence).wrapping_mul(160),
                ssrc: 9,
            };
            tandem_media::packet::write(header, &mut packet);
            if let Some(mut fan) = relay.handle_rtp(now_us, EndId(0), from, black_box(&packet)) {
                while let Some(forward) = relay.forward(&mut fan, &mut packet) {
                    black_box(forward);
                }
            }
        });
    });
}

criterion_group!(benches, bench);
criterion_main!(benches);
