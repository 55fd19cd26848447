//! Each mismatch is told on both sides, and nobody gets in without a certificate or a token's secret.

use rustls::pki_types::CertificateDer;

use super::*;
use crate::tls::Request;

const CLUSTER: ClusterId = ClusterId(7);
const SECRET: Key = [2; 32];
const HERE: Start = Start { incarnation: Incarnation(1), process: 7, term: 2, position: 3 };
const THERE: Start = Start { incarnation: Incarnation(4), process: 8, term: 5, position: 6 };

struct Door {
    cluster: ClusterId,
    fork: Fork,
    authority: Authority,
}

impl Door {
    fn new() -> Door {
        Door { cluster: CLUSTER, fork: Fork::default(), authority: Authority::make(CLUSTER).unwrap() }
    }

    fn certificate(&self, node: u64) -> Presented {
        let request = Request::make(self.cluster, NodeId(node)).unwrap();
        let issued = self.authority.issue(self.cluster, NodeId(node), &request.der, 4_000_000_000).unwrap();
        Presented::of(CertificateDer::from(issued))
    }
}

impl Gate for Door {
    fn me(&self) -> (ClusterId, NodeId, Start) {
        (self.cluster, NodeId(1), THERE)
    }

    fn fork(&self) -> Fork {
        self.fork
    }

    fn admit(&self, hello: &Hello) -> Result<Option<Key>, Refused> {
        match hello.purpose {
            Purpose::Lane { .. } if hello.fork != self.fork => Err(forked(hello.fork, self.fork)),
            Purpose::Lane { .. } => Ok(None),
            Purpose::Join { .. } => Ok(Some(SECRET)),
        }
    }

    fn grant(&self, _: &Hello) -> Result<Grant, Refused> {
        Ok(Grant {
            certificate: vec![1],
            until_s: 5,
            authority: self.authority.clone(),
            keys: vec![[9; 32]],
            generation: 1,
            role: Role::Full,
            members: Vec::new(),
            fork: self.fork,
        })
    }
}

fn client() -> Client {
    Client {
        cluster: CLUSTER,
        generation: 1,
        fork: Fork::default(),
        node: NodeId(2),
        start: HERE,
        address: "127.0.0.1:1".into(),
        name: "n2".into(),
    }
}

fn forked(calling: Fork, called: Fork) -> Refused {
    Refused::Fork { generation: 1, calling, called }
}

type Met<T> = (Result<T, String>, Result<Hello, String>);

async fn meet_as(client: Client, target: u64, presented: Presented, door: &Door) -> Met<Start> {
    let (mut here, mut there) = tokio::io::duplex(4096);
    let ask = client.open(&mut here, Lane::Raft, NodeId(target));
    let (asked, received) = tokio::join!(ask, receive(&mut there, &presented, door));
    (asked.map_err(|e| e.to_string()), received.map_err(|e| e.to_string()))
}

async fn join_with(secret: Key) -> (Result<Grant, String>, Result<Hello, String>) {
    let (door, nothing) = (Door::new(), Presented::nothing());
    let (mut here, mut there) = tokio::io::duplex(4096);
    let client = client();
    let ask = client.join(&mut here, (1, &secret), vec![3]);
    let (asked, received) = tokio::join!(ask, receive(&mut there, &nothing, &door));
    (asked.map_err(|e| e.to_string()), received.map_err(|e| e.to_string()))
}

fn both(met: Met<Start>) -> [String; 2] {
    [met.0.unwrap_err(), met.1.unwrap_err()]
}

fn told(why: Refused) -> [String; 2] {
    [format!("refused by the other node: {why}"), format!("refused here: {why}")]
}

#[tokio::test]
async fn members_meet_and_know_how_each_other_began() {
    let door = Door::new();
    let (asked, received) = meet_as(client(), 1, door.certificate(2), &door).await;
    assert_eq!(asked, Ok(THERE));
    let hello = received.unwrap();
    assert_eq!((hello.node, hello.start), (NodeId(2), HERE));
}

#[tokio::test]
async fn a_lane_needs_the_certificate_of_the_very_node() {
    let door = Door::new();
    let wanted = told(Refused::Certificate(NodeId(2)));
    assert_eq!(both(meet_as(client(), 1, door.certificate(3), &door).await), wanted);
    assert_eq!(both(meet_as(client(), 1, Presented::nothing(), &door).await), wanted);
}

#[tokio::test]
async fn another_cluster_is_named_on_both_sides() {
    let door = Door::new();
    let other = Client { cluster: ClusterId(8), ..client() };
    let wanted = told(Refused::Cluster { calling: ClusterId(8), called: CLUSTER });
    assert_eq!(both(meet_as(other, 1, door.certificate(2), &door).await), wanted);
}

#[tokio::test]
async fn another_fork_is_named_on_both_sides() {
    let door = Door { fork: Fork(8), ..Door::new() };
    let other = Client { fork: Fork(9), ..client() };
    let wanted = told(forked(Fork(9), Fork(8)));
    assert_eq!(both(meet_as(other, 1, door.certificate(2), &door).await), wanted);
    assert!(wanted[0].contains("deploy/runbooks/quorum-lost.md"), "{wanted:?}");
    let same = Client { fork: Fork(8), ..client() };
    assert_eq!(meet_as(same, 1, door.certificate(2), &door).await.0, Ok(THERE));
}

/// What a release without forks says.
#[derive(Serialize, Deserialize)]
struct OlderHello {
    cluster: ClusterId,
    generation: u64,
    node: NodeId,
    start: Start,
    address: String,
    purpose: Purpose,
}

#[derive(Serialize, Deserialize)]
enum OlderWelcome {
    Accepted { version: u16, node: NodeId, start: Start, nonce: [u8; 32] },
}

