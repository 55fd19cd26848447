//! Two phones that talk.

use super::demo::Demo;
use super::phone::{Call, Message, Phone};

/// An answered call.
pub struct Talk {
    pub caller: Phone,
    pub out: Call,
    pub callee: Phone,
    pub inc: Call,
    /// The caller's 200.
    pub answer: Message,
}

impl Talk {
    /// A caller and a registered phone at these nodes, talking.
    pub fn begin(demo: &Demo, nodes: (u8, u8)) -> Talk {
        let (caller, callee) = two_phones(demo, nodes);
        Talk::between(caller, callee)
    }

    /// The same of these two.
    pub fn between(mut caller: Phone, mut callee: Phone) -> Talk {
        let mut out = caller.call(&callee.account.number);
        let mut inc = callee.incoming();
        callee.answer(&mut inc, 200, "OK");
        let answer = caller.expect(&mut out, 200);
        Talk { caller, out, callee, inc, answer }
    }

    /// The caller hangs up.
    #[track_caller]
    pub fn end(&mut self) {
        self.caller.hang_up(&mut self.out);
        self.callee.ended(&self.inc);
    }

    /// The caller offers this direction anew, and the callee takes it.
    pub fn renegotiate(&mut self, direction: &str) {
        renegotiated(&mut self.caller, &mut self.out, &mut self.callee, &self.inc, direction);
    }
}

/// Two phones that are registered at these nodes; the first one's knows the second.
pub fn two_phones(demo: &Demo, nodes: (u8, u8)) -> (Phone, Phone) {
    let (a, b) = (demo.account(), demo.account());
    let phones = (Phone::registered(demo, &a, nodes.0), Phone::registered(demo, &b, nodes.1));
    demo.await_registrations(nodes.0, &b, 1);
    phones
}

/// A caller, and a phone that rings for it.
pub struct Ringing {
    pub caller: Phone,
    pub out: Call,
    pub callee: Phone,
    pub inc: Call,
}

impl Ringing {
    /// A phone that registers at this node rings for the caller, as all nodes know.
    pub fn begin(demo: &Demo, mut caller: Phone, node: u8) -> Ringing {
        let b = demo.account();
        let mut callee = Phone::registered(demo, &b, node);
        demo.await_registrations(1, &b, 1);
        let known = demo.items(2, "/v1/calls").len();
        let mut out = caller.call(&b.number);
        let inc = callee.rings();
        caller.response(&mut out, 180);
        super::eventually(super::SOON, "the log has the call", || {
            (demo.items(2, "/v1/calls").len() > known).then_some(())
        });
        Ringing { caller, out, callee, inc }
    }

    /// Another node rings the phone anew.
    #[track_caller]
    pub fn again(&mut self) {
        self.callee.cancelled(&self.inc);
        let again = self.callee.rings();
        assert_ne!(again.leg.call_id, self.inc.leg.call_id);
        self.inc = again;
    }
}

/// The caller sends a re-INVITE; the callee takes it and answers; the caller gets its 200.
pub fn renegotiated(
    caller: &mut Phone,
    out: &mut Call,
    callee: &mut Phone,
    inc: &Call,
    direction: &str,
) -> (Message, Message) {
    let answering = if direction == "sendonly" { "recvonly" } else { "sendrecv" };
    std::thread::scope(|scope| {
        let taken = scope.spawn(|| {
            let mut again = callee.incoming();
            assert_eq!(again.leg.call_id, inc.leg.call_id, "the re-INVITE is in the same dialog");
            let sdp = callee.sdp(answering);
            again.leg = inc.leg.clone();
            callee.answer_with(&mut again, &sdp);
            again.invite
        });
        let ok = caller.renegotiate(out, direction);
        (taken.join().expect("the callee sees the re-INVITE"), ok)
    })
}
