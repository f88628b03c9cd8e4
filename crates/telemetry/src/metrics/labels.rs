//! Labels of metrics and the values that they can have.

use std::fmt::{self, Write as _};

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use strum::{IntoStaticStr, VariantArray};

/// The type of a label.
pub(crate) trait LabelValue: Sized {
    /// Returns all values, or none if they cannot be listed.
    ///
    /// Series with listed values exist from the start, at zero, so that the first event is visible as an increase.
    fn all() -> Vec<Self> {
        Vec::new()
    }
}

impl LabelValue for &'static str {}
impl LabelValue for u16 {}

/// The labels of a metric.
pub(crate) trait Labels: Sized {
    const NAMES: &'static [&'static str];

    /// Returns all combinations of values, or none if they cannot be listed.
    fn all() -> Vec<Self>;
}

/// Kind of credentials in a failed authentication.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum CredentialKind {
    /// SID and auth token of an account.
    Account,
    /// API key.
    ApiKey,
    /// Access token of a phone that enrolls.
    Enrollee,
    /// Token that a device signed.
    Device,
    /// Any other user name.
    Unknown,
    /// No credentials, or malformed ones.
    None,
}

/// A limit on requests or connections.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Limit {
    /// Failed authentications from one address.
    Address,
    /// Requests of one account in a second.
    AccountRequests,
    /// Concurrent requests of one account.
    AccountConcurrency,
    /// Concurrent connections of one address; counts refused connections.
    AddressConnections,
    /// Concurrent connections in total; counts refused connections.
    Connections,
}

/// Result of an export of spans to the collector.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum ExportResult {
    /// The collector accepted the spans.
    #[strum(serialize = "taken")]
    Accepted,
    /// The collector rejected the spans or was unreachable.
    #[strum(serialize = "refused")]
    Rejected,
}

/// Answer to a challenge.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum ChallengeAnswer {
    /// The user approved.
    Approved,
    /// The user denied.
    Denied,
}

/// Kind of a delivery.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum DeliveryKind {
    /// Push through APNs.
    PushApns,
    /// Push through FCM.
    PushFcm,
    /// Webhook of a service.
    Webhook,
    /// Debugger webhook of an account.
    Debugger,
}

/// Kind of a pending delivery, as far as it can be counted without reading each delivery.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum PendingKind {
    /// Push through either provider.
    Push,
    /// Webhook of a service.
    Webhook,
    /// Debugger webhook of an account.
    Debugger,
}

/// State of a delivery after an attempt.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum DeliveryOutcome {
    /// Delivered.
    Delivered,
    /// Not attempted, because it no longer serves a purpose.
    Skipped,
    /// Failed, to be retried.
    #[strum(serialize = "again")]
    Retry,
    /// Failed permanently.
    Failed,
}

/// Push provider.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Provider {
    /// Apple Push Notification service.
    Apns,
    /// Firebase Cloud Messaging.
    Fcm,
}

/// Result of a push.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum PushOutcome {
    /// The provider accepted the push.
    Delivered,
    /// The push failed and may succeed later.
    Retry,
    /// The registration token of the device is no longer valid.
    Gone,
    /// The credential is missing, or the credential, the app ID or the payload is wrong.
    Refused,
}

/// Result of a round of housekeeping.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum HousekeepingOutcome {
    /// Everything that had expired was removed.
    Done,
    /// Another node runs housekeeping.
    #[strum(serialize = "elsewhere")]
    OtherNode,
    /// Nothing was removed, because the clock jumped.
    ClockDoubted,
    /// The round failed.
    Failed,
}

/// Kind of data that housekeeping removes.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum HousekeepingKind {
    /// Factors that were never verified.
    UnverifiedFactors,
    /// Challenges.
    Challenges,
    /// Access tokens.
    AccessTokens,
    /// Records of factor creations, which a limit counts.
    FactorCreations,
    /// Replaced enrollment keys.
    EnrollmentKeys,
    /// Finished deliveries.
    Deliveries,
    /// Alerts.
    Alerts,
    /// Audit records.
    #[strum(serialize = "audit_lines")]
    AuditRecords,
    /// Rows of deleted services and entities.
    Deleted,
}

/// Failure of the database.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum DatabaseFault {
    /// The database is unreachable or overloaded.
    Unavailable,
    /// Its disk is full or read-only.
    NoRoom,
    /// The connection was lost during a commit.
    OutcomeUnknown,
    /// The database returned an error, because of a damaged file or a bug.
    Failed,
    /// A row contains an invalid value.
    Corrupt,
}

