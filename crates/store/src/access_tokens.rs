//! Access tokens.

use domain::access_tokens::{Grant, Ttl};
use domain::{
    AccessToken, AccessTokenSid, AccountSid, FactorSid, FactorType, FriendlyName, Identity, ServiceSid,
    Timestamp,
};

use crate::error::Error;
use crate::services::IN_A_LIVE_SERVICE;
use crate::sql::{Row, bind};
use crate::{Read, Write};

const COLUMNS: &str = "sid, account_sid, service_sid, identity, factor_type, factor_friendly_name, ttl, token, \
    expires_at, spent_on, created_at";

fn access_token(row: &Row) -> Result<AccessToken, Error> {
    let spent_on = row.optional_text("spent_on")?;
    Ok(AccessToken {
        grant: Grant {
            sid: row.sid("sid")?,
            account_sid: row.sid("account_sid")?,
            service_sid: row.sid("service_sid")?,
            identity: Identity::from_stored(row.text("identity")?),
            factor_type: row.word::<FactorType>("factor_type")?,
            expires_at: row.timestamp("expires_at")?,
        },
        factor_friendly_name: row.optional_text("factor_friendly_name")?.map(FriendlyName::from_stored),
        ttl: Ttl::new(row.int("ttl")?).ok_or_else(|| Error::Corrupt("ttl".into()))?,
        token: row.sealed("token")?,
        spent_on: spent_on
            .map(|sid| sid.parse().map_err(|_| Error::Corrupt("spent_on".into())))
            .transpose()?,
        created_at: row.timestamp("created_at")?,
    })
}

impl Read {
    /// An access token of this service, spent or expired or not.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn access_token(
        &mut self,
        account_sid: AccountSid,
        service_sid: ServiceSid,
        sid: AccessTokenSid,
    ) -> Result<Option<AccessToken>, Error> {
        let sql = format!(
            "SELECT {COLUMNS} FROM access_tokens \
             WHERE sid = $1 AND service_sid = $2 AND account_sid = $3 AND {IN_A_LIVE_SERVICE}"
        );
        self.one(sql, bind![sid, service_sid, account_sid]).await?.as_ref().map(access_token).transpose()
    }
}

impl Write {
    /// Adds an access token.
    ///
    /// # Errors
    /// [`Error::ParentGone`] when there is no such service.
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
        self.all(sql, values).await.map(drop)
    }

    /// Spends an access token on a factor; `false` when it was spent before, or is gone.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn spend_access_token(&mut self, sid: AccessTokenSid, on: FactorSid) -> Result<bool, Error> {
        let sql = "UPDATE access_tokens SET spent_on = $2 WHERE sid = $1 AND spent_on IS NULL RETURNING sid";
        Ok(self.one(sql, bind![sid, on]).await?.is_some())
    }

    /// Removes at most `limit` access tokens that expired before an instant, spent or not; returns how many.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn delete_old_access_tokens(&mut self, before: Timestamp, limit: i64) -> Result<usize, Error> {
        let sql = "DELETE FROM access_tokens WHERE sid IN \
                   (SELECT sid FROM access_tokens WHERE expires_at < $1 ORDER BY expires_at LIMIT $2) RETURNING sid";
        Ok(self.all(sql, bind![before, limit]).await?.len())
    }
}
