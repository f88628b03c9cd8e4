//! Queries for challenges.

use std::num::NonZeroU32;
use std::ops::Range;

use domain::challenges::{Answer, AnswerDigest, Details, MAX_LIFETIME_SECONDS, Message, State, Status};
use domain::paging::{Page, PageRequest};
use domain::{Challenge, ChallengeSid, EntityPath, EntitySid, FactorSid, Identity, Timestamp};

use crate::error::Error;
use crate::paging::ListQuery;
use crate::read_write::{Read, Write};
use crate::services::SERVICE_EXISTS;
use crate::values::{Row, bind, to_json};

/// The columns that describe a challenge. The status is computed: a pending challenge whose factor was deleted counts
/// as voided, even if its row was not updated.
const COLUMNS: &str = "sid, account_sid, service_sid, entity_sid, identity, factor_sid, \
    CASE WHEN status = 'pending' \
    AND NOT EXISTS (SELECT 1 FROM factors WHERE factors.sid = factor_sid) THEN 'voided' ELSE status END AS status, \
    responded_at, message, fields, details_date, hidden_details, metadata, expires_at, created_at, updated_at";

/// SQL condition that a challenge's factor, and therefore its entity, is not deleted.
const FACTOR_EXISTS: &str = "EXISTS (SELECT 1 FROM factors WHERE factors.sid = factor_sid)";

/// Returns the SQL condition that selects one challenge by its path. The path must refer to the challenge's own entity,
/// not to a later entity with the same identity.
fn path_condition() -> String {
    format!(
        "sid = $1 AND service_sid = $2 AND identity = $3 AND account_sid = $4 AND {SERVICE_EXISTS} \
         AND entity_sid = (SELECT entities.sid FROM entities WHERE entities.service_sid = $2 AND entities.identity = $3)"
    )
}

fn parse_challenge(row: &Row) -> Result<Challenge, Error> {
    let at = row.optional_timestamp("responded_at")?;
    Ok(Challenge {
        sid: row.sid("sid")?,
        account_sid: row.sid("account_sid")?,
        service_sid: row.sid("service_sid")?,
        entity_sid: row.sid("entity_sid")?,
        identity: Identity::from_stored(row.text("identity")?),
        factor_sid: row.sid("factor_sid")?,
        state: match (row.text("status")?.as_str(), at) {
            ("pending", None) => State::Pending,
            ("voided", None) => State::Voided,
            ("approved", Some(at)) => State::Answered { answer: Answer::Approved, at },
            ("denied", Some(at)) => State::Answered { answer: Answer::Denied, at },
            _ => return Err(Error::Corrupt("status".into())),
        },
        details: Details {
            message: Message::from_stored(row.text("message")?),
            fields: row.json("fields")?,
            date: row.optional_timestamp("details_date")?,
        },
        hidden_details: row.optional_json("hidden_details")?,
        metadata: row.optional_json("metadata")?,
        expires_at: row.timestamp("expires_at")?,
        created_at: row.timestamp("created_at")?,
        updated_at: row.timestamp("updated_at")?,
    })
}

/// A filter for listing an entity's challenges. A field that is `None` does not restrict the list.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChallengeFilter {
    /// Matches only challenges to the factor with this SID.
    pub factor_sid: Option<FactorSid>,
    /// Matches only challenges that have this status at the time of listing.
    pub status: Option<Status>,
}

