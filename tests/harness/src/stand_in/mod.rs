//! Stand-ins for Apple, Google and a mail server. They run on this machine, are at least as strict as the real servers,
//! and give the responses that a test chooses.
//!
//! | Module | Contents |
//! | --- | --- |
//! | [`Apple`], [`Google`] | the two providers: their rules, the requests they received, their next replies |
//! | [`MailServer`] | a mail server: what it offers, the mails it received, its next replies |
//! | [`pki`] | authorities, certificates and keys, generated on demand |
//! | [`jws`] | parsing and verification of signed tokens |
//! | [`server`] | HTTP/2 over TLS below both, which can also stay silent, disconnect and send GOAWAY |
//!
//! They do not depend on the crate under test, take time from a given clock, and run on the runtime that starts
//! them. One of them accepts some thousands of pushes a second; a test with that many calls `only_count` first.

mod accepted;
pub mod apple;
pub mod google;
pub mod jws;
pub mod mail;
pub mod pki;
pub mod server;

use std::sync::atomic::{AtomicI64, Ordering};

use domain::{Clock, Timestamp};

pub use apple::Apple;
pub use google::Google;
pub use mail::{MailReaction, MailServer, MailServerOptions, MailTls, ReceivedMail};
pub use pki::Authority;
pub use server::{Answer, Reply};

/// A clock that only moves when a test advances it.
pub struct ManualClock(AtomicI64);

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl ManualClock {
    /// Returns a clock at the first second of 2026.
    pub fn new() -> Self {
        Self(AtomicI64::new(1_767_225_600))
    }

    /// Advances the clock; a negative number sets it back.
    pub fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(self.0.load(Ordering::SeqCst))
    }
}
