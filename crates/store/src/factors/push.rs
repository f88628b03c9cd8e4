//! Queries for push factors.

use domain::factors::{AppId, Notification, Platform, PublicKey, PushFactor, RegistrationToken, SdkVersion};
use domain::{AccountSid, CredentialSid, EntityPath, Factor, FactorSid, ServiceSid, Timestamp};

use crate::error::Error;
use crate::factors::{KindTable, Lock, SERVICE_EXISTS};
use crate::read_write::{Read, Write};
use crate::values::{Row, bind};

pub(super) const TABLE: KindTable<PushFactor> = KindTable {
    name: "push_factors",
    columns: "public_key, credential_sid, app_id, sdk_version, notification_platform, notification_token, \
              unreachable, token_registered_at",
    parse: parse_push,
};

fn parse_push(row: &Row<'_>) -> Result<PushFactor, Error> {
    Ok(PushFactor {
        public_key: PublicKey::from_checked_der(row.bytes("public_key")?),
        credential_sid: row.sid("credential_sid")?,
        app_id: AppId::from_stored(row.text("app_id")?),
        sdk_version: row.optional_text("sdk_version")?.map(SdkVersion::from_stored),
        notification: {
            let platform = row.keyword::<Platform>("notification_platform")?;
            let token = row.optional_text("notification_token")?.map(RegistrationToken::from_stored);
            Notification::new(platform, token).map_err(|_| Error::Corrupt("notification_token".into()))?
        },
        unreachable: row.int("unreachable")? != 0,
        token_registered_at: row.timestamp("token_registered_at")?,
    })
}

impl Read {
    /// Returns an entity's push factor by SID, or `None` if the entity has no such factor.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn push_factor(
        &mut self,
        path: &EntityPath,
        sid: FactorSid,
    ) -> Result<Option<Factor<PushFactor>>, Error> {
        self.factor_of_kind(&TABLE, path, sid).await
    }

    /// Returns the factor whose device sends the credential SID `sid` as the `kid` of its signatures, or `None` if
    /// there is none.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn factor_by_credential(
        &mut self,
        sid: CredentialSid,
    ) -> Result<Option<Factor<PushFactor>>, Error> {
        let sql = TABLE.select(&format!("push_factors.credential_sid = $1 AND {SERVICE_EXISTS}"));
        self.fetch_optional(sql, bind![sid], |row| TABLE.parse(row)).await
    }
}

impl Write {
    /// Inserts a push factor.
    ///
    /// # Errors
    /// Returns [`Conflict::FactorKey`](crate::Conflict::FactorKey) in an [`Error::Conflict`] if the entity already has
    /// a factor with this public key, [`Error::ParentGone`] if the entity does not exist, or another error if the
    /// database operation fails.
    pub async fn insert_push_factor(&mut self, factor: &Factor<PushFactor>) -> Result<(), Error> {
        self.insert_common(factor).await?;
        let sql = "INSERT INTO push_factors (factor_sid, account_sid, service_sid, entity_sid, public_key, \
                   credential_sid, app_id, sdk_version, notification_platform, notification_token, \
                   unreachable, token_registered_at) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
        let push = &factor.kind;
        let values = bind![
            factor.sid,
            factor.account_sid,
            factor.service_sid,
            factor.entity_sid,
            push.public_key.as_der(),
            push.credential_sid,
            push.app_id.as_str(),
            push.sdk_version.as_ref().map(|version| version.as_str()),
            push.notification.platform().as_str(),
            push.notification.token().map(|token| token.as_str()),
            i64::from(push.unreachable),
            push.token_registered_at
        ];
        self.execute(sql, values).await
    }

    /// Returns an entity's push factor, locked against changes and deletion until the transaction ends. Returns `None`
    /// if the entity has no such factor.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn lock_push_factor(
        &mut self,
        path: &EntityPath,
        sid: FactorSid,
    ) -> Result<Option<Factor<PushFactor>>, Error> {
        self.lock_factor_of_kind(&TABLE, Lock::Exclusive, path, sid).await
    }

    /// Returns an entity's push factor, locked against deletion until the transaction ends. Returns `None` if the
    /// entity has no such factor. A challenge created in this transaction is therefore voided by a later deletion, or
    /// not created at all if the deletion came first.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn lock_push_factor_shared(
        &mut self,
        path: &EntityPath,
        sid: FactorSid,
    ) -> Result<Option<Factor<PushFactor>>, Error> {
        self.lock_factor_of_kind(&TABLE, Lock::Shared, path, sid).await
    }

    /// Updates a push factor's mutable fields. [`update_factor`](Self::update_factor) suffices if none of
    /// [`PushFactor`] has changed.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn update_push_factor(&mut self, factor: &Factor<PushFactor>) -> Result<(), Error> {
        self.update_factor(factor).await?;
        let sql = "UPDATE push_factors SET sdk_version = $2, notification_platform = $3, notification_token = $4, \
                   unreachable = $5, token_registered_at = $6 WHERE factor_sid = $1";
        let push = &factor.kind;
        let values = bind![
            factor.sid,
            push.sdk_version.as_ref().map(|version| version.as_str()),
            push.notification.platform().as_str(),
            push.notification.token().map(|token| token.as_str()),
            i64::from(push.unreachable),
            push.token_registered_at
        ];
        self.execute(sql, values).await
    }

    /// Marks a factor as unreachable because the provider rejected its push token `token`. Returns `false`, changing
    /// nothing, if the factor is already marked or if its device has registered a token after `registered_at`, even the
    /// same one.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn mark_unreachable(
        &mut self,
        factor_sid: FactorSid,
        token: &str,
        registered_at: Timestamp,
    ) -> Result<bool, Error> {
        let sql = "UPDATE push_factors SET unreachable = 1 \
                   WHERE factor_sid = $1 AND notification_token = $2 AND unreachable = 0 \
                   AND token_registered_at <= $3 RETURNING factor_sid";
        Ok(self.count_rows(sql, bind![factor_sid, token, registered_at]).await? > 0)
    }

    /// Clears the unreachable mark of an account's factors, or of one service's factors if `service_sid` is given.
    /// Called when push credentials change, because a wrong credential may have caused the mark.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn clear_unreachable(
        &mut self,
        account_sid: AccountSid,
        service_sid: Option<ServiceSid>,
    ) -> Result<(), Error> {
        let sql = "UPDATE push_factors SET unreachable = 0 WHERE unreachable = 1 AND account_sid = $1 \
                   AND (service_sid = $2 OR $2 IS NULL)";
        self.execute(sql, bind![account_sid, service_sid]).await
    }
}
