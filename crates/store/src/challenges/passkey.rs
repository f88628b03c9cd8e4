//! Queries for passkey challenges.

use domain::challenges::{Answer, PasskeyChallenge, PasskeyTarget, State, Target};
use domain::factors::passkey::{RelyingPartyId, WebAuthnChallengeDigest};
use domain::{AccountSid, Challenge, ChallengeSid, Identity, ServiceSid, Timestamp};

use crate::challenges::{COLUMNS, NewColumns, parse_common};
use crate::error::Error;
use crate::read_write::{Read, Write};
use crate::services::SERVICE_EXISTS;
use crate::values::{Row, bind, to_json};

pub(super) fn parse_passkey_target(row: &Row<'_>) -> Result<PasskeyTarget, Error> {
    let Some(entity_sid) = row.optional_sid("entity_sid")? else { return Ok(PasskeyTarget::Anyone) };
    let identity = Identity::from_stored(row.text("identity")?);
    Ok(match row.optional_sid("factor_sid")? {
        None => PasskeyTarget::Entity { entity_sid, identity },
        Some(factor_sid) => PasskeyTarget::Factor(Target { entity_sid, identity, factor_sid }),
    })
}

fn parse_challenge(row: &Row<'_>) -> Result<Challenge<PasskeyChallenge>, Error> {
    Ok(parse_common(row)?.with(PasskeyChallenge {
        target: parse_passkey_target(row)?,
        challenge_digest: WebAuthnChallengeDigest(row.digest("challenge_digest")?),
        relying_party_id: RelyingPartyId::from_stored(row.text("rp_id")?),
        origins: row.json("origins")?,
        user_verification: row.keyword("user_verification")?,
        options: row.json("options")?,
    }))
}

impl Read {
    /// Returns a service's passkey challenge by SID, whether or not it knows its entity, or `None` if the service has
    /// no such challenge.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn passkey_challenge(
        &mut self,
        account_sid: AccountSid,
        service_sid: ServiceSid,
        sid: ChallengeSid,
    ) -> Result<Option<Challenge<PasskeyChallenge>>, Error> {
        let sql = format!(
            "SELECT {COLUMNS}, challenge_digest, rp_id, origins, user_verification, options FROM challenges \
             JOIN passkey_challenges ON passkey_challenges.challenge_sid = challenges.sid \
             AND passkey_challenges.service_sid = challenges.service_sid \
             WHERE challenges.sid = $1 AND challenges.service_sid = $2 AND account_sid = $3 \
             AND EXISTS (SELECT 1 FROM services WHERE services.sid = $2 AND services.deleted_at IS NULL)"
        );
        self.fetch_optional(sql, bind![sid, service_sid, account_sid], parse_challenge).await
    }
}

impl Write {
    /// Inserts a passkey challenge as pending.
    ///
    /// # Errors
    /// Returns [`Error::ParentGone`] if its entity does not exist, or another error if the database operation fails.
    pub async fn insert_passkey_challenge(
        &mut self,
        challenge: &Challenge<PasskeyChallenge>,
    ) -> Result<(), Error> {
        let kind = &challenge.kind;
        let columns = NewColumns {
            entity_sid: kind.target.entity_sid(),
            identity: kind.target.identity(),
            factor_sid: kind.target.factor_sid(),
            ..NewColumns::default()
        };
        self.insert_row(challenge, State::Pending, columns).await?;
        let sql = "INSERT INTO passkey_challenges (challenge_sid, service_sid, challenge_digest, rp_id, origins, \
                   user_verification, options) VALUES ($1, $2, $3, $4, $5, $6, $7)";
        let values = bind![
            challenge.sid,
            challenge.service_sid,
            &kind.challenge_digest.0[..],
            kind.relying_party_id.as_str(),
            to_json(&kind.origins),
            kind.user_verification.as_str(),
            to_json(&kind.options)
        ];
        self.execute(sql, values).await
    }

    /// Approves a passkey challenge that is pending at `now`, and stores the factor that answered it. Returns `false`,
    /// changing nothing, if the challenge is not pending. The factor must be locked.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn approve_passkey_challenge(
        &mut self,
        sid: ChallengeSid,
        answered_by: &Target,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let sql = format!(
            "UPDATE challenges SET status = $2, responded_at = $3, updated_at = $3, \
             entity_sid = $4, identity = $5, factor_sid = $6 \
             WHERE sid = $1 AND factor_type = 'passkeys' AND status = 'pending' AND expires_at > $3 \
             AND {SERVICE_EXISTS} RETURNING sid"
        );
        let values = bind![
            sid,
            Answer::Approved.as_str(),
            now,
            answered_by.entity_sid,
            answered_by.identity.as_str(),
            answered_by.factor_sid
        ];
        Ok(self.count_rows(sql, values).await? > 0)
    }
}
