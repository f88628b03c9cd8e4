//! Use cases of rate limits on verifications and of their buckets, and the check of a new verification.

use domain::audit::{AuditAction, Change};
use domain::rate_limits::{
    Description, Interval, MaxRequests, RateLimitKey, RateLimitValues, require_bucket_capacity,
    require_rate_limit_capacity,
};
use domain::text::UniqueName;
use domain::{
    AccountSid, AttemptSid, BucketSid, Code, Page, PageRequest, Problem, RateLimit, RateLimitBucket,
    RateLimitSid, ServiceSid, Timestamp,
};
use store::{Read, Write};

use crate::App;
use crate::audit::Origin;
use crate::error::Error;

impl App {
    /// Creates a rate limit without buckets, and returns it.
    ///
    /// # Errors
    /// Fails with 20404 if the service does not exist, with 60207 if it already has the maximum number of rate limits,
    /// and with 60208 if one of them has this name. Also fails if the database fails.
    pub async fn create_rate_limit(
        &self,
        origin: &Origin,
        account_sid: AccountSid,
        service_sid: ServiceSid,
        unique_name: UniqueName,
        description: Option<Description>,
    ) -> Result<RateLimit, Error> {
        let now = self.clock.now();
        let limit = RateLimit {
            sid: RateLimitSid::generate(now, self.entropy.as_ref()),
            account_sid,
            service_sid,
            unique_name,
            description,
            created_at: now,
            updated_at: now,
        };
        let audit = self.audit(origin, now);
        self.store
            .write(async move |tx: &mut Write| {
                // Lock the service so that concurrent requests are counted one after another.
                tx.lock_service(account_sid, service_sid).await?.ok_or_else(Error::not_found)?;
                require_rate_limit_capacity(tx.count_rate_limits(service_sid).await?)?;
                tx.insert_rate_limit(&limit).await?;
                audit.record(tx, about(AuditAction::RateLimitCreated, &limit)).await?;
                Ok(limit.clone())
            })
            .await
    }

    /// Returns the rate limit of a service with this SID or unique name.
    ///
    /// # Errors
    /// Fails with 20404 if the rate limit does not exist. Also fails if the database fails.
    pub async fn rate_limit(
        &self,
        account_sid: AccountSid,
        service_sid: ServiceSid,
        key: RateLimitKey,
    ) -> Result<RateLimit, Error> {
        self.store
            .read(async move |db: &mut Read| {
                db.rate_limit(account_sid, service_sid, &key).await?.ok_or_else(Error::not_found)
            })
            .await
    }

    /// Returns one page of a service's rate limits.
    ///
    /// # Errors
    /// Fails with 20404 if the service does not exist. Also fails if the database fails.
    pub async fn rate_limits(
        &self,
        account_sid: AccountSid,
        service_sid: ServiceSid,
        page: PageRequest,
    ) -> Result<Page<RateLimit>, Error> {
        self.store
            .read(async move |db: &mut Read| {
                db.service(account_sid, service_sid).await?.ok_or_else(Error::not_found)?;
                Ok(db.rate_limits(account_sid, service_sid, &page).await?)
            })
            .await
    }

    /// Applies `change` to a rate limit, and returns the updated rate limit. If `change` returns an error, nothing is
    /// changed.
    ///
    /// # Errors
    /// Fails with 20404 if the rate limit does not exist, or with the error that `change` returns. Also fails if the
    /// database fails.
    pub async fn update_rate_limit(
        &self,
        origin: &Origin,
        account_sid: AccountSid,
        service_sid: ServiceSid,
        sid: RateLimitSid,
        change: impl Fn(&mut RateLimit) -> Result<(), Problem> + Send + 'static,
    ) -> Result<RateLimit, Error> {
        let now = self.clock.now();
        let audit = self.audit(origin, now);
        self.store
            .write(async move |tx: &mut Write| {
                let limit = tx.lock_rate_limit(account_sid, service_sid, sid).await?;
                let before = limit.ok_or_else(Error::not_found)?;
                let mut limit = before.clone();
                change(&mut limit)?;
                limit.updated_at = now;
                tx.update_rate_limit(&limit).await?;
                let changed: &[&str] =
                    if limit.description == before.description { &[] } else { &["description"] };
                let updated = about(AuditAction::RateLimitUpdated, &limit).detail("changed", changed);
                audit.record(tx, updated).await?;
                Ok::<_, Error>(limit)
            })
            .await
    }

