//! Contract tests of the store. Each test is written once and runs as `…::sqlite` (a file), `…::memory`,
//! `…::postgres` and `…::pgbouncer`. The `contract!` lists at the top of each file name the databases if a
//! test does not run on all.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test reports a failure")]

#[macro_use]
mod databases;
#[macro_use]
mod fixtures;
mod concurrency;
mod every_statement;
mod paging;
mod proxy;

mod access_tokens;
mod accounts;
mod alerts;
mod audit;
mod challenges;
mod clock_record;
mod connections;
mod credentials;
mod deliveries;
mod entities;
mod factors;
mod leases;
mod notifications;
mod schema;
mod sealed_values;
mod services;
mod sqlite_files;
mod transactions;
mod webhooks;
