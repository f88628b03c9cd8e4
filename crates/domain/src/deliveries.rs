//! Deliveries: outgoing webhooks and pushes, and the rule for what follows an attempt.
//!
//! ```text
//! pending ──attempt──▶ delivered
//!   ▲           ├────▶ skipped      (no longer useful)
//!   │           ├────▶ failed       (cannot succeed, or expired)
//!   └───retry───┘
//! ```
//!
//! A delivery is written in the transaction of the change that causes it, and is made at least once. If a process
//! dies during an attempt, its lease expires and another process takes over. The database has older words for a
//! pending delivery and for a retry ([`DeliveryState::as_str`], [`AttemptOutcome::as_str`]).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

use crate::entropy::Entropy;
use crate::factors::Platform;
use crate::parameter::Parameter as _;
use crate::sids::{AccountSid, AlertSid, ChallengeSid, FactorSid, NotificationSid, ServiceSid, WebhookSid};
use crate::text::Identity;
use crate::time::Timestamp;
use crate::traces::TraceParent;

/// The ID of a delivery: a UUID that begins with its creation time. It is also the idempotency token, the same on
/// every attempt.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId(Uuid);

impl DeliveryId {
    /// Generates an ID for a delivery created at `now` (RFC 9562, version 7).
    pub fn generate(now: Timestamp, entropy: &dyn Entropy) -> Self {
        let mut random = [0; 10];
        entropy.fill(&mut random);
        let milliseconds = now.micros().div_euclid(1000) as u64;
        Self(uuid::Builder::from_unix_timestamp_millis(milliseconds, &random).into_uuid())
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

/// A text that is not a delivery ID.
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
        // `try_parse` also accepts forms without hyphens, in braces or with `urn:uuid:`, which have other lengths.
        let is_hyphenated = text.len() == uuid::fmt::Hyphenated::LENGTH;
        Uuid::try_parse(text).ok().filter(|_| is_hyphenated).map(Self).ok_or(ParseDeliveryIdError)
    }
}

/// An outgoing webhook or push.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Its ID.
    pub id: DeliveryId,
    /// Owning account.
    pub account_sid: AccountSid,
    /// What to send.
    pub work: Work,
    /// Where to send it. Deliveries to one destination share a concurrency limit.
    pub destination: Destination,
    /// Attempts so far.
    pub attempts: u32,
    /// Creation time.
    pub created_at: Timestamp,
    /// Earliest instant of the next attempt; during a lease, the instant at which the lease expires.
    pub next_attempt_at: Timestamp,
    /// Instant from which no attempt is made.
    pub expires_at: Timestamp,
    /// Trace of the request that caused the delivery, if it is traced.
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

/// The receiver of a delivery, as far as concurrency limits distinguish it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Destination {
    /// Host and port of a webhook.
    Host(String),
    /// A push provider, with the credential that one service has for it.
    Push {
        /// The provider.
        platform: Platform,
        /// The service that sends.
        service_sid: ServiceSid,
    },
}

impl Destination {
    /// Reads the text that [`Display`](fmt::Display) writes, as the database stores it.
    pub fn from_stored(text: String) -> Self {
        let push = text.split_once(' ').and_then(|(platform, service_sid)| {
            let platform = Platform::from_parameter(platform).ok()?;
            Some(Self::Push { platform, service_sid: service_sid.parse().ok()? })
        });
        push.unwrap_or(Self::Host(text))
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => f.write_str(host),
            Self::Push { platform, service_sid } => write!(f, "{} {service_sid}", platform.as_str()),
        }
    }
}

/// The content of a delivery. Stored as JSON.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Work {
    /// An event for a webhook of a service. Its parameters are fixed when the event happens; the URL and the signing
    /// key are looked up when it is sent.
    Webhook {
        /// The webhook.
        webhook_sid: WebhookSid,
        /// Its service.
        service_sid: ServiceSid,
        /// Form parameters of the request.
        parameters: Vec<(String, String)>,
        /// Set for test deliveries: one attempt, no retry, no alert.
        #[serde(default)]
        once: bool,
    },
    /// A push to a device. Everything is looked up when it is sent: an answered challenge is not pushed.
    Push(PushWork),
    /// An alert for the account's debugger webhook.
    Debugger {
        /// The alert.
        alert_sid: AlertSid,
        /// Form parameters of the request.
        parameters: Vec<(String, String)>,
    },
}

/// A push about a challenge.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushWork {
    /// The challenge.
    pub challenge_sid: ChallengeSid,
    /// The factor whose device receives the push.
    pub factor_sid: FactorSid,
    /// The service of both.
    pub service_sid: ServiceSid,
    /// Identity of the entity that has the factor.
    #[serde(deserialize_with = "stored_identity")]
    pub identity: Identity,
    /// The notification that requested the push; `None` for the push of a new challenge.
    pub notification_sid: Option<NotificationSid>,
    /// Seconds for which the provider may keep the push; 0 means now or never.
    pub ttl: u32,
}

