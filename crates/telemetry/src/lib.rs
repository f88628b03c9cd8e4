//! Metrics and traces: every metric ([`metrics`]) and every span ([`traces`]) of the server, named once.

pub mod metrics;
pub mod traces;
