//! Limits against abuse: on how often something may happen, and on how much may exist.
//!
//! There are two kinds of limits. A [`Window`] counts stored rows, and therefore applies to all nodes together. A
//! [`Bucket`] is kept in memory, and applies to one node.

use std::fmt;
use std::num::NonZeroU32;
use std::ops::Range;
use std::str::FromStr;

use crate::problem::{Code, Problem};
use crate::time::Timestamp;

/// Limits on the creation of factors, entities and challenges. A limit that is `None` is not enforced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CreationLimits {
    /// Maximum number of factors created for one entity within a day, including deleted factors.
    pub max_factors_per_entity_per_day: Option<NonZeroU32>,
    /// Maximum number of entities created in one service within a second.
    pub max_entities_per_service_per_second: Option<NonZeroU32>,
    /// Limits on challenges to each factor, unless the factor's service overrides them.
    pub challenges: ChallengeLimits,
}

/// Limits on challenges to one factor. They protect a user from approving a challenge out of fatigue. A limit that is
/// `None` is not enforced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChallengeLimits {
    /// Maximum number of challenges to a factor that are pending at the same time.
    pub pending: Option<NonZeroU32>,
    /// Maximum number of challenges to a factor that are created within a minute.
    pub per_minute: Option<NonZeroU32>,
}

impl ChallengeLimits {
    /// Returns whether neither limit is set.
    pub const fn is_none(self) -> bool {
        self.pending.is_none() && self.per_minute.is_none()
    }
}

/// One service's overrides of the server's [`ChallengeLimits`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceLimits {
    /// Setting for the maximum number of challenges to a factor that are pending at the same time.
    pub pending: LimitOverride,
    /// Setting for the maximum number of challenges to a factor that are created within a minute.
    pub per_minute: LimitOverride,
}

impl ServiceLimits {
    /// Returns the effective limits: the service's where it overrides them, otherwise the server's.
    pub fn resolve(self, server: ChallengeLimits) -> ChallengeLimits {
        ChallengeLimits {
            pending: self.pending.resolve(server.pending),
            per_minute: self.per_minute.resolve(server.per_minute),
        }
    }
}

/// A service's setting for one limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LimitOverride {
    /// The service has no limit of its own; the server's limit applies.
    #[default]
    Default,
    /// No limit applies to the service.
    Off,
    /// This limit applies to the service, instead of the server's.
    Most(NonZeroU32),
}

impl LimitOverride {
    fn resolve(self, server: Option<NonZeroU32>) -> Option<NonZeroU32> {
        match self {
            Self::Default => server,
            Self::Off => None,
            Self::Most(most) => Some(most),
        }
    }

    /// Returns the database value: null for the server's limit, zero for no limit, otherwise the limit.
    pub fn to_stored(self) -> Option<i64> {
        match self {
            Self::Default => None,
            Self::Off => Some(0),
            Self::Most(most) => Some(most.get().into()),
        }
    }

    /// Parses the database value; returns `None` if it is negative or exceeds 32 bits.
    pub fn from_stored(stored: Option<i64>) -> Option<Self> {
        let Some(number) = stored else { return Some(Self::Default) };
        let number = u32::try_from(number).ok()?;
        Some(NonZeroU32::new(number).map_or(Self::Off, Self::Most))
    }
}

impl fmt::Display for LimitOverride {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Off => f.write_str("off"),
            Self::Most(most) => most.fmt(f),
        }
    }
}

impl FromStr for LimitOverride {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "default" => Ok(Self::Default),
            "off" => Ok(Self::Off),
            number => {
                number.parse().map(Self::Most).map_err(|_| "must be off, default, or a number of at least 1")
            }
        }
    }
}

/// A sliding window, which permits at most `most` events within any period of `seconds`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    most: NonZeroU32,
    seconds: i64,
}

impl Window {
    /// Creates a window that permits at most `most` events within any period of `seconds`.
    pub const fn new(most: NonZeroU32, seconds: i64) -> Self {
        Self { most, seconds }
    }

    /// Returns the maximum number of events within the period.
    pub const fn most(self) -> NonZeroU32 {
        self.most
    }

    /// Returns the period in which events count at `now`. The start of the period is exclusive.
    ///
    /// The period extends into the future, because the clock of another node may be slightly ahead. Events after the
    /// period come from a clock that has been set back since then, and do not count.
    pub const fn span(self, now: Timestamp) -> Range<Timestamp> {
        now.plus_seconds(-self.seconds)..now.plus_seconds(self.seconds)
    }

