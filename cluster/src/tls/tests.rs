//! Who may speak to whom, over TLS as it is; what each side says when it may not.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::*;
use crate::rpc::Link;

const CLUSTER: ClusterId = ClusterId(7);
const FAR: u64 = 4_000_000_000;

fn node_of(authority: &Authority, node: u64, until_s: u64) -> Ends {
    let request = Request::make(CLUSTER, NodeId(node)).unwrap();
    let issued = authority.issue(CLUSTER, NodeId(node), &request.der, until_s).unwrap();
    Ends::new(authority, &request.with(issued, until_s).unwrap()).unwrap()
}

/// A word from the caller: only then has it read whether its certificate was taken.
async fn greet(mut link: Box<dyn Link>) -> io::Result<u8> {
    link.write_all(&[42]).await?;
    link.flush().await?;
    link.read_u8().await
}

async fn answer(ends: &Ends, stream: impl Link + 'static) -> io::Result<Presented> {
    let (mut link, presented) = ends.accept(stream).await?;
    let said = link.read_u8().await?;
    link.write_all(&[said]).await?;
    link.flush().await?;
    Ok(presented)
}

async fn meet(caller: &Ends, called: &Ends, node: u64) -> (Result<u8, String>, Result<Presented, String>) {
    let (here, there) = duplex(64 * 1024);
    let ask = async { greet(caller.connect(here, CLUSTER, NodeId(node)).await?).await };
    let (asked, answered) = tokio::join!(ask, answer(called, there));
    (asked.map_err(|e| explain(&e)), answered.map_err(|e| explain(&e)))
}

async fn meet_pinned(pin: Pin, called: &Ends) -> (Result<u8, String>, Result<Presented, String>) {
    let (here, there) = duplex(64 * 1024);
    let ask = async { greet(connect_pinned(here, CLUSTER, pin).await?).await };
    let (asked, answered) = tokio::join!(ask, answer(called, there));
    (asked.map_err(|e| explain(&e)), answered.map_err(|e| explain(&e)))
}

fn errors<A, B>((asked, answered): (Result<A, String>, Result<B, String>)) -> [String; 2] {
    [asked.err().expect("refused there"), answered.err().expect("refused here")]
}

#[tokio::test]
async fn members_of_a_cluster_know_each_other_by_name() {
    let authority = Authority::make(CLUSTER).unwrap();
    let [one, two] = [1, 2].map(|node| node_of(&authority, node, FAR));
    let (asked, answered) = meet(&one, &two, 2).await;
    assert_eq!(asked, Ok(42));
    assert!(answered.unwrap().names(CLUSTER, NodeId(1)));
}

#[tokio::test]
async fn another_node_at_the_address_is_noticed() {
    let authority = Authority::make(CLUSTER).unwrap();
    let [one, two] = [1, 2].map(|node| node_of(&authority, node, FAR));
    let [asked, answered] = errors(meet(&one, &two, 3).await);
    assert!(asked.contains("is that of another node"), "{asked}");
    assert!(answered.contains("expects another node here"), "{answered}");
}

#[tokio::test]
async fn a_node_of_another_cluster_s_ca_is_told_so_as_is_the_one_that_it_called() {
    let [ours, theirs] = [(), ()].map(|()| Authority::make(CLUSTER).unwrap());
    let (one, two) = (node_of(&ours, 1, FAR), node_of(&theirs, 2, FAR));
    let [asked, answered] = errors(meet(&one, &two, 2).await);
    assert!(asked.contains("by the CA of another cluster"), "{asked}");
    assert!(answered.contains("of another cluster"), "{answered}");
}

#[tokio::test]
async fn a_caller_whose_certificate_alone_is_of_another_ca_is_refused() {
    let [ours, theirs] = [(), ()].map(|()| Authority::make(CLUSTER).unwrap());
    let request = Request::make(CLUSTER, NodeId(1)).unwrap();
    let issued = theirs.issue(CLUSTER, NodeId(1), &request.der, FAR).unwrap();
    let impostor = Ends::new(&ours, &request.with(issued, FAR).unwrap()).unwrap();
    let [asked, answered] = errors(meet(&impostor, &node_of(&ours, 2, FAR), 2).await);
    assert!(asked.contains("does not take this node's certificate"), "{asked}");
    assert!(answered.contains("by the CA of another cluster"), "{answered}");
}

#[tokio::test]
async fn an_expired_certificate_is_named_on_both_sides() {
    let authority = Authority::make(CLUSTER).unwrap();
    let (expired, two) = (node_of(&authority, 1, 1_600_000_000), node_of(&authority, 2, FAR));
    let [asked, answered] = errors(meet(&expired, &two, 2).await);
    assert!(asked.contains("finds this node's certificate expired"), "{asked}");
    assert!(answered.contains("has expired"), "{answered}");
    let [asked, answered] = errors(meet(&two, &expired, 1).await);
    assert!(asked.contains("has expired"), "{asked}");
    assert!(answered.contains("finds this node's certificate expired"), "{answered}");
}

#[tokio::test]
async fn a_joining_node_trusts_the_pin_alone_and_shows_no_certificate() {
    let authority = Authority::make(CLUSTER).unwrap();
    let two = node_of(&authority, 2, FAR);
    let (asked, answered) = meet_pinned(authority.pin().unwrap(), &two).await;
    assert_eq!(asked, Ok(42));
    assert!(!answered.unwrap().names(CLUSTER, NodeId(1)));
    let [asked, answered] = errors(meet_pinned([1; 32], &two).await);
    assert!(asked.contains("not the one that the token names"), "{asked}");
    assert!(answered.contains("a join token of another cluster?"), "{answered}");
}

#[tokio::test]
async fn a_pinned_ca_does_not_vouch_for_a_certificate_that_it_did_not_issue() {
    let [ours, theirs] = [(), ()].map(|()| Authority::make(CLUSTER).unwrap());
    let request = Request::make(CLUSTER, NodeId(2)).unwrap();
    let issued = theirs.issue(CLUSTER, NodeId(2), &request.der, FAR).unwrap();
    let impostor = Ends::new(&ours, &request.with(issued, FAR).unwrap()).unwrap();
    let [asked, _] = errors(meet_pinned(ours.pin().unwrap(), &impostor).await);
    assert!(asked.contains("by the CA of another cluster"), "{asked}");
}

#[tokio::test]
async fn what_is_no_tls_is_named() {
    let authority = Authority::make(CLUSTER).unwrap();
    let two = node_of(&authority, 2, FAR);
    let (mut here, there) = duplex(64 * 1024);
    let ask = async { here.write_all(b"GET / HTTP/1.1\r\n\r\n").await };
    let (_, answered) = tokio::join!(ask, answer(&two, there));
    let why = explain(&answered.err().unwrap());
    assert!(why.contains("does not speak TLS"), "{why}");
}
