//! Queries for push challenges.

use domain::challenges::{Answer, AnswerDigest, Details, Message, PushChallenge, State};
use domain::{Challenge, ChallengeSid, EntityPath, Timestamp};

use crate::challenges::{
    COLUMNS, FACTOR_EXISTS, NewColumns, parse_common, parse_target, path_condition, path_values,
};
use crate::error::Error;
use crate::read_write::{Read, Write};
use crate::services::SERVICE_EXISTS;
use crate::values::{Row, bind, to_json};

pub(super) fn parse_push(row: &Row<'_>) -> Result<PushChallenge, Error> {
    Ok(PushChallenge {
        target: parse_target(row)?,
        details: Details {
            message: Message::from_stored(row.text("message")?),
            fields: row.json("fields")?,
            date: row.optional_timestamp("details_date")?,
        },
        hidden_details: row.optional_json("hidden_details")?,
    })
}

fn parse_challenge(row: &Row<'_>) -> Result<Challenge<PushChallenge>, Error> {
    Ok(parse_common(row)?.with(parse_push(row)?))
}

impl Read {
    /// Returns an entity's push challenge by SID, or `None` if the entity has no such challenge.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn push_challenge(
        &mut self,
        path: &EntityPath,
        sid: ChallengeSid,
    ) -> Result<Option<Challenge<PushChallenge>>, Error> {
        let condition = path_condition();
        let sql = format!("SELECT {COLUMNS} FROM challenges WHERE {condition} AND factor_type = 'push'");
        self.fetch_optional(sql, path_values(path, sid), parse_challenge).await
    }

    /// Returns whether the challenge was answered with the payload that has this digest.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn is_answered_by(&mut self, sid: ChallengeSid, digest: AnswerDigest) -> Result<bool, Error> {
        let sql = "SELECT sid FROM challenges WHERE sid = $1 AND answer_digest = $2";
        Ok(self.count_rows(sql, bind![sid, &digest.0[..]]).await? > 0)
    }
}

impl Write {
    /// Inserts a push challenge as pending.
    ///
    /// # Errors
    /// Returns [`Error::ParentGone`] if the entity does not exist, or another error if the database operation fails.
    pub async fn insert_push_challenge(&mut self, challenge: &Challenge<PushChallenge>) -> Result<(), Error> {
        let PushChallenge { target, details, hidden_details } = &challenge.kind;
        let columns = NewColumns {
            message: Some(details.message.as_str()),
            fields: Some(to_json(&details.fields)),
            date: details.date,
            hidden_details: hidden_details.as_ref(),
            ..NewColumns::of_target(target)
        };
        self.insert_row(challenge, State::Pending, columns).await
    }

    /// Records the answer to a push challenge that is pending at `now`, and returns the answered challenge. Returns
    /// `None`, changing nothing, if the challenge is not pending. `digest` is the digest of the payload that contains
    /// the answer. No other method answers a push challenge.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn answer_push_challenge(
        &mut self,
        sid: ChallengeSid,
        answer: Answer,
        digest: AnswerDigest,
        now: Timestamp,
    ) -> Result<Option<Challenge<PushChallenge>>, Error> {
        let sql = format!(
            "UPDATE challenges SET status = $2, answer_digest = $3, responded_at = $4, updated_at = $4 \
             WHERE sid = $1 AND status = 'pending' AND expires_at > $4 \
             AND {FACTOR_EXISTS} AND {SERVICE_EXISTS} RETURNING {COLUMNS}"
        );
        self.fetch_optional(sql, bind![sid, answer.as_str(), &digest.0[..], now], parse_challenge).await
    }
}
