//! A sender needs nobody to have installed a crypto provider, and minds nobody who has. Alone in its
//! process, since there is one such provider for each.

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use webhook_client::{Sender, Settings};

#[test]
fn with_and_without_a_provider() {
    assert!(CryptoProvider::get_default().is_none());
    assert!(Sender::new(Settings::default()).is_ok());
    assert!(CryptoProvider::get_default().is_none(), "a library installs nothing");
    aws_lc_rs::default_provider().install_default().unwrap();
    assert!(Sender::new(Settings::default()).is_ok());
}