    /// Checks that another event is permitted at `now`. `nth_latest` is the time of the n-th latest event, where n is
    /// [`most`](Self::most); `None` if [`span`](Self::span) contains fewer than n events.
    ///
    /// # Errors
    /// Returns an error with `code` and with the number of seconds after which another event is permitted.
    pub fn check(self, nth_latest: Option<Timestamp>, now: Timestamp, code: Code) -> Result<(), Problem> {
        match nth_latest.map(|instant| instant.plus_seconds(self.seconds)) {
            Some(end) if end > now => Err(Problem::new(code).retry_at(end, now)),
            _ => Ok(()),
        }
    }
}

/// The rate of a [`Bucket`]: its capacity, and the time in which it fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    most: NonZeroU32,
    seconds: u32,
}

impl Rate {
    /// Creates a rate of `most` tokens per second.
    pub const fn per_second(most: NonZeroU32) -> Self {
        Self { most, seconds: 1 }
    }

    /// Creates a rate of `most` tokens per minute.
    pub const fn per_minute(most: NonZeroU32) -> Self {
        Self { most, seconds: 60 }
    }

    /// Creates a rate of `most` tokens in `seconds` seconds.
    pub const fn over(most: NonZeroU32, seconds: u32) -> Self {
        Self { most, seconds }
    }

    /// Returns the time after which one token is added, in microseconds, rounded up.
    fn micros_per_token(self) -> i64 {
        (i64::from(self.seconds) * 1_000_000 - 1) / i64::from(self.most.get()) + 1
    }

    /// Returns the time in which an empty bucket fills, in microseconds.
    fn micros_to_fill(self) -> i64 {
        self.micros_per_token().saturating_mul(i64::from(self.most.get()))
    }
}

/// A token bucket, which is full at first. It stores only the instant at which it will be full again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    full_at: Timestamp,
}

impl Default for Bucket {
    fn default() -> Self {
        Self { full_at: Timestamp::from_micros(i64::MIN) }
    }
}

impl Bucket {
    /// Returns the instant at which the bucket would be full again if one more token were taken at `now`.
    fn full_after_one(self, rate: Rate, now: Timestamp) -> Timestamp {
        Timestamp::from_micros(self.full_at.max(now).micros().saturating_add(rate.micros_per_token()))
    }

    /// Limits `full_at` to the instant at which a bucket that is empty at `now` would be full. A later instant comes
    /// from a clock that has been set back.
    fn limit_full_at(&mut self, rate: Rate, now: Timestamp) {
        let empty = Timestamp::from_micros(now.micros().saturating_add(rate.micros_to_fill()));
        self.full_at = self.full_at.min(empty);
    }

    /// Checks that the bucket contains a token at `now`, without taking it. Corrects the bucket if the clock was set
    /// back.
    ///
    /// # Errors
    /// Returns the instant at which the bucket will contain a token again.
    pub fn check(&mut self, rate: Rate, now: Timestamp) -> Result<(), Timestamp> {
        self.limit_full_at(rate, now);
        let room_at = self.full_after_one(rate, now).micros().saturating_sub(rate.micros_to_fill());
        if room_at <= now.micros() { Ok(()) } else { Err(Timestamp::from_micros(room_at)) }
    }

