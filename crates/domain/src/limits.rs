//! Limits against abuse: how often something may be done, and how much there may be of it.
//!
//! Two kinds. A [`Window`] looks back at what is stored and so counts the same on all nodes. A [`Bucket`] is kept in
//! memory and counts for one node.

use std::fmt;
use std::num::NonZeroU32;
use std::ops::Range;
use std::str::FromStr;

use crate::problem::{Code, Problem};
use crate::time::Timestamp;

/// What may be created, each without a limit when `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Factors of an entity within a day, those that were deleted included.
    pub factors_per_entity_and_day: Option<NonZeroU32>,
    /// Entities of a service within a second.
    pub entities_per_service_and_second: Option<NonZeroU32>,
    /// Challenges to a factor, where its service does not say otherwise.
    pub challenges: ChallengeLimits,
}

/// Limits on challenges to one factor: against tiring its user into a yes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChallengeLimits {
    /// That are pending at one time.
    pub pending: Option<NonZeroU32>,
    /// That are made within a minute.
    pub per_minute: Option<NonZeroU32>,
}

impl ChallengeLimits {
    /// Whether there is anything to count.
    pub const fn is_none(self) -> bool {
        self.pending.is_none() && self.per_minute.is_none()
    }
}

/// What one service says about the limits on challenges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceLimits {
    /// That are pending at one time.
    pub pending: OwnLimit,
    /// That are made within a minute.
    pub per_minute: OwnLimit,
}

impl ServiceLimits {
    /// The limits that count on a server with these.
    pub fn over(self, server: ChallengeLimits) -> ChallengeLimits {
        ChallengeLimits {
            pending: self.pending.over(server.pending),
            per_minute: self.per_minute.over(server.per_minute),
        }
    }
}

/// A limit of a service's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OwnLimit {
    /// The server's.
    #[default]
    Default,
    /// None, whatever the server's is.
    Off,
    /// This one.
    Most(NonZeroU32),
}

impl OwnLimit {
    fn over(self, server: Option<NonZeroU32>) -> Option<NonZeroU32> {
        match self {
            Self::Default => server,
            Self::Off => None,
            Self::Most(most) => Some(most),
        }
    }

    /// As the database has it: null, zero, or the number.
    pub fn stored(self) -> Option<i64> {
        match self {
            Self::Default => None,
            Self::Off => Some(0),
            Self::Most(most) => Some(most.get().into()),
        }
    }

    /// From the database; `None` for what it can't hold.
    pub fn from_stored(stored: Option<i64>) -> Option<Self> {
        let Some(number) = stored else { return Some(Self::Default) };
        let number = u32::try_from(number).ok()?;
        Some(NonZeroU32::new(number).map_or(Self::Off, Self::Most))
    }
}

impl fmt::Display for OwnLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Off => f.write_str("off"),
            Self::Most(most) => most.fmt(f),
        }
    }
}

impl FromStr for OwnLimit {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "default" => Ok(Self::Default),
            "off" => Ok(Self::Off),
            number => number.parse().map(Self::Most).map_err(|_| "must be a number from 1, off, or default"),
        }
    }
}

/// At most so many within any time of this length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    most: NonZeroU32,
    seconds: i64,
}

impl Window {
    /// At most `most` within `seconds`.
    pub const fn new(most: NonZeroU32, seconds: i64) -> Self {
        Self { most, seconds }
    }

    /// How many there may be.
    pub const fn most(self) -> NonZeroU32 {
        self.most
    }

    /// What happened after the first of these instants counts, up to the second: what is later still is a clock's that
    /// has been set back, while a little later may be another node's.
    pub const fn span(self, now: Timestamp) -> Range<Timestamp> {
        now.plus_seconds(-self.seconds)..now.plus_seconds(self.seconds)
    }

