//! Rate limits for all requests: per account, and per client address for failed authentications. Each node keeps its
//! own counts in memory.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::limits::{Bucket, Rate};
use domain::{AccountSid, Code, FactorSid, Problem, Timestamp};
use telemetry::metrics::{Limit, LimitLabels, METRICS};

use crate::client_ip::network;

/// Maximum number of buckets in each of the two generations of [`Buckets`].
const MAX_BUCKETS: usize = 32_768;

/// Size and refill rate of each device's reserve: the requests that a device may send after its account's rate limit is
/// exhausted.
/// Six requests cover listing challenges, fetching one, and the SDKs' GET, POST and GET to answer it. The reserve
/// regains one request per second.
const DEVICE_RESERVE: Rate = match NonZeroU32::new(6) {
    Some(requests) => Rate::over(requests, 6),
    // This `match` is evaluated at compile time, so `unreachable!` can only fail the build.
    None => unreachable!(),
};

/// The rate limits that the operator sets. `None` means no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestLimits {
    /// Maximum requests per second per account; backends and devices are counted separately. This is also the burst
    /// size: after an idle period, that many requests may arrive at once. Each device has a reserve of six further
    /// requests that regains one per second, enough to read and answer a challenge.
    pub account_requests_per_second: Option<NonZeroU32>,
    /// Maximum number of concurrent requests per account; backends and devices are counted separately.
    pub account_concurrency: Option<NonZeroU32>,
    /// Maximum failed authentications per minute from one address. This is also the burst size: after an idle period,
    /// that many may occur at once.
    pub failed_authentications_per_minute: Option<NonZeroU32>,
}

/// Enforces the rate limits and counts requests across all worker threads.
#[derive(Debug, Default)]
pub struct RateLimiter {
    limits: RequestLimits,
    accounts: Mutex<HashMap<Side, Activity>>,
    devices: Mutex<Buckets<FactorSid>>,
    failures: Mutex<Buckets<IpAddr>>,
}

/// The sender of an authenticated request, for the limits of its account.
#[derive(Clone, Copy, Debug)]
pub enum Requester {
    /// A backend of this account.
    Backend(AccountSid),
    /// A phone of this account that does not have a factor yet.
    Enrollee(AccountSid),
    /// The device of this account that has this factor.
    Device(AccountSid, FactorSid),
}

/// One side of an account: its backends or its devices. The sides are counted separately, so that devices cannot use up
/// the backends' share of requests. Enrollees count as devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Side {
    Backends(AccountSid),
    Devices(AccountSid),
}

impl Side {
    const fn of(requester: Requester) -> Self {
        match requester {
            Requester::Backend(account_sid) => Self::Backends(account_sid),
            Requester::Enrollee(account_sid) | Requester::Device(account_sid, _) => {
                Self::Devices(account_sid)
            }
        }
    }
}

/// The recent and concurrent requests of one side of an account. Each account has at most two entries, one per side.
/// Only authenticated callers are counted, so callers without an account add no entries.
#[derive(Debug, Default)]
struct Activity {
    requests: Bucket,
    concurrent: u32,
}

/// Token buckets for an unlimited number of keys in limited memory. When the `young` generation is full, it becomes the
/// `old` generation, and the previous `old` generation is dropped.
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
    fn get(&self, key: K) -> Bucket {
        self.young.get(&key).or_else(|| self.old.get(&key)).copied().unwrap_or_default()
    }

    fn set(&mut self, key: K, bucket: Bucket) {
        if self.young.len() >= MAX_BUCKETS && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, bucket);
    }
}

/// The permit of one concurrent request of an account. Dropping it stops counting the request as concurrent.
#[derive(Debug)]
pub struct RateLimitPermit {
    limiter: Arc<RateLimiter>,
    side: Side,
}

impl Drop for RateLimitPermit {
    fn drop(&mut self) {
        if let Some(activity) = lock(&self.limiter.accounts).get_mut(&self.side) {
            activity.concurrent = activity.concurrent.saturating_sub(1);
        }
    }
}

