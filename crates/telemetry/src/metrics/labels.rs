//! The labels of metrics and their possible values.

use std::fmt::{self, Write as _};

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use strum::{IntoStaticStr, VariantArray};

/// The type of a label's value.
pub(crate) trait LabelValue: Sized {
    /// Returns all values that the label can have, or an empty list if they cannot be enumerated.
    ///
    /// Series with enumerated values exist from the start, with the value zero, so that the first event is visible as
    /// an increase.
    fn all() -> Vec<Self> {
        Vec::new()
    }
}

impl LabelValue for &'static str {}
impl LabelValue for u16 {}

/// The set of labels of a metric.
pub(crate) trait Labels: Sized {
    const NAMES: &'static [&'static str];

    /// Returns all combinations of label values, or an empty list if they cannot be enumerated.
    fn all() -> Vec<Self>;
}

/// The kind of credentials with which an authentication failed.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum CredentialKind {
    /// An account's SID and auth token.
    Account,
    /// The SID and secret of an API key.
    ApiKey,
    /// An access token, sent by an enrollee, that is, a phone that enrolls.
    Enrollee,
    /// A token signed by a device.
    Device,
    /// Credentials whose user name belongs to none of the other kinds.
    Unknown,
    /// Missing or malformed credentials.
    None,
}

/// A limit on requests or connections.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Limit {
    /// The limit on failed authentications from one address.
    Address,
    /// The limit on an account's requests per second.
    AccountRequests,
    /// The limit on an account's concurrent requests.
    AccountConcurrency,
    /// The limit on open connections from one address. The metric counts the connections that it refuses.
    AddressConnections,
    /// The limit on open connections in total. The metric counts the connections that it refuses.
    Connections,
}

/// The result of exporting spans to the collector.
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

/// The type of a factor, or of the factor that a challenge is for.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum FactorType {
    /// A device that signs answers.
    Push,
    /// A secret that is shared with an authenticator app.
    Totp,
    /// A WebAuthn credential.
    Passkeys,
}

/// The answer to a challenge.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum ChallengeAnswer {
    /// The user approved the challenge.
    Approved,
    /// The user denied the challenge.
    Denied,
}

/// What a stream follows.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum StreamKind {
    /// A challenge, until it is no longer pending.
    Challenge,
    /// The challenges of a factor.
    Factor,
    /// The audit records of a service.
    Service,
    /// A challenge, with a single response at the end.
    Poll,
}

/// A limit on streams.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum StreamLimit {
    /// The limit on the streams of the process.
    Total,
    /// The limit on the streams of an account.
    Account,
    /// The limit on the streams of a factor, which ends the oldest one.
    Factor,
}

/// The kind of a delivery.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum DeliveryKind {
    /// A push through APNs.
    PushApns,
    /// A push through FCM.
    PushFcm,
    /// A message with a one-time code.
    Message,
    /// A request to a service's webhook.
    Webhook,
    /// A request to an account's URL for events about verifications.
    VerificationEvent,
    /// A request to an account's debugger webhook.
    Debugger,
}

/// The kind of a pending delivery, as far as it can be counted without reading each delivery. Unlike [`DeliveryKind`],
/// it does not distinguish push providers.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum PendingKind {
    /// A push through either provider.
    Push,
    /// A message with a one-time code.
    Message,
    /// A request to a service's webhook.
    Webhook,
    /// A request to an account's URL for events about verifications.
    VerificationEvent,
    /// A request to an account's debugger webhook.
    Debugger,
}

/// The state of a delivery after an attempt.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum DeliveryOutcome {
    /// The delivery succeeded.
    Delivered,
    /// The delivery was not attempted because it no longer serves a purpose.
    Skipped,
    /// The attempt failed and will be retried.
    #[strum(serialize = "again")]
    Retry,
    /// The delivery failed permanently.
    Failed,
}

/// A push provider.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Provider {
    /// Apple Push Notification service.
    Apns,
    /// Firebase Cloud Messaging.
    Fcm,
}

/// The result of an attempt to send a push.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum PushOutcome {
    /// The provider accepted the push.
    Delivered,
    /// The push failed but may succeed later.
    Retry,
    /// The device's push token is no longer valid.
    Gone,
    /// The push credential is missing or wrong, or the app ID or the payload is wrong.
    Refused,
}

/// The result of a housekeeping round.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum HousekeepingOutcome {
    /// All expired data was removed.
    Done,
    /// Nothing was removed on this node because another node runs housekeeping.
    #[strum(serialize = "elsewhere")]
    OtherNode,
    /// Nothing was removed because the clock jumped.
    ClockDoubted,
    /// The housekeeping round failed.
    Failed,
}

