//! A real port with real TLS: who has not proved itself is in nobody's way.

use std::path::Path;

use tandem_state::{ClusterId, Incarnation};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};

use super::*;
use crate::identity::Fork;
use crate::rpc::Lane;
use crate::rpc::hall::STRANGERS_MAX;
use crate::rpc::handshake::{Client, Grant, Key, Refused, Start};
use crate::secrets::Held;
use crate::tls::{Authority, Request};

const CLUSTER: ClusterId = ClusterId(7);
const HERE: NodeId = NodeId(1);
const MEMBER: NodeId = NodeId(2);
const MEMBERS_HOST: [u8; 4] = [127, 0, 0, 1];

/// Says back what it is asked.
struct Echo;

impl Gate for Echo {
    fn me(&self) -> (ClusterId, NodeId, Start) {
        (CLUSTER, HERE, Start::default())
    }

    fn fork(&self) -> Fork {
        Fork::default()
    }

    fn admit(&self, _: &Hello) -> Result<Option<Key>, Refused> {
        Ok(None)
    }

    fn grant(&self, _: &Hello) -> Result<Grant, Refused> {
        Err(Refused::InvitationUnknown)
    }
}

impl Service for Echo {
    fn is_of_member(&self, host: IpAddr) -> bool {
        host == IpAddr::from(MEMBERS_HOST)
    }

    fn request(self: Arc<Self>, _: NodeId, _: Method, payload: Bytes) -> Answer {
        Box::pin(async move { Ok(payload) })
    }

    fn expelled(self: Arc<Self>, _: NodeId) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::pending())
    }

    fn one_way(&self, _: NodeId, _: Method, _: Bytes) {}
}

/// The secrets of both nodes.
fn secrets(dir: &Path) -> [Arc<Secrets>; 2] {
    let authority = Authority::make(CLUSTER).unwrap();
    [HERE, MEMBER].map(|node| {
        let data = dir.join(node.to_string());
        std::fs::create_dir(&data).unwrap();
        let request = Request::make(CLUSTER, node).unwrap();
        let issued = authority.issue(CLUSTER, node, &request.der, 4_000_000_000).unwrap();
        let certificate = request.with(issued, 4_000_000_000).unwrap();
        Held { keys: vec![[1; 32]], authority: authority.clone(), certificate }.store(&data).unwrap();
        Arc::new(Secrets::open(&data, CLUSTER, node).unwrap())
    })
}

async fn connect(from: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

/// Each comes from one of fifty addresses; every other one begins with TLS, and then says no more.
async fn strangers(count: usize, to: SocketAddr) -> Vec<TcpStream> {
    // A record of a handshake with 512 bytes, of which the first come: a ClientHello of as many.
    const BEGUN: [u8; 9] = [22, 3, 1, 2, 0, 1, 0, 1, 252];
    let mut all = Vec::new();
    for number in 0..count {
        let host = u8::try_from(number % 50).unwrap();
        let mut stream = connect([127, 0, 1, host + 1], to).await;
        if number % 2 == 0 {
            let _ = stream.write_all(&BEGUN).await;
        }
        all.push(stream);
    }
    all
}

async fn met_member(secrets: &Secrets, to: SocketAddr) -> Result<Box<dyn Link>, HandshakeError> {
    let stream = connect(MEMBERS_HOST, to).await;
    let mut link = secrets.ends().connect(stream, CLUSTER, HERE).await?;
    let start = Start { incarnation: Incarnation(1), ..Start::default() };
    let (cluster, fork, address) = (CLUSTER, Fork::default(), String::new());
    let client = Client { cluster, generation: 1, fork, node: MEMBER, start, address, name: String::new() };
    client.open(&mut link, Lane::Application, HERE).await?;
    Ok(link)
}

async fn ask(link: &mut Box<dyn Link>, word: &'static str) -> Bytes {
    let mut buffer = BytesMut::new();
    let (kind, method) = (Kind::Request, Method::Call.byte());
    Frame { kind, id: 1, method, payload: Bytes::from(word) }.put(&mut buffer);
    link.write_all(&buffer).await.unwrap();
    link.flush().await.unwrap();
    read(link, &mut BytesMut::new()).await.unwrap().unwrap().payload
}

/// Of those that hold on, how many are left.
async fn left(strangers: &mut [TcpStream]) -> usize {
    let mut left = 0;
    for stream in strangers {
        let asked = tokio::time::timeout(Duration::from_millis(1), stream.read_u8()).await;
        left += usize::from(asked.is_err());
    }
    left
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_many_strangers_hold_on_a_member_comes_in_at_its_first_try() {
    let dir = tempfile::tempdir().unwrap();
    let [here, member] = secrets(dir.path());
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.address().unwrap();
    let stop = watch::Sender::new(false);
    let serving = tokio::spawn(serve(listener, Arc::new(Echo), here, stop.subscribe()));

    let mut before = strangers(CONNECTIONS_MAX + 50, address).await;
    let mut link = met_member(&member, address).await.unwrap();
    assert_eq!(ask(&mut link, "hello").await, "hello");
    assert!(left(&mut before).await <= STRANGERS_MAX);
    drop(before);
    let _after = strangers(CONNECTIONS_MAX + 50, address).await;
    assert_eq!(ask(&mut link, "still here").await, "still here");
    met_member(&member, address).await.unwrap();
    stop.send_replace(true);
    serving.await.unwrap();
}
