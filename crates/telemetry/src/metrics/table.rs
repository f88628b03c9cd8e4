//! The table of all metrics.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge;
use prometheus_client::metrics::histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::metrics::labels::*;

/// How often something happened.
pub type Count = Counter<u64, AtomicU64>;
/// How often something happened, by labels.
pub type Counts<L> = Family<L, Count>;
/// How much there is of something.
pub type Gauge = gauge::Gauge;
/// How much there is of something, by labels.
pub type Gauges<L> = Family<L, Gauge>;
/// Distribution of sizes or durations.
pub type Histogram = histogram::Histogram;
/// Distribution of sizes or durations, by labels.
pub type Histograms<L> = Family<L, Histogram, Buckets>;

/// One line of the table, as it looks from outside.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// The name, without `_total`, `_bucket` and the like.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Which labels it has.
    pub labels: &'static [&'static str],
    /// The unit, which is the end of the name.
    pub unit: Option<&'static str>,
    /// What it counts.
    pub help: &'static str,
}

/// Upper bounds of a histogram's buckets.
#[derive(Clone, Copy, Debug)]
pub struct Buckets(&'static [f64]);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

/// What our own work takes, in seconds.
const WORK: Buckets =
    Buckets(&[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]);
/// What the disk takes, in seconds.
const DISK: Buckets =
    Buckets(&[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0]);
/// What others take to answer, in seconds: none is given more than 15.
const OTHERS: Buckets = Buckets(&[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0]);
/// What people take to answer, in seconds: a challenge lives an hour at most.
const PEOPLE: Buckets = Buckets(&[
    1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0, 1800.0, 3600.0,
]);
/// What deliveries take, in seconds: a webhook is tried for a day.
const DELIVERIES: Buckets = Buckets(&[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 43_200.0, 86_400.0,
]);
/// How many share something.
const NUMBERS: Buckets = Buckets(&[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0]);

/// A type that a line of the table can have.
trait Line: Clone {
    const KIND: &'static str;
    const LABELS: &'static [&'static str];

    fn make(buckets: Option<Buckets>) -> Self;
}

macro_rules! lines {
    ($($kind:literal $single:ty, $many:ident;)*) => {
        $(
            impl Line for $single {
                const KIND: &'static str = $kind;
                const LABELS: &'static [&'static str] = &[];

                fn make(_: Option<Buckets>) -> Self {
                    Self::default()
                }
            }

            impl<L: Labels + Clone + std::hash::Hash + Eq> Line for $many<L> {
                const KIND: &'static str = $kind;
                const LABELS: &'static [&'static str] = L::NAMES;

                fn make(_: Option<Buckets>) -> Self {
                    begun(Self::default())
                }
            }
        )*
    };
}

lines! {
    "counter" Count, Counts;
    "gauge" Gauge, Gauges;
}

impl Line for Histogram {
    const KIND: &'static str = "histogram";
    const LABELS: &'static [&'static str] = &[];

    fn make(buckets: Option<Buckets>) -> Self {
        buckets.unwrap_or(WORK).new_metric()
    }
}

impl<L: Labels + Clone + std::hash::Hash + Eq> Line for Histograms<L> {
    const KIND: &'static str = "histogram";
    const LABELS: &'static [&'static str] = L::NAMES;

    fn make(buckets: Option<Buckets>) -> Self {
        begun(Self::new_with_constructor(buckets.unwrap_or(WORK)))
    }
}

/// The family with all its series that are known beforehand, at zero.
fn begun<L, M, C>(family: Family<L, M, C>) -> Family<L, M, C>
where
    L: Labels + Clone + std::hash::Hash + Eq,
    C: MetricConstructor<M>,
{
    for labels in L::all() {
        drop(family.get_or_create(&labels));
    }
    family
}

