//! Queries for what streams show of challenges.

use domain::challenges::{ChallengeSummary, MAX_LIFETIME_SECONDS};
use domain::{AccountSid, ChallengeSid, EntitySid, FactorSid, Identity, ServiceSid, Timestamp};

use crate::challenges::{FACTOR_EXISTS, SUMMARY_COLUMNS, parse_state};
use crate::error::Error;
use crate::read_write::Read;
use crate::services::SERVICE_EXISTS;
use crate::values::{Row, bind};

fn parse_summary(row: &Row<'_>) -> Result<ChallengeSummary, Error> {
    Ok(ChallengeSummary {
        sid: row.sid("sid")?,
        service_sid: row.sid("service_sid")?,
        identity: row.optional_text("identity")?.map(Identity::from_stored),
        factor_sid: row.optional_sid("factor_sid")?,
        state: parse_state(row)?,
        expires_at: row.timestamp("expires_at")?,
        updated_at: row.timestamp("updated_at")?,
    })
}

impl Read {
    /// Returns the summary of a service's challenge by SID. Returns `None` if the service has no such challenge, or if
    /// its entity was deleted.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn challenge_summary(
        &mut self,
        account_sid: AccountSid,
        service_sid: ServiceSid,
        sid: ChallengeSid,
    ) -> Result<Option<ChallengeSummary>, Error> {
        let sql = format!(
            "SELECT {SUMMARY_COLUMNS} FROM challenges WHERE sid = $1 AND service_sid = $2 AND account_sid = $3 AND {SERVICE_EXISTS} \
             AND (entity_sid IS NULL OR EXISTS (SELECT 1 FROM entities WHERE entities.sid = entity_sid \
             AND entities.service_sid = $2 AND entities.deleted_at IS NULL))"
        );
        self.fetch_optional(sql, bind![sid, service_sid, account_sid], parse_summary).await
    }

    /// Returns the challenges to an entity's factor that are pending at `now`, newest first, at most `limit`.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn pending_summaries(
        &mut self,
        entity_sid: EntitySid,
        factor_sid: FactorSid,
        now: Timestamp,
        limit: i64,
    ) -> Result<Vec<ChallengeSummary>, Error> {
        // The condition on `created_at` excludes challenges that expired long ago: no challenge outlives the maximum
        // lifetime.
        let sql = format!(
            "SELECT {SUMMARY_COLUMNS} FROM challenges WHERE entity_sid = $1 AND factor_sid = $2 AND responded_at IS NULL \
             AND status = 'pending' AND created_at >= $3 AND expires_at > $4 AND {FACTOR_EXISTS} \
             ORDER BY created_at DESC, sid DESC LIMIT $5"
        );
        let begin = now.plus_seconds(-MAX_LIFETIME_SECONDS);
        self.fetch_all(sql, bind![entity_sid, factor_sid, begin, now, limit], parse_summary).await
    }
}