    /// Deletes a rate limit with its buckets.
    ///
    /// # Errors
    /// Fails with 20404 if the rate limit does not exist. Also fails if the database fails.
    pub async fn delete_rate_limit(
        &self,
        origin: &Origin,
        account_sid: AccountSid,
        service_sid: ServiceSid,
        sid: RateLimitSid,
    ) -> Result<(), Error> {
        let audit = self.audit(origin, self.clock.now());
        self.store
            .write(async move |tx: &mut Write| {
                if !tx.delete_rate_limit(account_sid, service_sid, sid).await? {
                    return Err(Error::not_found());
                }
                let change = Change::new(AuditAction::RateLimitDeleted, account_sid, sid);
                audit.record(tx, change.detail("service_sid", service_sid)).await
            })
            .await
    }

    /// Creates a bucket of a rate limit, and returns it.
    ///
    /// # Errors
    /// Fails with 20404 if the rate limit does not exist, with 60210 if it already has the maximum number of buckets,
    /// and with 60211 if one of them has this interval. Also fails if the database fails.
    pub async fn create_bucket(
        &self,
        origin: &Origin,
        limit: &RateLimit,
        max: MaxRequests,
        interval: Interval,
    ) -> Result<RateLimitBucket, Error> {
        let now = self.clock.now();
        let RateLimit { account_sid, service_sid, sid: rate_limit_sid, .. } = *limit;
        let bucket = RateLimitBucket {
            sid: BucketSid::generate(now, self.entropy.as_ref()),
            account_sid,
            service_sid,
            rate_limit_sid,
            max,
            interval,
            created_at: now,
            updated_at: now,
        };
        let audit = self.audit(origin, now);
        self.store
            .write(async move |tx: &mut Write| {
                // Lock the rate limit so that concurrent requests are counted one after another.
                let limit = tx.lock_rate_limit(account_sid, service_sid, rate_limit_sid).await?;
                limit.ok_or_else(Error::not_found)?;
                require_bucket_capacity(tx.count_buckets(rate_limit_sid).await?)?;
                tx.insert_bucket(&bucket).await?;
                audit.record(tx, about_bucket(AuditAction::BucketCreated, &bucket)).await?;
                Ok(bucket.clone())
            })
            .await
    }

    /// Returns the bucket `sid` of the rate limit with this SID or unique name.
    ///
    /// # Errors
    /// Fails with 20404 if the rate limit or the bucket does not exist. Also fails if the database fails.
    pub async fn bucket(
        &self,
        account_sid: AccountSid,
        service_sid: ServiceSid,
        key: RateLimitKey,
        sid: BucketSid,
    ) -> Result<RateLimitBucket, Error> {
        self.store
            .read(async move |db: &mut Read| {
                let limit = db.rate_limit(account_sid, service_sid, &key).await?;
                let limit = limit.ok_or_else(Error::not_found)?;
                db.bucket(account_sid, limit.sid, sid).await?.ok_or_else(Error::not_found)
            })
            .await
    }

    /// Returns one page of a rate limit's buckets.
    ///
    /// # Errors
    /// Fails if the database fails.
    pub async fn buckets(
        &self,
        limit: &RateLimit,
        page: PageRequest,
    ) -> Result<Page<RateLimitBucket>, Error> {
        let (account_sid, sid) = (limit.account_sid, limit.sid);
        self.store.read(async move |db: &mut Read| Ok(db.buckets(account_sid, sid, &page).await?)).await
    }

    /// Applies `change` to a bucket, and returns the updated bucket. If `change` returns an error, nothing is changed.
    ///
    /// # Errors
    /// Fails with 20404 if the bucket does not exist, with 60211 if another bucket of the rate limit has the new
    /// interval, or with the error that `change` returns. Also fails if the database fails.
    pub async fn update_bucket(
        &self,
        origin: &Origin,
        bucket: &RateLimitBucket,
        change: impl Fn(&mut RateLimitBucket) -> Result<(), Problem> + Send + 'static,
    ) -> Result<RateLimitBucket, Error> {
        let now = self.clock.now();
        let audit = self.audit(origin, now);
        let RateLimitBucket { account_sid, rate_limit_sid, sid, .. } = *bucket;
        self.store
            .write(async move |tx: &mut Write| {
                let bucket = tx.lock_bucket(account_sid, rate_limit_sid, sid).await?;
                let before = bucket.ok_or_else(Error::not_found)?;
                let mut bucket = before.clone();
                change(&mut bucket)?;
                bucket.updated_at = now;
                tx.update_bucket(&bucket).await?;
                let changed = about_bucket(AuditAction::BucketUpdated, &bucket)
                    .detail("changed", bucket.changed_fields(&before));
                audit.record(tx, changed).await?;
                Ok::<_, Error>(bucket)
            })
            .await
    }

