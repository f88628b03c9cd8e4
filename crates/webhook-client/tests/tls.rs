//! Which certificates are trusted.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod receiver;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use receiver::{Answer, Receiver, ok, send, sender, settings, url};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use webhook_client::{Error, Outcome, Sender, Settings};

/// An authority that no system knows.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// What a receiver of that name, valid in these years, shows.
    fn identity(&self, name: &str, years: std::ops::Range<i32>) -> ServerConfig {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(years.start, 1, 1);
        params.not_after = date_time_ymd(years.end, 1, 1);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap()
    }

    fn trusted(&self) -> Sender {
        Sender::new(Settings { extra_ca: Some(self.0.pem().into_bytes()), ..settings() }).unwrap()
    }
}

#[tokio::test]
async fn an_authority_can_be_added() {
    let authority = Authority::new();
    for (name, host) in [("localhost", "localhost"), ("127.0.0.1", "127.0.0.1"), ("127.0.0.1", "0x7f.1")] {
        let mut receiver = Receiver::with_tls(authority.identity(name, 2000..2100), [ok()]);
        let sender = authority.trusted();
        for _ in 0..2 {
            let attempt = send(&sender, &url(&format!("https://{host}:{}/hook", receiver.port))).await;
            assert_eq!(attempt.outcome, Outcome::Delivered, "{host}: {attempt}");
            assert_eq!(receiver.call().await.line, "POST /hook HTTP/1.1");
        }
    }
}

#[tokio::test]
async fn other_certificates_are_refused() {
    let authority = Authority::new();
    for (sender, name, years, outcome, code) in [
        (sender(), "localhost", 2000..2100, Outcome::CertificateUntrusted, 11237),
        (Authority::new().trusted(), "localhost", 2000..2100, Outcome::CertificateUntrusted, 11237),
        (authority.trusted(), "other.example", 2000..2100, Outcome::CertificateMisnamed, 11235),
        (authority.trusted(), "localhost", 2000..2001, Outcome::CertificateExpired, 11236),
        (authority.trusted(), "localhost", 2099..2100, Outcome::CertificateExpired, 11236),
    ] {
        let receiver = Receiver::with_tls(authority.identity(name, years), [ok()]);
        let attempt = send(&sender, &url(&format!("https://localhost:{}/", receiver.port))).await;
        assert_eq!((attempt.outcome, attempt.outcome.error_code()), (outcome, code), "{attempt}");
        assert!(attempt.outcome.is_transient() && attempt.cause.is_some());
        assert_eq!(receiver.calls_left(), 0);
    }
}

#[tokio::test]
async fn self_signed_certificates_are_refused() {
    let authority = Authority::new();
    let stranger = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(stranger.signing_key.serialize_der().into());
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![stranger.cert.der().clone()], key)
        .unwrap();
    let receiver = Receiver::with_tls(config, [ok()]);
    let attempt = send(&authority.trusted(), &url(&format!("https://localhost:{}/", receiver.port))).await;
    assert_eq!(attempt.outcome, Outcome::CertificateUntrusted, "{attempt}");
}

/// A listener that takes connections and does with them what it does.
async fn plain(words: &'static [u8]) -> u16 {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let _ = socket.write_all(words).await;
            let _ = socket.read_to_end(&mut Vec::new()).await;
        }
    });
    port
}

#[tokio::test]
async fn what_is_not_tls_is_a_failed_handshake() {
    for words in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b""] {
        let port = plain(words).await;
        let attempt = send(&sender(), &url(&format!("https://localhost:{port}/#rt=100"))).await;
        assert_eq!(
            (attempt.outcome, attempt.outcome.error_code()),
            (Outcome::HandshakeFailed, 11220),
            "{attempt}"
        );
    }
}

#[tokio::test]
async fn silence_ends_here_too() {
    let authority = Authority::new();
    let mut receiver =
        Receiver::with_tls(authority.identity("localhost", 2000..2100), [Answer::Stall(String::new())]);
    let attempt =
        send(&authority.trusted(), &url(&format!("https://localhost:{}/#rt=1000", receiver.port))).await;
    assert_eq!(attempt.outcome, Outcome::ReadTimedOut);
    receiver.end().await;
}

#[test]
fn what_is_no_authority_is_refused_at_the_start() {
    let bad = |pem: &[u8]| Sender::new(Settings { extra_ca: Some(pem.to_vec()), ..settings() }).err();
    assert!(matches!(bad(b""), Some(Error::Authorities(_))));
    assert!(matches!(bad(b"no certificate"), Some(Error::Authorities(_))));
    assert!(matches!(
        bad(b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"),
        Some(Error::Authorities(_))
    ));
    assert!(matches!(
        bad(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        Some(Error::Trust(_))
    ));
    let agent = Settings { user_agent: "a\nb".into(), ..settings() };
    assert!(matches!(Sender::new(agent), Err(Error::UserAgent)));
}