/// The kind of data that housekeeping removes.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum HousekeepingKind {
    /// Factors that were never verified.
    UnverifiedFactors,
    /// Challenges whose retention has ended.
    Challenges,
    /// Verifications whose validity has ended; they are closed.
    ExpiredVerifications,
    /// Verifications whose retention has ended.
    Verifications,
    /// Requests that rate limits no longer count.
    BucketHits,
    /// Access tokens whose retention has ended.
    AccessTokens,
    /// Records of factor creations, which exist to limit the rate of creations.
    FactorCreations,
    /// Enrollment keys that have been replaced by newer ones.
    EnrollmentKeys,
    /// Finished deliveries whose retention has ended.
    Deliveries,
    /// Alerts whose retention has ended.
    Alerts,
    /// Audit records whose retention has ended.
    #[strum(serialize = "audit_lines")]
    AuditRecords,
    /// Rows that belong to deleted services and entities.
    Deleted,
}

/// The kind of a database failure.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum DatabaseFault {
    /// The database is unreachable or overloaded.
    Unavailable,
    /// The database's disk is full or read-only.
    NoRoom,
    /// The database connection was lost during a commit, so whether the transaction was committed is unknown.
    OutcomeUnknown,
    /// The database returned an error because of a damaged file or a bug.
    Failed,
    /// A database row contains an invalid value.
    Corrupt,
}

/// The server-side cause of a failed request.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Fault {
    /// The database is unreachable or overloaded.
    Unavailable,
    /// The database returned an error.
    Database,
    /// A sealed secret cannot be opened because the master key is wrong or the row was altered. Also counts requests
    /// for which the audit chain failed its checks.
    Crypto,
    /// The request would exceed the number of requests, or the memory for large bodies, that the server handles at
    /// once.
    Overload,
    /// The request exceeded the time limit for its handler.
    Timeout,
    /// The request's handler panicked.
    Panic,
}

macro_rules! label_values {
    ($($name:ident)+) => {
        $(
            impl $name {
                /// Returns the text of this label value, as exported in metrics.
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
    CredentialKind Limit ExportResult FactorType ChallengeAnswer StreamKind StreamLimit DeliveryKind PendingKind DeliveryOutcome Provider
    PushOutcome HousekeepingOutcome HousekeepingKind DatabaseFault Fault
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
    /// The label of the metric `countersign_build_info`.
    BuildLabels {
        /// Version of the running server.
        version: &'static str,
    }

    /// The labels of a request together with its response.
    RequestLabels {
        /// Path pattern of the route, or `-` if no route matches.
        route: &'static str,
        /// HTTP method, or `-` if it is unknown.
        method: &'static str,
        /// HTTP status of the response.
        status: u16,
    }

    /// The labels of a request, without its response.
    RouteLabels {
        /// Path pattern of the route, or `-` if no route matches.
        route: &'static str,
        /// HTTP method, or `-` if it is unknown.
        method: &'static str,
    }

    /// The label of open streams.
    StreamKindLabels {
        /// What the streams follow.
        kind: StreamKind,
    }

    /// The label of refused streams.
    StreamLimitLabels {
        /// Limit that refused the stream.
        limit: StreamLimit,
    }

    /// The label of a failed authentication.
    AuthFailureLabels {
        /// Kind of credentials that the caller sent.
        caller: CredentialKind,
    }

    /// The label of a request or connection that a limit refused.
    LimitLabels {
        /// The limit that was reached.
        limit: Limit,
    }

    /// The label of a failed request.
    FaultLabels {
        /// Server-side cause of the failure.
        kind: Fault,
    }

    /// The label of a database failure.
    DatabaseFaultLabels {
        /// Kind of the database failure.
        kind: DatabaseFault,
    }

    /// The label of a new challenge, and of a new or verified factor.
    FactorLabels {
        /// Type of the factor.
        factor_type: FactorType,
    }

    /// The labels of an answer to a challenge.
    AnswerLabels {
        /// Type of the factor that answered.
        factor_type: FactorType,
        /// The user's answer: approved or denied.
        answer: ChallengeAnswer,
    }

    /// The labels of a delivery attempt.
    AttemptLabels {
        /// Kind of the delivery.
        kind: DeliveryKind,
        /// State of the delivery after the attempt.
        outcome: DeliveryOutcome,
    }

    /// The label of a delivery.
    DeliveryKindLabels {
        /// Kind of the delivery.
        kind: DeliveryKind,
    }

    /// The label of pending deliveries.
    PendingKindLabels {
        /// Kind of the pending deliveries.
        kind: PendingKind,
    }

    /// The labels of a push together with its result.
    PushLabels {
        /// Provider through which the push was sent.
        provider: Provider,
        /// Result of the push.
        outcome: PushOutcome,
    }

    /// The label of a push, without its result.
    ProviderLabels {
        /// Provider through which the push was sent.
        provider: Provider,
    }

    /// The label of a housekeeping round.
    HousekeepingLabels {
        /// Result of the housekeeping round.
        outcome: HousekeepingOutcome,
    }

    /// The label of an export of spans.
    ExportLabels {
        /// Result of the export.
        outcome: ExportResult,
    }

    /// The label of rows that housekeeping removed.
    HousekeepingKindLabels {
        /// Kind of the removed data.
        kind: HousekeepingKind,
    }
}
