//! Integration tests of the push client against stand-ins for both providers, over real TLS and HTTP/2. All
//! test files are compiled into one binary, so that the dependencies are linked only once.
#![allow(clippy::unwrap_used, reason = "a panic is how a test reports a failure")]

mod apns;
mod credentials;
mod fcm;
mod fixtures;
mod proxy;
