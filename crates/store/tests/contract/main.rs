//! What the store promises, whichever database is behind it. Each behaviour is written once and run as
//! `…::sqlite` (a file), `…::memory`, `…::postgres` and `…::pgbouncer`; the list at the head of each file says where one
//! of them can't have it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code")]

#[macro_use]
mod places;
#[macro_use]
mod fixtures;
mod pages;
mod proxy;
mod together;

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
mod files;
mod leases;
mod notifications;
mod schema;
mod seals;
mod services;
mod transactions;
mod webhooks;
