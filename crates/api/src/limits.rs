//! Limits on requests, whatever they ask for: per account, and per address from which credentials fail. They are counted
//! in memory, each node for itself.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use app::Caller;
use domain::limits::{Bucket, Rate};
use domain::{AccountSid, Code, Problem, Timestamp};
use metrics::{Limit, Limited, METRICS};

use crate::address::network;

/// Networks of which failures are remembered, in each of two generations.
const NETWORKS: usize = 32_768;

/// What an operator allows, each without a limit when `None`.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestLimits {
    /// Requests a second of one account's backends, and as many of its devices; as many at once after a pause.
    pub account_requests_per_second: Option<NonZeroU32>,
    /// Requests of one account's backends at one time, and as many of its devices.
    pub account_concurrency: Option<NonZeroU32>,
    /// Credentials that may fail from one address in a minute; as many at once after a pause.
    pub failed_authentications_per_minute: Option<NonZeroU32>,
}

/// The limits, and what counts towards them. One for all threads.
#[derive(Debug, Default)]
pub struct Limits {
    settings: RequestLimits,
    accounts: Mutex<HashMap<Side, Activity>>,
    failures: Mutex<Failures>,
}

/// An account's backends, or its devices: these can't use up what the backends have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Side {
    Backends(AccountSid),
    Devices(AccountSid),
}

impl Side {
    fn of(caller: &Caller) -> Self {
        match caller {
            Caller::Account(_) | Caller::ApiKey { .. } => Self::Backends(caller.account_sid()),
            Caller::Enrollee(_) | Caller::Device(_) => Self::Devices(caller.account_sid()),
        }
    }
}

/// What a side is doing. There are no more of these than sides, since only who is signed in gets one.
#[derive(Debug, Default)]
struct Activity {
    requests: Bucket,
    under_way: u32,
}

/// The networks from which credentials failed, in two generations: when the young one is full it becomes the old one,
/// and what was the old one is forgotten.
#[derive(Debug, Default)]
struct Failures {
    young: HashMap<IpAddr, Bucket>,
    old: HashMap<IpAddr, Bucket>,
}

impl Failures {
    fn of(&self, network: IpAddr) -> Bucket {
        self.young.get(&network).or_else(|| self.old.get(&network)).copied().unwrap_or_default()
    }

    fn set(&mut self, network: IpAddr, failures: Bucket) {
        if self.young.len() >= NETWORKS && !self.young.contains_key(&network) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(network, failures);
    }
}

/// A request that counts as under way until this is dropped.
#[derive(Debug)]
pub(crate) struct Begun {
    limits: Arc<Limits>,
    side: Side,
}

impl Drop for Begun {
    fn drop(&mut self) {
        if let Some(activity) = held(&self.limits.accounts).get_mut(&self.side) {
            activity.under_way = activity.under_way.saturating_sub(1);
        }
    }
}

impl Limits {
    /// These limits, of which nothing is used yet.
    pub fn new(settings: RequestLimits) -> Self {
        Self { settings, ..Self::default() }
    }

    /// Whether credentials from this address are looked at.
    ///
    /// # Errors
    /// 20429 when too many have failed.
    pub(crate) fn may_try(&self, address: Option<IpAddr>, now: Timestamp) -> Result<(), Problem> {
        let Some((address, rate)) = address.zip(self.failure_rate()) else { return Ok(()) };
        let mut table = held(&self.failures);
        let mut failures = table.of(network(address));
        failures.has_one(rate, now).map_err(|room_at| {
            // It was set right if a clock was wrong.
            table.set(network(address), failures);
            limited(Limit::Address);
            let advice = "too many credentials from this address were not good";
            Problem::with(Code::TooManyRequests, advice).until(room_at, now)
        })
    }

    /// Credentials from this address were not good.
    pub(crate) fn failed(&self, address: Option<IpAddr>, now: Timestamp) {
        let Some((address, rate)) = address.zip(self.failure_rate()) else { return };
        let network = network(address);
        let mut table = held(&self.failures);
        let mut failures = table.of(network);
        failures.take(rate, now);
        table.set(network, failures);
    }

    /// Begins a request of a caller.
    ///
    /// # Errors
    /// 20429 when its account has made too many, or has too many under way.
    pub(crate) fn begin(self: &Arc<Self>, caller: &Caller, now: Timestamp) -> Result<Option<Begun>, Problem> {
        let RequestLimits { account_requests_per_second: rate, account_concurrency: most, .. } =
            self.settings;
        if rate.is_none() && most.is_none() {
            return Ok(None);
        }
        let side = Side::of(caller);
        let mut accounts = held(&self.accounts);
        let activity = accounts.entry(side).or_default();
        if let Some(most) = most
            && activity.under_way >= most.get()
        {
            limited(Limit::AccountConcurrency);
            let advice = format_args!("{most} of this account are under way");
            return Err(Problem::with(Code::TooManyRequests, advice).until(now, now));
        }
        if let Some(rate) = rate.map(Rate::per_second) {
            let refused = |room_at| {
                limited(Limit::AccountRequests);
                Problem::new(Code::TooManyRequests).until(room_at, now)
            };
            activity.requests.has_one(rate, now).map_err(refused)?;
            activity.requests.take(rate, now);
        }
        activity.under_way += 1;
        Ok(Some(Begun { limits: Arc::clone(self), side }))
    }