    /// Deletes a bucket.
    ///
    /// # Errors
    /// Fails with 20404 if the bucket does not exist. Also fails if the database fails.
    pub async fn delete_bucket(&self, origin: &Origin, bucket: RateLimitBucket) -> Result<(), Error> {
        let audit = self.audit(origin, self.clock.now());
        self.store
            .write(async move |tx: &mut Write| {
                if !tx.delete_bucket(bucket.account_sid, bucket.rate_limit_sid, bucket.sid).await? {
                    return Err(Error::not_found());
                }
                audit.record(tx, about_bucket(AuditAction::BucketDeleted, &bucket)).await
            })
            .await
    }
}

/// Counts a new verification of a service, which begins with the attempt `attempt_sid`, in all buckets of the rate
/// limits that `values` names. Names of other rate limits are ignored. Locks the buckets, so that concurrent requests
/// are counted one after another.
///
/// # Errors
/// Fails with 20429 if a bucket is full; then no bucket counts the verification. The problem names the rate limit, and
/// `Retry-After` is the time until the oldest verification leaves the bucket. If several buckets are full, it is about
/// the one with the longest wait, so that a retry at that time passes all. Also fails if the database fails.
pub(crate) async fn count_rate_limits(
    tx: &mut Write,
    service_sid: ServiceSid,
    values: &RateLimitValues,
    attempt_sid: AttemptSid,
    now: Timestamp,
) -> Result<(), Error> {
    let (mut counting, mut refusals) = (Vec::new(), Vec::new());
    // All transactions lock in the order of names and creation times, which never change.
    for (name, value) in values.iter() {
        let value = crypto::rate_limits::value_digest(value);
        for bucket in tx.lock_buckets_of(service_sid, name).await? {
            let window = bucket.window();
            let back = tx.nth_latest_bucket_hit_at(&bucket, value, window.span(now), window.most()).await?;
            match window.check(back, now, Code::TooManyRequests) {
                Ok(()) => counting.push((bucket, value)),
                Err(problem) => refusals.push(problem.reached(name)),
            }
        }
    }
    if let Some(problem) = refusals.into_iter().max_by_key(Problem::retry_after) {
        return Err(problem.into());
    }
    for (bucket, value) in counting {
        tx.insert_bucket_hit(&bucket, value, attempt_sid, now).await?;
    }
    Ok(())
}

/// Returns the change to record in the audit log for an action on a rate limit.
fn about(action: AuditAction, limit: &RateLimit) -> Change {
    Change::new(action, limit.account_sid, limit.sid).detail("service_sid", limit.service_sid)
}

/// Returns the change to record in the audit log for an action on a bucket.
fn about_bucket(action: AuditAction, bucket: &RateLimitBucket) -> Change {
    let change = Change::new(action, bucket.account_sid, bucket.sid);
    change.detail("service_sid", bucket.service_sid).detail("rate_limit_sid", bucket.rate_limit_sid)
}

#[cfg(test)]
mod tests {
    use domain::limits::ServiceLimits;
    use domain::services::Settings;
    use domain::{Account, FriendlyName, Parameter as _, Sealed, Service, Sid as _};
    use store::{Location, OldSchema, Store};

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

    fn service_sid() -> ServiceSid {
        ServiceSid::from_bytes([2; 16])
    }

    /// Returns a bucket of a rate limit.
    fn bucket(number: u8, limit: &RateLimit, max: u32, interval: i64) -> RateLimitBucket {
        RateLimitBucket {
            sid: BucketSid::from_bytes([number; 16]),
            account_sid: limit.account_sid,
            service_sid: limit.service_sid,
            rate_limit_sid: limit.sid,
            max: MaxRequests::new(max).unwrap(),
            interval: Interval::new(interval).unwrap(),
            created_at: NOW,
            updated_at: NOW,
        }
    }

