//! An HTTP proxy that only opens `CONNECT` tunnels, as in networks without direct egress.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// A proxy on a free port of this machine, on the runtime that starts it. Stops when dropped.
pub struct TunnelProxy {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl TunnelProxy {
    /// Starts a proxy without authentication.
    pub async fn start() -> Self {
        Self::asking(None).await
    }

    /// Starts a proxy that responds with 407 to requests without this `Proxy-Authorization` value.
    pub async fn demanding(authorization: &str) -> Self {
        Self::asking(Some(authorization.to_owned())).await
    }

    async fn asking(authorization: Option<String>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let (seen, authorization) = (heads.clone(), Arc::new(authorization));
        let task = tokio::spawn(async move {
            let mut tunnels = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                tunnels.spawn(tunnel(socket, seen.clone(), authorization.clone()));
            }
        });
        Self { address, heads, task }
    }

    /// Returns `127.0.0.1:PORT`.
    pub fn authority(&self) -> String {
        self.address.to_string()
    }

    /// Returns host and port of each requested tunnel.
    pub fn targets(&self) -> Vec<String> {
        let target = |head: &String| head.split(' ').nth(1).unwrap_or_default().to_owned();
        self.heads.lock().unwrap().iter().map(target).collect()
    }
}

impl Drop for TunnelProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves one tunnel; returns `None` when either side closes it.
async fn tunnel(
    mut client: TcpStream,
    heads: Arc<Mutex<Vec<String>>>,
    authorization: Arc<Option<String>>,
) -> Option<()> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        head.push(char::from(client.read_u8().await.ok()?));
    }
    heads.lock().unwrap().push(head.clone());
    let value = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("proxy-authorization").then_some(value)
    });
    if authorization.as_deref().is_some_and(|demanded| value != Some(demanded)) {
        client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await.ok()?;
        return None;
    }
    let target = head.strip_prefix("CONNECT ")?.split(' ').next()?;
    let mut server = TcpStream::connect(target).await.ok()?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.ok()?;
    copy_bidirectional(&mut client, &mut server).await.ok().map(drop)
}