impl Read {
    /// Counts the challenges of all entities that expired unanswered after the instant `after` and no later than
    /// `until`.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn count_expired(&mut self, after: Timestamp, until: Timestamp) -> Result<u64, Error> {
        let sql = "SELECT COUNT(*) AS expired FROM challenges \
                   WHERE status = 'pending' AND expires_at > $1 AND expires_at <= $2";
        let expired = self.fetch_optional(sql, bind![after, until], |row| row.int("expired")).await?;
        u64::try_from(expired.unwrap_or(0)).map_err(|_| Error::Corrupt("expired".into()))
    }

    /// Returns an entity's challenge by SID, or `None` if the entity has no such challenge.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn challenge(
        &mut self,
        path: &EntityPath,
        sid: ChallengeSid,
    ) -> Result<Option<Challenge>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM challenges WHERE {}", path_condition());
        let values = bind![sid, path.service_sid, path.identity.as_str(), path.account_sid];
        self.fetch_optional(sql, values, parse_challenge).await
    }

    /// Returns whether the challenge was answered with the payload that has this digest.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn is_answered_by(&mut self, sid: ChallengeSid, digest: AnswerDigest) -> Result<bool, Error> {
        let sql = "SELECT sid FROM challenges WHERE sid = $1 AND answer_digest = $2";
        Ok(self.count_rows(sql, bind![sid, &digest.0[..]]).await? > 0)
    }

    /// Returns the requested page of an entity's challenges that match `filter`. The filter treats a pending challenge
    /// as expired if it has expired by `now` or if its factor was deleted.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn challenges(
        &mut self,
        entity_sid: EntitySid,
        filter: ChallengeFilter,
        request: &PageRequest,
        now: Timestamp,
    ) -> Result<Page<Challenge>, Error> {
        let mut list = ListQuery::select(COLUMNS, "challenges").filter("entity_sid = ?", bind![entity_sid]);
        if let Some(factor_sid) = filter.factor_sid {
            list = list.filter("factor_sid = ?", bind![factor_sid]);
        }
        list = match filter.status {
            None => list,
            // Excluding challenges that are older than the maximum lifetime keeps the query fast if many have expired.
            Some(Status::Pending) => list.filter(
                "responded_at IS NULL AND status = 'pending' AND created_at >= ? AND expires_at > ? \
                 AND EXISTS (SELECT 1 FROM factors WHERE factors.sid = factor_sid)",
                bind![now.plus_seconds(-MAX_LIFETIME_SECONDS), now],
            ),
            Some(Status::Expired) => list.filter(
                "responded_at IS NULL AND (status = 'voided' OR expires_at <= ? \
                 OR NOT EXISTS (SELECT 1 FROM factors WHERE factors.sid = factor_sid))",
                bind![now],
            ),
            Some(Status::Approved) => {
                list.filter("responded_at IS NOT NULL AND status = 'approved'", bind![])
            }
            Some(Status::Denied) => list.filter("responded_at IS NOT NULL AND status = 'denied'", bind![]),
        };
        list.page(self, request, parse_challenge).await
    }

    /// Returns the creation time of the `most`-th newest challenge to an entity's factor within `span` (1 is the newest),
    /// or `None` if there are fewer than `most`. The start of `span` is exclusive, its end inclusive.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn nth_latest_challenge_created_at(
        &mut self,
        entity_sid: EntitySid,
        factor_sid: FactorSid,
        span: Range<Timestamp>,
        most: NonZeroU32,
    ) -> Result<Option<Timestamp>, Error> {
        let sql = "SELECT created_at FROM challenges \
                   WHERE entity_sid = $1 AND factor_sid = $2 AND created_at > $3 AND created_at <= $4 \
                   ORDER BY created_at DESC, sid DESC LIMIT 1 OFFSET $5";
        let values = bind![entity_sid, factor_sid, span.start, span.end, i64::from(most.get()) - 1];
        self.fetch_optional(sql, values, |row| row.timestamp("created_at")).await
    }

    /// Returns when an entity's factor will have fewer than `most` pending challenges, because enough of its current ones will
    /// have expired. Returns `None` if it already has fewer.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn next_pending_slot_at(
        &mut self,
        entity_sid: EntitySid,
        factor_sid: FactorSid,
        most: NonZeroU32,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, Error> {
        // The condition on `created_at` excludes challenges that expired long ago: no challenge outlives the maximum
        // lifetime.
        let sql = "SELECT expires_at FROM challenges \
                   WHERE entity_sid = $1 AND factor_sid = $2 AND responded_at IS NULL AND status = 'pending' \
                   AND created_at >= $3 AND expires_at > $4 ORDER BY expires_at DESC LIMIT 1 OFFSET $5";
        let begin = now.plus_seconds(-MAX_LIFETIME_SECONDS);
        let values = bind![entity_sid, factor_sid, begin, now, i64::from(most.get()) - 1];
        self.fetch_optional(sql, values, |row| row.timestamp("expires_at")).await
    }
}

