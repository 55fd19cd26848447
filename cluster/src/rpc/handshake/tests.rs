//! Each mismatch is told on both sides, and nobody gets in without the key.

use super::*;

struct Door {
    cluster: ClusterId,
    key: Key,
    secret: Key,
}

impl Gate for Door {
    fn admit(&self, hello: &Hello) -> Result<Key, Refused> {
        match hello.purpose {
            _ if hello.cluster != self.cluster => Err(Refused::Cluster(self.cluster)),
            Purpose::Lane { target, .. } if target != NodeId(1) => Err(Refused::Node(NodeId(1))),
            Purpose::Lane { .. } => Ok(self.key),
            Purpose::Join { .. } => Ok(self.secret),
        }
    }

    fn me(&self) -> (NodeId, Incarnation) {
        (NodeId(1), Incarnation(4))
    }

    fn proved(&self, hello: &Hello) -> Result<Option<Grant>, Refused> {
        let joins = matches!(hello.purpose, Purpose::Join { .. });
        Ok(joins.then(|| Grant {
            sealed_key: self.key,
            generation: 1,
            role: Role::Full,
            members: Vec::new(),
        }))
    }
}

const DOOR: Door = Door { cluster: ClusterId(7), key: [1; 32], secret: [2; 32] };

fn client() -> Client {
    Client {
        cluster: ClusterId(7),
        generation: 1,
        node: NodeId(2),
        incarnation: Incarnation(1),
        address: "127.0.0.1:1".into(),
        key: [1; 32],
    }
}

fn lane(target: u64) -> Purpose {
    Purpose::Lane { lane: Lane::Raft, target: NodeId(target) }
}

async fn meet(client: Client, purpose: Purpose) -> (Result<Option<Grant>, String>, Result<Hello, String>) {
    let (mut here, mut there) = tokio::io::duplex(4096);
    let asked = async {
        let result = client.introduce(&mut here, purpose).await.map_err(|e| e.to_string());
        drop(here);
        result
    };
    let (asked, received) = tokio::join!(asked, receive(&mut there, &DOOR));
    (asked, received.map_err(|e| e.to_string()))
}

#[tokio::test]
async fn nodes_with_the_same_key_meet() {
    let (asked, received) = meet(client(), lane(1)).await;
    assert_eq!(asked, Ok(None));
    assert_eq!(received.map(|hello| hello.node), Ok(NodeId(2)));
}

#[tokio::test]
async fn another_key_is_noticed() {
    let (asked, received) = meet(Client { key: [9; 32], ..client() }, lane(1)).await;
    assert!(asked.unwrap_err().contains("keys differ"));
    assert!(received.is_err());
}

#[tokio::test]
async fn another_cluster_is_named_on_both_sides() {
    let (asked, received) = meet(Client { cluster: ClusterId(8), ..client() }, lane(1)).await;
    assert!(asked.unwrap_err().contains("belongs to cluster"));
    assert!(received.unwrap_err().contains("belongs to cluster"));
}

#[tokio::test]
async fn a_stale_address_is_noticed() {
    let (asked, _) = meet(client(), lane(3)).await;
    assert!(asked.unwrap_err().contains("another node"));
}

#[tokio::test]
async fn a_joining_node_gets_the_key_and_it_does_not_cross_in_the_clear() {
    let (asked, received) = meet(Client { key: [2; 32], ..client() }, Purpose::Join { invitation: 1 }).await;
    assert_eq!(asked.unwrap().unwrap().sealed_key, DOOR.key);
    let hello = postcard::to_stdvec(&received.unwrap()).unwrap();
    assert_ne!(seal(&DOOR.secret, &hello, &[0; 32], &DOOR.key), DOOR.key);
}
