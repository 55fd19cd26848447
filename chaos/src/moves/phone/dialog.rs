//! One dialog of a phone.

use std::collections::BTreeMap;

use tandem_sip::header::Header;
use tandem_sip::message::Message;
use tandem_sip::method::Method;
use tandem_state::NodeId;

use super::Sent;
use super::text::{Asked, Text, contact_node, media_node};
use crate::world::Random;

/// How far a dialog has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::moves) enum Stage {
    /// It calls, or rings.
    Early,
    /// It gave up calling.
    Cancelled,
    /// It said 200 and waits for the ACK.
    Answered,
    /// Both sides agreed.
    Talking,
    /// It hung up, or the other side did.
    Over,
}

/// What is said again until something is heard.
#[derive(Debug, Clone)]
struct Repeated {
    message: Message,
    next_ms: u64,
    wait_ms: u64,
    until_ms: u64,
}

impl Repeated {
    fn new(now_ms: u64, message: Message) -> Repeated {
        Repeated { message, next_ms: now_ms + 500, wait_ms: 500, until_ms: now_ms + 32_000 }
    }

    /// What is to be said now.
    fn due(&mut self, now_ms: u64) -> Option<Message> {
        if now_ms < self.next_ms {
            return None;
        }
        self.wait_ms = (self.wait_ms * 2).min(4_000);
        self.next_ms = now_ms + self.wait_ms;
        Some(self.message.clone())
    }
}

/// A dialog.
#[derive(Debug)]
pub(in crate::moves) struct Dialog {
    call_id: String,
    own: String,
    pub(in crate::moves) far: String,
    /// Where its requests go.
    pub(in crate::moves) node: NodeId,
    /// Where its media goes.
    pub(in crate::moves) media: Option<NodeId>,
    pub(in crate::moves) stage: Stage,
    cseq: u32,
    branch: u32,
    heard_cseq: u32,
    answers: BTreeMap<String, Message>,
    /// The INVITE that it rings by.
    invite: Option<Message>,
    answers_ms: Option<u64>,
    asks_ms: Option<u64>,
    pub(super) leaves_ms: Option<u64>,
    pub(super) gives_up_ms: Option<u64>,
    heard: bool,
    open: Option<Repeated>,
    unacknowledged: Option<Repeated>,
    again_ms: Option<u64>,
}

impl Dialog {
    fn new(call_id: String, own: String, far: String, node: NodeId) -> Dialog {
        Dialog {
            call_id,
            own,
            far,
            node,
            media: None,
            stage: Stage::Early,
            cseq: 0,
            branch: 0,
            heard_cseq: 0,
            answers: BTreeMap::new(),
            invite: None,
            answers_ms: None,
            asks_ms: None,
            leaves_ms: None,
            gives_up_ms: None,
            heard: false,
            open: None,
            unacknowledged: None,
            again_ms: None,
        }
    }

    pub(super) fn calling(call_id: String, text: &Text, node: NodeId, callee: &str) -> Dialog {
        let own = format!("<sip:{}@acme.example>;tag=p{}", text.number, text.number);
        Dialog::new(call_id, own, format!("<sip:{callee}@acme.example>"), node)
    }

    pub(super) fn called(invite: &Message, text: &Text, from: NodeId) -> Dialog {
        let own = format!("{};tag=p{}", invite.header(Header::To).unwrap_or_default(), text.number);
        let far = invite.header(Header::From).unwrap_or_default().to_owned();
        let mut dialog =
            Dialog::new(invite.call_id().to_owned(), own, far, contact_node(invite).unwrap_or(from));
        (dialog.heard_cseq, dialog.media) = (invite.cseq().number, media_node(invite));
        dialog
    }

    // ---- what it asks ----

    fn ask(&mut self, method: &str, text: &Text, cseq: u32, description: Option<&str>) -> Option<Message> {
        self.branch += 1;
        let (call_id, own, far, branch) = (&*self.call_id, &*self.own, &*self.far, self.branch);
        text.request(&Asked { method, call_id, own, far, cseq, branch, description })
    }

