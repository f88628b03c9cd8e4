//! A port that stays reserved while nothing listens on it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

/// A free port of this machine, reserved until dropped. While nothing listens on it, connections are refused.
pub struct Port {
    /// The address and port.
    pub address: SocketAddr,
    _reserved: TcpSocket,
}

impl Port {
    /// Reserves a port on 127.0.0.1.
    pub fn new() -> Self {
        Self::at(Ipv4Addr::LOCALHOST.into())
    }

    /// Reserves a port on this address of the machine.
    pub fn at(ip: IpAddr) -> Self {
        let reserved = bound(SocketAddr::new(ip, 0));
        Self { address: reserved.local_addr().unwrap(), _reserved: reserved }
    }

    /// Listens on the port; only one listener at a time is possible. Must run inside a Tokio runtime.
    pub fn listen(&self) -> TcpListener {
        bound(self.address).listen(1024).unwrap()
    }
}

impl Default for Port {
    fn default() -> Self {
        Self::new()
    }
}

/// A port of this machine at which connections are neither accepted nor refused.
pub struct SilentPort {
    /// The address and port.
    pub address: SocketAddr,
    _listener: TcpListener,
    _backlog: Vec<TcpStream>,
}

impl SilentPort {
    /// Fills the backlog of a listener: the kernel drops new connections while it is full.
    pub async fn new() -> Self {
        let socket = bound((Ipv4Addr::LOCALHOST, 0).into());
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut backlog = Vec::new();
        while let Ok(connected) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
            backlog.push(connected.unwrap());
        }
        Self { address, _listener: listener, _backlog: backlog }
    }
}

/// Binds a socket. Several sockets may be bound to one port as long as only one listens.
fn bound(address: SocketAddr) -> TcpSocket {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket
}
