//! Integration tests of the outlet client against stand-ins for mail servers and gateways. All test files are compiled
//! into one binary, so that the dependencies are linked only once.
#![allow(clippy::unwrap_used, reason = "a panic is how a test reports a failure")]

mod capture;
mod fixtures;
mod http;
mod smtp;
mod twilio;
