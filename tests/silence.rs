//! A call in which nobody is heard is ended by the switch.

mod support;

use std::time::{Duration, Instant};
use support::demo::Demo;
use support::phone::Phone;

#[test]
fn an_answered_call_without_any_media_ends_for_both_with_that_cause() {
    let mut demo = Demo::start(27);
    demo.stop();
    let dir = demo.dir.clone();
    for node in 1..=3 {
        let file = dir.join(format!("n{node}/tandem.toml"));
        let config = std::fs::read_to_string(&file).expect("the node's config");
        std::fs::write(&file, config.replace("[rtp]\n", "[rtp]\nno_media_s = 3\n"))
            .expect("the node's config");
    }
    demo = Demo::start_again(27, dir);

    let (a, b) = (demo.account(), demo.account());
    let mut caller = Phone::registered(&demo, &a, 1);
    let mut callee = Phone::registered(&demo, &b, 2);
    demo.await_registrations(1, &b, 1);
    let mut out = caller.call(&b.number);
    let mut inc = callee.incoming();
    callee.answer(&mut inc, 200, "OK");
    caller.expect(&mut out, 200);
    let answered = Instant::now();
    let bye = caller.ended(&out);
    assert!(answered.elapsed() >= Duration::from_secs(2), "ended after {:?}", answered.elapsed());
    assert!(bye.get("Reason").is_some_and(|why| why.contains("No media")), "{:?}", bye.get("Reason"));
    callee.ended(&inc);
    demo.await_no_calls(&a);
    let cdr = demo.cdr(&a, &b.number);
    assert_eq!(
        (cdr["status"].as_str(), cdr["cause"].as_str()),
        (Some("answered"), Some("no_media")),
        "{cdr}"
    );
}
