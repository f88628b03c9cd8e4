//! Deliveries: outgoing webhooks, pushes and messages, and the rules for what happens after an attempt.
//!
//! ```text
//! pending ──attempt──▶ delivered
//!   ▲           ├────▶ skipped      (no longer useful)
//!   │           ├────▶ failed       (cannot succeed, or expired)
//!   └───retry───┘
//! ```
//!
//! A delivery is stored in the transaction of the change that causes it, and is made at least once. If a process dies
//! during an attempt, its lease expires and another process takes over. The database uses older words for a pending
//! delivery and for a retry ([`DeliveryState::as_str`], [`AttemptOutcome::as_str`]).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

use crate::entropy::Entropy;
use crate::factors::Platform;
use crate::outlets::OutletChoice;
use crate::parameter::Parameter as _;
use crate::sids::{
    AccountSid, AlertSid, AttemptSid, ChallengeSid, FactorSid, NotificationSid, ServiceSid, VerificationSid,
    WebhookSid,
};
use crate::text::Identity;
use crate::time::Timestamp;
use crate::traces::TraceParent;

/// The ID of a delivery: a UUID that begins with the delivery's creation time. It is also the idempotency token, and is
/// the same on every attempt.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId(Uuid);

impl DeliveryId {
    /// An ID that is before those of all deliveries.
    pub const MIN: Self = Self(Uuid::nil());

    /// Generates a random ID for a delivery that is created at `now`: a version 7 UUID (RFC 9562).
    pub fn generate(now: Timestamp, entropy: &dyn Entropy) -> Self {
        let mut random = [0; 10];
        entropy.fill(&mut random);
        let milliseconds = now.micros().div_euclid(1000) as u64;
        Self(uuid::Builder::from_unix_timestamp_millis(milliseconds, &random).into_uuid())
    }

    /// Returns the ID's 16 bytes.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.into_bytes()
    }

    /// Creates the ID with these 16 bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.hyphenated(), f)
    }
}

impl fmt::Debug for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The error for a text that is not a delivery ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseDeliveryIdError;

impl fmt::Display for ParseDeliveryIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected a delivery ID, a UUID such as 019b76da-a800-7a5a-9a5a-5a5a5a5a5a5a")
    }
}

impl std::error::Error for ParseDeliveryIdError {}

impl FromStr for DeliveryId {
    type Err = ParseDeliveryIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // `Uuid::try_parse` also accepts texts without hyphens, in braces or with `urn:uuid:`. They differ in length.
        let is_hyphenated = text.len() == uuid::fmt::Hyphenated::LENGTH;
        Uuid::try_parse(text).ok().filter(|_| is_hyphenated).map(Self).ok_or(ParseDeliveryIdError)
    }
}

/// A webhook, push, message, verification event or debugger event that is to be sent.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// ID of the delivery.
    pub id: DeliveryId,
    /// Account that owns the delivery.
    pub account_sid: AccountSid,
    /// Content that is sent to the destination.
    pub work: Work,
    /// Receiver of the delivery. Deliveries to the same destination share a concurrency limit.
    pub destination: Destination,
    /// Number of attempts made so far.
    pub attempts: u32,
    /// Creation time of the delivery.
    pub created_at: Timestamp,
    /// Earliest time of the next attempt. While a node holds a lease on the delivery, the time at which the lease
    /// expires.
    pub next_attempt_at: Timestamp,
    /// Expiry of the delivery. At or after this time, no attempt is made.
    pub expires_at: Timestamp,
    /// Trace context of the request that caused the delivery; `None` if the request is not traced.
    pub trace: Option<TraceParent>,
}

impl Delivery {
    /// Creates a pending delivery whose first attempt may start at `now`.
    pub const fn new(
        id: DeliveryId,
        account_sid: AccountSid,
        work: Work,
        destination: Destination,
        now: Timestamp,
        expires_at: Timestamp,
        trace: Option<TraceParent>,
    ) -> Self {
        Self {
            id,
            account_sid,
            work,
            destination,
            attempts: 0,
            created_at: now,
            next_attempt_at: now,
            expires_at,
            trace,
        }
    }
}

