//! SIP messages over real sockets on the loopback network.

#![allow(clippy::indexing_slicing, clippy::panic, reason = "helpers of tests fail like tests")]

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tandem_transport::sip::{
    CloseReason, ConnectError, Gate, Incoming, Limits, Path, SendError, SipConfig, SipTransport, Transport,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

const HERE: &str = "127.0.0.11:0";
const OPTIONS: &[u8] = b"OPTIONS sip:a SIP/2.0\r\nContent-Length: 4\r\n\r\nbody";
const PATIENCE: Duration = Duration::from_secs(5);

fn config(limits: Limits) -> SipConfig {
    let here: SocketAddr = HERE.parse().expect("a literal address");
    SipConfig { udp: vec![here], tcp: vec![here], limits }
}

fn bind(limits: Limits) -> (SipTransport, Receiver<Incoming>) {
    SipTransport::bind(config(limits)).expect("a free port")
}

async fn next(incoming: &mut Receiver<Incoming>) -> Incoming {
    timeout(PATIENCE, incoming.recv()).await.expect("something arrives").expect("the transport lives")
}

async fn message(incoming: &mut Receiver<Incoming>) -> (Path, Bytes) {
    match next(incoming).await {
        Incoming::Message { path, bytes } => (path, bytes),
        Incoming::Closed { path, reason } => panic!("{path} closed: {reason:?}"),
    }
}

fn tcp(transport: &SipTransport) -> SocketAddr {
    transport.locals(Transport::Tcp)[0]
}

#[tokio::test]
async fn a_datagram_comes_in_with_its_path_and_the_answer_goes_back_on_it() {
    let (transport, mut incoming) = bind(Limits::default());
    let phone = UdpSocket::bind("127.0.0.12:0").await.expect("a free port");
    let local = transport.locals(Transport::Udp)[0];
    phone.send_to(b"\r\n\r\n", local).await.expect("sent");
    phone.send_to(OPTIONS, local).await.expect("sent");
    let (path, bytes) = message(&mut incoming).await;
    assert_eq!(bytes, OPTIONS);
    let remote = phone.local_addr().expect("bound");
    assert_eq!(path, Path { transport: Transport::Udp, local, remote, connection: 0 });
    assert_eq!(transport.udp_path(remote), Some(path));
    transport.send(&path, Bytes::from_static(b"SIP/2.0 200 OK\r\n\r\n")).expect("sent");
    let mut buffer = [0; 100];
    let (len, from) =
        timeout(PATIENCE, phone.recv_from(&mut buffer)).await.expect("in time").expect("received");
    assert_eq!((&buffer[..len], from), (&b"SIP/2.0 200 OK\r\n\r\n"[..], local));
    let counters = transport.counters();
    assert_eq!((counters.received, counters.sent, counters.keepalives), (1, 1, 1));
}

#[tokio::test]
async fn a_full_consumer_costs_datagrams_that_are_counted() {
    let (transport, mut incoming) = bind(Limits { incoming_max: 2, ..Limits::default() });
    let phone = UdpSocket::bind("127.0.0.12:0").await.expect("a free port");
    for _ in 0..5 {
        phone.send_to(OPTIONS, transport.locals(Transport::Udp)[0]).await.expect("sent");
    }
    let all = async {
        while transport.counters().received + transport.counters().dropped < 5 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, all).await.expect("all five were read");
    assert_eq!((transport.counters().received, transport.counters().dropped), (2, 3));
    message(&mut incoming).await;
}

#[tokio::test]
async fn a_stream_is_cut_into_messages_wherever_its_segments_end() {
    let (transport, mut incoming) = bind(Limits::default());
    let mut phone = TcpStream::connect(tcp(&transport)).await.expect("accepted");
    phone.set_nodelay(true).expect("set");
    let twice = [OPTIONS, OPTIONS].concat();
    for part in twice.chunks(7) {
        phone.write_all(part).await.expect("written");
        tokio::task::yield_now().await;
    }
    let (first, bytes) = message(&mut incoming).await;
    assert_eq!(bytes, OPTIONS);
    let (second, bytes) = message(&mut incoming).await;
    assert_eq!(bytes, OPTIONS);
    assert_eq!(first, second);
    assert_eq!(first.remote, phone.local_addr().expect("connected"));
    transport.send(&first, Bytes::from_static(OPTIONS)).expect("queued");
    let mut buffer = vec![0; OPTIONS.len()];
    timeout(PATIENCE, phone.read_exact(&mut buffer)).await.expect("in time").expect("read");
    assert_eq!(buffer, OPTIONS);
    assert_eq!(transport.connect(first.remote), Ok(first));
}

#[tokio::test]
async fn a_ping_is_answered_and_the_end_of_the_stream_is_told() {
    let (transport, mut incoming) = bind(Limits::default());
    let mut phone = TcpStream::connect(tcp(&transport)).await.expect("accepted");
    phone.write_all(b"\r\n\r\n").await.expect("written");
    let mut pong = [0; 2];
    timeout(PATIENCE, phone.read_exact(&mut pong)).await.expect("in time").expect("read");
    assert_eq!(&pong, b"\r\n");
    let remote = phone.local_addr().expect("connected");
    drop(phone);
    let Incoming::Closed { path, reason } = next(&mut incoming).await else { panic!("a message came") };
    assert_eq!((path.remote, reason), (remote, CloseReason::ByPeer));
    assert_eq!(transport.send(&path, Bytes::from_static(OPTIONS)), Err(SendError::Closed));
    assert_eq!(transport.counters().connections, 0);
}

#[tokio::test]
async fn a_path_from_before_a_restart_is_closed_even_when_its_number_is_another_connections() {
    let (transport, mut incoming) = bind(Limits::default());
    let mut phone = TcpStream::connect(tcp(&transport)).await.expect("accepted");
    phone.write_all(OPTIONS).await.expect("sent");
    let (path, _) = message(&mut incoming).await;
    let former = Path { remote: "127.0.0.13:5060".parse().expect("a literal address"), ..path };
    let answer = Bytes::from_static(b"SIP/2.0 200 OK\r\n\r\n");
    assert_eq!(transport.send(&former, answer.clone()), Err(SendError::Closed));
    assert_eq!(transport.send(&path, answer), Ok(()));
}

#[tokio::test]
async fn a_stream_without_lengths_is_closed() {
    let (transport, mut incoming) = bind(Limits::default());
    let mut phone = TcpStream::connect(tcp(&transport)).await.expect("accepted");
    phone.write_all(b"OPTIONS sip:a SIP/2.0\r\nFrom: x\r\n\r\n").await.expect("written");
    assert!(matches!(next(&mut incoming).await, Incoming::Closed { reason: CloseReason::Framing, .. }));
    assert_eq!(phone.read(&mut [0; 8]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn a_connection_of_ours_carries_what_was_sent_before_it_was_open() {
    let (transport, mut incoming) = bind(Limits::default());
    let carrier = TcpListener::bind("127.0.0.13:0").await.expect("a free port");
    let remote = carrier.local_addr().expect("bound");
    let path = transport.connect(remote).expect("allowed");
    assert_eq!(path.local.ip(), "127.0.0.11".parse::<IpAddr>().expect("a literal address"));
    transport.send(&path, Bytes::from_static(OPTIONS)).expect("queued");
    assert_eq!(transport.connect(remote), Ok(path));
    let (mut stream, from) = timeout(PATIENCE, carrier.accept()).await.expect("in time").expect("accepted");
    assert_eq!(from, path.local);
    let mut buffer = vec![0; OPTIONS.len()];
    timeout(PATIENCE, stream.read_exact(&mut buffer)).await.expect("in time").expect("read");
    assert_eq!(buffer, OPTIONS);
    stream.write_all(OPTIONS).await.expect("written");
    assert_eq!(message(&mut incoming).await, (path, Bytes::from_static(OPTIONS)));
    transport.close(&Path { remote: path.local, ..path });
    transport.send(&path, Bytes::from_static(OPTIONS)).expect("another path's end is not this one's");
    transport.close(&path);
    assert!(matches!(next(&mut incoming).await, Incoming::Closed { reason: CloseReason::ByUs, .. }));
}

#[tokio::test]
async fn a_connection_that_nobody_takes_is_told() {
    let (transport, mut incoming) = bind(Limits::default());
    let nobody = TcpListener::bind("127.0.0.13:0").await.expect("a free port");
    let remote = nobody.local_addr().expect("bound");
    drop(nobody);
    let path = transport.connect(remote).expect("allowed");
    assert_eq!(next(&mut incoming).await, Incoming::Closed { path, reason: CloseReason::Unreachable });
}

#[tokio::test]
async fn connections_are_limited_per_source_and_idle_ones_are_closed() {
    let limits = Limits {
        connections_per_source_max: 1,
        idle_timeout: Duration::from_millis(100),
        ..Limits::default()
    };
    let (transport, mut incoming) = bind(limits);
    let first = TcpStream::connect(tcp(&transport)).await.expect("accepted");
    let mut second = TcpStream::connect(tcp(&transport)).await.expect("the kernel accepts");
    assert_eq!(timeout(PATIENCE, second.read(&mut [0; 8])).await.expect("in time").unwrap_or(0), 0);
    assert_eq!(transport.counters().connections_refused, 1);
    let remote = SocketAddr::from(([127, 0, 0, 1], first.local_addr().expect("connected").port()));
    assert!(matches!(transport.connect(remote), Ok(_) | Err(ConnectError::TooMany)));
    assert!(matches!(next(&mut incoming).await, Incoming::Closed { reason: CloseReason::Idle, .. }));
}

#[tokio::test]
async fn a_message_that_drips_is_not_waited_for_while_keep_alives_between_messages_are_fine() {
    let limits = Limits { message_timeout: Duration::from_millis(100), ..Limits::default() };
    let (transport, mut incoming) = bind(limits);
    let mut patient = TcpStream::connect(tcp(&transport)).await.expect("accepted");
    patient.write_all(b"\r\n").await.expect("half a keep-alive");
    let mut slow = TcpStream::connect(tcp(&transport)).await.expect("accepted");
    let drip = tokio::spawn(async move {
        for octet in OPTIONS.iter().cycle() {
            if slow.write_all(&[*octet]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let Incoming::Closed { reason, .. } = next(&mut incoming).await else { panic!("no message is whole") };
    assert_eq!((reason, transport.counters().partial), (CloseReason::Partial, 1));
    drip.abort();
    let whole = [b"\r\n", OPTIONS].concat();
    patient.write_all(&whole).await.expect("still open");
    assert_eq!(message(&mut incoming).await.1, Bytes::from_static(OPTIONS));
}

#[tokio::test]
async fn a_peer_that_does_not_read_fills_its_queue_and_no_more() {
    let (transport, mut incoming) = bind(Limits { write_queue_max: 4, ..Limits::default() });
    let mut phone = TcpStream::connect(tcp(&transport)).await.expect("accepted");
    phone.write_all(OPTIONS).await.expect("written");
    let (path, _) = message(&mut incoming).await;
    assert_eq!(transport.send(&path, Bytes::from(vec![b'x'; 70_000])), Err(SendError::TooLarge));
    assert_eq!(timeout(PATIENCE, filled(&transport, &path)).await.expect("in time"), SendError::Full);
    assert_eq!(transport.counters().congested, 1);
}

/// Says what is far too much until no more is taken.
async fn filled(transport: &SipTransport, path: &Path) -> SendError {
    for _ in 0..10_000 {
        match transport.send(path, Bytes::from(vec![b'x'; 60_000])) {
            Ok(()) => tokio::task::yield_now().await,
            Err(error) => return error,
        }
    }
    panic!("never refused")
}

#[derive(Debug, Default)]
struct Lease {
    lapsed: AtomicBool,
}

impl Gate for Lease {
    fn may_send(&self, _: &Path, _: &[u8]) -> bool {
        !self.lapsed.load(Ordering::SeqCst)
    }

    fn epoch(&self) -> Option<u64> {
        (!self.lapsed.load(Ordering::SeqCst)).then_some(1)
    }
}

#[tokio::test]
async fn nothing_is_sent_on_either_transport_once_the_gate_is_shut() {
    let lease = Arc::new(Lease::default());
    let gate: Arc<dyn Gate> = Arc::<Lease>::clone(&lease);
    let (transport, mut incoming) =
        SipTransport::bind_gated(config(Limits::default()), gate).expect("a free port");
    let mut phone = TcpStream::connect(tcp(&transport)).await.expect("accepted");
    phone.write_all(OPTIONS).await.expect("written");
    let (path, _) = message(&mut incoming).await;
    lease.lapsed.store(true, Ordering::SeqCst);
    let udp = transport.udp_path(path.remote).expect("a UDP socket of that family");
    assert_eq!(transport.send(&udp, Bytes::from_static(OPTIONS)), Err(SendError::Fenced));
    transport.send(&path, Bytes::from_static(OPTIONS)).expect("queued");
    let fenced = async {
        while transport.counters().fenced < 2 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, fenced).await.expect("both were stopped");
    assert_eq!(transport.counters().sent, 0);
}

#[tokio::test]
async fn at_a_lapse_what_the_kernel_still_holds_is_taken_back_and_other_connections_live_on() {
    let lease = Arc::new(Lease::default());
    let gate: Arc<dyn Gate> = Arc::<Lease>::clone(&lease);
    let (transport, mut incoming) =
        SipTransport::bind_gated(config(Limits::default()), gate).expect("a free port");
    let mut deaf = TcpStream::connect(tcp(&transport)).await.expect("accepted");
    deaf.write_all(OPTIONS).await.expect("written");
    let (held, _) = message(&mut incoming).await;
    let mut well = TcpStream::connect(tcp(&transport)).await.expect("accepted");
    well.write_all(OPTIONS).await.expect("written");
    let (path, _) = message(&mut incoming).await;
    transport.send(&path, Bytes::from_static(OPTIONS)).expect("queued");
    let mut heard = vec![0; OPTIONS.len()];
    well.read_exact(&mut heard).await.expect("heard");
    assert_eq!(timeout(PATIENCE, filled(&transport, &held)).await.expect("in time"), SendError::Full);

    lease.lapsed.store(true, Ordering::SeqCst);
    match next(&mut incoming).await {
        Incoming::Closed { path, reason } => assert_eq!((path, reason), (held, CloseReason::Lapsed)),
        other => panic!("{other:?}"),
    }
    let mut sink = Vec::new();
    let end = deaf.read_to_end(&mut sink).await.expect_err("a reset");
    assert_eq!(end.kind(), std::io::ErrorKind::ConnectionReset);
    lease.lapsed.store(false, Ordering::SeqCst);
    transport.send(&path, Bytes::from_static(OPTIONS)).expect("queued");
    well.read_exact(&mut heard).await.expect("the other connection lives on");
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let holder = TcpListener::bind(HERE).await.expect("a free port");
    let taken = holder.local_addr().expect("bound");
    let config = SipConfig { udp: vec![taken], tcp: vec![taken], limits: Limits::default() };
    let error = SipTransport::bind(config).map(drop).expect_err("the address is taken");
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    assert!(error.to_string().starts_with(&format!("{taken}/tcp: ")), "{error}");
}
