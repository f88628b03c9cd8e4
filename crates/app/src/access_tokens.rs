//! Use cases of access tokens: create a token, and fetch one that is still usable.

use domain::access_tokens::{Grant, TokenText, Ttl};
use domain::audit::{AuditAction, Change};
use domain::{AccessToken, AccessTokenSid, FactorType, FriendlyName, Identity, ServiceSid};
use store::{Read, Write};

use crate::App;
use crate::audit::Origin;
use crate::caller::Backend;
use crate::error::Error;

/// The parameters of a new access token.
#[derive(Clone, Debug)]
pub struct NewAccessToken {
    /// Identity of the user whose device may be enrolled with the token.
    pub identity: Identity,
    /// Type of factor that may be created with the token.
    pub factor_type: FactorType,
    /// Display name for the factor, which is stored and returned with the token.
    pub factor_friendly_name: Option<FriendlyName>,
    /// How long the token is valid, from its creation.
    pub ttl: Ttl,
}

impl App {
    /// Creates an access token, and returns it with its plaintext. The entity for the identity need not exist yet, and
    /// is not created.
    ///
    /// # Errors
    /// Fails with 20404 if the service does not exist, and with 60369 if the factor type is not push. Also fails if
    /// the database fails.
    pub async fn create_access_token(
        &self,
        origin: &Origin,
        caller: Backend,
        service_sid: ServiceSid,
        new: NewAccessToken,
    ) -> Result<(AccessToken, TokenText), Error> {
        let account_sid = caller.account_sid();
        let (now, entropy) = (self.clock.now(), self.entropy.as_ref());
        let grant = Grant {
            sid: AccessTokenSid::generate(now, entropy),
            account_sid,
            service_sid,
            identity: new.identity,
            factor_type: new.factor_type.require_access_tokens()?,
            expires_at: now.plus_seconds(new.ttl.get()),
        };
        let text = self.ring(now).await?.issue(&grant, now)?;
        let token = AccessToken {
            token: self.master_keys.seal(&text, &grant.sid.to_string(), entropy),
            grant,
            factor_friendly_name: new.factor_friendly_name,
            ttl: new.ttl,
            spent_on: None,
            created_at: now,
        };
        let (row, audit) = (token.clone(), self.audit(origin, now));
        self.store
            .write(async move |tx: &mut Write| {
                tx.service(account_sid, service_sid).await?.ok_or_else(Error::not_found)?;
                tx.insert_access_token(&row).await?;
                let change = Change::new(AuditAction::AccessTokenCreated, account_sid, row.grant.sid);
                audit.record(tx, change.detail("service_sid", service_sid)).await
            })
            .await?;
        if let Some(capture) = &self.capture {
            capture.access_token_created(&token.grant, &text);
        }
        Ok((token, text))
    }

    /// Returns an access token that is still usable, with its plaintext.
    ///
    /// # Errors
    /// Fails with 20404 if the token does not exist, has been spent or has expired. Also fails if the database fails.
    pub async fn access_token(
        &self,
        caller: Backend,
        service_sid: ServiceSid,
        sid: AccessTokenSid,
    ) -> Result<(AccessToken, TokenText), Error> {
        let (account_sid, now) = (caller.account_sid(), self.clock.now());
        let token = self
            .store
            .read(async move |db: &mut Read| {
                db.access_token(account_sid, service_sid, sid).await?.ok_or_else(Error::not_found)
            })
            .await?;
        if !token.is_usable(now) {
            return Err(Error::not_found());
        }
        let text = self.master_keys.open(&token.token, &sid.to_string())?;
        Ok((token, text))
    }
}
