//! Authentication, and what an authenticated caller may do.
//!
//! [`App::authenticate`] turns credentials into a [`Caller`]. A use case that touches the data of an entity or a factor
//! never takes that type. It takes the callers that may use it: [`Backend`], [`BackendOrEnrollee`] or
//! [`BackendOrDevice`]. Only a conversion that checks the kind of caller makes one of these, so a use case for
//! backends cannot be opened to devices by mistake:
//!
//! ```compile_fail,E0308
//! # async fn example(app: app::App, origin: app::Origin, path: domain::EntityPath) {
//! let device: app::BackendOrDevice = todo!();
//! app.delete_entity(&origin, device, path).await;
//! # }
//! ```
//!
//! ```no_run
//! # async fn example(app: app::App, origin: app::Origin, path: domain::EntityPath) {
//! let backend: app::Backend = todo!();
//! app.delete_entity(&origin, backend, path).await;
//! # }
//! ```
//!
//! Within a use case, `require_entity`, `require_factor` and `require_enrollment` check whose data it is: a backend
//! acts for its account, a device for its own factor, and a phone with an access token for the entity of its token.

use crypto::DeviceToken;
use domain::access_tokens::Grant;
use domain::factors::Status;
use domain::{
    AccountSid, ApiKeySid, Challenge, Code, EntityPath, Factor, FactorSid, FactorType, Identity, Problem,
    Secret, ServiceSid, Timestamp,
};
use telemetry::metrics::CredentialKind;
use tracing::debug;

use crate::App;
use crate::error::Error;

/// The user name of devices, for access tokens and device tokens alike (docs/protocol/authentication.md, section 1).
const DEVICE_USER: &str = "token";

/// The credentials of an `Authorization: Basic` header, decoded.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// `AC…`, `SK…` or `token`.
    pub user: String,
    /// Auth token, key secret, access token or device token.
    pub password: Secret<String>,
}

impl Credentials {
    /// Returns the kind of caller that these credentials claim, before they are checked.
    pub fn claimant(&self) -> CredentialKind {
        if self.user == DEVICE_USER {
            match self.password.expose().bytes().filter(|byte| *byte == b'.').count() {
                2 => CredentialKind::Device,
                _ => CredentialKind::Enrollee,
            }
        } else if self.user.parse::<AccountSid>().is_ok() {
            CredentialKind::Account
        } else if self.user.parse::<ApiKeySid>().is_ok() {
            CredentialKind::ApiKey
        } else {
            CredentialKind::Unknown
        }
    }
}

/// An authenticated caller.
#[derive(Clone, Debug)]
pub enum Caller {
    /// A backend, with the account's auth token.
    Account(AccountSid),
    /// A backend, with an API key.
    ApiKey {
        /// The key.
        sid: ApiKeySid,
        /// The account of the key.
        account_sid: AccountSid,
    },
    /// A phone with an access token, which may create one factor.
    Enrollee(Box<Enrollee>),
    /// A device, with a token that the key of its factor signed.
    Device(Box<Factor>),
}

/// The holder of an access token.
#[derive(Clone, Debug)]
pub struct Enrollee {
    /// What the token permits.
    pub grant: Grant,
    /// Whether the token is spent on a factor that is still unverified. Such a token permits only a repetition of the
    /// same creation, for phones that lost the response (docs/protocol/decisions.md, No. 8).
    pub is_spent: bool,
}

impl Caller {
    /// Whether the repeated creation of one factor is the only request that the credentials permit.
    pub fn may_only_repeat(&self) -> bool {
        matches!(self, Self::Enrollee(enrollee) if enrollee.is_spent)
    }

    /// Returns the account that the caller acts for.
    pub fn account_sid(&self) -> AccountSid {
        match self {
            Self::Account(sid) | Self::ApiKey { account_sid: sid, .. } => *sid,
            Self::Enrollee(enrollee) => enrollee.grant.account_sid,
            Self::Device(factor) => factor.account_sid,
        }
    }
}

/// The proof that a caller is a backend: the account itself or one of its API keys.
#[derive(Clone, Copy, Debug)]
pub struct Backend {
    account_sid: AccountSid,
}

