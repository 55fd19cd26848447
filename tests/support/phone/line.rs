//! How a phone's messages travel: datagrams to one server, or a stream.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddrV4, TcpStream, UdpSocket};
use std::time::Duration;

use tandem_phones::message::Message;

pub(super) enum Line {
    Udp(UdpSocket, SocketAddrV4),
    Tcp(TcpStream, Vec<u8>),
}

impl Line {
    pub(super) fn is_udp(&self) -> bool {
        matches!(self, Line::Udp(..))
    }

    pub(super) fn write(&mut self, bytes: &[u8]) {
        match self {
            Line::Udp(socket, server) => drop(socket.send_to(bytes, *server)),
            Line::Tcp(stream, _) => drop(stream.write_all(bytes)),
        }
    }

    /// Over UDP to whoever asked, by its Via.
    pub(super) fn answer(&mut self, request: &Message, bytes: &[u8]) {
        let via =
            request.get("Via").and_then(|via| via.split([' ', ';']).nth(1)?.parse::<SocketAddrV4>().ok());
        match (self, via) {
            (Line::Udp(socket, _), Some(via)) => drop(socket.send_to(bytes, via)),
            (line, _) => line.write(bytes),
        }
    }

    /// What comes within a moment; the switch must not have closed the connection.
    pub(super) fn read(&mut self) -> Vec<Message> {
        let wait = Some(Duration::from_millis(20));
        let mut buffer = [0_u8; 65_536];
        match self {
            Line::Udp(socket, _) => {
                socket.set_read_timeout(wait).expect("a timeout");
                let Ok(length) = socket.recv(&mut buffer) else { return Vec::new() };
                vec![Message::parse(&buffer[..length]).expect("the switch sends SIP")]
            }
            Line::Tcp(stream, bytes) => {
                stream.set_read_timeout(wait).expect("a timeout");
                match stream.read(&mut buffer) {
                    Ok(length) => bytes.extend(&buffer[..length]),
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                    Err(error) => panic!("the switch closed the connection: {error}"),
                }
                std::iter::from_fn(|| frame(bytes)).collect()
            }
        }
    }
}

/// One message off the stream, by Content-Length (RFC 3261 section 18.3).
fn frame(bytes: &mut Vec<u8>) -> Option<Message> {
    let junk = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    bytes.drain(..junk);
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let message = Message::parse(&bytes[..head]).expect("the switch sends SIP");
    let length: usize =
        message.get("Content-Length").expect("Content-Length on a stream").parse().expect("a length");
    if bytes.len() < head + length {
        return None;
    }
    let whole: Vec<u8> = bytes.drain(..head + length).collect();
    Message::parse(&whole)
}
