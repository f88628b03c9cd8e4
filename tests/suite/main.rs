//! Black-box suites: they start the real binary and speak only HTTP and the command line with it.
//!
//! `world.rs` sets the stage. `on_every_database!` runs a test on SQLite and on PostgreSQL.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "this is test code: a panic is how a test says what went wrong"
)]

mod absent;
mod alerts;
mod audit;
mod chain;
mod clock;
mod credentials;
mod deletion;
mod durability;
mod input;
mod limits;
mod matrix;
mod metrics;
mod node;
mod openapi;
mod operation;
mod order;
mod outbox;
mod paging;
mod pooler;
mod pushes;
mod python;
mod races;
mod repeated;
mod resources;
mod secrecy;
mod story;
mod strangers;
mod tls;
mod traces;
mod transport;
mod webhook_urls;
mod webhooks;
mod world;