/// A backend, or a phone with an access token.
#[derive(Clone, Debug)]
pub enum BackendOrEnrollee {
    /// A backend.
    Backend(Backend),
    /// A phone with an access token.
    Enrollee(Box<Enrollee>),
}

/// A backend, or a device.
#[derive(Clone, Debug)]
pub enum BackendOrDevice {
    /// A backend.
    Backend(Backend),
    /// A device, by its factor.
    Device(Box<Factor>),
}

/// Fails with 20403 for a phone or a device.
impl TryFrom<Caller> for Backend {
    type Error = Problem;

    fn try_from(caller: Caller) -> Result<Self, Problem> {
        match caller {
            Caller::Account(account_sid) | Caller::ApiKey { account_sid, .. } => Ok(Self { account_sid }),
            Caller::Enrollee(_) | Caller::Device(_) => Err(Code::Forbidden.into()),
        }
    }
}

/// Fails with 20403 for a device.
impl TryFrom<Caller> for BackendOrEnrollee {
    type Error = Problem;

    fn try_from(caller: Caller) -> Result<Self, Problem> {
        match caller {
            Caller::Enrollee(enrollee) => Ok(Self::Enrollee(enrollee)),
            other => Backend::try_from(other).map(Self::Backend),
        }
    }
}

/// Fails with 20403 for a phone with an access token.
impl TryFrom<Caller> for BackendOrDevice {
    type Error = Problem;

    fn try_from(caller: Caller) -> Result<Self, Problem> {
        match caller {
            Caller::Device(factor) => Ok(Self::Device(factor)),
            other => Backend::try_from(other).map(Self::Backend),
        }
    }
}

impl From<Backend> for BackendOrDevice {
    fn from(backend: Backend) -> Self {
        Self::Backend(backend)
    }
}

impl Backend {
    /// Returns the account of the backend.
    pub const fn account_sid(self) -> AccountSid {
        self.account_sid
    }

    /// Checks that the entity at `path` belongs to the backend's account.
    ///
    /// # Errors
    /// 20404 for an entity of another account.
    pub fn require_entity(self, path: &EntityPath) -> Result<(), Problem> {
        require(path.account_sid == self.account_sid)
    }
}

impl BackendOrEnrollee {
    /// Returns the account that the caller acts for.
    pub fn account_sid(&self) -> AccountSid {
        match self {
            Self::Backend(backend) => backend.account_sid,
            Self::Enrollee(enrollee) => enrollee.grant.account_sid,
        }
    }

    /// Returns what the caller's access token permits; `None` for a backend, which needs no token.
    pub fn grant(&self) -> Option<&Grant> {
        match self {
            Self::Backend(_) => None,
            Self::Enrollee(enrollee) => Some(&enrollee.grant),
        }
    }

    /// Checks that the caller may create factors of this entity. Pass `None` for a SID or an identity that could not be
    /// parsed; no access token permits it.
    ///
    /// # Errors
    /// 60313 for an access token of another entity.
    pub fn require_enrollment_of(
        &self,
        service_sid: Option<ServiceSid>,
        identity: Option<&Identity>,
    ) -> Result<(), Problem> {
        self.grant().map_or(Ok(()), |grant| grant.require_entity(service_sid, identity))
    }

    /// Checks that the caller may create factors of this type.
    ///
    /// # Errors
    /// 60313 for an access token of another type.
    pub fn require_factor_type(&self, factor_type: FactorType) -> Result<(), Problem> {
        self.grant().map_or(Ok(()), |grant| grant.require_factor_type(factor_type))
    }

    /// Checks that the caller may create factors of this type for the entity at `path`.
    ///
    /// # Errors
    /// 20404 for an entity of another account; 60313 for an access token of another entity or type.
    pub fn require_enrollment(&self, path: &EntityPath, factor_type: FactorType) -> Result<(), Problem> {
        require(path.account_sid == self.account_sid())?;
        self.require_enrollment_of(Some(path.service_sid), Some(&path.identity))?;
        self.require_factor_type(factor_type)
    }
}

impl BackendOrDevice {
    /// Returns the account that the caller acts for.
    pub fn account_sid(&self) -> AccountSid {
        match self {
            Self::Backend(backend) => backend.account_sid,
            Self::Device(factor) => factor.account_sid,
        }
    }

