//! Integration tests of the push client against stand-ins for both providers, over real TLS and HTTP/2. All
//! files are one binary, so that it is linked once.
#![allow(clippy::unwrap_used, reason = "a panic is how a test reports a failure")]

mod apns;
mod credentials;
mod fcm;
mod fixtures;
mod proxy;
