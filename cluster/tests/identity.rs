//! Who a node is, over real nodes, real TLS and real files: copies, restored directories, tokens, removed nodes, keys.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

#[allow(dead_code, reason = "each test binary uses a part of it")]
mod world;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tandem_cluster::{Cluster, JoinError, Level, PeerError, RotateError, StartError};
use tandem_state::{Principal, Role};
use tokio::net::TcpSocket;
use world::{World, tenant};

const MINUTE: Duration = Duration::from_secs(60);

/// Copies a directory; files that are there already are written into, as `cp` does, so that they stay the same files.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let there = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            let _ = std::fs::remove_dir_all(&there);
            copy(&entry.path(), &there);
        } else {
            std::fs::write(there, std::fs::read(entry.path()).unwrap()).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_copied_directory_does_not_start_and_the_original_does() {
    let mut world = World::three().await;
    world.kill(2).await;
    let copied = tempfile::tempdir().unwrap();
    copy(&world.data(2), &copied.path().join("data"));
    let error = world.start_at(2, &copied.path().join("data")).await.err().unwrap();
    assert!(matches!(error, StartError::Copied(_)), "{error}");
    assert!(error.to_string().contains("join as a new node"), "{error}");
    world.restart(2).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_directory_is_for_one_process_and_a_wiped_one_holds_no_node() {
    let mut world = World::three().await;
    let error = world.start_at(2, &world.data(2)).await.err().unwrap();
    assert!(matches!(error, StartError::InUse(_)), "{error}");
    assert!(tandem_cluster::init(&world.data(2)).is_err(), "a cluster is not made beside a living node");
    let former = world.node(2).node_id();
    world.kill(2).await;
    std::fs::remove_dir_all(world.data(2)).unwrap();
    let error = world.start_at(2, &world.data(2)).await.err().unwrap();
    assert!(matches!(error, StartError::NotPrepared(_)), "{error}");
    let token = world.node(0).invite(Role::Full, MINUTE).await.unwrap();
    let joined = tandem_cluster::join(&world.data(2), &token, "").await.unwrap();
    assert_ne!(joined.node_id, former);
    world.stop().await;
}

/// The node that began the cluster would begin it once more, alone, if it took an empty log for its first.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_lost_its_log_does_not_start_not_even_the_one_that_began_the_cluster() {
    let mut world = World::three().await;
    for at in [0, 2] {
        world.kill(at).await;
        let (raft, aside) = (world.data(at).join("raft"), world.data(at).join("aside"));
        std::fs::rename(&raft, &aside).unwrap();
        for is_made in [false, true] {
            if is_made {
                std::fs::create_dir(&raft).unwrap();
            }
            let started = world.start_error(at).await;
            let examined = tandem_cluster::examine(&world.data(at)).await.err().unwrap().to_string();
            for error in [started, examined] {
                assert!(error.contains(&format!("{} lacks all of its log", raft.display())), "{error}");
                assert!(error.contains("cluster remove"), "{error}");
            }
            // Nobody made an empty one, which would be believed the next time.
            assert!(std::fs::read_dir(&raft).map_or(0, Iterator::count) == 0);
        }
        std::fs::remove_dir(&raft).unwrap();
        std::fs::rename(&aside, &raft).unwrap();
        world.restart(at).await;
    }
    world.assert_equal().await;
    world.stop().await;
}

/// A directory into which the secrets of another node were copied, for all to read.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_starts_with_secrets_of_its_own_alone_and_shuts_them() {
    use std::os::unix::fs::PermissionsExt;
    let mut world = World::three().await;
    let [own, others] = [2, 1].map(|at| world.data(at).join("secrets.json"));
    world.kill(2).await;
    let kept = std::fs::read(&own).unwrap();
    std::fs::copy(others, &own).unwrap();
    let error = world.start_at(2, &world.data(2)).await.err().unwrap();
    assert!(matches!(error, StartError::Secrets(_)), "{error}");
    assert!(error.to_string().contains(&*own.to_string_lossy()), "{error}");
    std::fs::write(&own, kept).unwrap();
    std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o644)).unwrap();
    world.restart(2).await;
    assert_eq!(std::fs::metadata(&own).unwrap().permissions().mode() & 0o777, 0o600);
    world.stop().await;
}

