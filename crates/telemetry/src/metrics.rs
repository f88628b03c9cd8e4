//! Defines and renders all metrics of the server.
//!
//! [`METRICS`] has one field per metric. The field's type determines the metric's kind and labels. Code that counts
//! events uses these handles, and [`render`] returns all metrics for Prometheus. The exported name is the field's name
//! with a prefix and the unit; names of counters end in `_total`.
//!
//! The value of a label is a variant of an enum in `labels.rs`, or a constant such as a route's path pattern. It is
//! never a SID, an identity, an address or a host, because their number is unlimited.

mod labels;
mod table;

use std::sync::LazyLock;

use prometheus_client::registry::Registry;

pub use crate::metrics::labels::*;
pub use crate::metrics::table::*;

static ALL: LazyLock<(Metrics, Registry)> = LazyLock::new(|| {
    let mut registry = Registry::default();
    (Metrics::register(&mut registry), registry)
});

/// The metrics of this process.
pub static METRICS: LazyLock<&'static Metrics> = LazyLock::new(|| &ALL.0);

/// The media type of the text that [`render`] returns.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Returns the current values of all metrics in the OpenMetrics text format.
pub fn render() -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = prometheus_client::encoding::text::encode(&mut text, &ALL.1);
    text
}

/// A guard that keeps a gauge incremented by 1 until the guard is dropped.
#[must_use]
#[derive(Debug)]
pub struct GaugeGuard(&'static Gauge);

impl GaugeGuard {
    /// Increments `gauge` by 1. Dropping the returned guard decrements it again.
    pub fn increment(gauge: &'static Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}