    fn failure_rate(&self) -> Option<Rate> {
        self.settings.failed_authentications_per_minute.map(Rate::per_minute)
    }
}

fn limited(limit: Limit) {
    METRICS.requests_limited.get_or_create(&Limited { limit }).inc();
}

/// The lock; nothing panics that holds it, and if it did the numbers would still be numbers.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use domain::Sid as _;

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

    fn limits(change: impl FnOnce(&mut RequestLimits)) -> Arc<Limits> {
        let mut settings = RequestLimits::default();
        change(&mut settings);
        Arc::new(Limits::new(settings))
    }

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    fn account(number: u8) -> Caller {
        Caller::Account(AccountSid::from_bytes([number; 16]))
    }

    #[test]
    fn an_address_from_which_too_much_failed_is_not_heard_until_it_says_so() {
        let limits = limits(|it| it.failed_authentications_per_minute = NonZeroU32::new(3));
        for _ in 0..3 {
            assert_eq!(limits.may_try(address("198.51.100.7"), NOW), Ok(()));
            limits.failed(address("198.51.100.7"), NOW);
        }
        for _ in 0..9 {
            let refused = limits.may_try(address("198.51.100.7"), NOW).unwrap_err();
            assert_eq!((refused.code(), refused.retry_after()), (Code::TooManyRequests, Some(20)));
        }
        assert_eq!(limits.may_try(address("198.51.100.8"), NOW), Ok(()));
        assert_eq!(limits.may_try(None, NOW), Ok(()));
        assert_eq!(limits.may_try(address("198.51.100.7"), NOW.plus_seconds(20)), Ok(()));
    }

    #[test]
    fn addresses_of_one_customer_count_together() {
        let limits = limits(|it| it.failed_authentications_per_minute = NonZeroU32::new(1));
        limits.failed(address("2001:db8:0:1::7"), NOW);
        assert!(limits.may_try(address("2001:db8:0:1:ffff::1"), NOW).is_err());
        assert!(limits.may_try(address("2001:db8:0:2::7"), NOW).is_ok());
    }

    #[test]
    fn no_more_addresses_are_remembered_than_there_is_room_for_and_the_latest_are() {
        let limits = limits(|it| it.failed_authentications_per_minute = NonZeroU32::new(1));
        let nth = |number: u32| Some(IpAddr::from(std::net::Ipv4Addr::from_bits(number)));
        let last = 5 * NETWORKS as u32;
        for number in 0..=last {
            limits.failed(nth(number), NOW);
        }
        let failures = held(&limits.failures);
        assert!(failures.young.len() <= NETWORKS && failures.old.len() <= NETWORKS);
        drop(failures);
        assert!(limits.may_try(nth(last), NOW).is_err());
        assert!(limits.may_try(nth(last - NETWORKS as u32), NOW).is_err());
        assert!(limits.may_try(nth(0), NOW).is_ok(), "forgotten");
    }

    #[test]
    fn who_fails_again_and_again_is_not_forgotten_for_the_others() {
        let limits = limits(|it| it.failed_authentications_per_minute = NonZeroU32::new(1));
        for number in 0..3 * NETWORKS as u32 {
            limits.failed(address("2001:db8::1"), NOW);
            limits.failed(Some(IpAddr::from(std::net::Ipv4Addr::from_bits(number))), NOW);
        }
        assert!(limits.may_try(address("2001:db8::1"), NOW).is_err());
    }

    #[test]
    fn an_account_has_so_many_requests_under_way() {
        let limits = limits(|it| it.account_concurrency = NonZeroU32::new(2));
        let first = limits.begin(&account(1), NOW).unwrap();
        let _second = limits.begin(&account(1), NOW).unwrap();
        let refused = limits.begin(&account(1), NOW).unwrap_err();
        assert_eq!((refused.code(), refused.retry_after()), (Code::TooManyRequests, Some(1)));
        assert!(limits.begin(&account(2), NOW).is_ok(), "another account");
        drop(first);
        assert!(limits.begin(&account(1), NOW).is_ok());
    }

    #[test]
    fn an_account_has_so_many_requests_a_second() {
        let limits = limits(|it| it.account_requests_per_second = NonZeroU32::new(2));
        for _ in 0..2 {
            assert!(limits.begin(&account(1), NOW).is_ok());
        }
        let refused = limits.begin(&account(1), NOW).unwrap_err();
        assert_eq!((refused.code(), refused.retry_after()), (Code::TooManyRequests, Some(1)));
        assert!(limits.begin(&account(2), NOW).is_ok(), "another account");
        assert!(limits.begin(&account(1), NOW.plus_seconds(1)).is_ok());
    }
}