    /// Checks that the entity at `path` belongs to the backend's account, or is the device's own.
    ///
    /// # Errors
    /// 20404 for any other entity.
    pub fn require_entity(&self, path: &EntityPath) -> Result<(), Problem> {
        match self {
            Self::Backend(backend) => backend.require_entity(path),
            Self::Device(factor) => require(
                factor.account_sid == path.account_sid
                    && factor.service_sid == path.service_sid
                    && factor.identity == path.identity,
            ),
        }
    }

    /// Checks that the factor is the device's own. A backend may use every factor of an entity that it may use.
    ///
    /// # Errors
    /// 20404 for another factor than the device's own.
    pub fn require_factor(&self, factor_sid: FactorSid) -> Result<(), Problem> {
        match self {
            Self::Backend(_) => Ok(()),
            Self::Device(factor) => require(factor.sid == factor_sid),
        }
    }

    /// Checks that the challenge belongs to an entity and a factor that the caller may use.
    ///
    /// # Errors
    /// 20404 for any other challenge.
    pub fn require_challenge(&self, challenge: &Challenge) -> Result<(), Problem> {
        self.require_entity(&challenge.path())?;
        self.require_factor(challenge.factor_sid)
    }
}

/// Hides what the caller may not use: it gets the same response as for something that does not exist.
fn require(is_permitted: bool) -> Result<(), Problem> {
    if is_permitted { Ok(()) } else { Err(Problem::not_found()) }
}

impl App {
    /// Checks credentials and returns their owner.
    ///
    /// # Errors
    /// 20003 for credentials that are not valid, whatever the reason.
    pub async fn authenticate(&self, credentials: &Credentials) -> Result<Caller, Error> {
        let (claimant, password) = (credentials.claimant(), credentials.password.expose());
        let user = credentials.user.as_str();
        let caller = match claimant {
            CredentialKind::Device => self.authenticate_device(password, self.clock.now()).await,
            CredentialKind::Enrollee => self.authenticate_enrollee(password, self.clock.now()).await,
            CredentialKind::Account => self.authenticate_account(user, password).await,
            CredentialKind::ApiKey => self.authenticate_api_key(user, password).await,
            CredentialKind::Unknown | CredentialKind::None => Err(Error::unauthenticated()),
        };
        debug!(claimant = claimant.as_str(), accepted = caller.is_ok(), "credentials checked");
        caller
    }

    /// Authenticates a phone by its access token. The token must still be in the database; deleting its service deletes
    /// it. A spent token is accepted while its factor is unverified.
    async fn authenticate_enrollee(&self, text: &str, now: Timestamp) -> Result<Caller, Error> {
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

    async fn authenticate_account(&self, user: &str, password: &str) -> Result<Caller, Error> {
        let sid: AccountSid = user.parse().map_err(|_| Error::unauthenticated())?;
        let account =
            self.store.read(async move |db: &mut store::Read| Ok::<_, Error>(db.account(sid).await?));
        let account = account.await?.ok_or_else(Error::unauthenticated)?;
        let auth_token = self.master_keys.open(&account.auth_token, &sid.to_string())?;
        if crypto::constant_time_eq(auth_token.expose().as_bytes(), password.as_bytes()) {
            Ok(Caller::Account(sid))
        } else {
            Err(Error::unauthenticated())
        }
    }

    async fn authenticate_api_key(&self, user: &str, password: &str) -> Result<Caller, Error> {
        let sid: ApiKeySid = user.parse().map_err(|_| Error::unauthenticated())?;
        let key = self.store.read(async move |db: &mut store::Read| Ok::<_, Error>(db.api_key(sid).await?));
        let key = key.await?.ok_or_else(Error::unauthenticated)?;
        if self.hashing.verify_secret(sid, password, &key.secret_hash) {
            Ok(Caller::ApiKey { sid, account_sid: key.account_sid })
        } else {
            Err(Error::unauthenticated())
        }
    }

    /// Authenticates a device by its token. The token's `kid` selects the factor; the token must be signed with the key
    /// of that factor and name its account.
    async fn authenticate_device(&self, text: &str, now: Timestamp) -> Result<Caller, Error> {
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
