//! The crate against stand-ins of both providers, over real TLS and HTTP/2. One binary, so that it is
//! linked once.
#![allow(clippy::unwrap_used, reason = "this is test code: a panic is how a test says what went wrong")]

mod apns;
mod credentials;
mod fcm;
mod proxy;
mod pushing;
