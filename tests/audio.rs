//! Real sound: baresip at two nodes, each saying a tone of its own, each recording what it hears.

mod support;

use std::time::Duration;
use support::baresip::Baresip;
use support::demo::Demo;
use support::{SOON, eventually, tone};

#[test]
fn two_phones_at_different_nodes_hear_each_others_tone() {
    let demo = Demo::start(23);
    let (a, b) = (demo.account(), demo.account());
    let (low, high) = (500.0, 1300.0);
    let caller = Baresip::start(&a, demo.host(), demo.sip(1), low);
    let callee = Baresip::start(&b, demo.host(), demo.sip(3), high);
    demo.await_registrations(1, &a, 1);
    demo.await_registrations(1, &b, 1);

    caller.dial(&b);
    eventually(SOON, "the call is answered", || {
        demo.items(2, "/v1/tenants/acme/calls").iter().any(|call| call["state"] == "answered").then_some(())
    });
    for (phone, mine, others) in [(&caller, low, high), (&callee, high, low)] {
        let heard = eventually(Duration::from_secs(20), "three seconds of sound", || {
            phone.heard().filter(|heard| heard.seconds_of_sound() > 3.0)
        });
        assert!(heard.share(others) > 0.8, "the other's tone: {}\n{}", heard.share(others), phone.log());
        assert!(heard.share(mine) < 0.05, "no echo of the own tone: {}", heard.share(mine));
    }

    callee.hang_up();
    demo.await_no_calls(&a);
    let cdr = demo.cdr(&a, &b.number);
    assert_eq!(cdr["status"], "answered", "{cdr}");
    let quality = &cdr["quality"];
    assert_eq!(quality["loss_ppm"], 0, "{cdr}");
    assert!(quality["mos_x100"].as_u64().is_some_and(|mos| mos > 400), "{cdr}");
}

#[test]
fn a_tone_is_found_and_another_is_not() {
    let path = support::scratch("tone-check").join("tone.wav");
    tone::write(&path, 697.0, 2);
    let recording = tone::read(&path).expect("a WAV file");
    assert_eq!(recording.rate, 8000);
    assert!(recording.share(697.0) > 0.9, "{}", recording.share(697.0));
    assert!(recording.share(1209.0) < 0.05);
}
