//! Tests trusted and untrusted certificates, and failed TLS handshakes.

#![expect(clippy::unwrap_used, reason = "a panic is how a test reports a failure")]

mod fixtures;

use fixtures::{callback_url, client, send, settings};
use harness::{Answer, Receiver};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use webhook_client::{Error, Outcome, Settings, WebhookClient};

/// A certificate authority that the system does not trust by default.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Issues a certificate for `name`, valid in `years`, and returns a TLS server configuration that uses
    /// it.
    fn server_config(&self, name: &str, years: std::ops::Range<i32>) -> ServerConfig {
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

    /// Creates a client that trusts this authority and may send to loopback addresses.
    fn trusting_client(&self) -> WebhookClient {
        WebhookClient::new(Settings { extra_ca: Some(self.0.pem().into_bytes()), ..settings() }).unwrap()
    }
}

#[tokio::test]
async fn certificate_from_an_additional_authority_is_accepted() {
    let authority = Authority::new();
    for (name, host) in [("localhost", "localhost"), ("127.0.0.1", "127.0.0.1"), ("127.0.0.1", "0x7f.1")] {
        let mut receiver = Receiver::with_tls(authority.server_config(name, 2000..2100), [Answer::ok()]);
        let client = authority.trusting_client();
        for _ in 0..2 {
            let attempt =
                send(&client, &callback_url(&format!("https://{host}:{}/hook", receiver.port))).await;
            assert_eq!(attempt.outcome, Outcome::Delivered, "{host}: {attempt}");
            assert_eq!(receiver.call().await.line, "POST /hook HTTP/1.1");
        }
    }
}

#[tokio::test]
async fn each_certificate_defect_has_its_own_outcome() {
    let authority = Authority::new();
    for (client, name, years, outcome, code) in [
        (client(), "localhost", 2000..2100, Outcome::CertificateUntrusted, 11237),
        (Authority::new().trusting_client(), "localhost", 2000..2100, Outcome::CertificateUntrusted, 11237),
        (authority.trusting_client(), "other.example", 2000..2100, Outcome::CertificateNameMismatch, 11235),
        (authority.trusting_client(), "localhost", 2000..2001, Outcome::CertificateExpired, 11236),
        (authority.trusting_client(), "localhost", 2099..2100, Outcome::CertificateExpired, 11236),
    ] {
        let receiver = Receiver::with_tls(authority.server_config(name, years), [Answer::ok()]);
        let attempt = send(&client, &callback_url(&format!("https://localhost:{}/", receiver.port))).await;
        assert_eq!((attempt.outcome, attempt.outcome.error_code()), (outcome, code), "{attempt}");
        assert!(attempt.outcome.is_transient() && attempt.cause.is_some());
        assert_eq!(receiver.calls_left(), 0);
    }
}

#[tokio::test]
async fn self_signed_certificate_is_refused() {
    let authority = Authority::new();
    let self_signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(self_signed.signing_key.serialize_der().into());
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![self_signed.cert.der().clone()], key)
        .unwrap();
    let receiver = Receiver::with_tls(config, [Answer::ok()]);
    let attempt =
        send(&authority.trusting_client(), &callback_url(&format!("https://localhost:{}/", receiver.port)))
            .await;
    assert_eq!(attempt.outcome, Outcome::CertificateUntrusted, "{attempt}");
}

/// Starts a TCP listener that writes `bytes` to every connection, without TLS. Returns its port.
async fn start_plain_listener(bytes: &'static [u8]) -> u16 {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let _ = socket.write_all(bytes).await;
            let _ = socket.read_to_end(&mut Vec::new()).await;
        }
    });
    port
}

#[tokio::test]
async fn plaintext_response_to_a_tls_handshake_is_reported_as_a_failed_handshake() {
    for bytes in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b""] {
        let port = start_plain_listener(bytes).await;
        let attempt = send(&client(), &callback_url(&format!("https://localhost:{port}/#rt=100"))).await;
        assert_eq!(
            (attempt.outcome, attempt.outcome.error_code()),
            (Outcome::HandshakeFailed, 11220),
            "{attempt}"
        );
    }
}

#[tokio::test]
async fn missing_response_over_tls_times_out_after_the_read_timeout() {
    let authority = Authority::new();
    let mut receiver =
        Receiver::with_tls(authority.server_config("localhost", 2000..2100), [Answer::Stall(String::new())]);
    let attempt = send(
        &authority.trusting_client(),
        &callback_url(&format!("https://localhost:{}/#rt=1000", receiver.port)),
    )
    .await;
    assert_eq!(attempt.outcome, Outcome::ReadTimedOut);
    receiver.end().await;
}

#[test]
fn webhook_client_cannot_be_created_with_invalid_settings() {
    let error_of =
        |pem: &[u8]| WebhookClient::new(Settings { extra_ca: Some(pem.to_vec()), ..settings() }).err();
    assert!(matches!(error_of(b""), Some(Error::Authorities(authorities::Error::Empty))));
    assert!(matches!(error_of(b"no certificate"), Some(Error::Authorities(authorities::Error::Empty))));
    assert!(matches!(
        error_of(b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"),
        Some(Error::Authorities(authorities::Error::NotPem(_)))
    ));
    assert!(matches!(
        error_of(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        Some(Error::Authorities(authorities::Error::NotAuthority(_)))
    ));
    let agent = Settings { user_agent: "a\nb".into(), ..settings() };
    assert!(matches!(WebhookClient::new(agent), Err(Error::UserAgent)));
}
