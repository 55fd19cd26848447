//! Phones that call and talk: the load phones as a library, each run of them watched.

use super::{FLOOD_HOST, Running, SHORT_HOST};
use crate::history::PhonesSeen;
use crate::script::{Group, Script, ShortCalls};
use crate::world::World;
use crate::world::content::{
    CALLEES, CALLERS, CROWD, PASSWORD, SHORT_CALLEES, SHORT_CALLERS, SHORT_PAIRS, TOWN, Tenant, VILLAGE,
};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::thread::Scope;
use std::time::{Duration, Instant};
use tandem_phones::calls::{self, Ends, Options};
use tandem_phones::digest::Algorithm;
use tandem_phones::register::Phones;
use tandem_phones::watch::Watch;

/// How long a phone waits for an answer: as long as people do. Who gave up a BYE sooner would leave its call behind.
const PATIENCE: Duration = Duration::from_secs(15);

struct Parties {
    tenant: Tenant,
    callers: u64,
    callees: u64,
    count: usize,
    host: Ipv4Addr,
    nodes: (usize, usize),
}

fn options(world: &World, parties: &Parties) -> Options {
    let phones = |first, node: usize, port| Phones {
        local: SocketAddrV4::new(parties.host, port),
        targets: vec![world.sip(node)],
        domain: parties.tenant.domain.to_owned(),
        first,
        count: parties.count,
        password: PASSWORD.to_owned(),
        algorithm: Algorithm::First,
    };
    Options {
        callers: phones(parties.callers, parties.nodes.0, 0),
        callees: phones(parties.callees, parties.nodes.1, 5060),
        calls: parties.count,
        rate: 20.0,
        hold: Duration::ZERO,
        plateau: false,
        rtp: true,
        rtp_port: 30_000,
        ring: Duration::ZERO,
        ends: Ends::Both,
        register: true,
        pids: Vec::new(),
        patience: PATIENCE,
        watch: None,
    }
}

fn run<'scope>(
    scope: &'scope Scope<'scope, '_>,
    (what, tenant, are_standing): (String, Tenant, bool),
    options: Options,
    clock: Instant,
) -> Running<'scope> {
    let watch = Watch::since(clock);
    let options = Options { watch: Some(watch.clone()), ..options };
    let seen = PhonesSeen { what, tenant: tenant.name.to_owned(), are_standing, ..PhonesSeen::default() };
    Running { seen, watch, thread: scope.spawn(move || calls::run(&options)) }
}

/// A group of standing calls. Every second group is of another tenant, whose numbers are the same.
pub(super) fn standing<'scope>(
    scope: &'scope Scope<'scope, '_>,
    world: &World,
    script: &Script,
    (number, group): (usize, Group),
    clock: Instant,
) -> Running<'scope> {
    let tenant = if number % 2 == 0 { TOWN } else { VILLAGE };
    let first = |of: [u64; 2]| of.get(number / 2).copied().unwrap_or_default();
    let parties = Parties {
        tenant,
        callers: first(CALLERS),
        callees: first(CALLEES),
        count: group.count,
        host: world.place().phones(number),
        nodes: (group.from.index(), group.to.index()),
    };
    let options = Options { plateau: true, hold: script.hold(), ..options(world, &parties) };
    let what = format!("{} calls of {} from {:?} to {:?}", group.count, tenant.name, group.from, group.to);
    run(scope, (what.to_lowercase(), tenant, true), options, clock)
}

/// The phones of a tenant's calls that come and go, where callers call and callees are registered.
fn short_parties(world: &World, tenant: Tenant, host: usize, nodes: (usize, usize)) -> Parties {
    Parties {
        tenant,
        callers: SHORT_CALLERS,
        callees: SHORT_CALLEES,
        count: usize::try_from(SHORT_PAIRS).unwrap_or_default(),
        host: world.place().phones(host),
        nodes,
    }
}

/// Calls that come and go.
pub(super) fn short<'scope>(
    scope: &'scope Scope<'scope, '_>,
    world: &World,
    script: &Script,
    short: ShortCalls,
    clock: Instant,
) -> Running<'scope> {
    let parties = short_parties(world, TOWN, SHORT_HOST, (short.from.index(), short.to.index()));
    let options = Options {
        calls: whole(short.per_second * script.workload.for_s),
        rate: short.per_second,
        hold: Duration::from_secs_f64(short.talk_s),
        ..options(world, &parties)
    };
    run(scope, ("calls that come and go".to_owned(), TOWN, false), options, clock)
}

/// More calls than a tenant may make, without sound.
pub(crate) fn flood<'scope>(
    scope: &'scope Scope<'scope, '_>,
    world: &World,
    (node, per_second, wait): (usize, f64, Duration),
    clock: Instant,
) -> Running<'scope> {
    let parties = short_parties(world, CROWD, FLOOD_HOST, (node, node));
    let options = Options {
        calls: whole(per_second * wait.as_secs_f64()),
        rate: per_second,
        hold: Duration::from_millis(200),
        rtp: false,
        ..options(world, &parties)
    };
    run(scope, (format!("{per_second} calls a second of the crowd"), CROWD, false), options, clock)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few thousand calls at most")]
fn whole(count: f64) -> usize {
    count.max(1.0) as usize
}
