//! Queries for challenges: those that concern every type, and those that are the same for each. The file of a type has
//! the others.

mod passkey;
mod push;
mod summary;
mod totp;

use std::num::NonZeroU32;
use std::ops::Range;

use domain::challenges::{
    Answer, ChallengeKind, ChallengedKind, MAX_LIFETIME_SECONDS, State, Status, Target,
};
use domain::paging::{Page, PageRequest};
use domain::text::StringMap;
use domain::{Challenge, ChallengeSid, EntityPath, EntitySid, FactorSid, FactorType, Identity, Timestamp};

use crate::error::Error;
use crate::paging::ListQuery;
use crate::read_write::{Read, Write};
use crate::services::SERVICE_EXISTS;
use crate::values::{Row, Value, bind, to_json};

/// The SQL expression of a challenge's status. The status is computed: a pending challenge whose factor was deleted
/// counts as voided, even if its row was not updated.
macro_rules! status {
    () => {
        "CASE WHEN status = 'pending' AND factor_sid IS NOT NULL \
         AND NOT EXISTS (SELECT 1 FROM factors WHERE factors.sid = factor_sid) THEN 'voided' ELSE status END"
    };
}

/// The columns that describe a challenge.
const COLUMNS: &str = concat!(
    "sid, account_sid, challenges.service_sid AS service_sid, ",
    status!(),
    " AS status, responded_at, metadata, expires_at, created_at, updated_at, factor_type, entity_sid, identity, \
     factor_sid, message, fields, details_date, hidden_details, attempts"
);

/// The columns of a challenge's summary.
const SUMMARY_COLUMNS: &str = concat!(
    "sid, challenges.service_sid AS service_sid, identity, factor_sid, ",
    status!(),
    " AS status, responded_at, expires_at, updated_at"
);

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

/// Returns the values of [`path_condition`].
fn path_values(path: &EntityPath, sid: ChallengeSid) -> Vec<Value> {
    bind![sid, path.service_sid, path.identity.as_str(), path.account_sid]
}

/// Parses what all challenges have.
fn parse_common(row: &Row<'_>) -> Result<Challenge<()>, Error> {
    Ok(Challenge {
        sid: row.sid("sid")?,
        account_sid: row.sid("account_sid")?,
        service_sid: row.sid("service_sid")?,
        state: parse_state(row)?,
        metadata: row.optional_json("metadata")?,
        expires_at: row.timestamp("expires_at")?,
        created_at: row.timestamp("created_at")?,
        updated_at: row.timestamp("updated_at")?,
        kind: (),
    })
}

/// Parses the columns `status` and `responded_at`.
fn parse_state(row: &Row<'_>) -> Result<State, Error> {
    Ok(match (row.text("status")?.as_str(), row.optional_timestamp("responded_at")?) {
        ("pending", None) => State::Pending,
        ("voided", None) => State::Voided,
        ("approved", Some(at)) => State::Answered { answer: Answer::Approved, at },
        ("denied", Some(at)) => State::Answered { answer: Answer::Denied, at },
        _ => return Err(Error::Corrupt("status".into())),
    })
}

/// Returns the values of the columns `status` and `responded_at`.
const fn state_values(state: State) -> (&'static str, Option<Timestamp>) {
    match state {
        State::Pending => ("pending", None),
        State::Voided => ("voided", None),
        State::Answered { answer, at } => (answer.as_str(), Some(at)),
    }
}

/// Parses the factor of a challenge that has one.
fn parse_target(row: &Row<'_>) -> Result<Target, Error> {
    Ok(Target {
        entity_sid: row.sid("entity_sid")?,
        identity: Identity::from_stored(row.text("identity")?),
        factor_sid: row.sid("factor_sid")?,
    })
}

fn parse_challenge(row: &Row<'_>) -> Result<Challenge, Error> {
    let challenge = parse_common(row)?;
    Ok(challenge.with(match row.keyword::<FactorType>("factor_type")? {
        FactorType::Push => ChallengeKind::Push(push::parse_push(row)?),
        FactorType::Totp => ChallengeKind::Totp(totp::parse_totp(row)?),
        FactorType::Passkeys => ChallengeKind::Passkey(passkey::parse_passkey_target(row)?),
    }))
}