/// The receiver of a delivery, as far as concurrency limits distinguish receivers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Destination {
    /// Host and port of a URL, as `host:port`.
    Host(String),
    /// A push provider, with the credential that a service uses for it.
    Push {
        /// Push provider that receives the push.
        platform: Platform,
        /// Service that sends the push.
        service_sid: ServiceSid,
    },
    /// An outlet for messages.
    Outlet(OutletChoice),
}

impl Destination {
    /// Parses a destination from its stored text, which [`Display`](fmt::Display) produces.
    pub fn from_stored(text: String) -> Self {
        let parsed = text.split_once(' ').and_then(|(kind, rest)| match kind {
            "outlet" => rest.parse().ok().map(Self::Outlet),
            platform => {
                let platform = Platform::from_parameter(platform).ok()?;
                Some(Self::Push { platform, service_sid: rest.parse().ok()? })
            }
        });
        parsed.unwrap_or(Self::Host(text))
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => f.write_str(host),
            Self::Push { platform, service_sid } => write!(f, "{} {service_sid}", platform.as_str()),
            Self::Outlet(outlet) => write!(f, "outlet {outlet}"),
        }
    }
}

/// The content of a delivery. It is stored as JSON.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Work {
    /// An event for a webhook of a service. The parameters are fixed when the event happens. The URL and the signing
    /// key are looked up when the event is sent.
    Webhook {
        /// Webhook that receives the event.
        webhook_sid: WebhookSid,
        /// Service to which the webhook belongs.
        service_sid: ServiceSid,
        /// Form parameters of the request.
        parameters: Vec<(String, String)>,
        /// Whether to attempt the delivery only once and raise no alert if it fails. Set for test deliveries.
        #[serde(default)]
        once: bool,
    },
    /// A push to a device. Data that [`PushWork`] does not contain is looked up when the push is sent. If the challenge
    /// was answered by then, no push is sent.
    Push(PushWork),
    /// A message with a one-time code. The code and the text are looked up when the message is sent, and never stored
    /// here. If the verification was closed by then, no message is sent.
    Message(MessageWork),
    /// An event about a verification, for the URL of the account. The URL and the signing key are looked up when the
    /// event is sent.
    VerificationEvent {
        /// Verification that the event is about.
        verification_sid: VerificationSid,
        /// Service to which the verification belongs.
        service_sid: ServiceSid,
        /// JSON body of the request.
        body: String,
    },
    /// An alert for the account's debugger webhook.
    Debugger {
        /// Alert that is sent.
        alert_sid: AlertSid,
        /// Form parameters of the request.
        parameters: Vec<(String, String)>,
    },
}

/// A push about a challenge.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushWork {
    /// Challenge that the push is about.
    pub challenge_sid: ChallengeSid,
    /// Factor whose device receives the push.
    pub factor_sid: FactorSid,
    /// Service to which the challenge and the factor belong.
    pub service_sid: ServiceSid,
    /// Identity of the entity to which the factor belongs.
    #[serde(deserialize_with = "stored_identity")]
    pub identity: Identity,
    /// Notification with which a backend requested the push; `None` for the push about a new challenge.
    pub notification_sid: Option<NotificationSid>,
    /// Number of seconds for which the provider may keep the push; 0 means deliver now or never.
    pub ttl: u32,
}

/// A message with the code of a verification.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageWork {
    /// Verification whose code is sent.
    pub verification_sid: VerificationSid,
    /// Attempt to which the message belongs.
    pub attempt_sid: AttemptSid,
    /// Service to which the verification belongs.
    pub service_sid: ServiceSid,
    /// Outlet that sends the message.
    pub outlet: OutletChoice,
}

/// Deserializes the identity in the stored JSON of a push, without validation. It was validated before it was stored.
fn stored_identity<'d, D: Deserializer<'d>>(deserializer: D) -> Result<Identity, D::Error> {
    String::deserialize(deserializer).map(Identity::from_stored)
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind().as_str())
    }
}

