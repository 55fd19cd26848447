//! SIPp as the phones, UDP and TCP, straight to the switch and over a wire that loses and doubles datagrams.

mod support;

use std::net::SocketAddrV4;
use std::sync::LazyLock;
use support::demo::{Account, Demo};
use support::sipp::{Scenario, Sipp, authentication};
use support::wire::{Faults, Wire};

static DEMO: LazyLock<Demo> = LazyLock::new(|| Demo::start(22));

/// One SIPp, and where it takes the switch to be.
struct Place {
    account: Account,
    local: SocketAddrV4,
    remote: SocketAddrV4,
    tcp: bool,
    wire: Option<Wire>,
}

impl Place {
    fn new(node: u8) -> Place {
        let local = SocketAddrV4::new(DEMO.host(), 5060);
        Place { account: DEMO.account(), local, remote: DEMO.sip(node), tcp: false, wire: None }
    }

    fn over_tcp(node: u8) -> Place {
        Place { tcp: true, ..Place::new(node) }
    }

    /// A place behind a wire with faults.
    fn behind(node: u8, faults: Faults) -> Place {
        let place = Place::new(node);
        let wire = Wire::lay(DEMO.host(), place.local, place.remote, faults);
        Place { remote: wire.front, wire: Some(wire), ..place }
    }

    /// A place whose phone is registered by SIPp.
    fn registered(node: u8) -> Place {
        Place::new(node).with_phone()
    }

    fn with_phone(self) -> Place {
        let place = self;
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
            remote: self.remote,
            tcp: self.tcp,
            fields: &fields,
            status: "",
        });
    }

    fn lost(&self) -> u64 {
        self.wire.as_ref().map_or(0, Wire::lost)
    }

    /// Starts the called phone.
    fn phone(&self, name: &str, status: &str) -> Sipp {
        Sipp::start(&Scenario {
            name,
            local: self.local,
            remote: self.remote,
            tcp: self.tcp,
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
            remote: self.remote,
            tcp: self.tcp,
            fields: &fields,
            status,
        });
    }
}

#[test]
fn sipp_registers_with_digest_and_unregisters() {
    let place = Place::registered(1);
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
    let (caller, callee) = (Place::new(1), Place::registered(2));
    let phone = callee.phone("phone_answers", "");
    caller.calls("call", &callee.account.number, "");
    phone.finish();
    assert_eq!(DEMO.cdr(&caller.account, &callee.account.number)["status"], "answered");
}

#[test]
fn sipp_takes_its_call_back() {
    let (caller, callee) = (Place::new(1), Place::registered(2));
    let phone = callee.phone("phone_rings", "");
    caller.calls("call_cancel", &callee.account.number, "");
    phone.finish();
}

#[test]
fn sipp_finds_the_other_busy() {
    let (caller, callee) = (Place::new(2), Place::registered(3));
    let phone = callee.phone("phone_refuses", "486 Busy Here");
    caller.calls("call_refused", &callee.account.number, "486");
    phone.finish();
}

#[test]
fn sipp_is_declined() {
    let (caller, callee) = (Place::new(3), Place::registered(1));
    let phone = callee.phone("phone_refuses", "603 Decline");
    caller.calls("call_refused", &callee.account.number, "603");
    phone.finish();
}

#[test]
fn sipp_hears_404_and_480() {
    let caller = Place::new(2);
    caller.calls("call_refused", "999000", "404");
    caller.calls("call_refused", &DEMO.account().number, "480");
}

#[test]
fn sipp_holds_and_takes_back() {
    let (caller, callee) = (Place::new(1), Place::registered(2));
    let phone = callee.phone("phone_held", "");
    caller.calls("call_hold", &callee.account.number, "");
    phone.finish();
}

#[test]
fn lost_and_doubled_datagrams_do_not_hurt_registrations_and_calls() {
    let faults = Faults { lose_one_in: 5, double_one_in: 3 };
    let (caller, callee) = (Place::behind(1, faults), Place::behind(2, faults).with_phone());
    DEMO.await_registrations(3, &callee.account, 1);
    let phone = callee.phone("phone_answers", "");
    caller.calls("call", &callee.account.number, "");
    phone.finish();
    assert!(caller.lost() + callee.lost() >= 2, "the wire did lose something");
    let cdr = DEMO.cdr(&caller.account, &callee.account.number);
    assert_eq!(cdr["status"], "answered", "{cdr}");
}

#[test]
fn sipp_calls_over_tcp() {
    let (caller, callee) = (Place::over_tcp(1), Place::registered(2));
    let phone = callee.phone("phone_answers", "");
    caller.calls("call", &callee.account.number, "");
    phone.finish();
    assert_eq!(DEMO.cdr(&caller.account, &callee.account.number)["status"], "answered");
}