/// Reads an identity from the JSON of a push, where it was valid when it was written.
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
    /// An alert for a debugger webhook.
    Debugger,
}

impl Kind {
    /// Returns the word for it in the database and in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Push => "push",
            Self::Debugger => "debugger",
        }
    }
}

impl Work {
    /// Returns the kind of delivery.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Webhook { .. } => Kind::Webhook,
            Self::Push(_) => Kind::Push,
            Self::Debugger { .. } => Kind::Debugger,
        }
    }
}

/// How an attempt ended. [`Schedule::next`] derives from it what happens to the delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The receiver accepted it.
    Delivered,
    /// Nothing was sent, because it is no longer useful: answered, expired, disabled or deleted.
    Skipped,
    /// A later attempt may succeed.
    RetryAfter {
        /// Seconds to wait that the receiver asked for, if it did.
        seconds: Option<i64>,
    },
    /// The next attempt may start immediately, as the retry overrides of the webhook's URL demand.
    RetryNow,
    /// No attempt can succeed.
    Failed,
}

/// What happens to a delivery after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is finished: the receiver accepted it.
    Delivered,
    /// It is finished: it was no longer useful.
    Skipped,
    /// It is attempted again at this instant.
    Retry(Timestamp),
    /// It is finished without success.
    Failed,
}

impl Next {
    /// Returns the state of the delivery.
    pub const fn state(self) -> DeliveryState {
        match self {
            Self::Delivered => DeliveryState::Delivered,
            Self::Skipped => DeliveryState::Skipped,
            Self::Retry(_) => DeliveryState::Pending,
            Self::Failed => DeliveryState::Failed,
        }
    }

    /// Returns the outcome of the attempt, without the instant of a retry.
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
    /// An attempt will follow, or is running.
    Pending,
    /// The receiver accepted it.
    Delivered,
    /// It was no longer useful.
    Skipped,
    /// It is finished without success.
    Failed,
}

impl DeliveryState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Delivered, Self::Skipped, Self::Failed];

    /// Returns the word for it in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "owed",
            Self::Delivered => "delivered",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
        }
    }

    /// Reads a word from the database; returns `None` for an unknown one.
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
    /// The attempt failed and another one follows.
    Retry,
    /// The attempt failed and no other one follows.
    Failed,
}

impl AttemptOutcome {
    /// Every outcome.
    pub const ALL: [Self; 4] = [Self::Delivered, Self::Skipped, Self::Retry, Self::Failed];

    /// Returns the word for it in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Skipped => "skipped",
            Self::Retry => "again",
            Self::Failed => "failed",
        }
    }

    /// Reads a word from the database; returns `None` for an unknown one.
    pub fn from_stored(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == word)
    }
}

/// The backoff between attempts: at first 1 to 5 seconds, then doubling, at most `max_backoff_seconds`.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// Longest wait, in seconds.
    pub max_backoff_seconds: i64,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { max_backoff_seconds: 3600 }
    }
}

impl Schedule {
    /// Returns the microseconds to wait after `attempts` attempts. `jitter`, from 0 to 1, spreads deliveries that
    /// failed together: the first wait is `1 + 4 × jitter` seconds.
    fn backoff(self, attempts: u32, jitter: f64) -> i64 {
        let doublings = attempts.saturating_sub(1).min(30);
        let seconds = (1.0 + 4.0 * jitter.clamp(0.0, 1.0)) * f64::from(1_u32 << doublings);
        (seconds.min(self.max_backoff_seconds as f64) * 1e6) as i64
    }

    /// Returns the microseconds to wait when the receiver asks for `seconds`: at most the longest backoff, and at most
    /// half of the microseconds that `remain` until expiry. So a receiver cannot end a delivery by asking for a wait.
    fn granted_wait(self, seconds: i64, remain: i64) -> i64 {
        seconds.clamp(0, self.max_backoff_seconds).saturating_mul(1_000_000).min(remain / 2)
    }

    /// Decides what follows an attempt that ended at `now`, when `attempts` were made including this one
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

/// Seconds by which a node may see deliveries scheduled in its future, because the clocks of nodes differ.
const CLOCK_SKEW_SECONDS: i64 = 30;

/// The limits beyond which a delivery waits only because a clock was set back: it was scheduled in the future, or is
/// due later than any backoff or lease allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stranded {
    /// Scheduled later than this instant.
    pub scheduled_after: Timestamp,
    /// Or due later than this instant.
    pub due_after: Timestamp,
}

impl Stranded {
    /// Returns the limits at `now`, when leases last for `lease_seconds`. A node whose clock is behind by less than a
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
    fn backoff_doubles_up_to_an_hour() {
        assert_eq!(backoffs(0.0), [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600, 3600]);
        assert_eq!(backoffs(1.0), [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600, 3600, 3600]);
    }