/// The kind of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An event for a webhook of a service.
    Webhook,
    /// A push to a device.
    Push,
    /// A message with a one-time code.
    Message,
    /// An event about a verification.
    VerificationEvent,
    /// An alert for a debugger webhook.
    Debugger,
}

impl Kind {
    /// Returns the word for this kind in the database and in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Push => "push",
            Self::Message => "message",
            Self::VerificationEvent => "verification_event",
            Self::Debugger => "debugger",
        }
    }
}

impl Work {
    /// Returns the kind of the delivery.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Webhook { .. } => Kind::Webhook,
            Self::Push(_) => Kind::Push,
            Self::Message(_) => Kind::Message,
            Self::VerificationEvent { .. } => Kind::VerificationEvent,
            Self::Debugger { .. } => Kind::Debugger,
        }
    }
}

/// The result of an attempt. [`Schedule::next`] derives from it what happens to the delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The receiver accepted the delivery.
    Delivered,
    /// Nothing was sent, because the delivery is no longer useful: its subject was answered, expired, disabled or
    /// deleted.
    Skipped,
    /// The attempt failed, but a later attempt may succeed.
    RetryAfter {
        /// Number of seconds that the receiver asked to wait; `None` if it did not ask.
        seconds: Option<i64>,
    },
    /// The attempt failed, and the next attempt may start immediately, as required by the retry overrides in the
    /// webhook's URL.
    RetryNow,
    /// The attempt failed, and no later attempt can succeed.
    Failed,
}

/// What happens to a delivery after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The delivery is finished: the receiver accepted it.
    Delivered,
    /// The delivery is finished: it was no longer useful.
    Skipped,
    /// The delivery is attempted again at this time.
    Retry(Timestamp),
    /// The delivery is finished without success.
    Failed,
}

impl Next {
    /// Returns the state of the delivery after the attempt.
    pub const fn state(self) -> DeliveryState {
        match self {
            Self::Delivered => DeliveryState::Delivered,
            Self::Skipped => DeliveryState::Skipped,
            Self::Retry(_) => DeliveryState::Pending,
            Self::Failed => DeliveryState::Failed,
        }
    }

    /// Returns the outcome of the attempt, as it is recorded. The outcome does not contain the time of a retry.
    pub const fn outcome(self) -> AttemptOutcome {
        match self {
            Self::Delivered => AttemptOutcome::Delivered,
            Self::Skipped => AttemptOutcome::Skipped,
            Self::Retry(_) => AttemptOutcome::Retry,
            Self::Failed => AttemptOutcome::Failed,
        }
    }
}

/// The state of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// The delivery is not finished: an attempt is running or will follow.
    Pending,
    /// The receiver accepted the delivery.
    Delivered,
    /// The delivery was not sent, because it was no longer useful.
    Skipped,
    /// The delivery is finished without success.
    Failed,
}

impl DeliveryState {
    /// All states of a delivery.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Delivered, Self::Skipped, Self::Failed];

    /// Returns the word for this state in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "owed",
            Self::Delivered => "delivered",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
        }
    }

    /// Returns the state for a word from the database, or `None` if the word is unknown.
    pub fn from_stored(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

/// The outcome of a recorded attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// The receiver accepted the delivery.
    Delivered,
    /// Nothing was sent, because the delivery was no longer useful.
    Skipped,
    /// The attempt failed, and another attempt follows.
    Retry,
    /// The attempt failed, and no other attempt follows.
    Failed,
}

impl AttemptOutcome {
    /// All outcomes of an attempt.
    pub const ALL: [Self; 4] = [Self::Delivered, Self::Skipped, Self::Retry, Self::Failed];

    /// Returns the word for this outcome in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Skipped => "skipped",
            Self::Retry => "again",
            Self::Failed => "failed",
        }
    }

    /// Returns the outcome for a word from the database, or `None` if the word is unknown.
    pub fn from_stored(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == word)
    }
}

