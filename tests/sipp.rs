//! SIPp as the phones, UDP and TCP, on a clean wire and on one that loses and doubles datagrams.
//!
//! Debian's SIPp ends with an error at the first challenge if that names SHA-256; the wire between it and the switch
//! (`support/wire.rs`) takes those challenges out and leaves the MD5 ones.

mod support;

use std::net::SocketAddrV4;
use std::sync::LazyLock;
use support::demo::{Account, Demo};
use support::sipp::{Scenario, Sipp, authentication};
use support::wire::{Faults, Wire};

static DEMO: LazyLock<Demo> = LazyLock::new(|| Demo::start(22));

/// One SIPp behind a wire of its own.
struct Place {
    account: Account,
    local: SocketAddrV4,
    wire: Wire,
}

impl Place {
    fn new(node: u8, faults: Faults) -> Place {
        let local = SocketAddrV4::new(DEMO.host(), 5060);
        Place { account: DEMO.account(), local, wire: Wire::lay(DEMO.host(), local, DEMO.sip(node), faults) }
    }

    /// A place whose phone is registered through it by SIPp.
    fn registered(node: u8, faults: Faults) -> Place {
        let place = Place::new(node, faults);
        place.register("600");
        DEMO.await_registrations(1, &place.account, 1);
        place
    }

    fn register(&self, expires: &str) {
        let port = self.local.port().to_string();
        let answer = authentication(&self.account);
        let fields = [self.account.number.as_str(), &self.account.domain, &answer, &port, expires];
        Sipp::run(&Scenario {
            name: "register",
            local: self.local,
            remote: self.wire.front,
            tcp: false,
            fields: &fields,
            status: "",
        });
    }

    /// Starts the called phone.
    fn phone(&self, name: &str, status: &str) -> Sipp {
        Sipp::start(&Scenario {
            name,
            local: self.local,
            remote: self.wire.front,
            tcp: false,
            fields: &["-"],
            status,
        })
    }

    /// Runs a calling scenario.
    #[track_caller]
    fn calls(&self, name: &str, number: &str, status: &str) {
        let answer = authentication(&self.account);
        let fields = [self.account.number.as_str(), &self.account.domain, &answer, number];
        Sipp::run(&Scenario {
            name,
            local: self.local,
            remote: self.wire.front,
            tcp: false,
            fields: &fields,
            status,
        });
    }
}

fn clean() -> Faults {
    Faults::default()
}

#[test]
fn sipp_registers_with_digest_and_unregisters() {
    let place = Place::registered(1, clean());
    for node in 1..=3 {
        DEMO.await_registrations(node, &place.account, 1);
    }
    place.register("0");
    for node in 1..=3 {
        DEMO.await_registrations(node, &place.account, 0);
    }
}

#[test]
fn sipp_calls_sipp_across_nodes() {
    let (caller, callee) = (Place::new(1, clean()), Place::registered(2, clean()));
    let phone = callee.phone("phone_answers", "");
    caller.calls("call", &callee.account.number, "");
    phone.finish();
    assert_eq!(DEMO.cdr(&caller.account, &callee.account.number)["status"], "answered");
}

#[test]
fn sipp_takes_its_call_back() {
    let (caller, callee) = (Place::new(1, clean()), Place::registered(2, clean()));
    let phone = callee.phone("phone_rings", "");
    caller.calls("call_cancel", &callee.account.number, "");
    phone.finish();
}

#[test]
fn sipp_finds_the_other_busy() {
    let (caller, callee) = (Place::new(2, clean()), Place::registered(3, clean()));
    let phone = callee.phone("phone_refuses", "486 Busy Here");
    caller.calls("call_refused", &callee.account.number, "486");
    phone.finish();
}

#[test]
fn sipp_is_declined() {
    let (caller, callee) = (Place::new(3, clean()), Place::registered(1, clean()));
    let phone = callee.phone("phone_refuses", "603 Decline");
    caller.calls("call_refused", &callee.account.number, "603");
    phone.finish();
}

#[test]
fn sipp_hears_404_and_480() {
    let caller = Place::new(2, clean());
    caller.calls("call_refused", "999000", "404");
    caller.calls("call_refused", &DEMO.account().number, "480");
}

#[test]
fn sipp_holds_and_takes_back() {
    let (caller, callee) = (Place::new(1, clean()), Place::registered(2, clean()));
    let phone = callee.phone("phone_held", "");
    caller.calls("call_hold", &callee.account.number, "");
    phone.finish();
}

#[test]
fn lost_and_doubled_datagrams_do_not_hurt_registrations_and_calls() {
    let faults = Faults { lose_one_in: 5, double_one_in: 3 };
    let (caller, callee) = (Place::new(1, faults), Place::registered(2, faults));
    DEMO.await_registrations(3, &callee.account, 1);
    let phone = callee.phone("phone_answers", "");
    caller.calls("call", &callee.account.number, "");
    phone.finish();
    assert!(caller.wire.lost() + callee.wire.lost() >= 2, "the wire did lose something");
    let cdr = DEMO.cdr(&caller.account, &callee.account.number);
    assert_eq!(cdr["status"], "answered", "{cdr}");
}

#[test]
fn sipp_calls_over_tcp() {
    let callee = Place::registered(2, clean());
    let phone = callee.phone("phone_answers", "");
    let account = DEMO.account();
    let wire = Wire::lay_tcp(DEMO.host(), DEMO.sip(1));
    let answer = authentication(&account);
    let fields = [account.number.as_str(), &account.domain, &answer, &callee.account.number];
    let local = SocketAddrV4::new(DEMO.host(), 5060);
    Sipp::run(&Scenario { name: "call", local, remote: wire.front, tcp: true, fields: &fields, status: "" });
    phone.finish();
}
