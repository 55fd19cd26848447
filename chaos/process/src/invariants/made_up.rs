//! A short history in which everything is as it should be: one call of the town from n1 to a phone of n3 loses n1 at 3 s,
//! goes on at n2, and ends by its phones; a registration and a write every second.

use super::Judgement;
use crate::history::{Again, EventSeen, FaultSeen, History, NodeEnd, PhonesSeen, Registration, View, Write};
use crate::script::Bounds;
use serde_json::json;
use std::net::SocketAddrV4;
use tandem_phones::watch::{Call, Heard, Kind, Sample, Seen, Silence};

fn invite(at_ms: u64, from: &str, epoch: u32, media: &str) -> Heard {
    Heard {
        at_ms,
        from: from.parse().unwrap(),
        call_id: "callee".into(),
        kind: Kind::Request,
        cseq: epoch * super::one_owner::BLOCK + 1,
        method: "INVITE".into(),
        media: media.parse::<SocketAddrV4>().ok(),
        retry_after: false,
        from_host: "town.example".into(),
    }
}

fn phones() -> PhonesSeen {
    let call = Call {
        pair: 0,
        from: "1000".into(),
        to: "1400".into(),
        domain: "town.example".into(),
        caller_id: "caller".into(),
        callee_id: Some("callee".into()),
        answered_ms: Some(1_000),
        hung_up_ms: Some(11_000),
        ended_ms: Some(11_050),
        failure: None,
    };
    let seen = Seen {
        samples: (10..110).map(|n| Sample { at_ms: n * 100, up: 1, audible: 2 }).collect(),
        heard: vec![
            invite(940, "127.0.70.3:5060", 1, "127.0.70.1:20000"),
            invite(4_300, "127.0.70.3:5060", 2, "127.0.70.2:20000"),
        ],
        calls: vec![call],
        silences: vec![Silence { pair: 0, caller: false, from_ms: 4_000, until_ms: 4_700 }],
        crossed: 0,
    };
    PhonesSeen { what: "calls".into(), tenant: "town".into(), are_standing: true, seen }
}

fn end(name: &str) -> NodeEnd {
    let metrics = [
        ("tandem_calls_active", 0.0),
        ("tandem_state_calls", 0.0),
        ("tandem_rtp_sessions", 0.0),
        ("tandem_rtp_port_pairs_free", 5_000.0),
    ];
    NodeEnd {
        name: name.into(),
        registrations: vec![json!({"number": "5000", "contact": "sip:c0@127.0.70.112:5060"})],
        tokens: (0..3).map(|n| format!("chaos-{n}")).collect(),
        audit: (0..3).map(|n| format!("put token chaos-{n}")).collect(),
        cdrs: vec![json!({"id": "1", "tenant": "town", "from": "1000", "to": "1400", "status": "answered",
            "billed_s": 10, "epoch": 2})],
        calls: Vec::new(),
        metrics: metrics.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        memory_kb: 110 * 1024,
    }
}

fn event(at_ms: u64, name: &str) -> EventSeen {
    EventSeen { at_ms, name: name.into(), body: json!({"event": name, "node": "n1"}) }
}

fn view(at_ms: u64) -> View {
    let state = if (4_200..9_500).contains(&at_ms) { "down" } else { "up" };
    let nodes = [("n1", state), ("n2", "up"), ("n3", "up")];
    View {
        at_ms,
        asked: 1,
        leader: Some("n2".into()),
        term: 3,
        nodes: nodes.into_iter().map(|(name, state)| (name.to_owned(), state.to_owned(), 0)).collect(),
    }
}

/// How an invariant is broken by a change to the good history.
pub(super) fn broken(judge: fn(&History) -> Judgement, change: impl FnOnce(&mut History)) -> String {
    let mut history = history();
    change(&mut history);
    judge(&history).broken.join("\n")
}

pub(crate) fn history() -> History {
    let registration = |second: u64| Registration {
        number: "5000".into(),
        contact: "c0".into(),
        acknowledged_ms: Some(second * 1_000),
    };
    let write = |number: u64| Write {
        key: format!("key-{number}"),
        token: format!("chaos-{number}"),
        acknowledged_ms: Some(3_000 * (number + 1)),
        again: Some(Again::Replayed),
    };
    History {
        bounds: Bounds::default(),
        from_ms: 1_000,
        until_ms: 11_000,
        hosts: (1..=3).map(|n| std::net::Ipv4Addr::new(127, 0, 70, n)).collect(),
        faults: vec![FaultSeen {
            what: "kill-worker n1".into(),
            nodes: vec![0],
            from_ms: 4_000,
            until_ms: 9_000,
            is_deadly: true,
        }],
        phones: vec![phones()],
        registrations: (1..11).map(registration).collect(),
        writes: (0..3).map(write).collect(),
        views: (0..60).map(|n| view(n * 200)).collect(),
        events: vec![event(4_200, "node.down"), event(9_500, "node.up")],
        memory_before_kb: vec![100 * 1024; 3],
        end: ["n1", "n2", "n3"].map(end).to_vec(),
        hash: Some(Ok("equal".into())),
        troubles: Vec::new(),
    }
}
