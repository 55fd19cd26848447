//! Whatever phones, the log and the operator do: no panic, bounded outputs, and every call ends with one record of it.

use proptest::prelude::*;
use tandem_sip::message::Message;
use tandem_sip::transaction::ServerKey;
use tandem_state::{CallId, Cause, Command, Quality, Refusal, Reply};

use super::bench::{Bench, owned};
use super::phone::Words;
use crate::call::{Input, Output, Proposal};
use crate::machine::Machine;

/// Outputs of one step at most: a hang-up of a caller and three targets with eight INFOs and a re-INVITE on their way.
const OUTPUTS_MAX: usize = 32;

const PROPOSALS: [Proposal; 7] = [
    Proposal::Create,
    Proposal::Note,
    Proposal::Shape,
    Proposal::Answer,
    Proposal::Exchange,
    Proposal::Move,
    Proposal::End,
];

/// Something that happens.
#[derive(Debug, Clone)]
enum Act {
    /// A phone answers the switch.
    Answer {
        phone: usize,
        status: u16,
        words: Vec<&'static str>,
    },
    /// A phone asks.
    Ask {
        phone: usize,
        method: &'static str,
        words: Vec<&'static str>,
    },
    /// The last message of a phone comes again, with one byte changed.
    Broken {
        phone: usize,
        at: usize,
        byte: u8,
    },
    /// A request to a phone is not answered.
    Silent {
        phone: usize,
        method: &'static str,
    },
    /// The log answers the oldest proposal.
    Log(Fate),
    MediaSilent,
    Figures,
    HangUp(Cause),
    Wait(u64),
}

/// What becomes of a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Carried,
    CarriedUnheard,
    Lost,
    Refused,
}

fn words() -> impl Strategy<Value = Vec<&'static str>> {
    let word = prop::sample::select(vec![
        "sdp",
        "sdp=sendonly",
        "sdp=inactive",
        "sdp=nowhere",
        "sdp=video",
        "body=Signal=1",
        "tag=other",
        "contact=none",
        "contact=sip:a\tb@c",
        "contact=tel:1",
        "of=first",
        "of=UPDATE",
        "of=INFO",
        "of=BYE",
        "cseq=1",
        "again",
        "Require:100rel",
        "Record-Route:<sip:p;lr>",
        "Record-Route:<sip:p_q>",
        "Expires:1",
    ]);
    prop::collection::vec(word, 0..4)
}

fn act() -> impl Strategy<Value = Act> {
    let phone = 0usize..4;
    let status =
        prop::sample::select(vec![100, 180, 183, 200, 200, 200, 302, 401, 408, 481, 486, 487, 491, 503, 603]);
    let method = prop::sample::select(vec![
        "INVITE", "ACK", "ACK", "BYE", "CANCEL", "UPDATE", "INFO", "OPTIONS", "REFER", "PRACK", "X",
    ]);
    let ours = prop::sample::select(vec!["INVITE", "CANCEL", "UPDATE", "INFO", "BYE"]);
    let fate = prop::sample::select(vec![
        Fate::Carried,
        Fate::Carried,
        Fate::Carried,
        Fate::Carried,
        Fate::CarriedUnheard,
        Fate::Lost,
        Fate::Refused,
    ]);
    let cause = prop::sample::select(vec![Cause::AdminHangup, Cause::NodeShutdown, Cause::NormalClearing]);
    prop_oneof![
        8 => (phone.clone(), status, words()).prop_map(|(phone, status, words)| Act::Answer { phone, status, words }),
        6 => (phone.clone(), method, words()).prop_map(|(phone, method, words)| Act::Ask { phone, method, words }),
        2 => (phone.clone(), any::<usize>(), any::<u8>()).prop_map(|(phone, at, byte)| Act::Broken { phone, at, byte }),
        1 => (phone, ours).prop_map(|(phone, method)| Act::Silent { phone, method }),
        6 => fate.prop_map(Act::Log),
        1 => Just(Act::MediaSilent),
        1 => Just(Act::Figures),
        1 => cause.prop_map(Act::HangUp),
        2 => prop::sample::select(vec![1u64, 600, 5_000, 40_000]).prop_map(Act::Wait),
    ]
}

/// The log as it answers one call: a row, and how many records of its end were written.
#[derive(Debug, Default)]
struct Log {
    row: bool,
    written: u32,
    refused: bool,
}

