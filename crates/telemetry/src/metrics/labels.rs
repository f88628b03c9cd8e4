//! What labels can be.

use std::fmt::{self, Write as _};

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

/// What a label can be, if that can be listed: such series are there from the start, at zero, so that the
/// first failure of its kind is seen as a change.
pub(crate) trait Value: Sized {
    fn all() -> Vec<Self> {
        Vec::new()
    }
}

impl Value for &'static str {}
impl Value for u16 {}

/// The labels of a metric.
pub(crate) trait Labels: Sized {
    const NAMES: &'static [&'static str];

    fn all() -> Vec<Self>;
}

macro_rules! values {
    ($($(#[$meta:meta])* $name:ident { $($(#[$about:meta])* $value:ident = $word:literal,)+ })+) => {
        $(
            $(#[$meta])*
            #[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
            pub enum $name {
                $($(#[$about])* $value,)+
            }

            impl $name {
                /// The word that stands for it.
                pub const fn as_str(self) -> &'static str {
                    match self {
                        $(Self::$value => $word,)+
                    }
                }
            }

            impl EncodeLabelValue for $name {
                fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
                    encoder.write_str(self.as_str())
                }
            }

            impl Value for $name {
                fn all() -> Vec<Self> {
                    vec![$(Self::$value),+]
                }
            }
        )+
    };
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
        for $first in Value::all() {
            label_sets!(@each $all [$($rest)*] $labels);
        }
    };
}

values! {
    /// Kind of credentials in a failed authentication.
    Claimant {
        /// An account, by its auth token.
        Account = "account",
        /// An API key.
        ApiKey = "api_key",
        /// A phone with an access token.
        Enrollee = "enrollee",
        /// A device with a token of its own making.
        Device = "device",
        /// Anybody else.
        Unknown = "unknown",
        /// No credentials, or none that can be read.
        Nobody = "none",
    }

    /// What there is too much of.
    Limit {
        /// Credentials that failed, from one address.
        Address = "address",
        /// Requests of one account in a second.
        AccountRequests = "account_requests",
        /// Requests of one account at one time.
        AccountConcurrency = "account_concurrency",
        /// Connections of one address at one time; counts the connections that were refused.
        AddressConnections = "address_connections",
        /// Connections at one time; counts the connections that were refused.
        Connections = "connections",
    }

    /// What a collector makes of spans.
    Taken {
        /// It takes them.
        Taken = "taken",
        /// It does not, or is not there.
        Refused = "refused",
    }

    /// What a device makes of a challenge.
    Answer {
        /// Yes.
        Approved = "approved",
        /// No.
        Denied = "denied",
    }

    /// What is delivered.
    Kind {
        /// A push through Apple.
        PushApns = "push_apns",
        /// A push through Google.
        PushFcm = "push_fcm",
        /// A webhook of a service.
        Webhook = "webhook",
        /// A debugger event of an account.
        Debugger = "debugger",
    }

    /// What is owed, as far as the database tells without a look at each.
    Owed {
        /// A push.
        Push = "push",
        /// A webhook of a service.
        Webhook = "webhook",
        /// A debugger event of an account.
        Debugger = "debugger",
    }

    /// What becomes of a delivery after an attempt.
    Outcome {
        /// It was delivered.
        Delivered = "delivered",
        /// It would have been of no use any more.
        Skipped = "skipped",
        /// It is tried again.
        Again = "again",
        /// It is given up.
        Failed = "failed",
    }

    /// Who delivers pushes.
    Provider {
        /// Apple.
        Apns = "apns",
        /// Google.
        Fcm = "fcm",
    }

    /// What became of a push.
    Verdict {
        /// The provider took it.
        Delivered = "delivered",
        /// It may arrive another time.
        Retry = "retry",
        /// The device's token is dead.
        Gone = "gone",
        /// The credential, the app id or the payload is wrong, or there is no credential.
        Refused = "refused",
    }

    /// How a round of housekeeping ended.
    Housekeeping {
        /// All was done.
        Done = "done",
        /// Another server does it.
        Elsewhere = "elsewhere",
        /// Nothing was removed, because the clock jumped.
        ClockDoubted = "clock_doubted",
        /// It failed.
        Failed = "failed",
    }

    /// What is removed when its time is over.
    Remains {
        /// Factors that were never verified.
        Factors = "unverified_factors",
        /// Challenges.
        Challenges = "challenges",
        /// Access tokens.
        AccessTokens = "access_tokens",
        /// Notes that a factor was made.
        FactorCreations = "factor_creations",
        /// Enrollment keys that were replaced.
        EnrollmentKeys = "enrollment_keys",
        /// Deliveries that are done with.
        Deliveries = "deliveries",
        /// Alerts.
        Alerts = "alerts",
        /// Lines of the audit log.
        AuditLines = "audit_lines",
        /// Rows of deleted services and entities.
        Deleted = "deleted",
    }

    /// What is wrong with the database.
    DatabaseFault {
        /// It is out of reach, or has too much to do.
        Unavailable = "unavailable",
        /// Its disk is full, or takes nothing.
        NoRoom = "no_room",
        /// It was interrupted while it committed.
        OutcomeUnknown = "outcome_unknown",
        /// It refuses: a broken file, a bug.
        Failed = "failed",
        /// A row holds what it can't hold.
        Corrupt = "corrupt",
    }

    /// What is wrong with the server, as a caller comes to feel it.
    Fault {
        /// The database is out of reach or overloaded.
        Unavailable = "unavailable",
        /// The database failed.
        Database = "database",
        /// A secret can't be opened: the wrong master key, or an altered row.
        Crypto = "crypto",
        /// There was too much to do: more requests than may be under way.
        Overload = "overload",
        /// The request took too long.
        Timeout = "timeout",
        /// The request panicked.
        Panic = "panic",
    }
}

label_sets! {
    /// The build that runs.
    Build {
        /// Its version.
        version: &'static str,
    }

    /// A request that was answered.
    Request {
        /// The pattern of the route, or `-`.
        route: &'static str,
        /// The method, or `-` for one that nobody knows.
        method: &'static str,
        /// The status of the answer.
        status: u16,
    }

    /// A request, whatever it was answered.
    Asked {
        /// The pattern of the route, or `-`.
        route: &'static str,
        /// The method, or `-` for one that nobody knows.
        method: &'static str,
    }

    /// Credentials that do not hold.
    Refused {
        /// Who they would have been.
        caller: Claimant,
    }

    /// A request that was one too many.
    Limited {
        /// By which limit.
        limit: Limit,
    }

    /// Something broke.
    Broken {
        /// What.
        kind: Fault,
    }

    /// The database failed.
    DatabaseFailed {
        /// How.
        kind: DatabaseFault,
    }

    /// An answer to a challenge.
    Answered {
        /// Which.
        answer: Answer,
    }

    /// An attempt at a delivery.
    Attempted {
        /// What was to be delivered.
        kind: Kind,
        /// What became of it.
        outcome: Outcome,
    }

    /// A delivery.
    Delivered {
        /// What was delivered.
        kind: Kind,
    }

    /// What is owed.
    Owing {
        /// Of which kind.
        kind: Owed,
    }

    /// A push.
    Pushed {
        /// Who was to deliver it.
        provider: Provider,
        /// What became of it.
        outcome: Verdict,
    }

    /// A push, whatever became of it.
    PushedBy {
        /// Who was to deliver it.
        provider: Provider,
    }

    /// A round of housekeeping.
    Round {
        /// How it ended.
        outcome: Housekeeping,
    }

    /// Spans that were sent.
    Exported {
        /// What the collector made of them.
        outcome: Taken,
    }

    /// Rows that were removed.
    Removed {
        /// Which.
        kind: Remains,
    }
}
