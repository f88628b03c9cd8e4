//! Challenges.

use std::num::NonZeroU32;
use std::ops::Range;

use domain::challenges::{Answer, AnswerDigest, Details, MAX_LIFETIME, Message, State, Status};
use domain::paging::{Page, PageRequest};
use domain::{Challenge, ChallengeSid, EntityPath, EntitySid, FactorSid, Identity, Timestamp};

use crate::error::Error;
use crate::listing::List;
use crate::services::IN_A_LIVE_SERVICE;
use crate::sql::{Row, bind, to_json};
use crate::{Read, Write};

/// A pending challenge whose factor is gone is void, although not each is written as such.
const COLUMNS: &str = "sid, account_sid, service_sid, entity_sid, identity, factor_sid, \
    CASE WHEN status = 'pending' \
    AND NOT EXISTS (SELECT 1 FROM factors WHERE factors.sid = factor_sid) THEN 'voided' ELSE status END AS status, \
    responded_at, message, fields, details_date, hidden_details, metadata, expires_at, created_at, updated_at";

/// A condition on a challenge: its factor, and so its entity, is not deleted.
const HAS_ITS_FACTOR: &str = "EXISTS (SELECT 1 FROM factors WHERE factors.sid = factor_sid)";

/// The condition on one challenge. Its path must lead to its own entity, not to a later one of the same identity.
fn on_path() -> String {
    format!(
        "sid = $1 AND service_sid = $2 AND identity = $3 AND account_sid = $4 AND {IN_A_LIVE_SERVICE} \
         AND entity_sid = (SELECT entities.sid FROM entities WHERE entities.service_sid = $2 AND entities.identity = $3)"
    )
}

fn challenge(row: &Row) -> Result<Challenge, Error> {
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

/// Which challenges of an entity are listed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter {
    /// Only those to this factor.
    pub factor_sid: Option<FactorSid>,
    /// Only those that have this status at the instant of the listing.
    pub status: Option<Status>,
}

impl Read {
    /// How many challenges of all entities expired unanswered after one instant and no later than another.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn count_expired(&mut self, after: Timestamp, until: Timestamp) -> Result<u64, Error> {
        let sql = "SELECT COUNT(*) AS expired FROM challenges \
                   WHERE status = 'pending' AND expires_at > $1 AND expires_at <= $2";
        let row = self.one(sql, bind![after, until]).await?;
        let expired = row.map_or(Ok(0), |row| row.int("expired"))?;
        u64::try_from(expired).map_err(|_| Error::Corrupt("expired".into()))
    }

    /// A challenge of this entity.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn challenge(
        &mut self,
        path: &EntityPath,
        sid: ChallengeSid,
    ) -> Result<Option<Challenge>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM challenges WHERE {}", on_path());
        let values = bind![sid, path.service_sid, path.identity.as_str(), path.account_sid];
        self.one(sql, values).await?.as_ref().map(challenge).transpose()
    }

    /// Whether the payload with this digest answered the challenge.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn is_answered_by(&mut self, sid: ChallengeSid, digest: AnswerDigest) -> Result<bool, Error> {
        let sql = "SELECT sid FROM challenges WHERE sid = $1 AND answer_digest = $2";
        Ok(self.one(sql, bind![sid, &digest.0[..]]).await?.is_some())
    }

    /// The challenges of an entity.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn challenges(
        &mut self,
        entity_sid: EntitySid,
        filter: Filter,
        request: &PageRequest,
        now: Timestamp,
    ) -> Result<Page<Challenge>, Error> {
        let mut list = List::of(COLUMNS, "challenges").only("entity_sid = ?", bind![entity_sid]);
        if let Some(factor_sid) = filter.factor_sid {
            list = list.only("factor_sid = ?", bind![factor_sid]);
        }
        list = match filter.status {
            None => list,
            Some(Status::Pending) => list.only(
                "status = 'pending' AND expires_at > ? \
                 AND EXISTS (SELECT 1 FROM factors WHERE factors.sid = factor_sid)",
                bind![now],
            ),
            Some(Status::Expired) => list.only(
                "(status = 'voided' OR (status = 'pending' AND (expires_at <= ? \
                 OR NOT EXISTS (SELECT 1 FROM factors WHERE factors.sid = factor_sid))))",
                bind![now],
            ),
            Some(Status::Approved) => list.only("status = 'approved'", bind![]),
            Some(Status::Denied) => list.only("status = 'denied'", bind![]),
        };
        list.page::<ChallengeSid, _>(self, request, challenge).await
    }
}

