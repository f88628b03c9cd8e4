//! Tests pushes through an HTTP proxy.

use std::sync::Arc;

use domain::Clock;
use harness::TunnelProxy;
use harness::stand_in::pki::{Key, PushCertificate};
use harness::stand_in::{Apple, Authority, Google, ManualClock};
use push_client::{Credential, Outcome, Proxy, PushClient, Settings};

use crate::fixtures::{LONG_TIMEOUT, is_delivered, kind_and_code, message, send_burst};

/// Stand-ins for both providers, with what the tests need to reach them.
struct Fixture {
    apple: Apple,
    google: Google,
    authority: Authority,
    clock: Arc<ManualClock>,
}

impl Fixture {
    async fn new() -> Self {
        let (authority, clock) = (Authority::new(), Arc::new(ManualClock::new()));
        let apple = Apple::start(&authority, clock.clone()).await;
        let google = Google::start(&authority, clock.clone()).await;
        Self { apple, google, authority, clock }
    }

    /// Creates a client that connects to both providers through `proxy`, except for the hosts listed in
    /// `except`.
    fn client(&self, proxy: &str, except: &str) -> Arc<PushClient> {
        let settings = Settings {
            apns_endpoint: Some(self.apple.server().url()),
            fcm_endpoint: Some(self.google.server().url()),
            extra_ca: Some(self.authority.pem().into_bytes()),
            proxy: Some(Proxy::new(proxy, except).unwrap()),
            timeout: LONG_TIMEOUT,
        };
        Arc::new(PushClient::new(settings, self.clock.clone()).unwrap())
    }

    fn fcm(&self) -> Credential {
        Credential::fcm(&self.google.service_account("owl-bank", &Key::rsa())).unwrap()
    }

    fn certificate(&self) -> Credential {
        let made = self.authority.push_certificate(PushCertificate::default());
        self.apple.register_certificate(&made, "com.example.app");
        Credential::apns_certificate(&made.pem(), &made.key.pkcs8(), false, self.clock.now()).unwrap()
    }
}

fn target(url: &str) -> String {
    url.trim_start_matches("https://").to_owned()
}

#[tokio::test]
async fn pushes_and_access_tokens_go_through_one_tunnel_to_each_provider() {
    let (fixture, proxy) = (Fixture::new().await, TunnelProxy::start().await);
    let client = fixture.client(&format!("http://{}", proxy.authority()), "");
    for _ in 0..3 {
        assert!(is_delivered(&client.send("CR1", &fixture.fcm(), &message()).await));
        // The accepted push shows that the client certificate reaches APNs through the tunnel.
        assert!(is_delivered(&client.send("CR2", &fixture.certificate(), &message()).await));
    }
    let targets = [fixture.google.server().url(), fixture.apple.server().url()].map(|url| target(&url));
    assert_eq!(proxy.targets(), targets);
    assert_eq!((fixture.google.token_requests(), fixture.google.server().connections()), (1, 1));
}

#[tokio::test]
async fn burst_of_pushes_opens_one_tunnel() {
    let (fixture, proxy) = (Fixture::new().await, TunnelProxy::start().await);
    let client = fixture.client(&proxy.authority(), "");
    assert!(send_burst(&client, &fixture.fcm(), 50).await.iter().all(is_delivered));
    assert_eq!(proxy.targets().len(), 1);
}

#[tokio::test]
async fn proxy_receives_its_password_and_a_wrong_password_is_reported() {
    // The user name and password `owl:hoot` in base64.
    let (fixture, proxy) = (Fixture::new().await, TunnelProxy::demanding("Basic b3dsOmhvb3Q=").await);
    let client = fixture.client(&format!("http://owl:hoot@{}", proxy.authority()), "");
    assert!(is_delivered(&client.send("CR1", &fixture.fcm(), &message()).await));

    for wrong in [proxy.authority(), format!("owl:hooot@{}", proxy.authority())] {
        let outcome = fixture.client(&wrong, "").send("CR1", &fixture.fcm(), &message()).await;
        let Outcome::Retry { reason, .. } = &outcome else { panic!("{outcome:?}") };
        assert!(reason.contains("proxy") && !reason.contains("hoo"), "{reason}");
    }
    let unreachable = format!("127.0.0.1:{}", harness::Port::at([127, 0, 0, 1].into()).address.port());
    let outcome = fixture.client(&unreachable, "").send("CR1", &fixture.fcm(), &message()).await;
    assert_eq!(kind_and_code(&outcome), ("retry", 52110));
}

#[tokio::test]
async fn hosts_on_the_no_proxy_list_bypass_the_proxy() {
    let (fixture, proxy) = (Fixture::new().await, TunnelProxy::start().await);
    for except in ["localhost", "example.com, localhost", "*"] {
        let client = fixture.client(&proxy.authority(), except);
        assert!(is_delivered(&client.send("CR1", &fixture.fcm(), &message()).await), "{except}");
    }
    assert_eq!(proxy.targets(), [""; 0]);
}
