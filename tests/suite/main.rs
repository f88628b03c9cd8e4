//! Black-box suites: they start the real binary and speak only HTTP and the command line with it.
//!
//! `world.rs` starts servers and clients, `fixture.rs` creates one resource of every kind.
//! `on_every_database!` runs a test on SQLite and on PostgreSQL.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "test code: a panic is how a test reports a failure"
)]

mod alerts;
mod api_keys;
mod attempts;
mod audit;
mod browser_phone;
mod check_order;
mod clock;
mod credentials;
mod deletion;
mod durability;
mod empty_parameters;
mod fixture;
mod housekeeping;
mod input;
mod limits;
mod matrix;
mod messaging_configurations;
mod metrics;
mod node;
mod openapi;
mod operation;
mod outbox;
mod outlets;
mod paging;
mod passkeys;
mod pooler;
mod pushes;
mod python;
mod races;
mod rate_limits;
mod repeated_answers;
mod resources;
mod safe_list;
mod secrecy;
mod streams;
mod templates;
mod testmode;
mod tls;
mod totp;
mod traces;
mod transport;
mod unauthenticated_clients;
mod verifications;
mod verify_push;
mod webhook_urls;
mod webhooks;
mod world;