#[tokio::test]
async fn an_older_release_without_forks_is_of_none_and_understands_this_one() {
    let hello =
        Client { fork: Fork(u64::MAX), ..client() }.hello(Purpose::Join { invitation: 1, request: vec![3] });
    let older: OlderHello = postcard::from_bytes(&postcard::to_stdvec(&hello).unwrap()).unwrap();
    let again: Hello = decode_grown(&postcard::to_stdvec(&older).unwrap()).unwrap();
    assert_eq!(again, Hello { fork: Fork::default(), name: String::new(), ..hello });
    assert_eq!(decode_grown::<Hello>(&postcard::to_stdvec(&again).unwrap()).unwrap(), again);

    let (door, presented) = (Door { fork: Fork(8), ..Door::new() }, Presented::nothing());
    let (mut here, mut there) = tokio::io::duplex(4096);
    let ask = async move {
        write_plain(&mut here, &Opening::OURS).await.unwrap();
        write_plain(&mut here, &older).await.unwrap();
        read_plain::<OlderWelcome>(&mut here).await.unwrap()
    };
    let (answer, _) = tokio::join!(ask, receive(&mut there, &presented, &door));
    let OlderWelcome::Accepted { version, node, start, nonce } = answer;
    assert_eq!((version, node, start), (VERSION, NodeId(1), THERE));

    let welcome = postcard::to_stdvec(&OlderWelcome::Accepted { version, node, start, nonce }).unwrap();
    let fork = Fork::default();
    let wanted = Welcome::Accepted { version, node, start, nonce, fork };
    assert_eq!(decode_grown::<Welcome>(&welcome).unwrap(), wanted);
}

/// An older release that is called does not compare forks: the caller does.
#[tokio::test]
async fn a_forced_survivor_takes_no_node_of_an_older_release_for_one_of_its_own() {
    let (mut here, mut there) = tokio::io::duplex(4096);
    let caller = Client { fork: Fork(9), ..client() };
    let answer = async {
        let _ = (read_bytes(&mut there).await.unwrap(), read_bytes(&mut there).await.unwrap());
        let nonce = [0; 32];
        let welcome = OlderWelcome::Accepted { version: VERSION, node: NodeId(1), start: THERE, nonce };
        write_plain(&mut there, &welcome).await.unwrap();
    };
    let (opened, ()) = tokio::join!(caller.open(&mut here, Lane::Raft, NodeId(1)), answer);
    let wanted = told(forked(Fork(9), Fork::default()))[1].clone();
    assert_eq!(opened.unwrap_err().to_string(), wanted);
}

#[tokio::test]
async fn a_stale_address_is_named_on_both_sides() {
    let door = Door::new();
    let wanted = told(Refused::Node { wanted: NodeId(3), called: NodeId(1) });
    assert_eq!(both(meet_as(client(), 3, door.certificate(2), &door).await), wanted);
}

#[tokio::test]
async fn a_release_that_is_too_far_away_is_told_the_versions_whatever_it_says_next() {
    let (door, presented) = (Door::new(), Presented::nothing());
    let (mut here, mut there) = tokio::io::duplex(4096);
    let ask = async {
        write_plain(&mut here, &Opening { magic: MAGIC, oldest: 8, newest: 9 }).await.unwrap();
        write_plain(&mut here, &"a hello of a later form").await.unwrap();
        read_plain::<Welcome>(&mut here).await.unwrap()
    };
    let (answer, received) = tokio::join!(ask, receive(&mut there, &presented, &door));
    let why = Refused::Version { calling: (8, 9), called: (VERSION_OLDEST, VERSION) };
    assert_eq!(answer, Welcome::Refused(why.clone()));
    assert_eq!(received.unwrap_err().to_string(), format!("refused here: {why}"));
}

#[test]
fn versions_that_overlap_settle_on_the_newest_of_both() {
    let of = |oldest, newest| overlap(Opening { magic: MAGIC, oldest, newest }).unwrap().ok();
    assert_eq!(of(VERSION, VERSION + 1), Some(VERSION));
    assert_eq!(of(VERSION_OLDEST.saturating_sub(1), VERSION_OLDEST), Some(VERSION_OLDEST));
    assert_eq!((of(VERSION + 1, VERSION + 2), of(0, VERSION_OLDEST - 1)), (None, None));
    assert!(overlap(Opening { magic: *b"HTTP", oldest: VERSION, newest: VERSION }).is_err());
}

#[tokio::test]
async fn a_joining_node_that_proves_the_secret_is_given_all_that_it_needs() {
    let (asked, received) = join_with(SECRET).await;
    assert_eq!(asked.unwrap().keys, [[9; 32]]);
    assert_eq!(received.unwrap().purpose, Purpose::Join { invitation: 1, request: vec![3] });
}

#[tokio::test]
async fn a_wrong_secret_is_refused_on_both_sides() {
    let (asked, received) = join_with([3; 32]).await;
    let [by_other, here] = told(Refused::Secret);
    assert_eq!((asked.err(), received.err()), (Some(by_other), Some(here)));
}

#[test]
fn a_node_ends_when_it_is_told_of_itself_that_it_is_an_older_copy_or_was_removed() {
    let (me, other) = (NodeId(1), NodeId(2));
    let behind = Refused::Behind { node: me, shown: (1, 1), seen: (2, 2) };
    let older = Refused::Incarnation { node: me, shown: Incarnation(1), seen: Incarnation(2) };
    assert!(behind.ends(me) && older.ends(me));
    assert!(!behind.ends(other) && !older.ends(other));
    assert!(Refused::Removed(me).ends(me) && !Refused::Removed(other).ends(me));
}
