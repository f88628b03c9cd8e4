//! Queries for rate limits on verifications, for their buckets, and for what the buckets count.

use std::num::NonZeroU32;
use std::ops::Range;

use domain::paging::{Page, PageRequest};
use domain::rate_limits::{Description, MaxRequests, RateLimit, RateLimitBucket, RateLimitKey, ValueDigest};
use domain::text::UniqueName;
use domain::{AccountSid, AttemptSid, BucketSid, RateLimitSid, ServiceSid, Timestamp};

use crate::error::Error;
use crate::paging::ListQuery;
use crate::read_write::{Read, Write};
use crate::values::{Row, bind};

const COLUMNS: &str = "sid, account_sid, service_sid, unique_name, description, created_at, updated_at";

const BUCKET_COLUMNS: &str = "sid, account_sid, service_sid, rate_limit_sid, max_requests, interval_seconds, \
    created_at, updated_at";

fn parse_rate_limit(row: &Row) -> Result<RateLimit, Error> {
    Ok(RateLimit {
        sid: row.sid("sid")?,
        account_sid: row.sid("account_sid")?,
        service_sid: row.sid("service_sid")?,
        unique_name: UniqueName::from_stored(row.text("unique_name")?),
        description: row.optional_text("description")?.map(Description::from_stored),
        created_at: row.timestamp("created_at")?,
        updated_at: row.timestamp("updated_at")?,
    })
}

fn parse_bucket(row: &Row) -> Result<RateLimitBucket, Error> {
    Ok(RateLimitBucket {
        sid: row.sid("sid")?,
        account_sid: row.sid("account_sid")?,
        service_sid: row.sid("service_sid")?,
        rate_limit_sid: row.sid("rate_limit_sid")?,
        max: MaxRequests::new(row.number("max_requests")?)
            .ok_or_else(|| Error::Corrupt("max_requests".to_owned()))?,
        interval: row.bounded("interval_seconds")?,
        created_at: row.timestamp("created_at")?,
        updated_at: row.timestamp("updated_at")?,
    })
}

/// Returns the SQL query that selects one of a service's rate limits by SID. `lock` is the locking clause, or empty for
/// no lock.
fn select_by_sid(lock: &str) -> String {
    format!(
        "SELECT {COLUMNS} FROM rate_limits WHERE sid = $1 AND service_sid = $2 AND account_sid = $3{lock}"
    )
}

/// Returns the SQL query that selects one of a rate limit's buckets. `lock` is the locking clause, or empty for no
/// lock.
fn select_bucket(lock: &str) -> String {
    format!(
        "SELECT {BUCKET_COLUMNS} FROM buckets WHERE sid = $1 AND rate_limit_sid = $2 AND account_sid = $3{lock}"
    )
}

impl Read {
    /// Returns a service's rate limit by SID or unique name, or `None` if the service has no such rate limit.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn rate_limit(
        &mut self,
        account_sid: AccountSid,
        service_sid: ServiceSid,
        key: &RateLimitKey,
    ) -> Result<Option<RateLimit>, Error> {
        let (sql, values) = match key {
            RateLimitKey::Sid(sid) => (select_by_sid(""), bind![*sid, service_sid, account_sid]),
            RateLimitKey::Name(name) => (
                format!(
                    "SELECT {COLUMNS} FROM rate_limits \
                     WHERE unique_name = $1 AND service_sid = $2 AND account_sid = $3"
                ),
                bind![name.as_str(), service_sid, account_sid],
            ),
        };
        self.fetch_optional(sql, values, parse_rate_limit).await
    }

    /// Returns the requested page of a service's rate limits.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn rate_limits(
        &mut self,
        account_sid: AccountSid,
        service_sid: ServiceSid,
        request: &PageRequest,
    ) -> Result<Page<RateLimit>, Error> {
        let list = ListQuery::select(COLUMNS, "rate_limits")
            .filter("service_sid = ? AND account_sid = ?", bind![service_sid, account_sid]);
        list.page(self, request, parse_rate_limit).await
    }

    /// Returns a rate limit's bucket by SID, or `None` if the rate limit has no such bucket.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn bucket(
        &mut self,
        account_sid: AccountSid,
        rate_limit_sid: RateLimitSid,
        sid: BucketSid,
    ) -> Result<Option<RateLimitBucket>, Error> {
        self.fetch_optional(select_bucket(""), bind![sid, rate_limit_sid, account_sid], parse_bucket).await
    }

    /// Returns the requested page of a rate limit's buckets.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn buckets(
        &mut self,
        account_sid: AccountSid,
        rate_limit_sid: RateLimitSid,
        request: &PageRequest,
    ) -> Result<Page<RateLimitBucket>, Error> {
        let list = ListQuery::select(BUCKET_COLUMNS, "buckets")
            .filter("rate_limit_sid = ? AND account_sid = ?", bind![rate_limit_sid, account_sid]);
        list.page(self, request, parse_bucket).await
    }

    /// Returns the time of the `most`-th newest verification that a bucket counts for a value within `span` (1 is the
    /// newest), or `None` if there are fewer than `most`. The start of `span` is exclusive, its end inclusive.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn nth_latest_bucket_hit_at(
        &mut self,
        bucket: &RateLimitBucket,
        value: ValueDigest,
        span: Range<Timestamp>,
        most: NonZeroU32,
    ) -> Result<Option<Timestamp>, Error> {
        let sql = "SELECT created_at FROM bucket_hits \
                   WHERE service_sid = $1 AND bucket_sid = $2 AND value = $3 AND created_at > $4 AND created_at <= $5 \
                   ORDER BY created_at DESC, attempt_sid DESC LIMIT 1 OFFSET $6";
        let values = bind![
            bucket.service_sid,
            bucket.sid,
            &value.0[..],
            span.start,
            span.end,
            i64::from(most.get()) - 1
        ];
        self.fetch_optional(sql, values, |row| row.timestamp("created_at")).await
    }
}

