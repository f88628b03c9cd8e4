//! Tests that the client works with and without a process-wide crypto provider. This test has its own binary,
//! because a provider can be installed only once per process.

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use webhook_client::{Settings, WebhookClient};

#[test]
fn webhook_client_works_with_and_without_an_installed_crypto_provider() {
    assert!(CryptoProvider::get_default().is_none());
    assert!(WebhookClient::new(Settings::default()).is_ok());
    assert!(CryptoProvider::get_default().is_none(), "a library must not install a provider");
    aws_lc_rs::default_provider().install_default().unwrap();
    assert!(WebhookClient::new(Settings::default()).is_ok());
}