    /// Whether one more may be, when the one that is [`most`](Self::most) back happened then; `None` when there are
    /// not so many in its [`span`](Self::span).
    ///
    /// # Errors
    /// `code`, with the seconds after which there is room again.
    pub fn admits(self, back: Option<Timestamp>, now: Timestamp, code: Code) -> Result<(), Problem> {
        match back.map(|back| back.plus_seconds(self.seconds)) {
            Some(end) if end > now => Err(Problem::new(code).until(end, now)),
            _ => Ok(()),
        }
    }
}

/// So many in so long, evenly, or all of them at once after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    most: NonZeroU32,
    seconds: u32,
}

impl Rate {
    /// So many a second.
    pub const fn per_second(most: NonZeroU32) -> Self {
        Self { most, seconds: 1 }
    }

    /// So many a minute.
    pub const fn per_minute(most: NonZeroU32) -> Self {
        Self { most, seconds: 60 }
    }

    /// So many in so many seconds.
    pub const fn over(most: NonZeroU32, seconds: u32) -> Self {
        Self { most, seconds }
    }

    /// Microseconds for one, rounded up.
    fn one(self) -> i64 {
        (i64::from(self.seconds) * 1_000_000 - 1) / i64::from(self.most.get()) + 1
    }

    /// Microseconds for all of them.
    fn all(self) -> i64 {
        self.one().saturating_mul(i64::from(self.most.get()))
    }
}