impl Write {
    /// Counts a service's rate limits.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn count_rate_limits(&mut self, service_sid: ServiceSid) -> Result<i64, Error> {
        let sql = "SELECT count(*) AS count FROM rate_limits WHERE service_sid = $1";
        Ok(self.fetch_optional(sql, bind![service_sid], |row| row.int("count")).await?.unwrap_or(0))
    }

    /// Inserts a rate limit.
    ///
    /// # Errors
    /// Returns [`Error::Conflict`] with [`RateLimitName`] if the service already has a rate limit with this name,
    /// [`Error::ParentGone`] if the service does not exist, or another error if the database operation fails.
    ///
    /// [`RateLimitName`]: crate::Conflict::RateLimitName
    pub async fn insert_rate_limit(&mut self, limit: &RateLimit) -> Result<(), Error> {
        let sql = "INSERT INTO rate_limits (sid, account_sid, service_sid, unique_name, description, created_at, \
                   updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7)";
        let values = bind![
            limit.sid,
            limit.account_sid,
            limit.service_sid,
            limit.unique_name.as_str(),
            limit.description.as_ref().map(|text| text.as_str()),
            limit.created_at,
            limit.updated_at
        ];
        self.execute(sql, values).await
    }

    /// Returns a service's rate limit, locked against changes by other transactions until this one ends. Returns `None`
    /// if the service has no such rate limit.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn lock_rate_limit(
        &mut self,
        account_sid: AccountSid,
        service_sid: ServiceSid,
        sid: RateLimitSid,
    ) -> Result<Option<RateLimit>, Error> {
        let lock = if self.connection.is_postgres() { " FOR NO KEY UPDATE" } else { "" };
        self.fetch_optional(select_by_sid(lock), bind![sid, service_sid, account_sid], parse_rate_limit).await
    }

    /// Updates a rate limit's mutable fields.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn update_rate_limit(&mut self, limit: &RateLimit) -> Result<(), Error> {
        let sql = "UPDATE rate_limits SET description = $2, updated_at = $3 WHERE sid = $1";
        let description = limit.description.as_ref().map(|text| text.as_str());
        self.execute(sql, bind![limit.sid, description, limit.updated_at]).await
    }

    /// Deletes a service's rate limit with its buckets. Returns `false` if the service has no such rate limit.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn delete_rate_limit(
        &mut self,
        account_sid: AccountSid,
        service_sid: ServiceSid,
        sid: RateLimitSid,
    ) -> Result<bool, Error> {
        let sql =
            "DELETE FROM rate_limits WHERE sid = $1 AND service_sid = $2 AND account_sid = $3 RETURNING sid";
        Ok(self.count_rows(sql, bind![sid, service_sid, account_sid]).await? > 0)
    }

    /// Counts a rate limit's buckets.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn count_buckets(&mut self, rate_limit_sid: RateLimitSid) -> Result<i64, Error> {
        let sql = "SELECT count(*) AS count FROM buckets WHERE rate_limit_sid = $1";
        Ok(self.fetch_optional(sql, bind![rate_limit_sid], |row| row.int("count")).await?.unwrap_or(0))
    }

    /// Inserts a bucket.
    ///
    /// # Errors
    /// Returns [`Error::Conflict`] with [`BucketInterval`] if the rate limit already has a bucket with this interval,
    /// [`Error::ParentGone`] if the rate limit does not exist, or another error if the database operation fails.
    ///
    /// [`BucketInterval`]: crate::Conflict::BucketInterval
    pub async fn insert_bucket(&mut self, bucket: &RateLimitBucket) -> Result<(), Error> {
        let sql = "INSERT INTO buckets (sid, account_sid, service_sid, rate_limit_sid, max_requests, \
                   interval_seconds, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        let values = bind![
            bucket.sid,
            bucket.account_sid,
            bucket.service_sid,
            bucket.rate_limit_sid,
            i64::from(bucket.max.get().get()),
            bucket.interval.get(),
            bucket.created_at,
            bucket.updated_at
        ];
        self.execute(sql, values).await
    }

    /// Returns a rate limit's bucket, locked against changes by other transactions until this one ends. Returns `None`
    /// if the rate limit has no such bucket.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn lock_bucket(
        &mut self,
        account_sid: AccountSid,
        rate_limit_sid: RateLimitSid,
        sid: BucketSid,
    ) -> Result<Option<RateLimitBucket>, Error> {
        let lock = if self.connection.is_postgres() { " FOR NO KEY UPDATE" } else { "" };
        self.fetch_optional(select_bucket(lock), bind![sid, rate_limit_sid, account_sid], parse_bucket).await
    }

    /// Returns the buckets of the service's rate limit with this name, oldest first. Locks them in this order until the
    /// transaction ends, so that what they count can be checked before something is added. Returns none if there is no
    /// such rate limit.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn lock_buckets_of(
        &mut self,
        service_sid: ServiceSid,
        name: &UniqueName,
    ) -> Result<Vec<RateLimitBucket>, Error> {
        let lock = if self.connection.is_postgres() { " FOR NO KEY UPDATE" } else { "" };
        let sql = format!(
            "SELECT {BUCKET_COLUMNS} FROM buckets WHERE rate_limit_sid = \
             (SELECT sid FROM rate_limits WHERE service_sid = $1 AND unique_name = $2) \
             ORDER BY created_at, sid{lock}"
        );
        self.fetch_all(sql, bind![service_sid, name.as_str()], parse_bucket).await
    }

    /// Updates a bucket's mutable fields.
    ///
    /// # Errors
    /// Returns [`Error::Conflict`] with [`BucketInterval`] if the rate limit has another bucket with this interval, or
    /// another error if the database operation fails.
    ///
    /// [`BucketInterval`]: crate::Conflict::BucketInterval
    pub async fn update_bucket(&mut self, bucket: &RateLimitBucket) -> Result<(), Error> {
        let sql =
            "UPDATE buckets SET max_requests = $2, interval_seconds = $3, updated_at = $4 WHERE sid = $1";
        let max = i64::from(bucket.max.get().get());
        self.execute(sql, bind![bucket.sid, max, bucket.interval.get(), bucket.updated_at]).await
    }

    /// Deletes a rate limit's bucket. Returns `false` if the rate limit has no such bucket.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn delete_bucket(
        &mut self,
        account_sid: AccountSid,
        rate_limit_sid: RateLimitSid,
        sid: BucketSid,
    ) -> Result<bool, Error> {
        let sql =
            "DELETE FROM buckets WHERE sid = $1 AND rate_limit_sid = $2 AND account_sid = $3 RETURNING sid";
        Ok(self.count_rows(sql, bind![sid, rate_limit_sid, account_sid]).await? > 0)
    }

    /// Lets a bucket count a verification for a value at `now`, until its interval ends. The attempt with which the
    /// verification begins distinguishes verifications of the same instant.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn insert_bucket_hit(
        &mut self,
        bucket: &RateLimitBucket,
        value: ValueDigest,
        attempt_sid: AttemptSid,
        now: Timestamp,
    ) -> Result<(), Error> {
        let sql = "INSERT INTO bucket_hits (service_sid, bucket_sid, value, attempt_sid, created_at, expires_at) \
                   VALUES ($1, $2, $3, $4, $5, $6)";
        let expires_at = now.plus_seconds(bucket.interval.get());
        let values = bind![bucket.service_sid, bucket.sid, &value.0[..], attempt_sid, now, expires_at];
        self.execute(sql, values).await
    }

    /// Deletes up to `limit` rows of what buckets count that expired before the instant `before`. Returns the number of
    /// rows deleted.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn delete_expired_bucket_hits(
        &mut self,
        before: Timestamp,
        limit: i64,
    ) -> Result<usize, Error> {
        let sql = "DELETE FROM bucket_hits WHERE (service_sid, bucket_sid, value, created_at, attempt_sid) IN \
                   (SELECT service_sid, bucket_sid, value, created_at, attempt_sid FROM bucket_hits \
                   WHERE expires_at < $1 ORDER BY expires_at LIMIT $2) RETURNING attempt_sid";
        self.count_rows(sql, bind![before, limit]).await
    }
}