impl Log {
    fn carry(&mut self, command: &Command) -> Result<Reply, Refusal> {
        match command {
            Command::CreateCall { .. } | Command::CreateCallFrom { .. } if self.row => {
                Err(Refusal::Exists("call".into()))
            }
            Command::CreateCall { .. } | Command::CreateCallFrom { .. } => {
                self.row = true;
                Ok(Reply::Done)
            }
            Command::Checkpoint { .. } if self.row => Ok(Reply::Done),
            Command::EndCall { .. } if self.row => {
                (self.row, self.written) = (false, self.written + 1);
                Ok(Reply::Ended(1))
            }
            Command::Checkpoint { .. } | Command::EndCall { .. } => Err(Refusal::NoCall),
            Command::RefuseCall { .. } if self.row => Err(Refusal::Exists("call".into())),
            // The proposer's idempotency key keeps a repeated one from counting twice.
            Command::RefuseCall { .. } if self.refused => Ok(Reply::Ended(1)),
            Command::RefuseCall { .. } => {
                (self.refused, self.written) = (true, self.written + 1);
                Ok(Reply::Ended(1))
            }
            other => panic!("a call proposes no {other:?}"),
        }
    }

    fn answer(&mut self, what: Proposal, command: &Command, fate: Fate) -> Option<Result<Reply, Refusal>> {
        match fate {
            Fate::Carried => Some(self.carry(command)),
            Fate::CarriedUnheard => self.carry(command).map_or_else(|refused| Some(Err(refused)), |_| None),
            Fate::Lost => None,
            Fate::Refused if what == Proposal::End => Some(self.carry(command)),
            Fate::Refused => Some(Err(Refusal::LimitReached { name: "calls".into(), limit: 1 })),
        }
    }
}

struct Run {
    bench: Bench,
    log: Log,
    waiting: Vec<(Proposal, Command)>,
    said: Vec<Option<(Message, bool)>>,
}

impl Run {
    fn new(start: &[&str]) -> Option<Self> {
        let mut bench = Bench::new();
        bench.try_start(&owned(start)).then_some(())?;
        let mut run = Run { bench, log: Log::default(), waiting: Vec::new(), said: vec![None; 4] };
        run.settle();
        Some(run)
    }

    /// Looks at what a step put out.
    fn settle(&mut self) {
        let outputs = std::mem::take(&mut self.bench.outputs);
        assert!(outputs.len() <= OUTPUTS_MAX, "{} outputs in one step", outputs.len());
        for output in outputs {
            if let Output::Propose { what, command } = output {
                self.waiting.push((what, *command));
            }
        }
        assert!(self.waiting.len() <= 16, "{} proposals are on their way", self.waiting.len());
    }

    fn act(&mut self, act: Act) {
        self.bench.now_ms += 1;
        match act {
            Act::Answer { phone, status, words } => {
                let words = owned(&words);
                let Some(phone) = self.bench.phones.get(phone) else { return };
                let Some(message) = phone.response(status, &words) else { return };
                self.response(phone.leg, message);
            }
            Act::Ask { phone, method, words } => {
                let words = owned(&words);
                let Some(name) = self.bench.phones.get(phone).map(|phone| phone.name.clone()) else { return };
                self.bench.try_phone_says(&name, method, &words);
            }
            Act::Broken { phone, at, byte } => self.broken(phone, at, byte),
            Act::Silent { phone, method } => {
                let Some(name) = self.bench.phones.get(phone).map(|phone| phone.name.clone()) else { return };
                self.bench.silent(&name, method, &Words::default());
            }
            Act::Log(fate) => self.answer_oldest(fate),
            Act::MediaSilent => self.bench.input(Input::MediaSilent),
            Act::Figures => self.bench.input(Input::MediaFigures(Quality::default())),
            Act::HangUp(cause) => self.bench.input(Input::HangUp(cause)),
            Act::Wait(ms) => self.wait(ms),
        }
        self.settle();
    }

    fn response(&mut self, leg: tandem_state::LegId, message: Message) {
        let at = self.bench.phones.iter().position(|phone| phone.leg == leg).unwrap();
        self.said[at] = Some((message.clone(), false));
        self.bench.input(Input::Response { leg, message });
    }