/// The backoff between attempts. The first wait is 1 to 5 seconds, and each later wait is twice as long as the one
/// before, up to `max_backoff_seconds`.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// Maximum wait between two attempts, in seconds.
    pub max_backoff_seconds: i64,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { max_backoff_seconds: 3600 }
    }
}

impl Schedule {
    /// Returns the wait after `attempts` attempts, in microseconds. `jitter`, from 0 to 1, spreads deliveries that
    /// failed at the same time: the first wait is `1 + 4 × jitter` seconds.
    fn backoff(self, attempts: u32, jitter: f64) -> i64 {
        let doublings = attempts.saturating_sub(1).min(30);
        let seconds = (1.0 + 4.0 * jitter.clamp(0.0, 1.0)) * f64::from(1_u32 << doublings);
        (seconds.min(self.max_backoff_seconds as f64) * 1e6) as i64
    }

    /// Returns the wait that is granted if the receiver asks for `seconds`, in microseconds. It is at most the maximum
    /// backoff, and at most half of `remain`, the number of microseconds until expiry. A receiver can therefore not end
    /// a delivery by asking for a long wait.
    fn granted_wait(self, seconds: i64, remain: i64) -> i64 {
        seconds.clamp(0, self.max_backoff_seconds).saturating_mul(1_000_000).min(remain / 2)
    }

    /// Returns what happens to a delivery after an attempt that ended at `now` with `ending`. `attempts` is the number
    /// of attempts so far, including this one, and `jitter`, from 0 to 1, varies the backoff
    /// (docs/protocol/decisions.md, No. 13 and 35).
    pub fn next(
        self,
        ending: Ending,
        attempts: u32,
        expires_at: Timestamp,
        now: Timestamp,
        jitter: f64,
    ) -> Next {
        let wait = match ending {
            Ending::Delivered => return Next::Delivered,
            Ending::Skipped => return Next::Skipped,
            Ending::Failed => return Next::Failed,
            Ending::RetryNow => 0,
            Ending::RetryAfter { seconds } => {
                let remain = expires_at.micros().saturating_sub(now.micros());
                let granted = seconds.map_or(0, |seconds| self.granted_wait(seconds, remain));
                self.backoff(attempts, jitter).max(granted)
            }
        };
        let at = Timestamp::from_micros(now.micros().saturating_add(wait));
        if at < expires_at { Next::Retry(at) } else { Next::Failed }
    }
}

/// Maximum number of seconds by which deliveries may appear to be scheduled in the future, because the clocks of nodes
/// differ.
const CLOCK_SKEW_SECONDS: i64 = 30;

/// The limits beyond which a delivery is stranded: it waits only because a clock was set back. Such a delivery was
/// scheduled in the future, or is due later than any backoff or lease allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stranded {
    /// Deliveries that were scheduled later than this instant are stranded.
    pub scheduled_after: Timestamp,
    /// Deliveries that are due later than this instant are stranded.
    pub due_after: Timestamp,
}

