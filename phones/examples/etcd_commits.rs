//! How many small writes a second etcd commits, for the comparison in `make bench`: W writers, each waiting for its
//! answer before it writes again, over gRPC by hand (one HTTP/2 connection per 64 writers; PutRequest has two fields).
//!
//! `etcd_commits ENDPOINT WRITERS SECONDS VALUE_BYTES` prints one line of JSON.

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::SendRequest;
use std::io::{Error, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [endpoint, writers, seconds, bytes] = arguments.as_slice() else {
        return Err(Error::other("usage: etcd_commits ENDPOINT WRITERS SECONDS VALUE_BYTES"));
    };
    let number = |text: &String| text.parse::<u64>().map_err(Error::other);
    let (writers, seconds, bytes) = (number(writers)?, number(seconds)?, number(bytes)?);
    let done = Arc::new(AtomicU64::new(0));
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut tasks = Vec::new();
    let mut connection = None;
    for writer in 0..writers {
        if writer % 64 == 0 {
            connection = Some(connect(endpoint).await?);
        }
        let Some(client) = connection.clone() else { continue };
        tasks.push(tokio::spawn(write(client, endpoint.clone(), writer, bytes, end, Arc::clone(&done))));
    }
    let began = Instant::now();
    for task in tasks {
        task.await.map_err(Error::other)?.map_err(Error::other)?;
    }
    let (commits, elapsed) = (done.load(Ordering::Relaxed), began.elapsed().as_secs_f64());
    let result = serde_json::json!({
        "tool": "etcd", "writers": writers, "commits": commits, "seconds": elapsed,
        "commits_per_second": commits as f64 / elapsed,
    });
    writeln!(std::io::stdout(), "{result}")
}

async fn connect(endpoint: &str) -> Result<SendRequest<Bytes>, Error> {
    let stream = tokio::net::TcpStream::connect(endpoint).await?;
    stream.set_nodelay(true)?;
    let (client, connection) = h2::client::handshake(stream).await.map_err(Error::other)?;
    tokio::spawn(connection);
    Ok(client)
}

async fn write(
    client: SendRequest<Bytes>,
    endpoint: String,
    writer: u64,
    bytes: u64,
    end: Instant,
    done: Arc<AtomicU64>,
) -> Result<(), h2::Error> {
    let mut client = client.ready().await?;
    let mut serial = 0_u64;
    while Instant::now() < end {
        serial += 1;
        put(&mut client, &endpoint, format!("w{writer}/{}", serial % 1000), bytes).await?;
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// One `etcdserverpb.KV/Put`, to its trailers; a status other than 0 ends the program.
async fn put(
    client: &mut SendRequest<Bytes>,
    endpoint: &str,
    key: String,
    bytes: u64,
) -> Result<(), h2::Error> {
    let request = http::Request::post(format!("http://{endpoint}/etcdserverpb.KV/Put"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .map_err(|_| h2::Error::from(h2::Reason::INTERNAL_ERROR))?;
    let (response, mut body) = client.send_request(request, false)?;
    body.send_data(frame(key.as_bytes(), &vec![b'x'; usize::try_from(bytes).unwrap_or(0)]), true)?;
    let mut answer = response.await?.into_body();
    while let Some(piece) = answer.data().await {
        let piece = piece?;
        let _ = answer.flow_control().release_capacity(piece.len());
    }
    let trailers = answer.trailers().await?;
    match trailers.as_ref().and_then(|all| all.get("grpc-status")).map(|status| status.as_bytes()) {
        Some(b"0") => Ok(()),
        _ => Err(h2::Reason::REFUSED_STREAM.into()),
    }
}

/// The gRPC frame of PutRequest { key = 1, value = 2 }; lengths below 2^14.
fn frame(key: &[u8], value: &[u8]) -> Bytes {
    let mut message = BytesMut::new();
    for (tag, field) in [(0x0a, key), (0x12, value)] {
        message.put_u8(tag);
        let length = u16::try_from(field.len()).unwrap_or(0);
        if length > 127 {
            message.put_u8(u8::try_from(length & 0x7f).unwrap_or(0) | 0x80);
            message.put_u8(u8::try_from(length >> 7).unwrap_or(0));
        } else {
            message.put_u8(u8::try_from(length).unwrap_or(0));
        }
        message.put_slice(field);
    }
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(0));
    frame.put_slice(&message);
    frame.freeze()
}