/// Server-side cause of a failed request.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Fault {
    /// The database is unreachable or overloaded.
    Unavailable,
    /// The database returned an error.
    Database,
    /// A secret cannot be opened, because the master key is wrong or the row was altered.
    Crypto,
    /// More requests than the server processes concurrently.
    Overload,
    /// The request took too long.
    Timeout,
    /// The request panicked.
    Panic,
}

macro_rules! label_values {
    ($($name:ident)+) => {
        $(
            impl $name {
                /// Returns the value of the label.
                pub fn as_str(self) -> &'static str {
                    self.into()
                }
            }

            impl EncodeLabelValue for $name {
                fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
                    encoder.write_str(self.as_str())
                }
            }

            impl LabelValue for $name {
                fn all() -> Vec<Self> {
                    Self::VARIANTS.to_vec()
                }
            }
        )+
    };
}

label_values! {
    CredentialKind Limit ExportResult ChallengeAnswer DeliveryKind PendingKind DeliveryOutcome Provider PushOutcome
    HousekeepingOutcome HousekeepingKind DatabaseFault Fault
}

macro_rules! label_sets {
    ($($(#[$meta:meta])* $name:ident { $($(#[$about:meta])* $label:ident: $type:ty,)+ })+) => {
        $(
            $(#[$meta])*
            #[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
            pub struct $name {
                $($(#[$about])* pub $label: $type,)+
            }

            impl Labels for $name {
                const NAMES: &'static [&'static str] = &[$(stringify!($label)),+];

                fn all() -> Vec<Self> {
                    let mut all = Vec::new();
                    label_sets!(@each all [$($label)+] [$($label)+]);
                    all
                }
            }
        )+
    };
    (@each $all:ident [] [$($label:ident)+]) => { $all.push(Self { $($label),+ }) };
    (@each $all:ident [$first:ident $($rest:ident)*] $labels:tt) => {
        for $first in LabelValue::all() {
            label_sets!(@each $all [$($rest)*] $labels);
        }
    };
}

label_sets! {
    /// Labels of the running build.
    BuildLabels {
        /// Version.
        version: &'static str,
    }

    /// Labels of a request with its response.
    RequestLabels {
        /// Pattern of the route, or `-` if none matches.
        route: &'static str,
        /// Method, or `-` for an unknown one.
        method: &'static str,
        /// Status of the response.
        status: u16,
    }

    /// Labels of a request without its response.
    RouteLabels {
        /// Pattern of the route, or `-` if none matches.
        route: &'static str,
        /// Method, or `-` for an unknown one.
        method: &'static str,
    }

    /// Labels of a failed authentication.
    AuthFailureLabels {
        /// Kind of credentials.
        caller: CredentialKind,
    }

    /// Labels of a request or connection that a limit refused.
    LimitLabels {
        /// Limit that was reached.
        limit: Limit,
    }

    /// Labels of a failed request.
    FaultLabels {
        /// Cause.
        kind: Fault,
    }

    /// Labels of a failure of the database.
    DatabaseFaultLabels {
        /// Kind of failure.
        kind: DatabaseFault,
    }

    /// Labels of an answer to a challenge.
    AnswerLabels {
        /// Answer.
        answer: ChallengeAnswer,
    }

    /// Labels of an attempt at a delivery.
    AttemptLabels {
        /// Kind of delivery.
        kind: DeliveryKind,
        /// State of the delivery after the attempt.
        outcome: DeliveryOutcome,
    }

    /// Labels of a delivery.
    DeliveryKindLabels {
        /// Kind of delivery.
        kind: DeliveryKind,
    }

    /// Labels of pending deliveries.
    PendingKindLabels {
        /// Kind of delivery.
        kind: PendingKind,
    }

    /// Labels of a push with its result.
    PushLabels {
        /// Push provider.
        provider: Provider,
        /// Result.
        outcome: PushOutcome,
    }

    /// Labels of a push without its result.
    ProviderLabels {
        /// Push provider.
        provider: Provider,
    }

    /// Labels of a round of housekeeping.
    HousekeepingLabels {
        /// Result.
        outcome: HousekeepingOutcome,
    }

    /// Labels of an export of spans.
    ExportLabels {
        /// Result.
        outcome: ExportResult,
    }

    /// Labels of rows that housekeeping removed.
    HousekeepingKindLabels {
        /// Kind of data.
        kind: HousekeepingKind,
    }
}