    fn broken(&mut self, phone: usize, at: usize, byte: u8) {
        let Some(phone) = self.bench.phones.get(phone).cloned() else { return };
        let message = match phone.response(200, &owned(&["sdp"])) {
            Some(answer) if at.is_multiple_of(2) => answer,
            _ => self.bench.request_of(&phone.name, "INVITE", &owned(&["sdp"])),
        };
        let mut bytes = message.bytes().to_vec();
        let index = at % bytes.len();
        bytes[index] = byte;
        let Ok(message) = Message::parse(bytes.into()) else { return };
        if message.is_response() {
            return self.bench.input(Input::Response { leg: phone.leg, message });
        }
        let (key, flow) = (ServerKey::of(&message), self.bench.flow(&phone));
        self.bench.knows_key(&key, &phone.name);
        self.bench.input(Input::Request { leg: phone.leg, key, message, flow });
    }

    fn answer_oldest(&mut self, fate: Fate) {
        if self.waiting.is_empty() {
            return;
        }
        let (what, command) = self.waiting.remove(0);
        let outcome = self.log.answer(what, &command, fate);
        self.bench.input(Input::Proposed { what, outcome });
    }

    fn wait(&mut self, ms: u64) {
        let until = self.bench.now_ms + ms;
        for _ in 0..100 {
            let due = self.bench.call.as_ref().and_then(Machine::poll_timeout);
            let Some(due) = due.filter(|due| *due <= until) else { break };
            self.bench.now_ms = due.max(self.bench.now_ms);
            self.bench.timeout();
            self.settle();
        }
        self.bench.now_ms = until;
    }

    fn is_finished(&self) -> bool {
        self.bench.call.as_ref().is_some_and(Machine::is_finished)
    }

    /// Ends the call; everything that waits is answered, every phone that was asked gives up.
    fn end(&mut self) {
        self.act(Act::HangUp(Cause::AdminHangup));
        for _ in 0..20 {
            while !self.waiting.is_empty() {
                self.act(Act::Log(Fate::Carried));
            }
            self.act(Act::Figures);
            self.act(Act::Wait(40_000));
            for phone in 1..self.bench.phones.len() {
                self.act(Act::Silent { phone, method: "INVITE" });
            }
        }
    }
}

fn run(start: &[&str], acts: Vec<Act>) {
    let Some(mut run) = Run::new(start) else { return };
    for act in acts {
        run.act(act);
    }
    run.end();
    assert!(run.is_finished(), "{:?}", run.bench.call);
    assert_eq!((run.log.row, run.log.written), (false, 1), "one record, and no row is left");
}

proptest! {
    #[test]
    fn every_call_ends_with_one_record_whatever_happens(
        start in prop::sample::select(vec!["targets=102a", "targets=102a,102b,102c", "targets="]),
        more in words(),
        acts in prop::collection::vec(act(), 0..60),
    ) {
        let start: Vec<&str> = std::iter::once(start).chain(more).collect();
        run(&start, acts);
    }

    #[test]
    fn outcomes_that_nobody_waits_for_do_no_harm(
        acts in prop::collection::vec(act(), 0..30),
        stray in prop::collection::vec((0usize..30, 0..PROPOSALS.len(), 0usize..4), 0..10),
    ) {
        let Some(mut run) = Run::new(&["targets=102a,102b", "sdp"]) else { return Ok(()) };
        for (at, act) in acts.into_iter().enumerate() {
            for (_, what, outcome) in stray.iter().filter(|(when, _, _)| *when == at) {
                let what = PROPOSALS[*what];
                let outcome = [
                    None,
                    Some(Ok(Reply::Done)),
                    Some(Err(Refusal::NoCall)),
                    Some(Err(Refusal::Exists(CallId(1).to_string()))),
                ][*outcome].clone();
                run.bench.input(Input::Proposed { what, outcome });
                run.settle();
            }
            run.act(act);
        }
        run.end();
        prop_assert!(run.is_finished());
    }
}

#[test]
fn an_invite_that_no_answer_can_be_built_for_makes_no_call() {
    let vias: Vec<String> =
        (0..250).map(|n| format!("Via:SIP/2.0/UDP_192.0.2.9;branch=z9hG4bKv{n}")).collect();
    let words: Vec<&str> =
        ["targets=102a", "sdp"].into_iter().chain(vias.iter().map(String::as_str)).collect();
    assert!(!Bench::new().try_start(&owned(&words)));
    assert!(!Bench::new().try_start(&owned(&["targets=102a", "contact=sip:a\tb@c"])));
}