    /// A request of a transaction of its own.
    fn open(&mut self, now_ms: u64, method: &str, text: &Text, description: Option<&str>) -> Vec<Sent> {
        self.cseq += 1;
        let Some(message) = self.ask(method, text, self.cseq, description) else { return Vec::new() };
        self.open = Some(Repeated::new(now_ms, message.clone()));
        vec![(self.node, message)]
    }

    pub(super) fn begin_invite(&mut self, now_ms: u64, text: &Text) -> Vec<Sent> {
        let description = text.description(self.cseq, false);
        self.open(now_ms, "INVITE", text, Some(&description))
    }

    fn leave(&mut self, now_ms: u64, text: &Text) -> Vec<Sent> {
        self.stage = Stage::Over;
        (self.asks_ms, self.leaves_ms, self.again_ms, self.unacknowledged) = (None, None, None, None);
        self.open(now_ms, "BYE", text, None)
    }

    pub(super) fn wakes(&mut self, now_ms: u64, text: &Text, random: &mut Random) -> Vec<Sent> {
        let mut sent = Vec::new();
        let due = |at: Option<u64>| at.is_some_and(|at| at <= now_ms);
        let node = self.node;
        sent.extend(self.unacknowledged.as_mut().and_then(|again| again.due(now_ms)).map(|m| (node, m)));
        if self.unacknowledged.as_ref().is_some_and(|again| again.until_ms <= now_ms) {
            self.unacknowledged = None;
            if self.stage == Stage::Answered {
                sent.extend(self.leave(now_ms, text));
            }
        }
        let quiet = |open: &Repeated, heard| heard && *open.message.method() == Method::Invite;
        match &mut self.open {
            Some(open) if open.until_ms <= now_ms => sent.extend(self.had_no_answer(now_ms, text)),
            Some(open) if quiet(open, self.heard) => open.next_ms = u64::MAX,
            Some(open) => sent.extend(open.due(now_ms).map(|m| (node, m))),
            None => {}
        }
        if due(self.answers_ms) {
            self.answers_ms = None;
            sent.extend(self.answer(now_ms, text));
        }
        if due(self.gives_up_ms) {
            self.gives_up_ms = None;
            sent.extend(self.cancel(text));
        }
        if due(self.leaves_ms) {
            sent.extend(self.leave(now_ms, text));
        } else if due(self.again_ms) {
            self.again_ms = None;
            sent.extend(self.leave(now_ms, text));
        } else if due(self.asks_ms) {
            self.asks_ms = Some(now_ms + random.between(200, 4_000));
            sent.extend(self.chat(now_ms, text, random));
        }
        sent
    }

    /// INFO, hold or resume.
    fn chat(&mut self, now_ms: u64, text: &Text, random: &mut Random) -> Vec<Sent> {
        if self.open.is_some() || self.unacknowledged.is_some() || self.stage != Stage::Talking {
            return Vec::new();
        }
        if random.chance(600) {
            return self.open(now_ms, "INFO", text, None);
        }
        self.heard = false;
        let description = text.description(self.cseq, random.chance(500));
        self.open(now_ms, "INVITE", text, Some(&description))
    }

    /// Nobody answered: a goodbye is said again, a call is given up, anything else is left.
    fn had_no_answer(&mut self, now_ms: u64, text: &Text) -> Vec<Sent> {
        self.open = None;
        match self.stage {
            Stage::Over => self.leave(now_ms, text),
            Stage::Early | Stage::Cancelled if self.gives_up_ms.is_none() || !self.heard => {
                self.stage = Stage::Over;
                Vec::new()
            }
            Stage::Early | Stage::Cancelled | Stage::Answered | Stage::Talking => Vec::new(),
        }
    }

    fn cancel(&mut self, text: &Text) -> Vec<Sent> {
        if self.stage != Stage::Early {
            return Vec::new();
        }
        self.stage = Stage::Cancelled;
        let Some(open) = self.open.as_ref().filter(|_| self.heard) else { return Vec::new() };
        let branch = self.branch;
        self.branch -= 1;
        let cancel = self.ask("CANCEL", text, open.message.cseq().number, None);
        self.branch = branch;
        cancel.map(|cancel| (self.node, cancel)).into_iter().collect()
    }

    // ---- what it is answered ----

