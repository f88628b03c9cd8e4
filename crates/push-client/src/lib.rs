//! A client for the push providers APNs (Apple) and FCM (Google).
//!
//! [`PushClient::send`] makes one attempt to deliver a [`Message`] and returns an [`Outcome`]. The caller
//! decides when to send and whether to retry. A message that is sent twice may arrive twice.
//!
//! | Question | File |
//! | --- | --- |
//! | What is sent? | [`Message`], then `payload.rs` of each provider |
//! | Which credentials are supported, and how are they validated? | [`credential`] |
//! | How is a push sent? | `client.rs` of each provider; `transport.rs` has the shared HTTP/2 code, `proxy.rs` the egress proxy |
//! | How are the providers' errors classified? | [`apns::Reason`] and [`fcm::ErrorCode`], one table each |
//! | What would be sent, for a test server? | [`Preview`] |
//! | What is cached between two pushes? | `cache.rs` (connections), `apns/provider_token.rs`, `fcm/access_token.rs` |
//!
//! The crate stores nothing on disk and does not panic on any response. The `Debug` output of its types
//! contains neither secrets nor device tokens.

pub mod apns;
mod cache;
mod client;
pub mod credential;
mod debugger_codes;
mod error;
pub mod fcm;
mod jwt;
mod message;
mod outcome;
mod preview;
mod proxy;
mod settings;
#[cfg(test)]
mod test_data;
mod transport;

pub use client::PushClient;
pub use credential::{
    Credential, CredentialField, CredentialSummary, Environment, InvalidCredential, InvalidReason,
};
pub use error::Error;
pub use message::Message;
pub use outcome::{FailureKind, Outcome};
pub use preview::{Preview, SimulatedFailure};
pub use proxy::Proxy;
pub use settings::Settings;
