//! The server's own TLS.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use harness::stand_in::Authority;
use harness::{Server, Storage, wait_until};
use reqwest::{Certificate, Client};
use tempfile::TempDir;

use crate::metrics;
use crate::world::BINARY;

const PATIENCE: Duration = Duration::from_secs(20);

/// A server that speaks TLS, and the files of its certificate.
struct Stage {
    server: Server,
    folder: TempDir,
}

impl Stage {
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

    /// Gets the list of services over a new connection, if whoever trusts this authority can.
    async fn services(&self, trusted: &Authority) -> Result<serde_json::Value, reqwest::Error> {
        let reply = client(trusted).get(format!("{}/v2/Services", self.server.url()));
        let reply =
            reply.basic_auth(self.server.account_sid(), Some(self.server.auth_token())).send().await?;
        assert_eq!(reply.status(), 200);
        reply.json().await
    }

    /// When the certificate ends, as the metrics say.
    async fn end(&self) -> f64 {
        let address = metrics::address(|| self.server.log()).await;
        metrics::read(&address).await.sum("countersign_tls_certificate_expiry_timestamp_seconds", &[])
    }

    fn hang_up(&self) {
        let pid = self.server.pid().to_string();
        assert!(Command::new("sh").args(["-c", "kill -HUP \"$0\"", &pid]).status().unwrap().success());
    }

    async fn logs(&self, words: &str) {
        let said = async || self.server.log().contains(words).then_some(());
        wait_until(words, PATIENCE, said).await;
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
    Client::builder().tls_certs_only([root]).no_proxy().timeout(PATIENCE).build().unwrap()
}

#[tokio::test]
async fn everything_is_answered_over_tls_and_nothing_without() {
    let authority = Authority::new();
    let stage = Stage::set(&authority);
    let url = stage.server.url();
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");
    let list = stage.services(&authority).await.unwrap();
    let page = list["meta"]["url"].as_str().unwrap();
    assert!(page.starts_with(&format!("{url}/v2/Services?")), "{page}");

    assert!(stage.services(&Authority::new()).await.is_err(), "a certificate that nobody vouches for");
    let plain = client(&authority).get(url.replace("https:", "http:")).send().await;
    assert!(plain.is_err(), "{plain:?}");
    // The first day of the year 4096.
    assert_eq!(stage.end().await, 67_090_118_400.0);
}

#[tokio::test]
async fn sighup_has_the_certificate_read_again() {
    let (old, new) = (Authority::new(), Authority::new());
    let stage = Stage::set(&old);
    // Whoever has a connection keeps it.
    let connected = client(&old);
    let health = format!("{}/healthz", stage.server.url());
    assert_eq!(connected.get(&health).send().await.unwrap().status(), 200);

    write(stage.folder.path(), new.server_pem());
    assert!(stage.services(&old).await.is_ok(), "nobody has asked for it yet");
    stage.hang_up();
    stage.logs("the certificate was read again").await;
    assert!(stage.services(&new).await.is_ok());
    assert!(stage.services(&old).await.is_err());
    assert_eq!(connected.get(&health).send().await.unwrap().status(), 200);

    // One that can't be used changes nothing.
    write(stage.folder.path(), (old.server_pem().0, new.server_pem().1));
    stage.hang_up();
    stage.logs("the certificate stays as it was").await;
    assert!(stage.services(&new).await.is_ok());
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = paths(folder.path());
    let authority = Authority::new();
    let (good, other) = (authority.server_pem(), authority.server_pem());
    let refused = |arguments: &[&Path], words: &str| {
        let mut command = Command::new(BINARY);
        command.args(["serve", "--ephemeral", "--listen", "127.0.0.1:0"]).args(arguments);
        let output = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && stderr.contains(words), "{words}: {stderr}");
    };
    let both = [Path::new("--tls-cert"), &cert, Path::new("--tls-key"), &key];
    refused(&both, "cert.pem: No such file");
    refused(&both[..2], "--tls-key");
    refused(&both[2..], "--tls-cert");
    for (files, words) in [
        ((String::new(), good.1.clone()), "cert.pem: expected certificates in PEM"),
        ((good.0.clone(), "no key".to_owned()), "key.pem: expected a private key in PEM"),
        ((good.0.clone(), other.1), "key.pem: not the certificate's key"),
    ] {
        write(folder.path(), files);
        refused(&both, words);
    }
}

#[tokio::test]
async fn clients_that_never_finish_the_handshake_keep_no_other_out() {
    let authority = Authority::new();
    let stage = Stage::set(&authority);
    let address = stage.server.url().strip_prefix("https://").unwrap();
    let mut silent = Vec::new();
    for _ in 0..800 {
        silent.push(tokio::net::TcpStream::connect(address).await.unwrap());
    }
    let served = tokio::time::timeout(Duration::from_secs(6), stage.services(&authority)).await;
    assert!(served.expect("an answer before the handshakes time out").is_ok());
}
