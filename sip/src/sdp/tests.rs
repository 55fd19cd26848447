use super::relay::{Ours, aligned, rewrite};
use super::*;

const OFFER: &str = "v=0\r\n\
    o=ann 99999999999999999999999 4 IN IP4 10.0.0.1\r\n\
    s=call\r\n\
    i=not kept\r\n\
    c=IN IP4 10.0.0.1/127\r\n\
    b=AS:80\r\n\
    t=0 0\r\n\
    a=sendonly\r\n\
    a=ice-lite\r\n\
    a=tool:phone\r\n\
    m=audio 40000 RTP/AVP 8 0 111 101 13\r\n\
    a=rtpmap:111 opus/48000/2\r\n\
    a=fmtp:111 useinbandfec=1\r\n\
    a=rtpmap:101 telephone-event/8000\r\n\
    a=fmtp:101 0-16\r\n\
    a=ptime:20\r\n\
    a=rtcp:40005 IN IP4 10.0.0.1\r\n\
    a=candidate:1 1 UDP 1 10.0.0.1 40000 typ host\r\n\
    m=video 40002 RTP/AVP 96\r\n\
    c=IN IP6 2001:db8::1\r\n\
    a=rtpmap:96 H264/90000\r\n\
    m=audio 40004 RTP/SAVP 8\r\n\
    a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x\r\n";

fn offer() -> Sdp {
    Sdp::parse(OFFER).unwrap()
}

#[test]
fn every_part_is_read() {
    let sdp = offer();
    assert_eq!((sdp.origin.username.as_str(), sdp.origin.version), ("ann", 4));
    let audio = sdp.audio().unwrap();
    assert_eq!(sdp.destination(audio), Some(("10.0.0.1", 40000)));
    assert_eq!(sdp.destination(&sdp.media[1]), Some(("2001:db8::1", 40002)));
    assert_eq!((sdp.direction(audio), sdp.is_hold()), (Direction::SendOnly, true));
    assert_eq!(
        (audio.ptime_ms(), audio.rtcp_port(), audio.telephone_event()),
        (Some(20), Some(40005), Some(101))
    );
    let labels: Vec<_> = audio.codecs().iter().map(Codec::label).collect();
    assert_eq!(labels, ["PCMA/8000", "PCMU/8000", "OPUS/48000/2", "TELEPHONE-EVENT/8000", "CN/8000"]);
    assert_eq!(audio.codec(111).unwrap().fmtp.as_deref(), Some("useinbandfec=1"));
    assert_eq!(audio.chosen().unwrap().label(), "PCMA/8000");
}

#[test]
fn a_description_is_written_as_it_was_read_but_for_what_is_not_kept() {
    let written = offer().to_string();
    assert_eq!(written, OFFER.replace("i=not kept\r\n", "").replace("/127", ""));
    assert_eq!(Sdp::parse(&written).unwrap(), offer());
}

#[test]
fn a_relay_puts_itself_in_the_place_of_the_far_side() {
    let ours = Ours {
        session_id: 5,
        version: 9,
        address: "192.0.2.1",
        ports: &[Some(20000), Some(20002), Some(20004)],
        video: false,
    };
    assert_eq!(
        rewrite(&offer(), &ours).to_string(),
        "v=0\r\no=- 5 9 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nb=AS:80\r\nt=0 0\r\na=tool:phone\r\n\
         m=audio 20000 RTP/AVP 8 0 111 101 13\r\na=rtpmap:111 opus/48000/2\r\na=fmtp:111 useinbandfec=1\r\n\
         a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=sendonly\r\n\
         m=video 0 RTP/AVP 96\r\nm=audio 0 RTP/SAVP 8\r\n"
    );
    let video = rewrite(&offer(), &Ours { video: true, ..ours.clone() });
    assert_eq!(
        (video.media[1].port, video.destination(&video.media[1])),
        (20002, Some(("192.0.2.1", 20002)))
    );
    let refused = rewrite(&offer(), &Ours { ports: &[], ..ours });
    assert_eq!(refused.media[0].port, 0);
}

#[test]
fn hold_by_address_is_hold_and_is_relayed_as_sendonly() {
    let old = OFFER.replace("a=sendonly\r\n", "").replace("c=IN IP4 10.0.0.1/127", "c=IN IP4 0.0.0.0");
    let sdp = Sdp::parse(&old).unwrap();
    assert!(sdp.is_hold());
    let ours = Ours { session_id: 1, version: 1, address: "::1", ports: &[Some(2)], video: false };
    let relayed = rewrite(&sdp, &ours);
    assert_eq!(relayed.direction(&relayed.media[0]), Direction::SendOnly);
    assert!(relayed.to_string().contains("c=IN IP6 ::1\r\n"));
    assert!(!Sdp::parse(&OFFER.replace("a=sendonly\r\n", "")).unwrap().is_hold());
}

#[test]
fn an_answer_has_the_lines_of_its_offer() {
    let mut answer = offer();
    answer.media.truncate(1);
    let answer = aligned(answer, &offer());
    let lines: Vec<_> = answer.media.iter().map(|m| (m.kind.as_str(), m.port)).collect();
    assert_eq!(lines, [("audio", 40000), ("video", 0), ("audio", 0)]);
}

#[test]
fn a_description_of_ours_is_whole() {
    let mut sdp = Sdp::new(1, 2, "192.0.2.1");
    let pcma = Codec { payload_type: 8, name: "PCMA".into(), clock_rate: 8000, channels: 1, fmtp: None };
    sdp.media.push(Media::audio(20000, &[pcma]));
    assert_eq!(
        sdp.to_string(),
        "v=0\r\no=- 1 2 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
         m=audio 20000 RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\n"
    );
    assert_eq!(Direction::SendOnly.reversed(), Direction::RecvOnly);
}

#[test]
fn broken_descriptions_say_why() {
    let error = |from: &str, to: &str| Sdp::parse(&OFFER.replace(from, to)).unwrap_err();
    assert_eq!(error("v=0", "v=1"), SdpError::Version);
    assert_eq!(error("o=ann", "o=x y z ann"), SdpError::Origin);
    assert_eq!(error("c=IN IP4 10.0.0.1/127", "c=IN"), SdpError::Connection);
    assert_eq!(error("c=IN IP4 10.0.0.1/127", "c=IN IP4 /127"), SdpError::Connection);
    assert_eq!(error("m=audio 40000", "m=audio 99999"), SdpError::Media);
    assert_eq!(error("i=not kept", "not kept"), SdpError::Line);
    assert_eq!(error("s=call", "s=ca\rll"), SdpError::Line);
    assert_eq!(Sdp::parse(&OFFER.repeat(2)).unwrap().media.len(), 6);
    assert_eq!(
        Sdp::parse(&format!("{OFFER}{}", "m=audio 1 RTP/AVP 0\r\n".repeat(16))),
        Err(SdpError::TooLong)
    );
    assert_eq!(Sdp::parse(&format!("{OFFER}{}", "a=x\r\n".repeat(600))), Err(SdpError::TooLong));
    assert_eq!(Sdp::parse(""), Err(SdpError::Version));
}