/// The columns of a new challenge that only some types fill.
#[derive(Default)]
struct NewColumns<'c> {
    entity_sid: Option<EntitySid>,
    identity: Option<&'c Identity>,
    factor_sid: Option<FactorSid>,
    message: Option<&'c str>,
    fields: Option<String>,
    date: Option<Timestamp>,
    hidden_details: Option<&'c StringMap>,
    attempts: u32,
}

impl<'c> NewColumns<'c> {
    /// Returns the columns of a challenge to the factor `target`.
    fn of_target(target: &'c Target) -> Self {
        Self {
            entity_sid: Some(target.entity_sid),
            identity: Some(&target.identity),
            factor_sid: Some(target.factor_sid),
            ..Self::default()
        }
    }
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
        self.fetch_optional(sql, path_values(path, sid), parse_challenge).await
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
                 AND (factor_sid IS NULL OR EXISTS (SELECT 1 FROM factors WHERE factors.sid = factor_sid))",
                bind![now.plus_seconds(-MAX_LIFETIME_SECONDS), now],
            ),
            Some(Status::Expired) => list.filter(
                "responded_at IS NULL AND (status = 'voided' OR expires_at <= ? \
                 OR factor_sid IS NOT NULL AND NOT EXISTS (SELECT 1 FROM factors WHERE factors.sid = factor_sid))",
                bind![now],
            ),
            Some(Status::Approved) => {
                list.filter("responded_at IS NOT NULL AND status = 'approved'", bind![])
            }
            Some(Status::Denied) => list.filter("responded_at IS NOT NULL AND status = 'denied'", bind![]),
        };
        list.page(self, request, parse_challenge).await
    }

    /// Returns the creation time of the `most`-th newest challenge to an entity's factor within `span` (1 is the
    /// newest), or `None` if there are fewer than `most`. The start of `span` is exclusive, its end inclusive.
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

    /// Returns when an entity's factor will have fewer than `most` pending challenges, because enough of its current
    /// ones will have expired. Returns `None` if it already has fewer.
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
    /// Inserts the row that challenges of all types have, with this state.
    async fn insert_row<Kind: ChallengedKind>(
        &mut self,
        challenge: &Challenge<Kind>,
        state: State,
        columns: NewColumns<'_>,
    ) -> Result<(), Error> {
        let sql = "INSERT INTO challenges (sid, account_sid, service_sid, entity_sid, identity, factor_sid, \
                   factor_type, status, responded_at, attempts, message, fields, details_date, hidden_details, \
                   metadata, expires_at, created_at, updated_at) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)";
        let (status, responded_at) = state_values(state);
        let values = bind![
            challenge.sid,
            challenge.account_sid,
            challenge.service_sid,
            columns.entity_sid,
            columns.identity.map(|identity| identity.as_str()),
            columns.factor_sid,
            challenge.factor_type().as_str(),
            status,
            responded_at,
            i64::from(columns.attempts),
            columns.message,
            columns.fields,
            columns.date,
            columns.hidden_details.map(to_json),
            challenge.metadata.as_ref().map(to_json),
            challenge.expires_at,
            challenge.created_at,
            challenge.updated_at
        ];
        self.execute(sql, values).await
    }

    /// Replaces a challenge's metadata, which the device or the backend sets. Returns the updated challenge, or `None`
    /// if there is no such challenge.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn set_challenge_metadata(
        &mut self,
        path: &EntityPath,
        sid: ChallengeSid,
        metadata: &StringMap,
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
    /// with their notifications and with what their type adds. Returns the number of challenges deleted.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn delete_old_challenges(&mut self, before: Timestamp, limit: i64) -> Result<usize, Error> {
        let sql = "DELETE FROM challenges WHERE sid IN \
                   (SELECT sid FROM challenges WHERE expires_at < $1 ORDER BY expires_at LIMIT $2) RETURNING sid";
        self.count_rows(sql, bind![before, limit]).await
    }
}
