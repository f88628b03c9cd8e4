//! The harness's receiver of webhooks, and a sender for it.

// Each test binary uses a part of it.
#![allow(dead_code, unreachable_pub)]

use std::ops::{Deref, DerefMut};

use domain::accounts::AuthToken;
use domain::{CallbackUrl, Parameter, Timestamp};
pub use harness::Answer;
use rustls::ServerConfig;
use webhook_client::{Attempt, Request, Sender, Settings};

pub fn answer(status: &str, headers: &str, body: &str) -> Answer {
    Answer::of(status, headers, body)
}

pub fn ok() -> Answer {
    Answer::ok()
}

/// A receiver whose addresses can be called.
pub struct Receiver(harness::Receiver);

impl Receiver {
    /// Answers with each of `answers` in turn, and with the last for good.
    pub fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self(harness::Receiver::start(answers))
    }

    pub fn with_tls(config: ServerConfig, answers: impl IntoIterator<Item = Answer>) -> Self {
        Self(harness::Receiver::with_tls(config, answers))
    }

    pub fn listen(ip: &str, answers: impl IntoIterator<Item = Answer>) -> Self {
        Self(harness::Receiver::listen(ip, None, answers))
    }

    pub fn url(&self, path: &str) -> CallbackUrl {
        url(&self.at(path))
    }
}

impl Deref for Receiver {
    type Target = harness::Receiver;

    fn deref(&self) -> &harness::Receiver {
        &self.0
    }
}

impl DerefMut for Receiver {
    fn deref_mut(&mut self) -> &mut harness::Receiver {
        &mut self.0
    }
}

pub fn url(text: &str) -> CallbackUrl {
    CallbackUrl::from_parameter(text).unwrap()
}

/// Loopback allowed, and patience enough for a busy machine.
pub fn settings() -> Settings {
    let allow = ["127.0.0.0/8", "::1/128"].map(|network| network.parse().unwrap()).into();
    Settings { allow, ..Settings::default() }
}

pub fn sender() -> Sender {
    Sender::new(settings()).unwrap()
}

pub fn auth_token() -> AuthToken {
    AuthToken::parse("0123456789abcdef0123456789abcdef").unwrap()
}

pub fn now() -> Timestamp {
    Timestamp::from_seconds(1_767_225_600)
}

/// Sends an event of no importance.
pub async fn send(sender: &Sender, url: &CallbackUrl) -> Attempt {
    let parameters = [("type".to_owned(), "factor.verified".to_owned())];
    let request = Request {
        url,
        parameters: &parameters,
        auth_token: &auth_token(),
        idempotency_token: "one-delivery",
    };
    sender.send(&request, now()).await
}
