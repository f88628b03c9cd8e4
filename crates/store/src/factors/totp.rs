//! Queries for TOTP factors.

use domain::factors::TotpFactor;
use domain::{EntityPath, EntitySid, Factor, FactorSid, ServiceSid};

use crate::error::Error;
use crate::factors::{KindTable, Lock};
use crate::read_write::{Read, Write};
use crate::values::{Row, bind};

pub(super) const TABLE: KindTable<TotpFactor> = KindTable {
    name: "totp_factors",
    columns: "secret, algorithm, time_step, code_length, skew, last_step, failed_verifications",
    parse: parse_totp,
};

fn parse_totp(row: &Row<'_>) -> Result<TotpFactor, Error> {
    Ok(TotpFactor {
        secret: row.sealed("secret")?,
        algorithm: row.keyword("algorithm")?,
        time_step: row.bounded("time_step")?,
        code_length: row.bounded("code_length")?,
        skew: row.bounded("skew")?,
        last_step: row.optional_int("last_step")?,
        failed_verifications: row.number("failed_verifications")?,
    })
}

impl Read {
    /// Returns all TOTP factors of an entity, oldest first.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn totp_factors(
        &mut self,
        service_sid: ServiceSid,
        entity_sid: EntitySid,
    ) -> Result<Vec<Factor<TotpFactor>>, Error> {
        let sql = TABLE.select(
            "factors.entity_sid = $1 AND factors.service_sid = $2 AND factor_type = 'totp' ORDER BY created_at, sid",
        );
        self.fetch_all(sql, bind![entity_sid, service_sid], |row| TABLE.parse(row)).await
    }
}

impl Write {
    /// Inserts a TOTP factor.
    ///
    /// # Errors
    /// Returns [`Error::ParentGone`] if the entity does not exist, or another error if the database operation fails.
    pub async fn insert_totp_factor(&mut self, factor: &Factor<TotpFactor>) -> Result<(), Error> {
        self.insert_common(factor).await?;
        let sql = "INSERT INTO totp_factors (factor_sid, service_sid, secret, algorithm, time_step, code_length, skew, \
                   last_step, failed_verifications) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
        let totp = &factor.kind;
        let values = bind![
            factor.sid,
            factor.service_sid,
            &totp.secret,
            totp.algorithm.as_str(),
            totp.time_step.get(),
            totp.code_length.get(),
            totp.skew.get(),
            totp.last_step,
            i64::from(totp.failed_verifications)
        ];
        self.execute(sql, values).await
    }

    /// Returns an entity's TOTP factor, locked against changes and deletion until the transaction ends. Returns `None`
    /// if the entity has no such factor. The lock makes requests with a code wait for each other, so that each code is
    /// accepted once.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn lock_totp_factor(
        &mut self,
        path: &EntityPath,
        sid: FactorSid,
    ) -> Result<Option<Factor<TotpFactor>>, Error> {
        self.lock_factor_of_kind(&TABLE, Lock::Exclusive, path, sid).await
    }

    /// Updates a TOTP factor's mutable fields, which are all but the secret. The factor must be locked.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn update_totp_factor(&mut self, factor: &Factor<TotpFactor>) -> Result<(), Error> {
        self.update_factor(factor).await?;
        let sql = "UPDATE totp_factors SET algorithm = $2, time_step = $3, code_length = $4, skew = $5, \
                   last_step = $6, failed_verifications = $7 WHERE factor_sid = $1";
        let totp = &factor.kind;
        let values = bind![
            factor.sid,
            totp.algorithm.as_str(),
            totp.time_step.get(),
            totp.code_length.get(),
            totp.skew.get(),
            totp.last_step,
            i64::from(totp.failed_verifications)
        ];
        self.execute(sql, values).await
    }

    /// Stores what codes change without a change that callers can see: the step of the last accepted code, and the
    /// number of failed verifications. The factor must be locked.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn record_totp_code(&mut self, factor: &Factor<TotpFactor>) -> Result<(), Error> {
        let sql = "UPDATE totp_factors SET last_step = $3, failed_verifications = $4 \
                   WHERE factor_sid = $1 AND service_sid = $2";
        let failed_verifications = i64::from(factor.kind.failed_verifications);
        let values = bind![factor.sid, factor.service_sid, factor.kind.last_step, failed_verifications];
        self.execute(sql, values).await
    }
}
