//! Real nodes in one process, over 127.0.0.1 and real files: what a cluster promises while nodes come and go.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

#[allow(dead_code, reason = "each test binary uses a part of it")]
mod world;

use std::time::Duration;

use tandem_cluster::archive::{CdrQuery, EventsRead};
use tandem_cluster::{FeedItem, MemberError, MemberState, ProposeError, RaftRole};
use tandem_state::Principal;
use world::{Wire, World, create_call, end_call, extensions, tenant};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_command_proposed_on_any_node_is_applied_on_all() {
    let world = World::three().await;
    let mut feed = world.node(2).feed();
    for at in 0..3 {
        let name = format!("tenant-{at}");
        let committed = world.propose(at, tenant(&name)).await;
        assert!(committed.outcome.is_ok(), "{:?}", committed.outcome);
        assert!(world.node(at).view().tenant_by_name(&name).is_some(), "the proposer reads its own write");
        for other in 0..3 {
            assert!(world.node(other).wait_applied(committed.position, Duration::from_secs(5)).await);
            assert!(world.node(other).view().tenant_by_name(&name).is_some());
        }
    }
    let mut names = Vec::new();
    while names.len() < 3 {
        if let FeedItem::Applied { events, .. } = feed.next().await.unwrap() {
            names.extend(
                events.iter().map(|event| event.kind.name()).filter(|name| *name == "tenant.changed"),
            );
        }
    }
    world.assert_equal().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn status_says_who_is_there_with_and_without_a_quorum() {
    let mut world = World::three().await;
    let status = world.node(0).status().await;
    assert!(status.quorum && status.survives.any_one_node);
    for at in 0..3 {
        assert!(world.node(at).has_quorum());
    }
    assert_eq!(status.survives.site.get("east"), Some(&false));
    assert_eq!(status.survives.site.get("west"), Some(&true));
    assert_eq!(status.nodes.iter().filter(|node| node.raft == RaftRole::Leader).count(), 1);
    assert!(status.nodes.iter().all(|node| node.state == MemberState::Up && node.rtt_ms.is_some()));
    assert_eq!(status.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["n1", "n2", "n3"]);
    world.kill(1).await;
    world.kill(2).await;
    // The goodbye of the second may have been the last that the two agreed on: then its lease runs out.
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    let down = loop {
        let status = world.node(0).status().await;
        assert!(!status.quorum && status.leader.is_none());
        let others = status.nodes.iter().filter(|node| node.name != "n1");
        let down = others.filter(|node| node.state == MemberState::Down).count();
        if down == 2 || std::time::Instant::now() >= deadline {
            break down;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(down, 2);
    assert!(world.node(0).read_index().await.is_err());
    assert!(!world.node(0).has_quorum(), "known after the three seconds that the read waited");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn leader_and_follower_may_die_and_come_back() {
    let mut world = World::three().await;
    world.propose(0, tenant("before")).await;
    for round in 0..2 {
        let leader = world.leader().await;
        world.kill(leader).await;
        let survivor = (leader + 1) % 3;
        world.propose(survivor, tenant(&format!("leaderless-{round}"))).await;
        world.restart(leader).await;
        let follower = (world.leader().await + 1) % 3;
        world.kill(follower).await;
        world.propose((follower + 1) % 3, tenant(&format!("short-{round}"))).await;
        world.restart(follower).await;
    }
    let committed = world.propose(0, tenant("after")).await;
    for at in 0..3 {
        assert!(world.node(at).wait_applied(committed.position, Duration::from_secs(10)).await);
        assert_eq!(world.node(at).view().tenants.len(), 6);
    }
    world.assert_equal().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn proposals_under_way_when_the_leader_dies_apply_exactly_once() {
    let mut world = World::three().await;
    world.propose(0, tenant("acme")).await;
    world.settle().await;
    let leader = world.leader().await;
    let proposer = (leader + 1) % 3;
    let writers: Vec<_> = (0..40_u128)
        .map(|id| {
            let (cluster, node) = (world.node(proposer).clone(), world.node(proposer).node_id());
            tokio::spawn(async move {
                cluster.propose(Principal::Node(node), None, create_call(&cluster, id + 1)).await.unwrap();
                cluster.propose(Principal::Node(node), None, end_call(id + 1)).await.unwrap()
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(5)).await;
    world.kill(leader).await;
    for writer in writers {
        let committed = writer.await.unwrap();
        assert!(committed.outcome.is_ok(), "{:?}", committed.outcome);
    }
    world.restart(leader).await;
    let all = CdrQuery { limit: 1000, ..CdrQuery::default() };
    world.settle().await;
    for at in 0..3 {
        assert_eq!(world.node(at).archive().cdrs(&all).unwrap().items.len(), 40, "one CDR for each call");
    }
    world.assert_equal().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_fell_far_behind_gets_snapshot_and_archive() {
    let mut world = World::three().await;
    world.propose(0, tenant("acme")).await;
    world.settle().await;
    let lagging = (world.leader().await + 1) % 3;
    let writer = (lagging + 1) % 3;
    world.kill(lagging).await;
    for id in 1..=300_u128 {
        let call = create_call(world.node(writer), id);
        assert!(world.propose(writer, call).await.outcome.is_ok());
        assert!(world.propose(writer, end_call(id)).await.outcome.is_ok());
    }
    world.restart(lagging).await;
    let position = world.node(writer).read_index().await.unwrap();
    assert!(world.node(lagging).wait_applied(position, Duration::from_secs(20)).await);
    let all = CdrQuery { limit: 1000, ..CdrQuery::default() };
    for at in 0..3 {
        assert_eq!(world.node(at).archive().cdrs(&all).unwrap().items.len(), 300);
    }
    world.assert_equal().await;
    // From its own disk, too.
    world.kill(lagging).await;
    world.restart(lagging).await;
    world.settle().await;
    assert_eq!(world.node(lagging).archive().cdrs(&all).unwrap().items.len(), 300);
    world.assert_equal().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_snapshot_whose_connection_breaks_goes_on_where_it_was() {
    const LIFE: u64 = 256 * 1024;
    let mut world = World::three().await;
    for at in 0..3 {
        // However long it takes, the log goes on from the snapshot's end, and no second one is needed.
        world.timing[at].log_keep = 250;
        world.kill(at).await;
        world.restart(at).await;
    }
    world.propose(0, tenant("acme")).await.outcome.unwrap();
    world.settle().await;
    let lagging = (world.leader().await + 1) % 3;
    let writer = (lagging + 1) % 3;
    world.kill(lagging).await;
    for from in (1000..7000).step_by(500) {
        world.propose(writer, extensions("acme", from..from + 500)).await.outcome.unwrap();
    }
    for id in 1..=300_u128 {
        let call = create_call(world.node(writer), id);
        world.propose(writer, call).await.outcome.unwrap();
        world.propose(writer, end_call(id)).await.outcome.unwrap();
    }
    let whole = world.snapshot_bytes(writer);
    assert!(whole > 4 * LIFE, "a connection could carry much of it: {whole}");

    let wire = Wire::that_breaks_after(LIFE).await;
    world.restart_behind(lagging, &wire).await;
    let position = world.node(writer).read_index().await.unwrap();
    assert!(world.node(lagging).wait_applied(position, Duration::from_secs(60)).await);
    // Had it begun anew each time, it would never have come to its end; each break costs a piece, and there are heartbeats.
    let (bytes, breaks) = wire.carried();
    assert!(breaks >= 4 && bytes < 2 * whole, "{breaks} breaks, {bytes} bytes, the snapshot has {whole}");
    world.assert_equal().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_archive_is_read_in_pages_and_events_resume_on_another_node() {
    let world = World::three().await;
    world.propose(0, tenant("acme")).await;
    for id in 1..=5_u128 {
        let call = create_call(world.node(0), id);
        world.propose(0, call).await;
        world.propose(0, end_call(id)).await;
    }
    world.settle().await;
    let archive = world.node(1).archive();
    let tenant = world.node(1).view().tenant_by_name("acme").unwrap().0;
    let mut query = CdrQuery { tenant: Some(tenant), limit: 2, ..CdrQuery::default() };
    let mut calls = Vec::new();
    loop {
        let page = archive.cdrs(&query).unwrap();
        calls.extend(page.items.iter().map(|cdr| cdr.call.0));
        query.cursor = page.next_cursor;
        if query.cursor.is_none() {
            break;
        }
    }
    assert_eq!(calls, [5, 4, 3, 2, 1]);
    assert_eq!(archive.cdrs_of_call(tandem_state::CallId(3)).unwrap().len(), 1);
    let EventsRead::Events { events: first, last, more } = archive.events(None, Some(tenant), 3).unwrap()
    else {
        panic!("nothing was purged");
    };
    assert_eq!((first.len(), more), (3, true));
    let EventsRead::Events { events: rest, more, .. } =
        world.node(2).archive().events(last, Some(tenant), 100).unwrap()
    else {
        panic!("nothing was purged");
    };
    assert!(!more && rest.iter().all(|event| event.id > first[2].id));
    assert_eq!(rest.len() + first.len(), world.events_of(tenant));
    assert!(!archive.audit(None, 10).unwrap().items.is_empty());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn leadership_moves_when_asked_and_a_removed_node_is_gone() {
    let mut world = World::three().await;
    let leader = world.leader().await;
    let next = (leader + 1) % 3;
    let last = (leader + 2) % 3;
    world.node(last).transfer_leader(world.node(next).node_id()).await.unwrap();
    assert_eq!(world.leader().await, next);
    let gone = world.node(leader).node_id();
    let refused = world.node(last).remove(gone).await.unwrap_err();
    assert!(refused.to_string().contains("it still runs"), "{refused}");
    world.kill(leader).await;
    world.node(last).remove(gone).await.unwrap();
    assert!(matches!(world.node(last).remove(gone).await, Err(MemberError::NoNode)));
    let status = world.node(next).status().await;
    assert_eq!(status.nodes.len(), 2);
    assert!(!status.survives.any_one_node);
    world.propose(last, tenant("two-of-us")).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn leadership_goes_back_to_the_site_with_most_voters() {
    let mut world = World::three().await;
    for at in 0..3 {
        world.timing[at].home_after = Duration::from_millis(500);
        world.kill(at).await;
        world.restart(at).await;
    }
    // Two nodes stand in the east. Handed to the west, it does not stay there.
    while world.node(0).transfer_leader(world.node(2).node_id()).await.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while world.leader().await == 2 {
        assert!(std::time::Instant::now() < deadline, "the west still leads");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_whose_name_is_taken_never_votes() {
    let world = World::three().await;
    let (_dir, stranger) = world.start_another("n1").await;
    let id = stranger.node_id();
    let refused = loop {
        match world.node(0).promote(id).await {
            Err(MemberError::NoNode) => tokio::time::sleep(Duration::from_millis(20)).await,
            other => break other.unwrap_err(),
        }
    };
    assert!(refused.to_string().contains("does not know it by a name"), "{refused}");
    let said = loop {
        let status = world.node(0).status().await;
        match status.nodes.into_iter().find(|node| node.id == id).and_then(|node| node.refused) {
            Some(said) => break said,
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    assert!(said.contains("node name n1"), "{said}");
    stranger.shutdown().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_name_that_is_taken_is_refused_at_once_and_free_again_when_its_node_is_removed() {
    let mut world = World::three().await;
    let leader = world.leader().await;
    let (gone, stays) = ((leader + 1) % 3, (leader + 2) % 3);
    let (name, lost) = (format!("n{}", gone + 1), world.node(gone).node_id());
    let token = world.node(stays).invite(tandem_state::Role::Full, Duration::from_secs(60)).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let refused =
        tandem_cluster::join(&dir.path().join("data"), &token, &name).await.unwrap_err().to_string();
    assert!(refused.contains(&format!("`cluster remove {name}` first")), "{refused}");
    let (_dir, twin) = world.start_another_at(stays, &name).await;
    let id = twin.node_id();
    world.kill(gone).await;
    while twin.status().await.nodes.iter().all(|node| node.refused.is_none()) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    while let Err(error) = world.node(leader).remove(lost).await {
        println!("not removed yet: {error}");
    }
    world.until_known("it has the name", id, |state| state.nodes.contains_key(&id)).await;
    twin.shutdown().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_a_quorum_the_outcome_is_unknown_and_names_the_request() {
    let mut world = World::three().await;
    world.kill(1).await;
    world.kill(2).await;
    let node = world.node(0);
    match node.propose(Principal::Node(node.node_id()), None, tenant("nobody")).await {
        Err(ProposeError::Unknown { origin }) => assert_eq!(origin.node, node.node_id()),
        other => panic!("{other:?}"),
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn messages_between_nodes_arrive_in_order_and_requests_are_answered() {
    let world = World::three().await;
    let heard = world.listen(1);
    let (from, to) = (world.node(0), world.node(1).node_id());
    for number in 0..200_u8 {
        from.tell_peer(to, bytes::Bytes::from(vec![number])).unwrap();
    }
    let answer =
        from.call_peer(to, bytes::Bytes::from_static(b"ping"), Duration::from_secs(2)).await.unwrap();
    assert_eq!(&answer[..], b"gnip");
    let heard = heard.wait(200).await;
    assert_eq!(heard, (0..200_u8).map(|n| (from.node_id(), vec![n])).collect::<Vec<_>>());
    assert_eq!(
        world.node(1).call_peer(from.node_id(), bytes::Bytes::new(), Duration::from_secs(2)).await,
        Err(tandem_cluster::PeerError::NoHandler)
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_comes_back_at_another_address_is_found() {
    let mut world = World::three().await;
    let moved = (world.leader().await + 1) % 3;
    world.kill(moved).await;
    world.restart_elsewhere(moved).await;
    let committed = world.propose((moved + 1) % 3, tenant("acme")).await;
    assert!(world.node(moved).wait_applied(committed.position, Duration::from_secs(10)).await);
    world.assert_equal().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_torn_log_is_cut_and_caught_up_but_a_rotten_one_stops_the_node_by_name() {
    let mut world = World::three().await;
    let hurt = (world.leader().await + 1) % 3;
    world.propose(hurt, tenant("acme")).await;
    world.kill(hurt).await;
    world.tear_log(hurt);
    world.restart(hurt).await;
    world.settle().await;
    world.assert_equal().await;
    world.kill(hurt).await;
    let file = world.rot_log(hurt);
    let refused = world.start_error(hurt).await;
    assert!(refused.contains(&file) && refused.contains("damaged at byte"), "{refused}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_voter_stays_while_too_few_others_have_the_archive_whole() {
    let mut world = World::three().await;
    world.propose(0, tenant("acme")).await.outcome.unwrap();
    for id in 1..=500 {
        world.propose(0, create_call(world.node(0), id)).await.outcome.unwrap();
        world.propose(0, end_call(id)).await.outcome.unwrap();
    }
    world.settle().await;
    let leader = world.leader().await;
    let (damaged, leaving) = ((leader + 1) % 3, (leader + 2) % 3);
    let _ = world.node(damaged).archive().events(None, None, 1).unwrap();
    let file = world.old_events(damaged);
    let whole = std::fs::read(&file).unwrap();
    // Not in its beginning: that was read when the node was promoted, and is not read again.
    let mut rotten = whole.clone();
    rotten[whole.len() / 2] ^= 1;
    std::fs::write(&file, rotten).unwrap();

    let gone = world.node(leaving).node_id();
    world.kill(leaving).await;
    let refused = world.node(leader).remove(gone).await.unwrap_err().to_string();
    assert!(refused.contains("whole on 1 of the 2 voters that would stay, and 2 are needed"), "{refused}");
    assert!(refused.contains(&format!("n{}: ", damaged + 1)), "{refused}");
    assert!(refused.contains(&*file.to_string_lossy()), "{refused}");
    std::fs::write(&file, whole).unwrap();
    world.node(leader).remove(gone).await.unwrap();
    world.stop().await;
}

fn stands(view: &tandem_state::State, node: tandem_state::NodeId) -> bool {
    view.leases.get(&node).is_some_and(|lease| lease.stands)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_falls_silent_is_called_down_and_the_election_after_it_fences_nobody_else() {
    let mut world = World::three().await;
    let leader = world.leader().await;
    let (lost, survivors) = (world.node(leader).node_id(), [(leader + 1) % 3, (leader + 2) % 3]);
    let all_hold = |view: &tandem_state::State| {
        view.leases.len() == 3 && view.leases.values().all(|lease| lease.stands && lease.attempt > 0)
    };
    world.until_known("every node holds a lease", lost, all_hold).await;
    world.propose(leader, tenant("acme")).await;
    let call = create_call(world.node(leader), 7);
    assert!(world.propose(leader, call).await.outcome.is_ok());
    world.settle().await;
    let mut feed = world.node(survivors[0]).feed();
    world.cut(leader);
    world.until_known("the silent node is down", lost, |view| view.nodes[&lost].epoch.0 == 2).await;
    let view = world.node(survivors[0]).view();
    assert!(!stands(&view, lost) && view.calls.is_empty());
    for at in survivors {
        let node = world.node(at);
        assert_eq!((node.node_epoch().0, node.lease().holds()), (1, true));
    }
    let mut names = Vec::new();
    while !names.contains(&"call.ended") {
        if let FeedItem::Applied { events, .. } = feed.next().await.unwrap() {
            names.extend(events.iter().map(|event| event.kind.name()));
        }
    }
    assert!(names.ends_with(&["node.down", "call.ended"]), "{names:?}");
    let status = world.node(survivors[0]).status().await;
    let states: Vec<_> = status.nodes.iter().map(|node| (node.id == lost, node.state, node.epoch)).collect();
    let count = |wanted| states.iter().filter(|one| **one == wanted).count();
    assert_eq!(count((true, MemberState::Down, 2)), 1, "{status:#?}");
    assert_eq!(count((false, MemberState::Up, 1)), 2, "{status:#?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_goodbye_ends_a_lease_at_once_and_the_next_start_gains_one_under_the_next_epoch() {
    let mut world = World::three().await;
    let leaving = (world.leader().await + 1) % 3;
    let id = world.node(leaving).node_id();
    world.until_known("it holds a lease", id, |view| stands(view, id)).await;
    let lease = world.node(leaving).lease();
    assert!(lease.holds() && lease.remaining().is_some_and(|left| left > Duration::from_secs(1)));
    world.kill(leaving).await;
    assert!(!lease.holds());
    let view = world.node((leaving + 1) % 3).view();
    assert_eq!((view.nodes[&id].epoch.0, stands(&view, id)), (2, false));
    world.restart(leaving).await;
    world.until_known("it holds one again", id, |view| stands(view, id)).await;
    assert_eq!((world.node(leaving).node_epoch().0, world.node(leaving).lease().holds()), (2, true));
    world.assert_equal().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_a_quorum_a_node_stops_believing_in_its_lease_and_has_it_back_with_the_quorum() {
    let mut world = World::three().await;
    let id = world.node(0).node_id();
    world.until_known("it holds a lease", id, |view| stands(view, id)).await;
    world.kill(1).await;
    world.kill(2).await;
    let lease = world.node(0).lease();
    world.until_known("its lease runs out", id, |_| !lease.holds()).await;
    assert_eq!(world.node(0).node_epoch().0, 1, "nobody could say that it is down");
    world.restart(1).await;
    world.until_known("it holds it again", id, |_| lease.holds()).await;
    assert_eq!(world.node(0).node_epoch().0, 1, "it was never declared down");
    world.stop().await;
}
