//! Flows (the cluster's word) and paths (the transport's word) are the same way to a phone.

use tandem_state::{Flow, NodeId, Transport};
use tandem_transport::sip::{self, Path};

/// The path of a flow of this node.
pub(crate) fn path(flow: &Flow) -> Path {
    let transport = match flow.transport {
        Transport::Udp => sip::Transport::Udp,
        Transport::Tcp | Transport::Tls | Transport::Ws => sip::Transport::Tcp,
    };
    Path { transport, local: flow.local, remote: flow.remote, connection: flow.connection }
}

/// The flow of a path of this node.
pub(crate) fn flow(node: NodeId, path: &Path) -> Flow {
    let transport = match path.transport {
        sip::Transport::Udp => Transport::Udp,
        sip::Transport::Tcp => Transport::Tcp,
    };
    Flow { node, transport, local: path.local, remote: path.remote, connection: path.connection }
}
