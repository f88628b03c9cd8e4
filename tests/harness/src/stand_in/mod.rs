//! Stand-ins for Apple and Google: servers on this machine that are at least as strict as the real ones,
//! and whose answers a test can choose.
//!
//! | | |
//! | --- | --- |
//! | [`Apple`], [`Google`] | the two providers: what they demand, what they saw, what they are to say next |
//! | [`pki`] | authorities, certificates and keys, made when they are needed |
//! | [`jws`] | signed statements, taken apart and believed only if the signature holds |
//! | [`server`] | HTTP/2 over TLS underneath both, which can also fall silent, hang up and send GOAWAY |
//!
//! They know nothing of the crate that they test, and take time from a clock that is given to them. They
//! run on the runtime that starts them. One of them takes some thousands of pushes a second; whoever sends
//! that many calls `only_count` first.

pub mod apple;
pub mod google;
pub mod jws;
mod kept;
pub mod pki;
pub mod server;

use std::sync::atomic::{AtomicI64, Ordering};

use domain::{Clock, Timestamp};

pub use apple::Apple;
pub use google::Google;
pub use pki::Authority;
pub use server::{Answer, Reply};

/// A clock that stands still until it is moved.
pub struct ManualClock(AtomicI64);

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl ManualClock {
    /// It shows the first second of 2026.
    pub fn new() -> Self {
        Self(AtomicI64::new(1_767_225_600))
    }

    /// Moves it on; back if negative.
    pub fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(self.0.load(Ordering::SeqCst))
    }
}
