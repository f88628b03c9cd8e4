//! A port that stays one's own while nobody listens there.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

/// A free port of this machine. Until it is dropped nobody else is given it; whoever knocks while nobody listens is
/// refused.
pub struct Port {
    /// Where it is.
    pub address: SocketAddr,
    _reserved: TcpSocket,
}

impl Port {
    /// One on 127.0.0.1.
    pub fn new() -> Self {
        Self::at(Ipv4Addr::LOCALHOST.into())
    }

    /// One on this address of the machine.
    pub fn at(ip: IpAddr) -> Self {
        let reserved = bound(SocketAddr::new(ip, 0));
        Self { address: reserved.local_addr().unwrap(), _reserved: reserved }
    }

    /// Listens there, which one at a time can do. Only inside a runtime.
    pub fn listen(&self) -> TcpListener {
        bound(self.address).listen(1024).unwrap()
    }
}

impl Default for Port {
    fn default() -> Self {
        Self::new()
    }
}

/// Several sockets may be bound to one port as long as one of them listens.
fn bound(address: SocketAddr) -> TcpSocket {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket
}