impl RateLimiter {
    /// Creates a limiter with the given limits and no counted requests.
    pub fn new(limits: RequestLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Checks that authentication may be attempted from `address`. An unknown address (`None`) is not limited.
    ///
    /// # Errors
    /// Returns error code 20429 if too many attempts from this address have failed.
    pub fn require_attempt(&self, address: Option<IpAddr>, now: Timestamp) -> Result<(), Problem> {
        let Some((address, rate)) = address.zip(self.failure_rate()) else { return Ok(()) };
        let mut failures = lock(&self.failures);
        let mut bucket = failures.get(network(address));
        bucket.check(rate, now).map_err(|next_at| {
            // A wrong clock may have filled the bucket in the future. `check` corrects such a bucket, so store the
            // bucket back.
            failures.set(network(address), bucket);
            count_refusal(Limit::Address);
            let advice = "too many failed authentications from this address";
            Problem::with_advice(Code::TooManyRequests, advice).retry_at(next_at, now)
        })
    }

    /// Records a failed authentication attempt from `address`. An unknown address (`None`) is ignored.
    pub fn record_failed_attempt(&self, address: Option<IpAddr>, now: Timestamp) {
        let Some((address, rate)) = address.zip(self.failure_rate()) else { return };
        let network = network(address);
        let mut failures = lock(&self.failures);
        let mut bucket = failures.get(network);
        bucket.take(rate, now);
        failures.set(network, bucket);
    }

    /// Admits a request of `requester` and counts it as concurrent until the returned permit is dropped. Returns
    /// `Ok(None)` if the operator sets no limits for accounts.
    ///
    /// # Errors
    /// Returns error code 20429 if the account has made too many requests or has too many concurrent requests.
    pub fn admit(
        self: &Arc<Self>,
        requester: Requester,
        now: Timestamp,
    ) -> Result<Option<RateLimitPermit>, Problem> {
        let RequestLimits { account_requests_per_second: rate, account_concurrency: max_concurrent, .. } =
            self.limits;
        if rate.is_none() && max_concurrent.is_none() {
            return Ok(None);
        }
        let side = Side::of(requester);
        let mut accounts = lock(&self.accounts);
        let activity = accounts.entry(side).or_default();
        if let Some(max) = max_concurrent
            && activity.concurrent >= max.get()
        {
            count_refusal(Limit::AccountConcurrency);
            let advice = format_args!("{max} requests of this account are already being processed");
            return Err(Problem::with_advice(Code::TooManyRequests, advice).retry_at(now, now));
        }
        if let Some(rate) = rate.map(Rate::per_second) {
            match activity.requests.check(rate, now) {
                Ok(()) => activity.requests.take(rate, now),
                Err(_) if self.take_from_reserve(requester, now) => {}
                Err(next_at) => {
                    count_refusal(Limit::AccountRequests);
                    return Err(Problem::new(Code::TooManyRequests).retry_at(next_at, now));
                }
            }
        }
        activity.concurrent += 1;
        Ok(Some(RateLimitPermit { limiter: Arc::clone(self), side }))
    }

    /// Charges one request to the device's own reserve. Returns `false` if the reserve is empty or the requester is not
    /// a device.
    fn take_from_reserve(&self, requester: Requester, now: Timestamp) -> bool {
        let Requester::Device(_, factor_sid) = requester else { return false };
        let mut devices = lock(&self.devices);
        let mut reserve = devices.get(factor_sid);
        let has_one = reserve.check(DEVICE_RESERVE, now).is_ok();
        if has_one {
            reserve.take(DEVICE_RESERVE, now);
        }
        devices.set(factor_sid, reserve);
        has_one
    }

    fn failure_rate(&self) -> Option<Rate> {
        self.limits.failed_authentications_per_minute.map(Rate::per_minute)
    }
}

fn count_refusal(limit: Limit) {
    METRICS.requests_limited.get_or_create(&LimitLabels { limit }).inc();
}

/// Locks a mutex, even if it is poisoned. No code panics while it holds one of these locks, and even after a panic the
/// counters would stay valid.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use domain::Sid as _;

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

    fn limiter(change: impl FnOnce(&mut RequestLimits)) -> Arc<RateLimiter> {
        let mut limits = RequestLimits::default();
        change(&mut limits);
        Arc::new(RateLimiter::new(limits))
    }

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    fn device_of_account_1(number: u8) -> Requester {
        Requester::Device(AccountSid::from_bytes([1; 16]), FactorSid::from_bytes([number; 16]))
    }

    fn account(number: u8) -> Requester {
        Requester::Backend(AccountSid::from_bytes([number; 16]))
    }

    #[test]
    fn address_with_too_many_failed_authentications_is_refused_until_retry_after() {
        let limiter = limiter(|it| it.failed_authentications_per_minute = NonZeroU32::new(3));
        for _ in 0..3 {
            assert_eq!(limiter.require_attempt(address("198.51.100.7"), NOW), Ok(()));
            limiter.record_failed_attempt(address("198.51.100.7"), NOW);
        }
        for _ in 0..9 {
            let refused = limiter.require_attempt(address("198.51.100.7"), NOW).unwrap_err();
            assert_eq!((refused.code(), refused.retry_after()), (Code::TooManyRequests, Some(20)));
        }
        assert_eq!(limiter.require_attempt(address("198.51.100.8"), NOW), Ok(()));
        assert_eq!(limiter.require_attempt(None, NOW), Ok(()));
        assert_eq!(limiter.require_attempt(address("198.51.100.7"), NOW.plus_seconds(20)), Ok(()));
    }

