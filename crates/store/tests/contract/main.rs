//! Contract tests: the behavior that the store guarantees on every database. Each test is written once and runs as
//! `…::sqlite` (a file), `…::memory`, `…::postgres` and `…::pgbouncer`. Tests that run on only some of these databases
//! are in a separate `contract!` list at the top of their file, for example `contract! { on postgres: … }`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test reports a failure by panicking")]

#[macro_use]
mod databases;
#[macro_use]
mod fixtures;
mod concurrency;
mod every_statement;
mod paging;
mod proxy;
mod query_plans;
mod statement_recorder;

mod access_tokens;
mod accounts;
mod alerts;
mod attempts;
mod audit;
mod challenges;
mod clock_record;
mod connections;
mod credentials;
mod deliveries;
mod distributed_sql;
mod entities;
mod factor_types;
mod factors;
mod leases;
mod messaging_configurations;
mod notifications;
mod outlets;
mod rate_limits;
mod safe_list;
mod schema;
mod sealed_values;
mod services;
mod sqlite_files;
mod streams;
mod templates;
mod transactions;
mod verifications;
mod webhooks;