impl Stranded {
    /// Returns the limits at `now`, if leases last for `lease_seconds`. A node whose clock is behind by less than a
    /// lease never mistakes a leased delivery for a stranded one.
    pub fn at(now: Timestamp, lease_seconds: i64, schedule: Schedule) -> Self {
        let skew = lease_seconds.max(CLOCK_SKEW_SECONDS);
        Self {
            scheduled_after: now.plus_seconds(skew),
            due_after: now.plus_seconds(schedule.max_backoff_seconds.max(lease_seconds).saturating_add(skew)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::factors::FactorType;

    const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

    fn backoffs(jitter: f64) -> Vec<i64> {
        (1..=14).map(|attempts| Schedule::default().backoff(attempts, jitter) / 1_000_000).collect()
    }

    #[test]
    fn retry_backoff_doubles_up_to_an_hour() {
        assert_eq!(backoffs(0.0), [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600, 3600]);
        assert_eq!(backoffs(1.0), [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600, 3600, 3600]);
    }

    #[test]
    fn retry_after_lengthens_the_backoff_but_never_shortens_it() {
        let next = |seconds| {
            Schedule::default().next(Ending::RetryAfter { seconds }, 1, NOW.plus_seconds(86_400), NOW, 0.0)
        };
        assert_eq!(next(None), Next::Retry(NOW.plus_seconds(1)));
        assert_eq!(next(Some(0)), Next::Retry(NOW.plus_seconds(1)));
        assert_eq!(next(Some(-5)), Next::Retry(NOW.plus_seconds(1)));
        assert_eq!(next(Some(120)), Next::Retry(NOW.plus_seconds(120)));
        assert_eq!(next(Some(3600)), Next::Retry(NOW.plus_seconds(3600)));
    }

    /// A receiver that counts in milliseconds may ask for `120000`, for example.
    #[test]
    fn retry_after_is_capped_at_the_maximum_backoff() {
        let next = |seconds| {
            Schedule::default().next(Ending::RetryAfter { seconds }, 1, NOW.plus_seconds(86_400), NOW, 0.0)
        };
        for seconds in [3601, 86_400, 120_000, i64::MAX] {
            assert_eq!(next(Some(seconds)), Next::Retry(NOW.plus_seconds(3600)), "{seconds}");
        }
    }

    #[test]
    fn retry_after_is_capped_at_half_of_the_time_until_expiry() {
        let next = |left, seconds| {
            Schedule::default().next(Ending::RetryAfter { seconds }, 1, NOW.plus_seconds(left), NOW, 0.0)
        };
        assert_eq!(next(300, Some(3600)), Next::Retry(NOW.plus_seconds(150)));
        assert_eq!(next(300, Some(200)), Next::Retry(NOW.plus_seconds(150)));
        assert_eq!(next(300, Some(150)), Next::Retry(NOW.plus_seconds(150)));
        assert_eq!(next(300, Some(149)), Next::Retry(NOW.plus_seconds(149)));
        // The server's own backoff reaches the expiry, no matter which wait the receiver asks for.
        assert_eq!((next(1, Some(3600)), next(1, None)), (Next::Failed, Next::Failed));
    }

    #[test]
    fn limits_beyond_which_a_delivery_is_stranded_allow_for_clock_differences_and_leases() {
        let schedule = Schedule { max_backoff_seconds: 600 };
        assert_eq!(
            Stranded::at(NOW, 45, schedule),
            Stranded { scheduled_after: NOW.plus_seconds(45), due_after: NOW.plus_seconds(645) }
        );
        // A short lease does not lower the tolerance for differing clocks, and a long lease may exceed every backoff.
        assert_eq!(Stranded::at(NOW, 1, schedule).scheduled_after, NOW.plus_seconds(30));
        assert_eq!(Stranded::at(NOW, 900, schedule).due_after, NOW.plus_seconds(1800));
    }

    /// Different versions of the server share a database during a rolling upgrade.
    #[test]
    fn stored_work_with_fields_of_a_later_server_version_can_be_read() {
        let (service_sid, challenge_sid) =
            (ServiceSid::generate(NOW, &Ones), ChallengeSid::generate(FactorType::Push, NOW, &Ones));
        let parameters = vec![("type".to_owned(), "challenge.approved".to_owned())];
        let push = PushWork {
            challenge_sid,
            factor_sid: FactorSid::generate(FactorType::Push, NOW, &Ones),
            service_sid,
            identity: Identity::from_stored("user-0001".to_owned()),
            notification_sid: None,
            ttl: 300,
        };
        let webhook_sid = WebhookSid::generate(NOW, &Ones);
        for work in [
            Work::Push(push),
            Work::Message(MessageWork {
                verification_sid: VerificationSid::generate(NOW, &Ones),
                attempt_sid: AttemptSid::generate(NOW, &Ones),
                service_sid,
                outlet: OutletChoice::SmtpUrl,
            }),
            Work::Webhook { webhook_sid, service_sid, parameters: parameters.clone(), once: false },
            Work::VerificationEvent {
                verification_sid: VerificationSid::generate(NOW, &Ones),
                service_sid,
                body: "[{}]".to_owned(),
            },
            Work::Debugger { alert_sid: AlertSid::generate(NOW, &Ones), parameters },
        ] {
            let mut stored = serde_json::to_value(&work).unwrap();
            stored["trace"] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into();
            assert_eq!(serde_json::from_value::<Work>(stored).unwrap(), work);
        }
    }

    struct Ones;

    impl Entropy for Ones {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(0xff);
        }
    }

    #[test]
    fn delivery_id_is_a_version_7_uuid() {
        let id = DeliveryId::generate(NOW, &Ones);
        assert_eq!(id.to_string(), "019b76da-a800-7fff-bfff-ffffffffffff");
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "x", "019b76daa8007fffbfffffffffffffff", "+19b76da-a800-7fff-bfff-ffffffffffff"] {
            assert!(bad.parse::<DeliveryId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn error_for_an_invalid_delivery_id_shows_a_valid_example() {
        let message = "x".parse::<DeliveryId>().unwrap_err().to_string();
        let (_, example) = message.rsplit_once(' ').unwrap();
        assert!(message.starts_with("expected a delivery ID") && example.parse::<DeliveryId>().is_ok());
    }

    #[test]
    fn stored_destination_is_read_back_unchanged() {
        let service_sid = ServiceSid::generate(NOW, &Ones);
        for destination in [
            Destination::Host("receiver.example.com:443".to_owned()),
            Destination::Host("apn VA".to_owned()),
            Destination::Push { platform: Platform::Apn, service_sid },
            Destination::Push { platform: Platform::Fcm, service_sid },
            Destination::Outlet(OutletChoice::SmsUrl),
            Destination::Outlet("MD019b76daa800ffffffffffffffffffff".parse().unwrap()),
        ] {
            assert_eq!(Destination::from_stored(destination.to_string()), destination);
        }
        let stored = format!("fcm {service_sid}");
        assert_eq!(Destination::Push { platform: Platform::Fcm, service_sid }.to_string(), stored);
    }

    #[test]
    fn stored_delivery_state_is_read_back_unchanged() {
        for state in DeliveryState::ALL {
            assert_eq!(DeliveryState::from_stored(state.as_str()), Some(state));
        }
        assert_eq!(DeliveryState::Pending.as_str(), "owed");
        assert_eq!(Next::Retry(NOW).state(), DeliveryState::Pending);
    }

    #[test]
    fn stored_attempt_outcome_is_read_back_unchanged() {
        for outcome in AttemptOutcome::ALL {
            assert_eq!(AttemptOutcome::from_stored(outcome.as_str()), Some(outcome));
        }
        assert_eq!(AttemptOutcome::Retry.as_str(), "again");
        assert_eq!(AttemptOutcome::from_stored("owed"), None);
    }

    proptest! {
        /// A retry is never scheduled in the past, nor at or after expiry.
        #[test]
        fn retry_is_scheduled_before_expiry(attempts in 1_u32..1000, left in -10_i64..100_000, jitter in 0.0..1.0, seconds: Option<i64>) {
            let expires_at = NOW.plus_seconds(left);
            match Schedule::default().next(Ending::RetryAfter { seconds }, attempts, expires_at, NOW, jitter) {
                Next::Retry(at) => prop_assert!(at > NOW && at < expires_at),
                next => prop_assert_eq!(next, Next::Failed),
            }
        }

        /// Whether another attempt follows does not depend on the wait that the receiver asks for.
        #[test]
        fn retry_after_never_makes_a_delivery_fail(attempts in 1_u32..1000, left in -10_i64..100_000, jitter in 0.0..1.0, seconds: i64) {
            let next = |seconds| {
                let ending = Ending::RetryAfter { seconds };
                Schedule::default().next(ending, attempts, NOW.plus_seconds(left), NOW, jitter)
            };
            prop_assert_eq!(next(Some(seconds)) == Next::Failed, next(None) == Next::Failed);
        }
    }
}