macro_rules! table {
    ($($prefix:literal { $($name:ident: $type:ty, $(in $unit:ident,)? $(by $buckets:ident,)? $help:literal;)+ })+) => {
        /// The handles of all metrics.
        #[derive(Debug)]
        pub struct Metrics {
            $($(#[doc = $help] pub $name: $type,)+)+
        }

        /// All metrics as they look from outside.
        pub const TABLE: &[Metric] = &[$($(
            Metric {
                name: concat!($prefix, stringify!($name) $(, "_", stringify!($unit))?),
                kind: <$type as Line>::KIND,
                labels: <$type as Line>::LABELS,
                unit: table!(@unit $($unit)?),
                help: $help,
            },
        )+)+];

        impl Metrics {
            pub(crate) fn register(registry: &mut Registry) -> Self {
                let metrics = Self { $($($name: Line::make(table!(@buckets $($buckets)?)),)+)+ };
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
    (@buckets) => { None };
    (@buckets $buckets:ident) => { Some($buckets) };
}

table! {
    "countersign_" {
        build_info: Gauges<Build>, "Always 1; the label says which version runs";
        ready: Gauge, "Whether the server was ready when this was read, as /readyz tells: 1 if it was";

        http_requests: Counts<Request>, "Requests that were answered";
        http_request_duration: Histograms<Asked>, in seconds, by WORK,
            "Time from the head of a request to its answer";
        http_requests_in_flight: Gauge, "Requests that are being answered";
        authentication_failures: Counts<Refused>, "Requests with credentials that do not hold, or without any";
        requests_limited: Counts<Limited>, "Requests and connections that a limit refused";
        faults: Counts<Broken>, "Requests that failed for a reason of ours";

        challenges_created: Count, "Challenges that were created here";
        challenges_answered: Counts<Answered>, "Challenges that were answered here";
        challenges_expired: Count,
            "Challenges that expired unanswered in the whole database, counted when this is read: the same on all servers";
        challenge_answer_time: Histogram, in seconds, by PEOPLE, "Time from the creation of a challenge to its answer";
        factors_created: Count, "Factors that were created here";
        factors_verified: Count, "Factors that were verified here";

        delivery_attempts: Counts<Attempted>, "Attempts at deliveries, by what becomes of the delivery";
        delivery_time: Histograms<Delivered>, in seconds, by DELIVERIES,
            "Time from when a delivery was owed to when it was delivered";
        deliveries_owed: Gauges<Owing>, "Deliveries that are owed in the whole database";
        deliveries_oldest_owed_age: Gauges<Owing>, in seconds,
            "Time since the oldest delivery that is owed in the whole database began to be";
        deliveries_overdue: Gauge, in seconds, "Time by which the delivery that is most overdue should have been attempted";
        pushes: Counts<Pushed>, "Pushes, by what became of them";
        push_duration: Histograms<PushedBy>, in seconds, by OTHERS, "Time that a provider took to answer a push";
        webhook_duration: Histogram, in seconds, by OTHERS,
            "Time that the receiver of a webhook or of a debugger event took to answer";

        database_connections: Gauge, "Connections to the database that are open, the one that writes to SQLite aside";
        database_connections_idle: Gauge, "Connections to the database that nobody uses";
        database_connections_waiting: Gauge, "Requests and deliveries that wait for a connection to the database";
        database_writes_waiting: Gauge, "Transactions that wait for their turn; 1024 may";
        database_write_wait: Histogram, in seconds, by DISK, "Time that a transaction waited for its turn";
        database_commit: Histogram, in seconds, by DISK, "Time that a commit took";
        database_batch: Histogram, in transactions, by NUMBERS, "Transactions that shared one commit; on PostgreSQL none do";
        database_size: Gauge, in bytes, "Size of the database, measured twice a minute; 0 for one in memory";
        database_wal_size: Gauge, in bytes,
            "Size of the write-ahead log of a SQLite database, measured twice a minute; 0 for others";
        database_failures: Counts<DatabaseFailed>, "Statements, commits and waits for a connection or a turn that failed";

        housekeeping_rounds: Counts<Round>, "Rounds of housekeeping";
        housekeeping_duration: Histogram, in seconds, by WORK, "Time that a round of housekeeping took that did all";
        housekeeping_removed: Counts<Removed>, "Rows that housekeeping removed";
        deletions_pending: Gauge,
            "Deleted services and entities in the whole database whose rows are still to be removed";
        housekeeping_last_success_timestamp: Gauge, in seconds, "When housekeeping last succeeded, since 1970; 0 before that";
        clock_doubted: Gauge, "Whether housekeeping removes nothing because the clock jumped: 1 if so; 0 on servers that leave housekeeping to another";

        audit_chain_head: Gauge, "Number of the newest chained line of the audit log that this server has seen";
        audit_chain_refusals: Count, "Looks at the audit log, one a second, at which its chain was found altered or put back";
        audit_lines_unauthenticated: Gauge, "Lines of the audit log that wait to be chained and carry no valid MAC";

        trace_exports: Counts<Exported>, "Requests with spans that were sent to the collector, one sent again included";

        disk_size: Gauge, in bytes, "Size of the disk with the SQLite database; 0 with any other database";
        disk_free: Gauge, in bytes,
            "Bytes that the server may still write to the disk with the SQLite database, measured twice a minute";
        last_backup_timestamp: Gauge, in seconds,
            "When the last backup was begun that the data folder knows of, since 1970; 0 if it knows of none";

        tls_certificate_expiry_timestamp: Gauge, in seconds, "When the certificate ends, since 1970; 0 without one";
    }
    // Everybody's names for these.
    "process_" {
        open_fds: Gauge, "Files and sockets that are open";
        max_fds: Gauge, "Files and sockets that may be open";
        resident_memory: Gauge, in bytes, "Memory that is in use";
        start_time: Gauge, in seconds, "When the process started, since 1970";
    }
}
