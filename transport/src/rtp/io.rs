//! How datagrams come from and go to the kernel, behind a trait, so that another way (several datagrams in one system
//! call, a shared socket) can be measured against this one.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};

/// Largest datagram that is relayed; a longer one is dropped.
pub(super) const DATAGRAM_MAX: usize = 4096;

/// A way to read and write datagrams.
pub(super) trait PacketIo {
    /// Reads one datagram; `None` when there is none. One longer than the buffer counts as longer than
    /// [`DATAGRAM_MAX`].
    fn receive(&mut self, socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Option<(usize, SocketAddr)>>;
    /// Hands one datagram over; it may be kept until [`PacketIo::flush`].
    fn send(&mut self, socket: &UdpSocket, packet: &[u8], to: SocketAddr) -> bool;
    /// Hands over what was kept.
    fn flush(&mut self);
}

/// One system call for each datagram.
#[derive(Debug, Default)]
pub(super) struct OneByOne;

impl PacketIo for OneByOne {
    fn receive(&mut self, socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Option<(usize, SocketAddr)>> {
        match socket.recv_from(buffer) {
            Ok(received) => Ok(Some(received)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn send(&mut self, socket: &UdpSocket, packet: &[u8], to: SocketAddr) -> bool {
        socket.send_to(packet, to).is_ok()
    }

    fn flush(&mut self) {}
}
