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
        let (a, b) = (demo.account(), demo.account());
        let mut caller = Phone::registered(demo, &a, nodes.0);
        let mut callee = Phone::registered(demo, &b, nodes.1);
        demo.await_registrations(nodes.0, &b, 1);
        let mut out = caller.call(&b.number);
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
