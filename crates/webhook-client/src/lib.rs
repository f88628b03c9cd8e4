//! A client for webhooks: signed HTTP requests to public addresses only.
//!
//! [`WebhookClient::send`] makes one [`Attempt`] to deliver a webhook. The caller decides whether and when to
//! retry. [`Outcome`] supports both policies: [`Outcome::is_transient`] for the server's own retry schedule,
//! and [`Outcome::condition`] for the retry policy of connection overrides.
//!
//! | Question | File |
//! | --- | --- |
//! | What is sent, and in which order do the steps run? | [`client`] |
//! | How is a request signed? | [`signature`] |
//! | Which addresses may be called, and why not others? | [`guard`] |
//! | How is a connection opened? | `connector.rs`, the only file that connects |
//! | Which certificates are trusted? | `tls.rs` |
//! | When is a connection reused? | `pool.rs` |
//! | How long may each step take? | `timeouts.rs` |
//! | How much of a response is read? | [`response`] |
//! | Which outcomes are there, and which Twilio error codes do they have? | [`outcome`] |
//!
//! The crate uses `hyper` directly, because a client library hides what is needed here: the address before
//! the connection is opened, the step that timed out, and whether a failed connection was new. The crate
//! ignores proxy variables in the environment, does not follow redirects, stores no cookies, and decompresses
//! nothing.
//!
//! The crate does not panic on any input from the network, and buffers only a limited amount of it. The
//! `Debug` and `Display` output of its types contains no secrets.

mod attempt;
pub mod client;
mod connection;
mod connector;
mod error;
pub mod guard;
pub mod outcome;
mod pool;
pub mod response;
mod settings;
pub mod signature;
mod timeouts;
mod tls;

pub use attempt::{Attempt, SimulatedFailure};
pub use client::{Content, Request, WebhookClient};
pub use error::Error;
pub use guard::Guard;
pub use outcome::Outcome;
pub use response::Response;
pub use settings::Settings;
pub use signature::sign;
