//! Sends messages with one-time codes through outlets: mail servers, gateways for text messages and calls, and files
//! that record them.
//!
//! [`OutletClient::send`] makes one attempt to send a [`Message`] and returns an [`Outcome`]. The caller decides when
//! to send and whether to retry. A message that is sent twice may arrive twice.
//!
//! | Question | File |
//! | --- | --- |
//! | What is sent? | [`Message`]; the `mail.rs` of `smtp`, `twilio.rs`, `http.rs`, `capture.rs` |
//! | Which settings are supported, and how are they validated? | `settings/`, with one file for each kind of outlet |
//! | How is text put into a request of any form? | `template.rs` |
//! | How does HTTP work for `twilio` and `http`? | `transport.rs` |
//! | Which connections to mail servers are kept? | `smtp/pool.rs` |
//! | What do failures say, and what not? | `codes.rs`, `redaction.rs` |
//!
//! The crate stores nothing apart from the files of `capture`, and does not panic on any response. The `Debug` output
//! of settings contains no secrets, and no [`Outcome`] contains the code, the text or the recipient of a message.

mod capture;
mod client;
mod codes;
mod error;
mod http;
mod message;
mod redaction;
mod settings;
mod smtp;
mod template;
#[cfg(test)]
mod test_data;
mod transport;
mod twilio;

pub use client::{ClientSettings, OutletClient};
pub use error::Error;
pub use message::{Message, Outcome};
pub use settings::{
    CaptureParameters, CaptureSettings, HttpParameters, HttpSettings, InvalidOutlet, OutletField,
    OutletParameters, OutletSettings, OutletSummary, SmtpParameters, SmtpSettings, TwilioParameters,
    TwilioSettings,
};
