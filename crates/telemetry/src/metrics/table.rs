//! The table of all metrics: their names, types, units and help texts.

use std::hash::Hash;
use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::{counter, gauge, histogram};
use prometheus_client::registry::{Registry, Unit};

use crate::metrics::labels::*;

/// A metric that counts events. Its value only increases.
pub type Counter = counter::Counter<u64, AtomicU64>;
/// A family of counters, one for each combination of labels.
pub type CounterFamily<L> = Family<L, Counter, Buckets>;
/// A metric whose value is a current measurement and may rise and fall.
pub type Gauge = gauge::Gauge;
/// A family of gauges, one for each combination of labels.
pub type GaugeFamily<L> = Family<L, Gauge, Buckets>;
/// A metric that records the distribution of sizes or durations.
pub type Histogram = histogram::Histogram;
/// A family of histograms, one for each combination of labels.
pub type HistogramFamily<L> = Family<L, Histogram, Buckets>;

/// The description of a metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Name of the metric, without suffixes such as `_total` and `_bucket`.
    pub name: &'static str,
    /// Kind of the metric: `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Names of the metric's labels.
    pub labels: &'static [&'static str],
    /// Unit of the metric, such as `seconds`; the name ends with it. `None` for a metric without a unit.
    pub unit: Option<&'static str>,
    /// Help text that is exported with the metric.
    pub help: &'static str,
}

/// The upper bounds of a histogram's buckets. `Buckets` also implements [`MetricConstructor`], to create the members of
/// a metric family. It does so for families of every kind; counters and gauges ignore the bounds.
#[derive(Clone, Copy, Debug)]
pub struct Buckets(&'static [f64]);

impl Buckets {
    /// No buckets, for counters and gauges.
    const NONE: Self = Self(&[]);

    /// Buckets for the server's own processing time, in seconds.
    const SERVER_SECONDS: Self =
        Self(&[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]);

    /// Buckets for disk writes and the wait for them, in seconds.
    const DISK_SECONDS: Self =
        Self(&[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0]);

    /// Buckets for the response times of receivers and push providers, in seconds. A response may take at most 15
    /// seconds.
    const REMOTE_SECONDS: Self = Self(&[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0]);

    /// Buckets for the time that users take to answer, in seconds. Users have at most an hour.
    const USER_SECONDS: Self = Self(&[
        1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0, 1800.0, 3600.0,
    ]);

    /// Buckets for the time until a delivery succeeds, including retries, in seconds. Retries continue for up to a day.
    const DELIVERY_SECONDS: Self = Self(&[
        0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 43_200.0,
        86_400.0,
    ]);

    /// Buckets for the number of transactions in a batch.
    const BATCH_SIZES: Self = Self(&[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0]);
}

/// A type that a metric in the table can have.
trait MetricType: Clone {
    const KIND: &'static str;
    const LABELS: &'static [&'static str] = &[];

    /// Creates a metric of this type. Only histograms use `buckets`.
    fn create(buckets: Buckets) -> Self;
}

impl MetricType for Counter {
    const KIND: &'static str = "counter";

    fn create(_: Buckets) -> Self {
        Self::default()
    }
}

impl MetricType for Gauge {
    const KIND: &'static str = "gauge";

    fn create(_: Buckets) -> Self {
        Self::default()
    }
}

impl MetricType for Histogram {
    const KIND: &'static str = "histogram";

    fn create(buckets: Buckets) -> Self {
        Self::new(buckets.0.iter().copied())
    }
}

impl<L: Labels + Clone + Hash + Eq, M: MetricType> MetricType for Family<L, M, Buckets> {
    const KIND: &'static str = M::KIND;
    const LABELS: &'static [&'static str] = L::NAMES;

    /// Creates the family and, if the label values can be enumerated, all of its members.
    fn create(buckets: Buckets) -> Self {
        let family = Self::new_with_constructor(buckets);
        for labels in L::all() {
            drop(family.get_or_create(&labels));
        }
        family
    }
}

