//! Access tokens.

use domain::access_tokens::{Grant, TokenText, Ttl};
use domain::audit::{Act, Change};
use domain::{AccessToken, AccessTokenSid, AccountSid, FactorType, FriendlyName, Identity, ServiceSid};
use store::{Read, Write};

use crate::App;
use crate::audit::Origin;
use crate::error::Error;

/// What a backend asks for.
#[derive(Clone, Debug)]
pub struct NewAccessToken {
    /// Who may enroll.
    pub identity: Identity,
    /// What kind of factor.
    pub factor_type: FactorType,
    /// Name for the factor.
    pub factor_friendly_name: Option<FriendlyName>,
    /// How long.
    pub ttl: Ttl,
}

impl App {
    /// Makes an access token. The entity need not exist, and does not come to exist by this.
    ///
    /// # Errors
    /// 20404 without the service, 60369 for a type that is not served; when the database fails.
    pub async fn create_access_token(
        &self,
        origin: &Origin,
        account_sid: AccountSid,
        service_sid: ServiceSid,
        new: NewAccessToken,
    ) -> Result<(AccessToken, TokenText), Error> {
        let (now, entropy) = (self.clock.now(), self.entropy.as_ref());
        let grant = Grant {
            sid: AccessTokenSid::generate(now, entropy),
            account_sid,
            service_sid,
            identity: new.identity,
            factor_type: new.factor_type.served()?,
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
                let change = Change::new(Act::AccessTokenCreated, account_sid, row.grant.sid);
                audit.note(tx, change.with("service_sid", service_sid)).await
            })
            .await?;
        Ok((token, text))
    }

    /// An access token, as long as it can be used.
    ///
    /// # Errors
    /// 20404, also when it is spent or has expired; when the database fails.
    pub async fn access_token(
        &self,
        account_sid: AccountSid,
        service_sid: ServiceSid,
        sid: AccessTokenSid,
    ) -> Result<(AccessToken, TokenText), Error> {
        let now = self.clock.now();
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
