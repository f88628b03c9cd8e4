//! Queries for access tokens, with which phones enroll factors.

use domain::access_tokens::{Grant, Ttl};
use domain::{
    AccessToken, AccessTokenSid, AccountSid, FactorSid, FactorType, FriendlyName, Identity, ServiceSid,
    Timestamp,
};

use crate::error::Error;
use crate::read_write::{Read, Write};
use crate::services::SERVICE_EXISTS;
use crate::values::{Row, bind};

const COLUMNS: &str = "sid, account_sid, service_sid, identity, factor_type, factor_friendly_name, ttl, token, \
    expires_at, spent_on, created_at";

fn parse_access_token(row: &Row) -> Result<AccessToken, Error> {
    Ok(AccessToken {
        grant: Grant {
            sid: row.sid("sid")?,
            account_sid: row.sid("account_sid")?,
            service_sid: row.sid("service_sid")?,
            identity: Identity::from_stored(row.text("identity")?),
            factor_type: row.keyword::<FactorType>("factor_type")?,
            expires_at: row.timestamp("expires_at")?,
        },
        factor_friendly_name: row.optional_text("factor_friendly_name")?.map(FriendlyName::from_stored),
        ttl: Ttl::new(row.int("ttl")?).ok_or_else(|| Error::Corrupt("ttl".into()))?,
        token: row.sealed("token")?,
        spent_on: row.optional_sid("spent_on")?,
        created_at: row.timestamp("created_at")?,
    })
}

impl Read {
    /// Returns a service's access token by SID, even if it is spent or expired. Returns `None` if the service has no
    /// such token.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn access_token(
        &mut self,
        account_sid: AccountSid,
        service_sid: ServiceSid,
        sid: AccessTokenSid,
    ) -> Result<Option<AccessToken>, Error> {
        let sql = format!(
            "SELECT {COLUMNS} FROM access_tokens \
             WHERE sid = $1 AND service_sid = $2 AND account_sid = $3 AND {SERVICE_EXISTS}"
        );
        self.fetch_optional(sql, bind![sid, service_sid, account_sid], parse_access_token).await
    }
}

impl Write {
    /// Inserts an access token that is not yet spent.
    ///
    /// # Errors
    /// Returns [`Error::ParentGone`] if the service does not exist, or another error if the database operation fails.
    pub async fn insert_access_token(&mut self, token: &AccessToken) -> Result<(), Error> {
        let sql = "INSERT INTO access_tokens (sid, account_sid, service_sid, identity, factor_type, \
                   factor_friendly_name, ttl, token, expires_at, created_at) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        let grant = &token.grant;
        let values = bind![
            grant.sid,
            grant.account_sid,
            grant.service_sid,
            grant.identity.as_str(),
            grant.factor_type.as_str(),
            token.factor_friendly_name.as_ref().map(|name| name.as_str()),
            token.ttl.get(),
            &token.token,
            grant.expires_at,
            token.created_at
        ];
        self.execute(sql, values).await
    }

    /// Marks an access token as spent on the factor `on`. Returns `false`, changing nothing, if the token is already
    /// spent or does not exist.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn spend_access_token(&mut self, sid: AccessTokenSid, on: FactorSid) -> Result<bool, Error> {
        let sql = "UPDATE access_tokens SET spent_on = $2 WHERE sid = $1 AND spent_on IS NULL RETURNING sid";
        Ok(self.count_rows(sql, bind![sid, on]).await? > 0)
    }

    /// Deletes up to `limit` access tokens that expired before the instant `before`, whether spent or not. Returns the
    /// number of tokens deleted.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn delete_old_access_tokens(&mut self, before: Timestamp, limit: i64) -> Result<usize, Error> {
        let sql = "DELETE FROM access_tokens WHERE sid IN \
                   (SELECT sid FROM access_tokens WHERE expires_at < $1 ORDER BY expires_at LIMIT $2) RETURNING sid";
        self.count_rows(sql, bind![before, limit]).await
    }
}