    #[test]
    fn addresses_of_one_ipv6_network_share_a_limit_of_failed_authentications() {
        let limiter = limiter(|it| it.failed_authentications_per_minute = NonZeroU32::new(1));
        limiter.record_failed_attempt(address("2001:db8:0:1::7"), NOW);
        assert!(limiter.require_attempt(address("2001:db8:0:1:ffff::1"), NOW).is_err());
        assert!(limiter.require_attempt(address("2001:db8:0:2::7"), NOW).is_ok());
    }

    #[test]
    fn oldest_addresses_are_forgotten_when_the_table_is_full() {
        let limiter = limiter(|it| it.failed_authentications_per_minute = NonZeroU32::new(1));
        let nth = |number: u32| Some(IpAddr::from(std::net::Ipv4Addr::from_bits(number)));
        let last = 5 * MAX_BUCKETS as u32;
        for number in 0..=last {
            limiter.record_failed_attempt(nth(number), NOW);
        }
        let failures = lock(&limiter.failures);
        assert!(failures.young.len() <= MAX_BUCKETS && failures.old.len() <= MAX_BUCKETS);
        drop(failures);
        assert!(limiter.require_attempt(nth(last), NOW).is_err());
        assert!(limiter.require_attempt(nth(last - MAX_BUCKETS as u32), NOW).is_err());
        assert!(limiter.require_attempt(nth(0), NOW).is_ok(), "evicted");
    }

    #[test]
    fn address_with_continuing_failures_is_not_forgotten_when_the_table_is_full() {
        let limiter = limiter(|it| it.failed_authentications_per_minute = NonZeroU32::new(1));
        for number in 0..3 * MAX_BUCKETS as u32 {
            limiter.record_failed_attempt(address("2001:db8::1"), NOW);
            limiter.record_failed_attempt(Some(IpAddr::from(std::net::Ipv4Addr::from_bits(number))), NOW);
        }
        assert!(limiter.require_attempt(address("2001:db8::1"), NOW).is_err());
    }

    #[test]
    fn concurrent_requests_of_an_account_are_limited() {
        let limiter = limiter(|it| it.account_concurrency = NonZeroU32::new(2));
        let first = limiter.admit(account(1), NOW).unwrap();
        let _second = limiter.admit(account(1), NOW).unwrap();
        let refused = limiter.admit(account(1), NOW).unwrap_err();
        assert_eq!((refused.code(), refused.retry_after()), (Code::TooManyRequests, Some(1)));
        assert!(limiter.admit(account(2), NOW).is_ok(), "another account");
        drop(first);
        assert!(limiter.admit(account(1), NOW).is_ok());
    }

    #[test]
    fn device_may_use_its_own_reserve_if_the_request_limit_of_its_account_is_exhausted() {
        let limiter = limiter(|it| it.account_requests_per_second = NonZeroU32::new(1));
        let device = device_of_account_1(1);
        let is_admitted = |requester, now| limiter.admit(requester, now).is_ok();
        assert!(is_admitted(device_of_account_1(2), NOW));
        for _ in 0..6 {
            assert!(is_admitted(device, NOW));
        }
        assert!(!is_admitted(device, NOW));
        assert!(is_admitted(device_of_account_1(3), NOW), "another device");
        assert!(is_admitted(account(1), NOW), "a backend");
        assert!(!is_admitted(account(1), NOW), "a backend has no reserve");
        // One request is charged to the account's limit, and one to the device's own reserve.
        let later = NOW.plus_seconds(1);
        assert_eq!(
            [is_admitted(device, later), is_admitted(device, later), is_admitted(device, later)],
            [true, true, false]
        );
    }

    #[test]
    fn requests_per_second_of_an_account_are_limited() {
        let limiter = limiter(|it| it.account_requests_per_second = NonZeroU32::new(2));
        for _ in 0..2 {
            assert!(limiter.admit(account(1), NOW).is_ok());
        }
        let refused = limiter.admit(account(1), NOW).unwrap_err();
        assert_eq!((refused.code(), refused.retry_after()), (Code::TooManyRequests, Some(1)));
        assert!(limiter.admit(account(2), NOW).is_ok(), "another account");
        assert!(limiter.admit(account(1), NOW.plus_seconds(1)).is_ok());
    }
}