impl<M: MetricType> MetricConstructor<M> for Buckets {
    fn new_metric(&self) -> M {
        M::create(*self)
    }
}

/// Declares the metrics. Each group has a name prefix. Each metric has a name, a type, an optional unit, the buckets of
/// a histogram, and a help text.
macro_rules! table {
    ($($prefix:literal { $($name:ident: $type:ty, $(in $unit:ident,)? $(by $buckets:ident,)? $help:literal;)+ })+) => {
        /// The handles of all metrics, through which code updates their values.
        #[derive(Debug)]
        pub struct Metrics {
            $($(#[doc = $help] pub $name: $type,)+)+
        }

        /// The descriptions of all metrics, in the order of their declaration.
        pub const TABLE: &[Metric] = &[$($(
            Metric {
                name: concat!($prefix, stringify!($name) $(, "_", stringify!($unit))?),
                kind: <$type as MetricType>::KIND,
                labels: <$type as MetricType>::LABELS,
                unit: table!(@unit $($unit)?),
                help: $help,
            },
        )+)+];

        impl Metrics {
            pub(crate) fn register(registry: &mut Registry) -> Self {
                let metrics = Self { $($($name: MetricType::create(table!(@buckets $($buckets)?)),)+)+ };
                $($(
                    let (name, handle) = (concat!($prefix, stringify!($name)), metrics.$name.clone());
                    match table!(@unit $($unit)?) {
                        Some(unit) => {
                            registry.register_with_unit(name, $help, Unit::Other(unit.to_owned()), handle);
                        }
                        None => registry.register(name, $help, handle),
                    }
                )+)+
                metrics
            }
        }
    };
    (@unit) => { None::<&str> };
    (@unit $unit:ident) => { Some(stringify!($unit)) };
    (@buckets) => { Buckets::NONE };
    (@buckets $buckets:ident) => { Buckets::$buckets };
}

table! {
    "countersign_" {
        build_info: GaugeFamily<BuildLabels>, "Always 1; the label is the version of the running server";
        ready: Gauge, "Readiness at this scrape, as /readyz reports: 1 if the server was ready, otherwise 0";
        test_mode: Gauge, "Whether the server runs in test mode: 1 if it does, otherwise 0";

        http_requests: CounterFamily<RequestLabels>, "Requests that received a response";
        http_request_duration: HistogramFamily<RouteLabels>, in seconds, by SERVER_SECONDS,
            "Time from the arrival of a request's head until its response is ready";
        http_requests_in_flight: Gauge, "Requests in progress";
        authentication_failures: CounterFamily<AuthFailureLabels>,
            "Requests with invalid or missing credentials";
        requests_limited: CounterFamily<LimitLabels>, "Requests and connections refused by a limit";
        faults: CounterFamily<FaultLabels>, "Requests that failed for a server-side reason";

        challenges_created: CounterFamily<FactorLabels>, "Challenges created by this server";
        challenges_answered: CounterFamily<AnswerLabels>, "Challenges answered through this server";
        challenges_expired: Counter,
            "Challenges in the whole database that expired unanswered, counted at each scrape; every server counts all of them";
        challenge_answer_time: Histogram, in seconds, by USER_SECONDS,
            "Time from a challenge's creation to its answer";
        factors_created: CounterFamily<FactorLabels>, "Factors created by this server";
        factors_verified: CounterFamily<FactorLabels>, "Factors verified by this server";
        totp_codes_refused: Counter, "Codes of authenticator apps that were wrong or had been used";

        streams_open: GaugeFamily<StreamKindLabels>, "Open streams and long polls";
        streams_refused: CounterFamily<StreamLimitLabels>,
            "Streams that a limit refused, or ended in favor of a newer one";
        stream_delay: Histogram, in seconds, by SERVER_SECONDS,
            "Time from a change until an open stream has read it";

        delivery_attempts: CounterFamily<AttemptLabels>,
            "Delivery attempts, by the resulting state of the delivery";
        delivery_time: HistogramFamily<DeliveryKindLabels>, in seconds, by DELIVERY_SECONDS,
            "Time from a delivery's creation to its success";
        deliveries_owed: GaugeFamily<PendingKindLabels>, "Pending deliveries in the whole database";
        deliveries_oldest_owed_age: GaugeFamily<PendingKindLabels>, in seconds,
            "Age of the oldest pending delivery in the whole database";
        deliveries_overdue: Gauge, in seconds,
            "Time by which the next attempt of the most overdue pending delivery is late";
        pushes: CounterFamily<PushLabels>, "Attempts to send a push, by provider and result";
        push_duration: HistogramFamily<ProviderLabels>, in seconds, by REMOTE_SECONDS,
            "Response time of push providers";
        webhook_duration: Histogram, in seconds, by REMOTE_SECONDS,
            "Response time of the receivers of webhooks, verification events and debugger events";

        database_connections: Gauge, "Open database connections, excluding SQLite's write connection";
        database_connections_idle: Gauge, "Idle database connections";
        database_connections_waiting: Gauge,
            "Requests and deliveries that are waiting for a database connection";
        database_writes_waiting: Gauge, "Transactions in the write queue, which holds at most 1024";
        database_write_wait: Histogram, in seconds, by DISK_SECONDS,
            "Time that a transaction waited in the write queue";
        database_commit: Histogram, in seconds, by DISK_SECONDS, "Duration of a database commit";
        database_batch: Histogram, in transactions, by BATCH_SIZES,
            "Number of transactions that shared one SQLite commit; not measured on PostgreSQL";
        database_size: Gauge, in bytes,
            "Size of the database, measured twice a minute; 0 for an in-memory database";
        database_wal_size: Gauge, in bytes,
            "Size of SQLite's write-ahead log, measured twice a minute; 0 for other databases";
        database_failures: CounterFamily<DatabaseFaultLabels>,
            "Failed statements, failed commits, and waits for a connection or the write queue that timed out";

        housekeeping_rounds: CounterFamily<HousekeepingLabels>, "Housekeeping rounds, by result";
        housekeeping_duration: Histogram, in seconds, by SERVER_SECONDS,
            "Duration of a complete housekeeping round";
        housekeeping_removed: CounterFamily<HousekeepingKindLabels>, "Rows removed by housekeeping";
        deletions_pending: Gauge,
            "Deleted services and entities in the whole database whose rows have not been removed yet";
        housekeeping_last_success_timestamp: Gauge, in seconds,
            "Unix time of the last successful housekeeping round; 0 before the first";
        clock_doubted: Gauge,
            "Set to 1 while housekeeping removes nothing because the clock jumped, otherwise 0; always 0 on servers that do not run housekeeping";

        audit_chain_head: Gauge, "Number of the newest chained audit record that this server has seen";
        audit_chain_refusals: Counter,
            "Checks of the audit chain that found it altered or replaced by an older one; one check takes place per second";
        audit_lines_unauthenticated: Gauge, "Unchained audit records without a valid MAC";

        trace_exports: CounterFamily<ExportLabels>,
            "Requests that export trace spans to the collector, including retries";

        disk_size: Gauge, in bytes, "Size of the disk that holds the SQLite database; 0 for other databases";
        disk_free: Gauge, in bytes,
            "Space that the server can still use on the disk that holds the SQLite database, measured twice a minute";
        last_backup_timestamp: Gauge, in seconds,
            "Unix time at which the last backup recorded in the data folder started; 0 if none is recorded";

        tls_certificate_expiry_timestamp: Gauge, in seconds,
            "Unix time at which the server's TLS certificate expires; 0 without a certificate";
    }
    // Prometheus client libraries commonly use the names in this group.
    "process_" {
        open_fds: Gauge, "Number of open files and sockets";
        max_fds: Gauge, "Maximum number of open files and sockets";
        resident_memory: Gauge, in bytes, "Resident memory of the process";
        start_time: Gauge, in seconds, "Unix time at which the process started";
    }
}