/// A directory put back as it was, into the very same files: neither their birth nor their inode tells. It was started
/// as often as the node was since, so that the incarnation doesn't tell either.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_directory_restored_from_before_is_told_to_join_as_new() {
    let mut world = World::three().await;
    let restored = world.node(2).node_id();
    world.kill(2).await;
    let backup = tempfile::tempdir().unwrap();
    copy(&world.data(2), backup.path());
    world.restart(2).await;
    world.until_rules_are_newest().await;
    let committed = world.propose(0, tenant("acme")).await;
    world
        .until_known("the cluster knows how far the node's disk was", restored, |state| {
            state.marks.get(&restored).is_some_and(|mark| mark.position >= committed.position)
        })
        .await;
    world.kill(2).await;
    copy(backup.path(), &world.data(2));
    let node = world.start_at(2, &world.data(2)).await.unwrap();
    let why = tokio::time::timeout(Duration::from_secs(20), node.failed()).await.unwrap();
    assert!(why.contains("its data directory is an older copy"), "{why}");
    assert!(why.contains("joins as a new one"), "{why}");
    node.shutdown().await;
    world.stop().await;
}

/// The end of its newest file is gone: what it had acknowledged a moment ago, and no renewal has told of yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_lost_the_end_of_its_log_is_told_to_join_as_new() {
    let mut world = World::three().await;
    world.until_rules_are_newest().await;
    let hurt = (world.leader().await + 1) % 3;
    world.propose(hurt, tenant("acme")).await;
    world.kill(hurt).await;
    world.cut_log(hurt, 200);
    let node = world.start_at(hurt, &world.data(hurt)).await.unwrap();
    let why = tokio::time::timeout(Duration::from_secs(20), node.failed()).await.unwrap();
    assert!(why.contains("has lost what was written to it"), "{why}");
    assert!(why.contains("joins as a new one"), "{why}");
    node.shutdown().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_was_removed_is_heard_by_nobody_although_its_certificate_is_good() {
    let mut world = World::three().await;
    let leader = world.leader().await;
    let (gone, stays) = ((leader + 1) % 3, (leader + 2) % 3);
    let removed = world.node(gone).node_id();
    world.kill(gone).await;
    world.node(leader).remove(removed).await.unwrap();
    let node = world.start_at(gone, &world.data(gone)).await.unwrap();
    let mut last = None;
    for _ in 0..200 {
        let asked = node.call_peer(world.node(stays).node_id(), "hello".into(), MINUTE / 60);
        last = Some(asked.await);
        match &last {
            Some(Err(PeerError::Unreachable(why))) if why.contains("was removed from the cluster") => {
                node.shutdown().await;
                return world.stop().await;
            }
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    panic!("still heard: {last:?}");
}

/// Strangers of fifty addresses that connect and say nothing, more than a thousand times a second, until the test ends.
fn flood(to: [SocketAddr; 3]) -> tokio::task::JoinSet<()> {
    let mut strangers = tokio::task::JoinSet::new();
    for (number, to) in (0..150_u8).zip(to.into_iter().cycle()) {
        strangers.spawn(async move {
            loop {
                let socket = TcpSocket::new_v4().unwrap();
                socket.bind(([127, 0, 2, number % 50 + 1], 0).into()).unwrap();
                let stream = socket.connect(to).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
                drop(stream);
            }
        });
    }
    strangers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_comes_back_and_a_new_one_joins_under_a_flood_of_strangers() {
    let mut world = World::three().await;
    let strangers = flood([0, 1, 2].map(|at| world.node(at).address()));
    world.kill(2).await;
    world.propose(0, tenant("acme")).await.outcome.unwrap();
    world.restart(2).await;
    let (_dir, joined) = world.start_another("n4").await;
    assert!(joined.announced(Duration::from_secs(20)).await);
    drop(strangers);
    joined.shutdown().await;
    world.stop().await;
}

/// What a node's checkup says of forks.
async fn forks(node: &Cluster) -> Option<(Level, String)> {
    let found = node.checkup().await.into_iter().find(|finding| finding.check == "forks")?;
    Some((found.level, found.what))
}

async fn until_it_sees_another_fork(node: &Cluster, name: &str) {
    for _ in 0..800 {
        if let Some((Level::Failure, what)) = forks(node).await {
            return assert!(what.contains(&format!("{name} (fork ")), "{what}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not seen: {:?}", forks(node).await);
}

/// Two survivors are forced, one after the other and apart: two clusters of one name and generation.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn survivors_that_were_forced_apart_never_mix_and_both_say_so() {
    let mut world = World::three().await;
    world.propose(0, tenant("before")).await.outcome.unwrap();
    world.settle().await;
    assert_eq!(forks(world.node(1)).await, None);
    for at in 0..3 {
        world.kill(at).await;
    }
    let names = |names: [&str; 2]| names.map(str::to_owned);
    let one = tandem_cluster::force_quorum(&world.data(1), &names(["n1", "n3"])).await.unwrap();
    let other = tandem_cluster::force_quorum(&world.data(2), &names(["n1", "n2"])).await.unwrap();
    assert_eq!((one.generation, other.generation), (2, 2));
    assert_ne!(one.fork, other.fork);

    world.restart(1).await;
    let (level, what) = forks(world.node(1)).await.unwrap();
    assert_eq!(level, Level::Ok, "{what}");
    world.restart(2).await;
    until_it_sees_another_fork(world.node(1), "n3").await;
    until_it_sees_another_fork(world.node(2), "n2").await;
    for (at, forced, name) in [(1, &one, "left"), (2, &other, "right")] {
        let status = world.node(at).status().await;
        assert_eq!((status.generation, status.fork.as_deref()), (2, Some(&*forced.fork)));
        assert_eq!((status.nodes.len(), status.quorum), (1, true), "{status:#?}");
        world.propose(at, tenant(name)).await.outcome.unwrap();
    }
    assert!(world.node(1).view().tenant_by_name("right").is_none());
    assert!(world.node(2).view().tenant_by_name("left").is_none());

    // The one that was given up hears of it from whichever it meets, and ends; who joins one is of its fork.
    let lost = world.start_at(0, &world.data(0)).await.unwrap();
    let why = tokio::time::timeout(Duration::from_secs(20), lost.failed()).await.unwrap();
    assert!(why.contains("generation 2 of this cluster was forced without this node"), "{why}");
    lost.shutdown().await;
    let (_dir, joined) = world.start_another_at(2, "n4").await;
    assert!(joined.announced(Duration::from_secs(20)).await);
    assert_eq!(joined.status().await.fork.as_deref(), Some(&*other.fork));
    joined.shutdown().await;
    world.stop().await;
}

/// As a run of `force-quorum` that was stopped in between and done again leaves it.
fn force_once_more(data: &std::path::Path) {
    let file = data.join("identity.json");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("\"generation\": 2", "\"generation\": 3")).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn survivors_that_were_forced_apart_unequally_often_say_so_too() {
    let mut world = World::three().await;
    world.settle().await;
    for at in 0..3 {
        world.kill(at).await;
    }
    let names = |names: [&str; 2]| names.map(str::to_owned);
    tandem_cluster::force_quorum(&world.data(1), &names(["n1", "n3"])).await.unwrap();
    tandem_cluster::force_quorum(&world.data(2), &names(["n1", "n2"])).await.unwrap();
    force_once_more(&world.data(2));
    world.restart(1).await;
    world.restart(2).await;
    assert_eq!(world.node(2).status().await.generation, 3);
    until_it_sees_another_fork(world.node(1), "n3").await;
    until_it_sees_another_fork(world.node(2), "n2").await;
    world.stop().await;
}

/// A token with the address of another node in it.
fn sent_to(token: &str, made_by: &Cluster, other: &Cluster) -> String {
    let hex = |node: &Cluster| -> String {
        node.address().to_string().bytes().map(|byte| format!("{byte:02x}")).collect()
    };
    let astray = token.replace(&hex(made_by), &hex(other));
    assert_ne!(astray, token);
    astray
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_fault_of_a_token_is_told_to_who_joins() {
    let world = World::three().await;
    let dir = tempfile::tempdir().unwrap();
    let mut tries = 0;
    let mut join = async |token: &str| {
        tries += 1;
        tandem_cluster::join(&dir.path().join(tries.to_string()), token, "").await
    };
    let token = world.node(0).invite(Role::Witness, MINUTE).await.unwrap();
    let joined = join(&token).await.unwrap();
    assert_eq!((joined.role, joined.cluster_id), (Role::Witness, world.node(0).cluster_id()));
    let used = join(&token).await.unwrap_err().to_string();
    assert!(used.contains("the token was used already"), "{used}");

    let late = world.node(0).invite(Role::Full, Duration::ZERO).await.unwrap();
    let expired = join(&late).await.unwrap_err().to_string();
    assert!(expired.contains("the token has expired"), "{expired}");

    let made_by_two = world.node(1).invite(Role::Full, MINUTE).await.unwrap();
    let of_other = World::one().await;
    let other = of_other.node(0).invite(Role::Full, MINUTE).await.unwrap();
    let astray = sent_to(&other, of_other.node(0), world.node(0));
    let wrong = join(&astray).await.unwrap_err();
    assert!(matches!(wrong, JoinError::Unreachable { .. }), "{wrong}");
    assert!(wrong.to_string().contains("not the one that the token names"), "{wrong}");
    let astray = sent_to(&made_by_two, world.node(1), world.node(0));
    let unknown = join(&astray).await.unwrap_err().to_string();
    assert!(unknown.contains("not known at the node that made it"), "{unknown}");
    assert!(matches!(join("hello").await, Err(JoinError::BadToken)));
    of_other.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_cluster_key_is_changed_once_every_member_has_the_new_one() {
    let mut world = World::three().await;
    world.until_rules_are_newest().await;
    let keys = |world: &World| [0, 1, 2].map(|at| world.node(at).derived_key("test"));
    let first = keys(&world);
    assert_eq!(first, [first[0]; 3]);

    let me = |world: &World| Principal::Node(world.node(1).node_id());
    let id = world.node(1).rotate_key(me(&world)).await.unwrap();
    world.settle().await;
    let second = keys(&world);
    assert_eq!(second, [second[0]; 3]);
    assert_ne!(second[0], first[0]);
    assert!((0..3).all(|at| world.node(at).view().cluster_key == Some(id)));

    world.kill(2).await;
    let refused = world.node(1).rotate_key(me(&world)).await.unwrap_err();
    assert!(matches!(&refused, RotateError::Unreached { node, .. } if node == "n3"), "{refused}");
    world.restart(2).await;
    assert_eq!(keys(&world), second);

    let token = world.node(0).invite(Role::Full, MINUTE).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    tandem_cluster::join(&dir.path().join("data"), &token, "").await.unwrap();
    let joined = world.start_at(3, &dir.path().join("data")).await.unwrap();
    assert!(joined.announced(Duration::from_secs(20)).await);
    assert_eq!(joined.derived_key("test"), second[0]);
    joined.shutdown().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn certificates_renew_by_themselves_and_nodes_go_on_talking() {
    let mut world = World::three().await;
    // Far longer than what `init` and `join` gave: all of it is due at once.
    world.timing.iter_mut().for_each(|timing| timing.certificate = 400 * 24 * 60 * MINUTE);
    for at in 0..3 {
        let before = std::fs::read(world.data(at).join("secrets.json")).unwrap();
        world.kill(at).await;
        world.restart(at).await;
        assert_ne!(std::fs::read(world.data(at).join("secrets.json")).unwrap(), before);
    }
    let committed = world.propose(1, tenant("acme")).await;
    assert!(committed.outcome.is_ok());
    world.settle().await;
    world.assert_equal().await;
    world.stop().await;
}

/// A witness does not hold the CA's key: full nodes issue for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_witness_is_given_its_next_certificate_by_a_full_node() {
    let mut world = World::three().await;
    let token = world.node(0).invite(Role::Witness, MINUTE).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    tandem_cluster::join(&data, &token, "").await.unwrap();
    let text = std::fs::read_to_string(data.join("secrets.json")).unwrap();
    assert!(!text.contains("\"ca_key\""));
    world.timing.iter_mut().for_each(|timing| timing.certificate = 400 * 24 * 60 * MINUTE);
    let witness = world.start_at(3, &data).await.unwrap();
    assert!(witness.announced(Duration::from_secs(20)).await);
    let error = witness.invite(Role::Full, MINUTE).await.unwrap_err();
    assert!(error.to_string().contains("is a witness"), "{error}");
    for _ in 0..400 {
        if std::fs::read_to_string(data.join("secrets.json")).unwrap() != text {
            witness.shutdown().await;
            return world.stop().await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the witness's certificate was not renewed");
}
