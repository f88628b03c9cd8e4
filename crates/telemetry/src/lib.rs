//! Defines all metrics ([`metrics`]) and all trace spans ([`traces`]) of the server.

pub mod metrics;
pub mod traces;