    /// Takes a token at `now`. An empty bucket stays empty.
    pub fn take(&mut self, rate: Rate, now: Timestamp) {
        self.limit_full_at(rate, now);
        self.full_at = self.full_after_one(rate, now);
        self.limit_full_at(rate, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

    fn most(number: u32) -> NonZeroU32 {
        NonZeroU32::new(number).unwrap()
    }

    fn later(micros: i64) -> Timestamp {
        Timestamp::from_micros(NOW.micros() + micros)
    }

    #[test]
    fn sliding_window_admits_an_event_once_the_nth_latest_has_left_it() {
        let window = Window::new(most(3), 60);
        assert_eq!(window.span(NOW), NOW.plus_seconds(-60)..NOW.plus_seconds(60));
        let check = |back| window.check(back, NOW, Code::TooManyChallenges);
        assert_eq!(check(None), Ok(()));
        assert_eq!(check(Some(NOW.plus_seconds(-60))), Ok(()));
        for (micros, seconds) in [(-60_000_000 + 1, 1), (-59_000_000, 1), (-59_000_000 + 1, 2), (0, 60)] {
            let refused = check(Some(later(micros))).unwrap_err();
            assert_eq!(
                (refused.code(), refused.retry_after()),
                (Code::TooManyChallenges, Some(seconds)),
                "{micros}"
            );
        }
    }

    #[test]
    fn full_token_bucket_allows_a_burst_and_then_refills_evenly() {
        let rate = Rate::per_second(most(4));
        let mut bucket = Bucket::default();
        for _ in 0..4 {
            assert_eq!(bucket.check(rate, NOW), Ok(()));
            bucket.take(rate, NOW);
        }
        assert_eq!(bucket.check(rate, NOW), Err(later(250_000)));
        assert_eq!(bucket.check(rate, later(249_999)), Err(later(250_000)));
        assert_eq!(bucket.check(rate, later(250_000)), Ok(()));
        bucket.take(rate, later(250_000));
        assert_eq!(bucket.check(rate, later(250_000)), Err(later(500_000)));
        for _ in 0..4 {
            assert_eq!(bucket.check(rate, later(9_000_000)), Ok(()));
            bucket.take(rate, later(9_000_000));
        }
        assert!(bucket.check(rate, later(9_000_000)).is_err(), "a bucket never exceeds its capacity");
    }

    #[test]
    fn taking_from_an_empty_token_bucket_does_not_extend_the_wait() {
        let rate = Rate::per_minute(most(2));
        let mut bucket = Bucket::default();
        for _ in 0..50 {
            bucket.take(rate, NOW);
        }
        assert_eq!(bucket.check(rate, NOW), Err(NOW.plus_seconds(30)));
    }

    #[test]
    fn setting_the_clock_back_delays_requests_by_at_most_one_refill_interval() {
        let rate = Rate::per_minute(most(2));
        let mut bucket = Bucket::default();
        bucket.take(rate, NOW.plus_seconds(1_000_000));
        assert_eq!(bucket.check(rate, NOW), Err(NOW.plus_seconds(30)));
        assert_eq!(bucket.check(rate, NOW.plus_seconds(10)), Err(NOW.plus_seconds(30)));
        assert_eq!(bucket.check(rate, NOW.plus_seconds(30)), Ok(()));
        assert_eq!(Bucket::default().check(rate, Timestamp::from_micros(i64::MAX)), Ok(()));
    }

    #[test]
    fn service_challenge_limits_override_those_of_the_server() {
        let server = ChallengeLimits { pending: Some(most(5)), per_minute: None };
        for (own, pending) in [
            (LimitOverride::Default, Some(5)),
            (LimitOverride::Off, None),
            (LimitOverride::Most(most(2)), Some(2)),
        ] {
            let limits = ServiceLimits { pending: own, per_minute: LimitOverride::Default }.resolve(server);
            assert_eq!(limits, ChallengeLimits { pending: pending.map(most), per_minute: None });
            assert_eq!(LimitOverride::from_stored(own.to_stored()), Some(own));
            assert_eq!(own.to_string().parse(), Ok(own));
        }
        for text in ["", "0", "-1", "Off", "4294967296"] {
            assert!(text.parse::<LimitOverride>().is_err(), "{text}");
        }
        assert_eq!(LimitOverride::from_stored(Some(-1)), None);
    }

    #[test]
    fn challenges_are_unlimited_only_if_both_limits_are_off() {
        let limits = |pending: Option<u32>, per_minute: Option<u32>| ChallengeLimits {
            pending: pending.map(most),
            per_minute: per_minute.map(most),
        };
        assert!(limits(None, None).is_none());
        for limits in [limits(Some(1), None), limits(None, Some(1)), limits(Some(1), Some(1))] {
            assert!(!limits.is_none(), "{limits:?}");
        }
        assert_eq!(
            (Window::new(most(3), 60).most(), LimitOverride::Most(most(3)).to_stored()),
            (most(3), Some(3))
        );
        assert_eq!((LimitOverride::Off.to_stored(), LimitOverride::Default.to_stored()), (Some(0), None));
        assert_eq!(LimitOverride::from_stored(Some(1 << 32)), None);
    }

    #[test]
    fn interval_between_tokens_is_rounded_up_to_whole_microseconds() {
        let mut bucket = Bucket::default();
        let rate = Rate::per_second(most(3));
        for _ in 0..3 {
            bucket.take(rate, NOW);
        }
        assert_eq!(bucket.check(rate, NOW), Err(later(333_334)));
        // Even at more than a million tokens per second, adding a token takes a microsecond.
        let (rate, mut bucket) = (Rate::per_second(most(2_000_000)), Bucket::default());
        bucket.take(rate, NOW);
        assert_eq!(bucket.check(rate, NOW), Ok(()));
    }
}