impl Write {
    /// Inserts a challenge as pending.
    ///
    /// # Errors
    /// Returns [`Error::ParentGone`] if the entity does not exist, or another error if the database operation fails.
    pub async fn insert_challenge(&mut self, challenge: &Challenge) -> Result<(), Error> {
        let sql = "INSERT INTO challenges (sid, account_sid, service_sid, entity_sid, identity, factor_sid, status, \
                   message, fields, details_date, hidden_details, metadata, expires_at, created_at, updated_at) \
                   VALUES ($1, $2, $3, $4, $5, $6, 'pending', $7, $8, $9, $10, $11, $12, $13, $14)";
        let values = bind![
            challenge.sid,
            challenge.account_sid,
            challenge.service_sid,
            challenge.entity_sid,
            challenge.identity.as_str(),
            challenge.factor_sid,
            challenge.details.message.as_str(),
            to_json(&challenge.details.fields),
            challenge.details.date,
            challenge.hidden_details.as_ref().map(to_json),
            challenge.metadata.as_ref().map(to_json),
            challenge.expires_at,
            challenge.created_at,
            challenge.updated_at
        ];
        self.execute(sql, values).await
    }

    /// Records the answer to a challenge that is pending at `now`, and returns the answered challenge. Returns `None`,
    /// changing nothing, if the challenge is not pending. `digest` is the digest of the payload that contains the
    /// answer. No other method answers a challenge.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn answer_challenge(
        &mut self,
        sid: ChallengeSid,
        answer: Answer,
        digest: AnswerDigest,
        now: Timestamp,
    ) -> Result<Option<Challenge>, Error> {
        let sql = format!(
            "UPDATE challenges SET status = $2, answer_digest = $3, responded_at = $4, updated_at = $4 \
             WHERE sid = $1 AND status = 'pending' AND expires_at > $4 \
             AND {FACTOR_EXISTS} AND {SERVICE_EXISTS} RETURNING {COLUMNS}"
        );
        self.fetch_optional(sql, bind![sid, answer.as_str(), &digest.0[..], now], parse_challenge).await
    }

    /// Replaces a challenge's metadata, which is set by the device. Returns the updated challenge, or `None` if there
    /// is no such challenge.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn set_challenge_metadata(
        &mut self,
        path: &EntityPath,
        sid: ChallengeSid,
        metadata: &domain::text::StringMap,
        now: Timestamp,
    ) -> Result<Option<Challenge>, Error> {
        let sql = format!(
            "UPDATE challenges SET metadata = $5, updated_at = $6 WHERE {} RETURNING {COLUMNS}",
            path_condition()
        );
        let values =
            bind![sid, path.service_sid, path.identity.as_str(), path.account_sid, to_json(metadata), now];
        self.fetch_optional(sql, values, parse_challenge).await
    }

    /// Deletes up to `limit` challenges that expired before the instant `before`, whether answered or not, together
    /// with their notifications. Returns the number of challenges deleted.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn delete_old_challenges(&mut self, before: Timestamp, limit: i64) -> Result<usize, Error> {
        let sql = "DELETE FROM challenges WHERE sid IN \
                   (SELECT sid FROM challenges WHERE expires_at < $1 ORDER BY expires_at LIMIT $2) RETURNING sid";
        self.count_rows(sql, bind![before, limit]).await
    }
}
