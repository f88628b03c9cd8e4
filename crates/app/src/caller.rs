//! Who speaks: an account, one of its API keys, a phone that enrolls, a device.
//!
//! What each kind may do at all is in the route table of `api`; what it may do *here* is decided by
//! [`Caller::path`] and [`Caller::concerns`]: a backend acts for its account, a device for its own factor
//! and nothing else.

use crypto::DeviceToken;
use domain::access_tokens::Grant;
use domain::factors::Status;
use domain::{
    AccountSid, ApiKeySid, EntityPath, Factor, FactorSid, FactorType, Identity, Problem, Secret, ServiceSid,
    Timestamp,
};
use telemetry::metrics::Claimant;
use tracing::debug;

use crate::App;
use crate::error::Error;

/// The user name of devices, in front of an access token or a device token (docs/protocol/authentication.md, section 1).
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
    /// A phone that holds an access token and may create one factor.
    Enrollee(Box<Enrollee>),
    /// A registered device.
    Device(Box<Factor>),
}

/// The holder of an access token.
#[derive(Clone, Debug)]
pub struct Enrollee {
    /// What the token permits.
    pub grant: Grant,
    /// Whether the token is spent on a factor that is still unverified. Such a token is good for the same creation
    /// once more, and for nothing else (docs/protocol/decisions.md, No. 8: a phone that lost the answer repeats itself).
    pub is_spent: bool,
}

impl Caller {
    /// Whether the only request that these credentials permit is the repeated creation of one factor.
    pub fn may_only_repeat(&self) -> bool {
        matches!(self, Self::Enrollee(enrollee) if enrollee.is_spent)
    }

    /// The account that the caller speaks for.
    pub fn account_sid(&self) -> AccountSid {
        match self {
            Self::Account(sid) | Self::ApiKey { account_sid: sid, .. } => *sid,
            Self::Enrollee(enrollee) => enrollee.grant.account_sid,
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
            Self::Enrollee(enrollee) => enrollee.grant.permits_entity(service_sid, identity),
            _ => Ok(()),
        }
    }

    /// Checks that the caller may make factors of this type.
    ///
    /// # Errors
    /// 60313 for an access token that was made for another type.
    pub fn may_create(&self, factor_type: FactorType) -> Result<(), Problem> {
        match self {
            Self::Enrollee(enrollee) => enrollee.grant.permits_type(factor_type),
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

    /// The token must still be in the database, which it leaves with its service. A spent one counts as long as its
    /// factor is unverified.
    async fn enrollee(&self, text: &str, now: Timestamp) -> Result<Caller, Error> {
        let grant = self.open_access_token(text, now).await?.ok_or_else(Error::unauthenticated)?;
        let enrollee = self.store.read(async move |db: &mut store::Read| {
            let token = db.access_token(grant.account_sid, grant.service_sid, grant.sid).await?;
            let token = token.ok_or_else(Error::unauthenticated)?;
            if let Some(spent_on) = token.spent_on {
                let path = EntityPath {
                    account_sid: grant.account_sid,
                    service_sid: grant.service_sid,
                    identity: grant.identity.clone(),
                };
                let factor = db.factor(&path, spent_on).await?;
                if factor.is_none_or(|factor| factor.status != Status::Unverified) {
                    return Err(Error::unauthenticated());
                }
            }
            Ok::<_, Error>(Enrollee { grant: grant.clone(), is_spent: token.spent_on.is_some() })
        });
        Ok(Caller::Enrollee(Box::new(enrollee.await?)))
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