/// A token bucket: full at first, fills again with time. It is no more than the instant at which it is full.
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
    /// When it would be full after one more was taken.
    fn full_after_one(self, rate: Rate, now: Timestamp) -> Timestamp {
        Timestamp::from_micros(self.full_at.max(now).micros().saturating_add(rate.one()))
    }

    /// A bucket takes no longer than that to be full. One that would was filled by a clock that has been set back, and
    /// has to wait for one filling at most.
    fn forget_the_future(&mut self, rate: Rate, now: Timestamp) {
        self.full_at = self.full_at.min(Timestamp::from_micros(now.micros().saturating_add(rate.all())));
    }

    /// Whether there is one to take.
    ///
    /// # Errors
    /// When there will be.
    pub fn has_one(&mut self, rate: Rate, now: Timestamp) -> Result<(), Timestamp> {
        self.forget_the_future(rate, now);
        let room_at = self.full_after_one(rate, now).micros().saturating_sub(rate.all());
        if room_at <= now.micros() { Ok(()) } else { Err(Timestamp::from_micros(room_at)) }
    }

    /// Takes one, and takes none from nothing.
    pub fn take(&mut self, rate: Rate, now: Timestamp) {
        self.forget_the_future(rate, now);
        self.full_at = self.full_after_one(rate, now);
        self.forget_the_future(rate, now);
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
    fn a_window_has_room_when_the_one_that_far_back_has_left_it() {
        let window = Window::new(most(3), 60);
        assert_eq!(window.span(NOW), NOW.plus_seconds(-60)..NOW.plus_seconds(60));
        let admits = |back| window.admits(back, NOW, Code::TooManyChallenges);
        assert_eq!(admits(None), Ok(()));
        assert_eq!(admits(Some(NOW.plus_seconds(-60))), Ok(()));
        for (micros, seconds) in [(-60_000_000 + 1, 1), (-59_000_000, 1), (-59_000_000 + 1, 2), (0, 60)] {
            let refused = admits(Some(later(micros))).unwrap_err();
            assert_eq!(
                (refused.code(), refused.retry_after()),
                (Code::TooManyChallenges, Some(seconds)),
                "{micros}"
            );
        }
    }

    #[test]
    fn a_bucket_gives_all_at_once_and_then_as_it_fills() {
        let rate = Rate::per_second(most(4));
        let mut bucket = Bucket::default();
        for _ in 0..4 {
            assert_eq!(bucket.has_one(rate, NOW), Ok(()));
            bucket.take(rate, NOW);
        }
        assert_eq!(bucket.has_one(rate, NOW), Err(later(250_000)));
        assert_eq!(bucket.has_one(rate, later(249_999)), Err(later(250_000)));
        assert_eq!(bucket.has_one(rate, later(250_000)), Ok(()));
        bucket.take(rate, later(250_000));
        assert_eq!(bucket.has_one(rate, later(250_000)), Err(later(500_000)));
        for _ in 0..4 {
            assert_eq!(bucket.has_one(rate, later(9_000_000)), Ok(()));
            bucket.take(rate, later(9_000_000));
        }
        assert!(
            bucket.has_one(rate, later(9_000_000)).is_err(),
            "no more than full, however long it was left"
        );
    }

    #[test]
    fn who_takes_from_nothing_does_not_push_the_next_one_away() {
        let rate = Rate::per_minute(most(2));
        let mut bucket = Bucket::default();
        for _ in 0..50 {
            bucket.take(rate, NOW);
        }
        assert_eq!(bucket.has_one(rate, NOW), Err(NOW.plus_seconds(30)));
    }

    #[test]
    fn a_clock_that_was_wrong_blocks_nobody_for_long() {
        let rate = Rate::per_minute(most(2));
        let mut bucket = Bucket::default();
        bucket.take(rate, NOW.plus_seconds(1_000_000));
        assert_eq!(bucket.has_one(rate, NOW), Err(NOW.plus_seconds(30)));
        assert_eq!(bucket.has_one(rate, NOW.plus_seconds(10)), Err(NOW.plus_seconds(30)));
        assert_eq!(bucket.has_one(rate, NOW.plus_seconds(30)), Ok(()));
        assert_eq!(Bucket::default().has_one(rate, Timestamp::from_micros(i64::MAX)), Ok(()));
    }

    #[test]
    fn a_service_may_have_its_own_limits() {
        let server = ChallengeLimits { pending: Some(most(5)), per_minute: None };
        for (own, pending) in
            [(OwnLimit::Default, Some(5)), (OwnLimit::Off, None), (OwnLimit::Most(most(2)), Some(2))]
        {
            let limits = ServiceLimits { pending: own, per_minute: OwnLimit::Default }.over(server);
            assert_eq!(limits, ChallengeLimits { pending: pending.map(most), per_minute: None });
            assert_eq!(OwnLimit::from_stored(own.stored()), Some(own));
            assert_eq!(own.to_string().parse(), Ok(own));
        }
        for text in ["", "0", "-1", "Off", "4294967296"] {
            assert!(text.parse::<OwnLimit>().is_err(), "{text}");
        }
        assert_eq!(OwnLimit::from_stored(Some(-1)), None);
    }

    #[test]
    fn there_is_something_to_count_with_either_limit() {
        let limits = |pending: Option<u32>, per_minute: Option<u32>| ChallengeLimits {
            pending: pending.map(most),
            per_minute: per_minute.map(most),
        };
        assert!(limits(None, None).is_none());
        for limits in [limits(Some(1), None), limits(None, Some(1)), limits(Some(1), Some(1))] {
            assert!(!limits.is_none(), "{limits:?}");
        }
        assert_eq!((Window::new(most(3), 60).most(), OwnLimit::Most(most(3)).stored()), (most(3), Some(3)));
        assert_eq!((OwnLimit::Off.stored(), OwnLimit::Default.stored()), (Some(0), None));
        assert_eq!(OwnLimit::from_stored(Some(1 << 32)), None);
    }

    #[test]
    fn a_rate_that_does_not_divide_a_second_is_rounded_down_to_the_microsecond() {
        let mut bucket = Bucket::default();
        let rate = Rate::per_second(most(3));
        for _ in 0..3 {
            bucket.take(rate, NOW);
        }
        assert_eq!(bucket.has_one(rate, NOW), Err(later(333_334)));
        // At more than a million a second each still takes a microsecond.
        let (rate, mut bucket) = (Rate::per_second(most(2_000_000)), Bucket::default());
        bucket.take(rate, NOW);
        assert_eq!(bucket.has_one(rate, NOW), Ok(()));
    }
}