    #[test]
    fn requested_wait_lengthens_the_backoff_but_never_shortens_it() {
        let next = |seconds| {
            Schedule::default().next(Ending::RetryAfter { seconds }, 1, NOW.plus_seconds(86_400), NOW, 0.0)
        };
        assert_eq!(next(None), Next::Retry(NOW.plus_seconds(1)));
        assert_eq!(next(Some(0)), Next::Retry(NOW.plus_seconds(1)));
        assert_eq!(next(Some(-5)), Next::Retry(NOW.plus_seconds(1)));
        assert_eq!(next(Some(120)), Next::Retry(NOW.plus_seconds(120)));
        assert_eq!(next(Some(3600)), Next::Retry(NOW.plus_seconds(3600)));
    }

    /// For example `120000`, from a receiver that counts in milliseconds.
    #[test]
    fn requested_wait_is_capped_at_the_longest_backoff() {
        let next = |seconds| {
            Schedule::default().next(Ending::RetryAfter { seconds }, 1, NOW.plus_seconds(86_400), NOW, 0.0)
        };
        for seconds in [3601, 86_400, 120_000, i64::MAX] {
            assert_eq!(next(Some(seconds)), Next::Retry(NOW.plus_seconds(3600)), "{seconds}");
        }
    }

    #[test]
    fn requested_wait_beyond_expiry_is_cut_to_half_of_the_remaining_time() {
        let next = |left, seconds| {
            Schedule::default().next(Ending::RetryAfter { seconds }, 1, NOW.plus_seconds(left), NOW, 0.0)
        };
        assert_eq!(next(300, Some(3600)), Next::Retry(NOW.plus_seconds(150)));
        assert_eq!(next(300, Some(200)), Next::Retry(NOW.plus_seconds(150)));
        assert_eq!(next(300, Some(150)), Next::Retry(NOW.plus_seconds(150)));
        assert_eq!(next(300, Some(149)), Next::Retry(NOW.plus_seconds(149)));
        // The server's own backoff reaches expiry, whatever the receiver asks for.
        assert_eq!((next(1, Some(3600)), next(1, None)), (Next::Failed, Next::Failed));
    }

    #[test]
    fn delivery_is_stranded_only_beyond_the_difference_of_clocks() {
        let schedule = Schedule { max_backoff_seconds: 600 };
        assert_eq!(
            Stranded::at(NOW, 45, schedule),
            Stranded { scheduled_after: NOW.plus_seconds(45), due_after: NOW.plus_seconds(645) }
        );
        // A short lease does not lower the allowance for clocks; a long lease may exceed every backoff.
        assert_eq!(Stranded::at(NOW, 1, schedule).scheduled_after, NOW.plus_seconds(30));
        assert_eq!(Stranded::at(NOW, 900, schedule).due_after, NOW.plus_seconds(1800));
    }

    /// Versions share a database during a rolling upgrade.
    #[test]
    fn fields_of_a_later_version_are_ignored() {
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
            Work::Webhook { webhook_sid, service_sid, parameters: parameters.clone(), once: false },
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
    fn id_is_a_uuid_of_version_7() {
        let id = DeliveryId::generate(NOW, &Ones);
        assert_eq!(id.to_string(), "019b76da-a800-7fff-bfff-ffffffffffff");
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "x", "019b76daa8007fffbfffffffffffffff", "+19b76da-a800-7fff-bfff-ffffffffffff"] {
            assert!(bad.parse::<DeliveryId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn parse_error_shows_a_valid_delivery_id() {
        let message = "x".parse::<DeliveryId>().unwrap_err().to_string();
        let (_, example) = message.rsplit_once(' ').unwrap();
        assert!(message.starts_with("expected a delivery ID") && example.parse::<DeliveryId>().is_ok());
    }

    #[test]
    fn destination_survives_its_stored_text() {
        let service_sid = ServiceSid::generate(NOW, &Ones);
        for destination in [
            Destination::Host("receiver.example.com:443".to_owned()),
            Destination::Host("apn VA".to_owned()),
            Destination::Push { platform: Platform::Apn, service_sid },
            Destination::Push { platform: Platform::Fcm, service_sid },
        ] {
            assert_eq!(Destination::from_stored(destination.to_string()), destination);
        }
        let stored = format!("fcm {service_sid}");
        assert_eq!(Destination::Push { platform: Platform::Fcm, service_sid }.to_string(), stored);
    }

    #[test]
    fn state_survives_its_stored_word() {
        for state in DeliveryState::ALL {
            assert_eq!(DeliveryState::from_stored(state.as_str()), Some(state));
        }
        assert_eq!(DeliveryState::Pending.as_str(), "owed");
        assert_eq!(Next::Retry(NOW).state(), DeliveryState::Pending);
    }

    #[test]
    fn outcome_survives_its_stored_word() {
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
        fn requested_wait_ends_no_delivery(attempts in 1_u32..1000, left in -10_i64..100_000, jitter in 0.0..1.0, seconds: i64) {
            let next = |seconds| {
                let ending = Ending::RetryAfter { seconds };
                Schedule::default().next(ending, attempts, NOW.plus_seconds(left), NOW, jitter)
            };
            prop_assert_eq!(next(Some(seconds)) == Next::Failed, next(None) == Next::Failed);
        }
    }
}
