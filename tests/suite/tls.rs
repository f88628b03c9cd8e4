//! TLS of the server itself.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use harness::stand_in::Authority;
use harness::{Server, Storage, wait_until};
use reqwest::{Certificate, Client};
use tempfile::TempDir;

use crate::metrics;
use crate::world::BINARY;

const WAIT_TIMEOUT: Duration = Duration::from_secs(20);

/// A server with TLS, and the folder with its certificate.
struct TlsFixture {
    server: Server,
    folder: TempDir,
}

impl TlsFixture {
    fn set(authority: &Authority) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), authority.server_pem());
        let (cert, key) = paths(folder.path());
        let arguments = [
            &["--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()][..],
            &metrics::LISTEN,
        ]
        .concat();
        Self { server: Server::start(BINARY, Storage::Ephemeral, &arguments), folder }
    }

    /// Fetches the list of services over a new connection that trusts this authority.
    async fn services(&self, trusted: &Authority) -> Result<serde_json::Value, reqwest::Error> {
        let reply = client(trusted).get(format!("{}/v2/Services", self.server.url()));
        let reply =
            reply.basic_auth(self.server.account_sid(), Some(self.server.auth_token())).send().await?;
        assert_eq!(reply.status(), 200);
        reply.json().await
    }

    /// Returns the certificate's expiry according to the metrics, in seconds since the epoch.
    async fn end(&self) -> f64 {
        let address = metrics::address(|| self.server.log()).await;
        metrics::read(&address).await.sum("countersign_tls_certificate_expiry_timestamp_seconds", &[])
    }

    fn hang_up(&self) {
        let pid = self.server.pid().to_string();
        assert!(Command::new("sh").args(["-c", "kill -HUP \"$0\"", &pid]).status().unwrap().success());
    }

    async fn logs(&self, expected: &str) {
        let is_logged = async || self.server.log().contains(expected).then_some(());
        wait_until(expected, WAIT_TIMEOUT, is_logged).await;
    }
}

fn paths(folder: &Path) -> (PathBuf, PathBuf) {
    (folder.join("cert.pem"), folder.join("key.pem"))
}

fn write(folder: &Path, (certificate, private_key): (String, String)) {
    let (cert, key) = paths(folder);
    std::fs::write(cert, certificate).unwrap();
    std::fs::write(key, private_key).unwrap();
}

fn client(trusted: &Authority) -> Client {
    let root = Certificate::from_pem(trusted.pem().as_bytes()).unwrap();
    Client::builder().tls_certs_only([root]).no_proxy().timeout(WAIT_TIMEOUT).build().unwrap()
}

#[tokio::test]
async fn tls_server_serves_only_https_clients_that_trust_its_authority() {
    let authority = Authority::new();
    let fixture = TlsFixture::set(&authority);
    let url = fixture.server.url();
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");
    let list = fixture.services(&authority).await.unwrap();
    let page = list["meta"]["url"].as_str().unwrap();
    assert!(page.starts_with(&format!("{url}/v2/Services?")), "{page}");

    assert!(fixture.services(&Authority::new()).await.is_err(), "a certificate of an unknown authority");
    let plain = client(&authority).get(url.replace("https:", "http:")).send().await;
    assert!(plain.is_err(), "{plain:?}");
    // The first day of the year 4096.
    assert_eq!(fixture.end().await, 67_090_118_400.0);
}

#[tokio::test]
async fn sighup_reloads_the_tls_certificate() {
    let (old, new) = (Authority::new(), Authority::new());
    let fixture = TlsFixture::set(&old);
    // Existing connections are kept.
    let connected = client(&old);
    let health = format!("{}/healthz", fixture.server.url());
    assert_eq!(connected.get(&health).send().await.unwrap().status(), 200);

    write(fixture.folder.path(), new.server_pem());
    assert!(fixture.services(&old).await.is_ok(), "the certificate was not reloaded yet");
    fixture.hang_up();
    fixture.logs("TLS certificate reloaded").await;
    assert!(fixture.services(&new).await.is_ok());
    assert!(fixture.services(&old).await.is_err());
    assert_eq!(connected.get(&health).send().await.unwrap().status(), 200);

    // An unusable certificate changes nothing.
    write(fixture.folder.path(), (old.server_pem().0, new.server_pem().1));
    fixture.hang_up();
    fixture.logs("could not reload the TLS certificate").await;
    assert!(fixture.services(&new).await.is_ok());
}

#[tokio::test]
async fn server_does_not_start_with_an_unusable_tls_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = paths(folder.path());
    let authority = Authority::new();
    let (good, other) = (authority.server_pem(), authority.server_pem());
    let refused = |arguments: &[&Path], expected: &str| {
        let mut command = Command::new(BINARY);
        command.args(["serve", "--ephemeral", "--listen", "127.0.0.1:0"]).args(arguments);
        let output = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && stderr.contains(expected), "{expected}: {stderr}");
    };
    let both = [Path::new("--tls-cert"), &cert, Path::new("--tls-key"), &key];
    refused(&both, "cert.pem: No such file");
    refused(&both[..2], "--tls-key");
    refused(&both[2..], "--tls-cert");
    for (files, expected) in [
        ((String::new(), good.1.clone()), "cert.pem: expected a certificate chain in PEM"),
        ((good.0.clone(), "no key".to_owned()), "key.pem: expected a private key in PEM"),
        ((good.0.clone(), other.1), "key.pem: private key does not belong to the certificate"),
    ] {
        write(folder.path(), files);
        refused(&both, expected);
    }
}

#[tokio::test]
async fn unfinished_tls_handshakes_do_not_block_other_clients() {
    let authority = Authority::new();
    let fixture = TlsFixture::set(&authority);
    let address = fixture.server.url().strip_prefix("https://").unwrap();
    let mut silent = Vec::new();
    for _ in 0..800 {
        silent.push(tokio::net::TcpStream::connect(address).await.unwrap());
    }
    let served = tokio::time::timeout(Duration::from_secs(9), fixture.services(&authority)).await;
    assert!(served.expect("a response before the handshakes time out").is_ok());
}