    pub(super) fn is_answered(
        &mut self,
        now_ms: u64,
        message: &Message,
        text: &Text,
        talk_ms: u64,
        random: &mut Random,
    ) -> Vec<Sent> {
        let (status, method) = (message.status().unwrap_or(500), message.method().clone());
        let is_open = |open: &&Repeated| open.message.cseq() == message.cseq();
        let asked = self.open.as_ref().filter(is_open).map(|open| open.message.clone());
        if status < 200 {
            self.heard |= asked.is_some();
            return Vec::new();
        }
        if method == Method::Invite {
            return self.invite_answered(now_ms, status, message, (asked, text, talk_ms, random));
        }
        if asked.is_none() {
            return Vec::new();
        }
        self.open = None;
        match (method, status) {
            (Method::Bye, 200 | 481) => {}
            (Method::Bye, _) => self.again_ms = Some(now_ms + 2_000),
            (_, 481) => self.is_gone(),
            _ => {}
        }
        Vec::new()
    }

    fn is_gone(&mut self) {
        self.stage = Stage::Over;
        (self.asks_ms, self.leaves_ms, self.unacknowledged) = (None, None, None);
    }

    fn invite_answered(
        &mut self,
        now_ms: u64,
        status: u16,
        message: &Message,
        (asked, text, talk_ms, random): (Option<Message>, &Text, u64, &mut Random),
    ) -> Vec<Sent> {
        let cseq = message.cseq().number;
        if status >= 300 {
            let Some(asked) = asked else { return Vec::new() };
            self.open = None;
            match self.stage {
                Stage::Early | Stage::Cancelled => self.stage = Stage::Over,
                Stage::Talking if status == 481 => self.is_gone(),
                Stage::Talking | Stage::Answered | Stage::Over => {}
            }
            return self
                .acknowledge_refusal(&asked, message)
                .map(|ack| (self.node, ack))
                .into_iter()
                .collect();
        }
        let first = asked.is_some();
        if first {
            self.open = None;
            (self.node, self.media) =
                (contact_node(message).unwrap_or(self.node), media_node(message).or(self.media));
        }
        let gave_up = self.stage == Stage::Cancelled;
        if matches!(self.stage, Stage::Early | Stage::Cancelled) {
            self.far = message.header(Header::To).unwrap_or_default().to_owned();
            self.talks(now_ms, talk_ms, random);
        }
        let mut sent: Vec<Sent> =
            self.ask("ACK", text, cseq, None).map(|ack| (self.node, ack)).into_iter().collect();
        if gave_up {
            sent.extend(self.leave(now_ms, text));
        }
        sent
    }

    /// The ACK to a refusal belongs to its INVITE's transaction.
    fn acknowledge_refusal(&self, asked: &Message, refusal: &Message) -> Option<Message> {
        let text = format!(
            "ACK {} SIP/2.0\r\nVia: {}\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {} ACK\r\nMax-Forwards: 70\r\n\
             Content-Length: 0\r\n\r\n",
            asked.request_uri(),
            asked.via_top_text(),
            self.own,
            refusal.header(Header::To).unwrap_or_default(),
            self.call_id,
            asked.cseq().number,
        );
        Message::parse(text.into()).ok()
    }

    fn talks(&mut self, now_ms: u64, talk_ms: u64, random: &mut Random) {
        self.stage = Stage::Talking;
        self.gives_up_ms = None;
        self.asks_ms = Some(now_ms + random.between(100, 3_000));
        self.leaves_ms = Some(now_ms + talk_ms);
    }

    // ---- what it is asked ----

    /// Its first INVITE.
    pub(super) fn rings(
        &mut self,
        now_ms: u64,
        invite: &Message,
        text: &Text,
        random: &mut Random,
    ) -> Vec<Message> {
        self.invite = Some(invite.clone());
        match random.between(0, 19) {
            0 => {
                self.stage = Stage::Over;
                self.refuse(now_ms, invite, text.response(invite, 486, None))
            }
            _ => {
                self.answers_ms = Some(now_ms + random.between(20, 2_500));
                text.response(invite, 180, None).into_iter().collect()
            }
        }
    }

    fn answer(&mut self, now_ms: u64, text: &Text) -> Vec<Sent> {
        let Some(invite) = self.invite.clone().filter(|_| self.stage == Stage::Early) else {
            return Vec::new();
        };
        let response = text.response(&invite, 200, Some(&text.description(1, false)));
        self.stage = Stage::Answered;
        self.unacknowledged = response.clone().map(|response| Repeated::new(now_ms, response));
        let node = self.node;
        self.say(&invite, response).into_iter().map(|response| (node, response)).collect()
    }

