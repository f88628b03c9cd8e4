//! Who speaks: an account, one of its API keys, a phone that enrols, a device.
//!
//! What each kind may do at all is in the route table of `api`; what it may do *here* is decided by
//! [`Caller::path`] and [`Caller::concerns`]: a backend acts for its account, a device for its own factor
//! and nothing else.

use crypto::DeviceToken;
use domain::access_tokens::Grant;
use domain::{
    AccountSid, ApiKeySid, EntityPath, Factor, FactorSid, FactorType, Identity, Problem, Secret, ServiceSid,
    Timestamp,
};
use metrics::Claimant;
use tracing::debug;

use crate::App;
use crate::error::Error;

/// The user name of devices, in front of an access token or a device token (protocol 01 section 1).
const DEVICE_USER: &str = "token";

/// What came in the `Authorization` header, `Basic` undone.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// `AC…`, `SK…` or `token`.
    pub user: String,
    /// Auth token, key secret, access token or device token.
    pub password: Secret<String>,
}

impl Credentials {
    /// Who it would be, if they hold.
    pub fn claimant(&self) -> Claimant {
        if self.user == DEVICE_USER {
            match self.password.expose().bytes().filter(|byte| *byte == b'.').count() {
                2 => Claimant::Device,
                _ => Claimant::Enrollee,
            }
        } else if self.user.parse::<AccountSid>().is_ok() {
            Claimant::Account
        } else if self.user.parse::<ApiKeySid>().is_ok() {
            Claimant::ApiKey
        } else {
            Claimant::Unknown
        }
    }
}

/// Who speaks, beyond doubt.
#[derive(Clone, Debug)]
pub enum Caller {
    /// A backend, with the account's auth token.
    Account(AccountSid),
    /// A backend, with an API key.
    ApiKey {
        /// The key.
        sid: ApiKeySid,
        /// Whose it is.
        account_sid: AccountSid,
    },
    /// A phone that holds an access token and may make one factor.
    Enrollee(Box<Grant>),
    /// A registered device.
    Device(Box<Factor>),
}

impl Caller {
    /// The account that the caller speaks for.
    pub fn account_sid(&self) -> AccountSid {
        match self {
            Self::Account(sid) | Self::ApiKey { account_sid: sid, .. } => *sid,
            Self::Enrollee(grant) => grant.account_sid,
            Self::Device(factor) => factor.account_sid,
        }
    }

    /// The entity of that name, as this caller may see it.
    ///
    /// # Errors
    /// 20404 when a device names another entity than its own.
    pub fn path(&self, service_sid: ServiceSid, identity: Identity) -> Result<EntityPath, Problem> {
        if let Self::Device(factor) = self
            && (factor.service_sid != service_sid || factor.identity != identity)
        {
            return Err(Problem::not_found());
        }
        Ok(EntityPath { account_sid: self.account_sid(), service_sid, identity })
    }

    /// Checks that the caller may make factors of this entity. `None` is a SID or an identity that can't be.
    ///
    /// # Errors
    /// 60313 for an access token that was made for another entity.
    pub fn may_enroll(
        &self,
        service_sid: Option<ServiceSid>,
        identity: Option<&Identity>,
    ) -> Result<(), Problem> {
        match self {
            Self::Enrollee(grant) => grant.permits_entity(service_sid, identity),
            _ => Ok(()),
        }
    }

    /// Checks that the caller may make factors of this type.
    ///
    /// # Errors
    /// 60313 for an access token that was made for another type.
    pub fn may_create(&self, factor_type: FactorType) -> Result<(), Problem> {
        match self {
            Self::Enrollee(grant) => grant.permits_type(factor_type),
            _ => Ok(()),
        }
    }

    /// Whether what concerns this factor concerns the caller.
    ///
    /// # Errors
    /// 20404 when a device names another factor than its own.
    pub fn concerns(&self, factor_sid: FactorSid) -> Result<(), Problem> {
        match self {
            Self::Device(factor) if factor.sid != factor_sid => Err(Problem::not_found()),
            _ => Ok(()),
        }
    }
}

impl App {
    /// Finds out who speaks.
    ///
    /// # Errors
    /// 20003 for credentials that do not hold, whatever is wrong with them.
    pub async fn authenticate(&self, credentials: &Credentials) -> Result<Caller, Error> {
        let (claimant, password) = (credentials.claimant(), credentials.password.expose());
        let user = credentials.user.as_str();
        let caller = match claimant {
            Claimant::Device => self.device(password, self.clock.now()).await,
            Claimant::Enrollee => self.enrollee(password, self.clock.now()).await,
            Claimant::Account => self.account_caller(user, password).await,
            Claimant::ApiKey => self.api_key_caller(user, password).await,
            Claimant::Unknown | Claimant::Nobody => Err(Error::unauthenticated()),
        };
        debug!(claimant = claimant.as_str(), holds = caller.is_ok(), "credentials");
        caller
    }

    async fn enrollee(&self, text: &str, now: Timestamp) -> Result<Caller, Error> {
        let grant = self.open_access_token(text, now).await?.ok_or_else(Error::unauthenticated)?;
        Ok(Caller::Enrollee(Box::new(grant)))
    }

    async fn account_caller(&self, user: &str, password: &str) -> Result<Caller, Error> {
        let sid: AccountSid = user.parse().map_err(|_| Error::unauthenticated())?;
        let account =
            self.store.read(async move |db: &mut store::Read| Ok::<_, Error>(db.account(sid).await?));
        let account = account.await?.ok_or_else(Error::unauthenticated)?;
        let auth_token = self.master_keys.open(&account.auth_token, &sid.to_string())?;
        if crypto::equal(auth_token.expose().as_bytes(), password.as_bytes()) {
            Ok(Caller::Account(sid))
        } else {
            Err(Error::unauthenticated())
        }
    }

    async fn api_key_caller(&self, user: &str, password: &str) -> Result<Caller, Error> {
        let sid: ApiKeySid = user.parse().map_err(|_| Error::unauthenticated())?;
        let key = self.store.read(async move |db: &mut store::Read| Ok::<_, Error>(db.api_key(sid).await?));
        let key = key.await?.ok_or_else(Error::unauthenticated)?;
        if self.hashing.verify_secret(sid, password, &key.secret_hash) {
            Ok(Caller::ApiKey { sid, account_sid: key.account_sid })
        } else {
            Err(Error::unauthenticated())
        }
    }

    /// The token's `kid` selects the factor, whose key must have signed it for the factor's account.
    async fn device(&self, text: &str, now: Timestamp) -> Result<Caller, Error> {
        let token = DeviceToken::parse(text).ok_or_else(Error::unauthenticated)?;
        let kid = token.kid();
        let factor = self
            .store
            .read(async move |db: &mut store::Read| Ok::<_, Error>(db.factor_by_credential(kid).await?))
            .await?
            .ok_or_else(Error::unauthenticated)?;
        if factor.account_sid == token.account_sid() && token.verify(&factor.public_key, now) {
            Ok(Caller::Device(Box::new(factor)))
        } else {
            Err(Error::unauthenticated())
        }
    }
}
