//! Pushing through an HTTP proxy.

use std::sync::Arc;

use domain::Clock;
use harness::TunnelProxy;
use harness::stand_in::pki::{Key, PushCertificate};
use harness::stand_in::{Apple, Authority, Google, ManualClock};
use push_client::{Credential, Outcome, Proxy, Pusher, Settings};

use crate::pushing::{PATIENT, burst, is_delivered, message, verdict};

/// Both stand-ins, and a credential for each.
struct World {
    apple: Apple,
    google: Google,
    authority: Authority,
    clock: Arc<ManualClock>,
}

impl World {
    async fn new() -> Self {
        let (authority, clock) = (Authority::new(), Arc::new(ManualClock::new()));
        let apple = Apple::start(&authority, clock.clone()).await;
        let google = Google::start(&authority, clock.clone()).await;
        Self { apple, google, authority, clock }
    }

    /// A pusher that reaches both through a proxy.
    fn pusher(&self, proxy: &str, except: &str) -> Arc<Pusher> {
        let settings = Settings {
            apns_endpoint: Some(self.apple.server().url()),
            fcm_endpoint: Some(self.google.server().url()),
            extra_ca: Some(self.authority.pem().into_bytes()),
            proxy: Some(Proxy::new(proxy, except).unwrap()),
            timeout: PATIENT,
        };
        Arc::new(Pusher::new(settings, self.clock.clone()).unwrap())
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
    let (world, proxy) = (World::new().await, TunnelProxy::start().await);
    let pusher = world.pusher(&format!("http://{}", proxy.authority()), "");
    for _ in 0..3 {
        assert!(is_delivered(&pusher.send("CR1", &world.fcm(), &message()).await));
        // The certificate is shown to Apple, through the tunnel.
        assert!(is_delivered(&pusher.send("CR2", &world.certificate(), &message()).await));
    }
    let targets = [world.google.server().url(), world.apple.server().url()].map(|url| target(&url));
    assert_eq!(proxy.targets(), targets);
    assert_eq!((world.google.token_requests(), world.google.server().connections()), (1, 1));
}

#[tokio::test]
async fn cold_burst_takes_one_tunnel() {
    let (world, proxy) = (World::new().await, TunnelProxy::start().await);
    let pusher = world.pusher(&proxy.authority(), "");
    assert!(burst(&pusher, &world.fcm(), 50).await.iter().all(is_delivered));
    assert_eq!(proxy.targets().len(), 1);
}

#[tokio::test]
async fn proxy_is_given_its_password_and_says_when_it_is_wrong() {
    // owl:hoot
    let (world, proxy) = (World::new().await, TunnelProxy::demanding("Basic b3dsOmhvb3Q=").await);
    let pusher = world.pusher(&format!("http://owl:hoot@{}", proxy.authority()), "");
    assert!(is_delivered(&pusher.send("CR1", &world.fcm(), &message()).await));

    for wrong in [proxy.authority(), format!("owl:hooot@{}", proxy.authority())] {
        let outcome = world.pusher(&wrong, "").send("CR1", &world.fcm(), &message()).await;
        let Outcome::RetryAfter { reason, .. } = &outcome else { panic!("{outcome:?}") };
        assert!(reason.contains("proxy") && !reason.contains("hoo"), "{reason}");
    }
    let nobody = format!("127.0.0.1:{}", harness::Port::at([127, 0, 0, 1].into()).address.port());
    let outcome = world.pusher(&nobody, "").send("CR1", &world.fcm(), &message()).await;
    assert_eq!(verdict(&outcome), ("retry", 52110));
}

#[tokio::test]
async fn excepted_hosts_are_reached_without_the_proxy() {
    let (world, proxy) = (World::new().await, TunnelProxy::start().await);
    for except in ["localhost", "example.com, localhost", "*"] {
        let pusher = world.pusher(&proxy.authority(), except);
        assert!(is_delivered(&pusher.send("CR1", &world.fcm(), &message()).await), "{except}");
    }
    assert_eq!(proxy.targets(), [""; 0]);
}