    /// A refusal of the INVITE is repeated until its ACK comes.
    fn refuse(&mut self, now_ms: u64, invite: &Message, response: Option<Message>) -> Vec<Message> {
        self.unacknowledged = response.clone().map(|response| Repeated::new(now_ms, response));
        self.say(invite, response)
    }

    /// Remembers a final answer, for copies of its request.
    fn say(&mut self, request: &Message, response: Option<Message>) -> Vec<Message> {
        if let Some(response) = &response {
            self.answers.insert(transaction(request), response.clone());
        }
        response.into_iter().collect()
    }

    pub(super) fn is_asked(
        &mut self,
        now_ms: u64,
        request: &Message,
        text: &Text,
        talk_ms: u64,
        random: &mut Random,
    ) -> Vec<Message> {
        let cseq = request.cseq().number;
        match request.method() {
            Method::Ack => {
                let fits = |again: &Repeated| again.message.cseq().number == cseq;
                if self.unacknowledged.as_ref().is_some_and(fits) {
                    self.unacknowledged = None;
                }
                if self.stage == Stage::Answered {
                    self.talks(now_ms, talk_ms, random);
                }
                return Vec::new();
            }
            Method::Cancel => return self.is_cancelled(now_ms, request, text),
            _ => {}
        }
        if let Some(answer) = self.answers.get(&transaction(request)) {
            return vec![answer.clone()];
        }
        if request.to().tag().is_none() {
            // A copy of the INVITE that it rings by.
            return text.response(request, 180, None).into_iter().collect();
        }
        if cseq <= self.heard_cseq {
            return self.say(request, text.response(request, 500, None));
        }
        self.heard_cseq = cseq;
        let status = match (self.stage, request.method()) {
            (_, Method::Bye) => {
                self.is_gone();
                self.open = None;
                200
            }
            (Stage::Talking | Stage::Answered, Method::Invite) if self.open.is_some() => 491,
            (Stage::Talking | Stage::Answered, _) => 200,
            // Of a 180 it knows the dialog before it has the 200.
            (Stage::Early | Stage::Cancelled, Method::Invite) => 491,
            (Stage::Early | Stage::Cancelled, _) => 200,
            (Stage::Over, _) => 481,
        };
        if *request.method() != Method::Invite || status != 200 {
            return self.say(request, text.response(request, status, None));
        }
        (self.node, self.media) =
            (contact_node(request).unwrap_or(self.node), media_node(request).or(self.media));
        let response = text.response(request, 200, Some(&text.description(cseq, false)));
        self.unacknowledged = response.clone().map(|response| Repeated::new(now_ms, response));
        if self.stage == Stage::Answered {
            self.talks(now_ms, talk_ms, random);
        }
        self.say(request, response)
    }

    fn is_cancelled(&mut self, now_ms: u64, cancel: &Message, text: &Text) -> Vec<Message> {
        let mut said: Vec<Message> = text.response(cancel, 200, None).into_iter().collect();
        if self.stage == Stage::Early
            && let Some(invite) = self.invite.clone()
        {
            (self.stage, self.answers_ms) = (Stage::Over, None);
            said.extend(self.refuse(now_ms, &invite, text.response(&invite, 487, None)));
        }
        said
    }

    // ---- timers ----

    pub(super) fn poll_timeout(&self) -> Option<u64> {
        let repeats = [&self.open, &self.unacknowledged];
        let repeats = repeats.into_iter().flatten().map(|again| again.next_ms.min(again.until_ms));
        let plans = [self.answers_ms, self.asks_ms, self.leaves_ms, self.gives_up_ms, self.again_ms];
        repeats.chain(plans.into_iter().flatten()).min()
    }

    pub(super) fn is_done(&self) -> bool {
        self.stage == Stage::Over && self.open.is_none() && self.again_ms.is_none()
    }
}

/// What tells a request from its copies.
fn transaction(request: &Message) -> String {
    format!("{} {}", request.method().as_str(), request.via_top().branch.unwrap_or_default())
}
