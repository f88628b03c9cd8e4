//! Support for the test suites: the real server as a process, a throw-away PostgreSQL, stand-ins for the push
//! providers, and a small HTTP client.
//!
//! ```no_run
//! # async fn example() {
//! use harness::{Auth, Server, Storage};
//!
//! # let built = "countersign";
//! // `built` is env!("CARGO_BIN_EXE_countersign"), which Cargo sets for the tests of that package.
//! let binary = harness::binary_under_test(built);
//! let mut server = Server::start(binary, Storage::Ephemeral, &[]);
//! let service = server.http().post("/v2/Services", &[("FriendlyName", "Owl Bank")]).await;
//! assert_eq!(service.status, 201, "{}", service.text);
//!
//! let unauthenticated = server.http().auth(Auth::None).get("/v2/Services", &[]).await;
//! assert_eq!(unauthenticated.status, 401);
//!
//! assert!(server.terminate().success(), "{}", server.log());
//! # }
//! ```
//!
//! A test that needs PostgreSQL begins with
//!
//! ```no_run
//! # use harness::Storage;
//! # fn example(data_dir: std::path::PathBuf) {
//! let Some(database) = harness::postgres_or_skip("survives_a_restart") else { return };
//! let storage = Storage::Postgres { url: database.url.clone(), data_dir };
//! # }
//! ```
//!
//! Each test has its own ports, folders and databases, needs no network, and leaves nothing behind. Errors panic with
//! all known details, because a test cannot handle them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "test code: a panic is how a test reports a failure"
)]

mod binary;
mod client;
mod collector;
mod environment;
mod events;
pub mod jws;
mod poll;
mod port;
mod postgres;
mod random;
mod receiver;
mod server;
pub mod stand_in;
mod transcript;
mod tunnel;

pub use binary::binary_under_test;
pub use client::{Auth, Http, Reply};
pub use collector::{Collector, Span};
pub use environment::{remove_server_variables, remove_variables};
pub use events::{Event, Events};
pub use poll::wait_until;
pub use port::{Port, SilentPort};
pub use postgres::{
    Database, fresh_postgres_database, postgres_available, postgres_in_encoding_or_skip, postgres_or_skip,
    postgres_program,
};
pub use receiver::{Answer, Call, Receiver};
pub use server::{Server, Storage};
pub use tunnel::TunnelProxy;
