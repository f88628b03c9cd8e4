//! Limits on requests, whatever they ask for: per account, and per address from which credentials fail. They are counted
//! in memory, each node for itself.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use app::Caller;
use domain::limits::{Bucket, Rate};
use domain::{AccountSid, Code, FactorSid, Problem, Timestamp};
use telemetry::metrics::{Limit, Limited, METRICS};

use crate::address::network;

/// Networks of which failures are remembered, and devices of which requests are, in each of two generations.
const REMEMBERED: usize = 32_768;

/// Requests that a device may always make, whatever the other devices of its account do: to look at what it is asked
/// (a list and a challenge), and to answer as the SDKs do (GET, POST, GET). One comes back every second.
const ONE_ANSWER: Rate = match NonZeroU32::new(6) {
    Some(requests) => Rate::over(requests, 6),
    // Evaluated at compile time, so `unreachable!` can only fail the build.
    None => unreachable!(),
};

/// What an operator allows, each without a limit when `None`.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestLimits {
    /// Requests a second of one account's backends, and as many of its devices; as many at once after a pause. Each
    /// device may make six more, which come back one a second: enough to look at a challenge and answer it.
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
    devices: Mutex<Buckets<FactorSid>>,
    failures: Mutex<Buckets<IpAddr>>,
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

/// Buckets of keys of which there may be any number, in two generations: when the young one is full it becomes the old
/// one, and the previous old one is dropped.
#[derive(Debug)]
struct Buckets<K> {
    young: HashMap<K, Bucket>,
    old: HashMap<K, Bucket>,
}

impl<K> Default for Buckets<K> {
    fn default() -> Self {
        Self { young: HashMap::new(), old: HashMap::new() }
    }
}

impl<K: Copy + Eq + Hash> Buckets<K> {
    fn of(&self, key: K) -> Bucket {
        self.young.get(&key).or_else(|| self.old.get(&key)).copied().unwrap_or_default()
    }

    fn set(&mut self, key: K, bucket: Bucket) {
        if self.young.len() >= REMEMBERED && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, bucket);
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
            // `has_one` may have corrected a bucket that a wrong clock filled in the future, so store it back.
            table.set(network(address), failures);
            limited(Limit::Address);
            let advice = "too many credentials from this address were not good";
            Problem::with(Code::TooManyRequests, advice).until(room_at, now)
        })
    }

    /// Records a failed authentication attempt from `address`.
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
            match activity.requests.has_one(rate, now) {
                Ok(()) => activity.requests.take(rate, now),
                Err(_) if self.device_may(caller, now) => {}
                Err(room_at) => {
                    limited(Limit::AccountRequests);
                    return Err(Problem::new(Code::TooManyRequests).until(room_at, now));
                }
            }
        }
        activity.under_way += 1;
        Ok(Some(Begun { limits: Arc::clone(self), side }))
    }

    /// Takes a request out of the device's own bucket, if the caller is a device and has one there.
    fn device_may(&self, caller: &Caller, now: Timestamp) -> bool {
        let Caller::Device(factor) = caller else { return false };
        let mut devices = held(&self.devices);
        let mut requests = devices.of(factor.sid);
        let has_one = requests.has_one(ONE_ANSWER, now).is_ok();
        if has_one {
            requests.take(ONE_ANSWER, now);
        }
        devices.set(factor.sid, requests);
        has_one
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
    use domain::factors::{AppId, Notification, PublicKey, Status};
    use domain::{CredentialSid, EntitySid, Factor, FriendlyName, Identity, ServiceSid, Sid as _};

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

    fn factor(number: u8) -> Factor {
        Factor {
            sid: FactorSid::from_bytes([number; 16]),
            account_sid: AccountSid::from_bytes([1; 16]),
            service_sid: ServiceSid::from_bytes([1; 16]),
            entity_sid: EntitySid::from_bytes([1; 16]),
            identity: Identity::from_stored("user-0001".into()),
            friendly_name: FriendlyName::from_stored("Phone".into()),
            public_key: PublicKey::from_checked_der(Vec::new()),
            credential_sid: CredentialSid::from_bytes([number; 16]),
            status: Status::Verified,
            app_id: AppId::from_stored("com.example.app".into()),
            sdk_version: None,
            notification: Notification::None,
            unreachable: false,
            metadata: None,
            token_registered_at: NOW,
            created_at: NOW,
            updated_at: NOW,
        }
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
        let last = 5 * REMEMBERED as u32;
        for number in 0..=last {
            limits.failed(nth(number), NOW);
        }
        let failures = held(&limits.failures);
        assert!(failures.young.len() <= REMEMBERED && failures.old.len() <= REMEMBERED);
        drop(failures);
        assert!(limits.may_try(nth(last), NOW).is_err());
        assert!(limits.may_try(nth(last - REMEMBERED as u32), NOW).is_err());
        assert!(limits.may_try(nth(0), NOW).is_ok(), "forgotten");
    }

    #[test]
    fn who_fails_again_and_again_is_not_forgotten_for_the_others() {
        let limits = limits(|it| it.failed_authentications_per_minute = NonZeroU32::new(1));
        for number in 0..3 * REMEMBERED as u32 {
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
    fn a_device_has_room_for_an_answer_when_its_account_has_none() {
        let limits = limits(|it| it.account_requests_per_second = NonZeroU32::new(1));
        let device = Caller::Device(Box::new(factor(1)));
        let may = |caller: &Caller, now| limits.begin(caller, now).is_ok();
        assert!(may(&Caller::Device(Box::new(factor(2))), NOW));
        for _ in 0..6 {
            assert!(may(&device, NOW));
        }
        assert!(!may(&device, NOW));
        assert!(may(&Caller::Device(Box::new(factor(3))), NOW), "another device");
        assert!(may(&account(1), NOW), "a backend");
        assert!(!may(&account(1), NOW), "which has nothing of the kind");
        // One that all devices share, and one of its own.
        let later = NOW.plus_seconds(1);
        assert_eq!([may(&device, later), may(&device, later), may(&device, later)], [true, true, false]);
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