    /// Returns a store with a service that has two rate limits: `ip` permits 2 verifications in 10 seconds and 3 in
    /// 100, `user` permits 4 in 50.
    async fn store_with_limits() -> Store {
        let (store, _) = Store::open(&Location::Memory, OldSchema::Migrate).await.unwrap();
        let name = |text| FriendlyName::from_parameter(text).unwrap();
        let account = Account {
            sid: AccountSid::from_bytes([1; 16]),
            friendly_name: name("Owl Bank"),
            auth_token: Sealed::from_bytes(Vec::new()),
            debugger_webhook: None,
            verification_events_url: None,
            created_at: NOW,
            updated_at: NOW,
        };
        let service = Service {
            sid: service_sid(),
            account_sid: account.sid,
            settings: Settings::with_defaults(name("Owl Bank")),
            limits: ServiceLimits::default(),
            created_at: NOW,
            updated_at: NOW,
        };
        let [ip, user] = [(3, "ip"), (4, "user")].map(|(number, name)| RateLimit {
            sid: RateLimitSid::from_bytes([number; 16]),
            account_sid: account.sid,
            service_sid: service_sid(),
            unique_name: UniqueName::from_stored(name.to_owned()),
            description: None,
            created_at: NOW,
            updated_at: NOW,
        });
        let inserted = store.write(async move |tx: &mut Write| {
            tx.insert_account(&account).await?;
            tx.insert_service(&service).await?;
            for limit in [&ip, &user] {
                tx.insert_rate_limit(limit).await?;
            }
            for bucket in [bucket(5, &ip, 2, 10), bucket(6, &ip, 3, 100), bucket(7, &user, 4, 50)] {
                tx.insert_bucket(&bucket).await?;
            }
            Ok::<_, store::Error>(())
        });
        inserted.await.unwrap();
        store
    }

    /// Counts a verification with these values, so many seconds after [`NOW`]. Returns the name of the limit that
    /// refuses it and the time to wait.
    async fn count(store: &Store, values: &str, seconds: i64) -> Result<(), (String, Option<u32>)> {
        static ATTEMPTS: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);
        let attempt = ATTEMPTS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let values = RateLimitValues::from_parameter(values).unwrap();
        let (attempt, now) = (AttemptSid::from_bytes([attempt; 16]), NOW.plus_seconds(seconds));
        let counted = store
            .write(async move |tx: &mut Write| {
                count_rate_limits(tx, service_sid(), &values, attempt, now).await
            })
            .await;
        counted.map_err(|error| {
            let Error::Problem(problem) = error else { panic!("{error}") };
            assert_eq!(problem.code(), Code::TooManyRequests);
            (problem.reached_limit().unwrap().to_string(), problem.retry_after())
        })
    }

    fn reached(limit: &str, seconds: u32) -> Result<(), (String, Option<u32>)> {
        Err((limit.to_owned(), Some(seconds)))
    }

    #[tokio::test]
    async fn verification_is_refused_until_the_oldest_one_leaves_the_bucket() {
        let store = store_with_limits().await;
        let one = r#"{"ip":"192.0.2.1"}"#;
        assert_eq!(count(&store, one, 0).await, Ok(()));
        assert_eq!(count(&store, one, 4).await, Ok(()));
        assert_eq!(count(&store, one, 5).await, reached("ip", 5));
        assert_eq!(count(&store, one, 9).await, reached("ip", 1));
        // Other values, and names of no rate limit, do not count here.
        assert_eq!(count(&store, r#"{"ip":"192.0.2.2"}"#, 9).await, Ok(()));
        assert_eq!(count(&store, r#"{"address":"192.0.2.1"}"#, 9).await, Ok(()));
        assert_eq!(count(&store, "{}", 9).await, Ok(()));
        // The second bucket is full with the third verification.
        assert_eq!(count(&store, one, 10).await, Ok(()));
        assert_eq!(count(&store, one, 20).await, reached("ip", 80));
        assert_eq!(count(&store, one, 100).await, Ok(()));
    }

    #[tokio::test]
    async fn refused_verification_counts_in_no_bucket() {
        let store = store_with_limits().await;
        let both = r#"{"ip":"192.0.2.1","user":42}"#;
        for _ in 0..2 {
            assert_eq!(count(&store, both, 0).await, Ok(()));
        }
        for _ in 0..9 {
            assert_eq!(count(&store, both, 1).await, reached("ip", 9));
        }
        for _ in 0..2 {
            assert_eq!(count(&store, r#"{"user":"42"}"#, 2).await, Ok(()));
        }
        assert_eq!(count(&store, r#"{"user":42}"#, 3).await, reached("user", 47));
        // Both refuse, and the longer wait is reported.
        assert_eq!(count(&store, both, 3).await, reached("user", 47));
    }
}
