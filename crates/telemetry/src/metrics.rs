//! Every metric, named once.
//!
//! [`METRICS`] is the table: a field is a metric, and its type says what kind it is and which labels it has.
//! Whoever has something to count touches the handle; [`exposition`] writes all of them down for Prometheus.
//! The name on the wire is that of the field, behind the prefix and before the unit, and `_total` after a
//! counter.
//!
//! What a label can be is an enum of `labels.rs`, or a word out of our own tables, such as the pattern of a
//! route: never a SID, an identity, an address or a host, of which there is no end.

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

/// The media type of [`exposition`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics as they are now, in the text form of OpenMetrics.
pub fn exposition() -> String {
    let mut text = String::new();
    // To write into a string does not fail.
    let _ = prometheus_client::encoding::text::encode(&mut text, &ALL.1);
    text
}

/// Something that goes on, and is counted in a gauge for as long as this is kept.
#[must_use]
#[derive(Debug)]
pub struct Ongoing(&'static Gauge);

impl Ongoing {
    /// One more from now on.
    pub fn in_gauge(gauge: &'static Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Ongoing {
    fn drop(&mut self) {
        self.0.dec();
    }
}