impl Read {
    /// When the challenge to a factor was made that is the `most`-th of the latest, if there were so many in
    /// `span`, its end included.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn challenge_back(
        &mut self,
        factor_sid: FactorSid,
        span: Range<Timestamp>,
        most: NonZeroU32,
    ) -> Result<Option<Timestamp>, Error> {
        let sql = "SELECT created_at FROM challenges WHERE factor_sid = $1 AND created_at > $2 AND created_at <= $3 \
                   ORDER BY created_at DESC, sid DESC LIMIT 1 OFFSET $4";
        let row = self.one(sql, bind![factor_sid, span.start, span.end, i64::from(most.get()) - 1]).await?;
        row.map(|row| row.timestamp("created_at")).transpose()
    }

    /// When so many of a factor's pending challenges have expired that fewer than `most` are left, if there are as
    /// many.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn pending_until(
        &mut self,
        factor_sid: FactorSid,
        most: NonZeroU32,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, Error> {
        // None lives longer than that, so those that expired long ago are not looked through.
        let sql = "SELECT expires_at FROM challenges \
                   WHERE factor_sid = $1 AND status = 'pending' AND created_at >= $2 AND expires_at > $3 \
                   ORDER BY expires_at DESC LIMIT 1 OFFSET $4";
        let begin = now.plus_seconds(-MAX_LIFETIME);
        let row = self.one(sql, bind![factor_sid, begin, now, i64::from(most.get()) - 1]).await?;
        row.map(|row| row.timestamp("expires_at")).transpose()
    }
}

impl Write {
    /// Adds a pending challenge.
    ///
    /// # Errors
    /// [`Error::ParentGone`] when there is no such entity.
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
        self.all(sql, values).await.map(drop)
    }

    /// Answers a challenge, if it is pending at `now`: the one place where a challenge leaves that state
    /// by an answer. `None` when it is not, or not any more. `digest` is that of the payload with the answer.
    ///
    /// # Errors
    /// When the database fails.
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
             AND {HAS_ITS_FACTOR} AND {IN_A_LIVE_SERVICE} RETURNING {COLUMNS}"
        );
        self.one(sql, bind![sid, answer.as_str(), &digest.0[..], now])
            .await?
            .as_ref()
            .map(challenge)
            .transpose()
    }

    /// Replaces what the device wanted to be remembered; `None` when there is no such challenge.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn set_challenge_metadata(
        &mut self,
        path: &EntityPath,
        sid: ChallengeSid,
        metadata: &domain::text::StringMap,
        now: Timestamp,
    ) -> Result<Option<Challenge>, Error> {
        let sql = format!(
            "UPDATE challenges SET metadata = $5, updated_at = $6 WHERE {} RETURNING {COLUMNS}",
            on_path()
        );
        let values =
            bind![sid, path.service_sid, path.identity.as_str(), path.account_sid, to_json(metadata), now];
        self.one(sql, values).await?.as_ref().map(challenge).transpose()
    }

    /// Removes at most `limit` challenges that expired before an instant, answered or not, with their
    /// notifications; returns how many.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn delete_old_challenges(&mut self, before: Timestamp, limit: i64) -> Result<usize, Error> {
        let sql = "DELETE FROM challenges WHERE sid IN \
                   (SELECT sid FROM challenges WHERE expires_at < $1 ORDER BY expires_at LIMIT $2) RETURNING sid";
        Ok(self.all(sql, bind![before, limit]).await?.len())
    }
}
