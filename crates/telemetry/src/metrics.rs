//! All metrics of the server.
//!
//! [`METRICS`] has a field for each metric, whose type determines the kind of metric and its labels. Code that counts
//! something uses these handles, and [`render`] returns all metrics for Prometheus. The exported name is the name of the
//! field with a prefix and the unit, and with `_total` at the end for a counter.
//!
//! The value of a label is a variant of an enum in `labels.rs` or a constant such as the pattern of a route. It is never
//! a SID, an identity, an address or a host, because the number of those is unlimited.

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

/// A guard that increments a gauge and decrements it when dropped.
#[must_use]
#[derive(Debug)]
pub struct GaugeGuard(&'static Gauge);

impl GaugeGuard {
    /// Increments `gauge` until the guard is dropped.
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
