//! Queries for TOTP challenges.

use domain::challenges::{Message, TotpChallenge};
use domain::{Challenge, ChallengeSid, EntityPath};

use crate::challenges::{
    COLUMNS, FACTOR_EXISTS, NewColumns, parse_common, parse_target, path_condition, path_values, state_values,
};
use crate::error::Error;
use crate::read_write::{Read, Write};
use crate::services::SERVICE_EXISTS;
use crate::values::{Row, bind, to_json};

pub(super) fn parse_totp(row: &Row<'_>) -> Result<TotpChallenge, Error> {
    Ok(TotpChallenge {
        target: parse_target(row)?,
        message: row.optional_text("message")?.map(Message::from_stored),
        fields: row.json("fields")?,
        hidden_details: row.optional_json("hidden_details")?,
        attempts: row.number("attempts")?,
    })
}

fn parse_challenge(row: &Row<'_>) -> Result<Challenge<TotpChallenge>, Error> {
    Ok(parse_common(row)?.with(parse_totp(row)?))
}

impl Read {
    /// Returns an entity's TOTP challenge by SID, or `None` if the entity has no such challenge.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn totp_challenge(
        &mut self,
        path: &EntityPath,
        sid: ChallengeSid,
    ) -> Result<Option<Challenge<TotpChallenge>>, Error> {
        let condition = path_condition();
        let sql = format!("SELECT {COLUMNS} FROM challenges WHERE {condition} AND factor_type = 'totp'");
        self.fetch_optional(sql, path_values(path, sid), parse_challenge).await
    }
}

impl Write {
    /// Inserts a TOTP challenge, which may already be approved.
    ///
    /// # Errors
    /// Returns [`Error::ParentGone`] if the entity does not exist, or another error if the database operation fails.
    pub async fn insert_totp_challenge(&mut self, challenge: &Challenge<TotpChallenge>) -> Result<(), Error> {
        let TotpChallenge { target, message, fields, hidden_details, attempts } = &challenge.kind;
        let columns = NewColumns {
            message: message.as_ref().map(|message| message.as_str()),
            fields: Some(to_json(fields)),
            hidden_details: hidden_details.as_ref(),
            attempts: *attempts,
            ..NewColumns::of_target(target)
        };
        self.insert_row(challenge, challenge.state, columns).await
    }

    /// Stores the state and the number of attempts of a TOTP challenge that was pending when its factor was locked.
    /// Returns `false`, changing nothing, if the challenge is no longer pending.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn update_totp_challenge(
        &mut self,
        challenge: &Challenge<TotpChallenge>,
    ) -> Result<bool, Error> {
        let (status, responded_at) = state_values(challenge.state);
        let sql = format!(
            "UPDATE challenges SET status = $2, responded_at = $3, attempts = $4, updated_at = $5 \
             WHERE sid = $1 AND factor_type = 'totp' AND status = 'pending' \
             AND {FACTOR_EXISTS} AND {SERVICE_EXISTS} RETURNING sid"
        );
        let attempts = i64::from(challenge.kind.attempts);
        let values = bind![challenge.sid, status, responded_at, attempts, challenge.updated_at];
        Ok(self.count_rows(sql, values).await? > 0)
    }
}
