//! Authentication of callers, and authorization: what an authenticated caller may do.
//!
//! [`App::authenticate`] turns credentials into a [`Caller`]. A use case that touches the data of an entity or a factor
//! never takes a `Caller`. Instead, its parameter type states which callers are permitted: [`Backend`],
//! [`BackendOrEnrollee`] or [`BackendOrDevice`]. Values of these types come only from conversions that check the kind
//! of caller, so a use case for backends cannot be opened to devices by mistake.
//!
//! With a `device: BackendOrDevice`, this does not compile:
//!
//! ```compile_fail,E0308
//! # use {app::{App, BackendOrDevice, Origin}, domain::EntityPath};
//! # async fn example(app: App, origin: Origin, path: EntityPath, device: BackendOrDevice) {
//! app.delete_entity(&origin, device, path).await;
//! # }
//! ```
//!
//! With a `backend: Backend`, it does:
//!
//! ```no_run
//! # use {app::{App, Backend, Origin}, domain::EntityPath};
//! # async fn example(app: App, origin: Origin, path: EntityPath, backend: Backend) {
//! app.delete_entity(&origin, backend, path).await;
//! # }
//! ```
//!
//! Within a use case, `require_entity`, `require_factor` and `require_enrollment` check that the caller may access the
//! requested data: a backend acts for its account, a device for its own factor, and an enrollee (a phone with an access
//! token) for the entity of that token.

use crypto::DeviceToken;
use domain::access_tokens::Grant;
use domain::challenges::ChallengedKind;
use domain::factors::{PushFactor, Status};
use domain::{
    AccountSid, ApiKeySid, Challenge, Code, EntityPath, Factor, FactorSid, FactorType, Identity, Problem,
    Secret, ServiceSid, Timestamp,
};
use telemetry::metrics::CredentialKind;
use tracing::debug;

use crate::App;
use crate::error::Error;

/// The Basic authentication user name that phones send with both access tokens and device tokens
/// (docs/protocol/authentication.md, section 1).
const DEVICE_USER: &str = "token";

/// The decoded credentials from an `Authorization: Basic` header.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// User name: an account SID (`AC…`), an API key SID (`SK…`) or `token`.
    pub user: String,
    /// Password: an auth token, an API key's secret, an access token or a device token.
    pub password: Secret<String>,
}

impl Credentials {
    /// Returns the kind of these credentials, judged by their form alone: they are not verified.
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

/// An authenticated caller, by kind of credentials.
#[derive(Clone, Debug)]
pub enum Caller {
    /// A backend that used the account's auth token.
    Account(AccountSid),
    /// A backend that used an API key.
    ApiKey {
        /// SID of the API key.
        sid: ApiKeySid,
        /// SID of the account to which the API key belongs.
        account_sid: AccountSid,
    },
    /// A phone that used an access token, with which it may create one factor.
    Enrollee(Box<Enrollee>),
    /// A device that used a device token, which was signed with the private key of this factor.
    Device(Box<Factor<PushFactor>>),
}

/// A phone that authenticates with an access token, with which it may create one factor.
#[derive(Clone, Debug)]
pub struct Enrollee {
    /// What the access token permits: an entity, and a type of factor.
    pub grant: Grant,
    /// Whether the token has been spent on a factor that is still unverified. Such a token only permits repeating the
    /// same creation request, for phones that lost the response (docs/protocol/decisions.md, No. 8).
    pub is_spent: bool,
}

impl Caller {
    /// Returns whether the caller may only repeat the request that created its factor, that is, whether it is an
    /// enrollee whose access token is spent.
    pub fn may_only_repeat(&self) -> bool {
        matches!(self, Self::Enrollee(enrollee) if enrollee.is_spent)
    }

    /// Returns the SID of the account for which the caller acts.
    pub fn account_sid(&self) -> AccountSid {
        match self {
            Self::Account(sid) | Self::ApiKey { account_sid: sid, .. } => *sid,
            Self::Enrollee(enrollee) => enrollee.grant.account_sid,
            Self::Device(factor) => factor.account_sid,
        }
    }
}

/// A backend, authenticated with the account's auth token or an API key. A value of this type proves that the caller is
/// not a phone.
#[derive(Clone, Copy, Debug)]
pub struct Backend {
    account_sid: AccountSid,
}

/// A backend that authenticated as the account itself, with the account's auth token. It may change the account's API
/// keys, which no API key may.
#[derive(Clone, Copy, Debug)]
pub struct AccountOwner {
    account_sid: AccountSid,
}

/// A caller that is a backend or an enrollee: these may create factors.
#[derive(Clone, Debug)]
pub enum BackendOrEnrollee {
    /// A backend, which may act for its whole account.
    Backend(Backend),
    /// An enrollee, which may create one factor.
    Enrollee(Box<Enrollee>),
}

/// A caller that is a backend or a device, but not an enrollee.
#[derive(Clone, Debug)]
pub enum BackendOrDevice {
    /// A backend, which may act for its whole account.
    Backend(Backend),
    /// A device, represented by its factor.
    Device(Box<Factor<PushFactor>>),
}

/// The conversion fails with 20403 for an enrollee and for a device.
impl TryFrom<Caller> for Backend {
    type Error = Problem;

    fn try_from(caller: Caller) -> Result<Self, Problem> {
        match caller {
            Caller::Account(account_sid) | Caller::ApiKey { account_sid, .. } => Ok(Self { account_sid }),
            Caller::Enrollee(_) | Caller::Device(_) => Err(Code::Forbidden.into()),
        }
    }
}

/// The conversion fails with 20403 for an API key, an enrollee and a device.
impl TryFrom<Caller> for AccountOwner {
    type Error = Problem;

    fn try_from(caller: Caller) -> Result<Self, Problem> {
        match caller {
            Caller::Account(account_sid) => Ok(Self { account_sid }),
            Caller::ApiKey { .. } => Err(Problem::auth_token_required()),
            Caller::Enrollee(_) | Caller::Device(_) => Err(Code::Forbidden.into()),
        }
    }
}

/// The conversion fails with 20403 for a device.
impl TryFrom<Caller> for BackendOrEnrollee {
    type Error = Problem;

    fn try_from(caller: Caller) -> Result<Self, Problem> {
        match caller {
            Caller::Enrollee(enrollee) => Ok(Self::Enrollee(enrollee)),
            other => Backend::try_from(other).map(Self::Backend),
        }
    }
}

/// The conversion fails with 20403 for an enrollee.
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
    /// Returns the SID of the backend's account.
    pub const fn account_sid(self) -> AccountSid {
        self.account_sid
    }

    /// Checks that the entity at `path` belongs to the backend's account.
    ///
    /// # Errors
    /// Fails with 20404 if the entity belongs to another account.
    pub fn require_entity(self, path: &EntityPath) -> Result<(), Problem> {
        require(path.account_sid == self.account_sid)
    }
}

impl AccountOwner {
    /// Returns the SID of the account.
    pub const fn account_sid(self) -> AccountSid {
        self.account_sid
    }
}

impl BackendOrEnrollee {
    /// Returns the SID of the account for which the caller acts.
    pub fn account_sid(&self) -> AccountSid {
        match self {
            Self::Backend(backend) => backend.account_sid,
            Self::Enrollee(enrollee) => enrollee.grant.account_sid,
        }
    }

    /// Returns what the caller's access token permits, or `None` for a backend, which needs no access token.
    pub fn grant(&self) -> Option<&Grant> {
        match self {
            Self::Backend(_) => None,
            Self::Enrollee(enrollee) => Some(&enrollee.grant),
        }
    }

    /// Checks that the caller may create factors for the entity `identity` of this service. `None` stands for a SID or
    /// an identity that could not be parsed, which no access token permits.
    ///
    /// # Errors
    /// Fails with 60313 if the caller's access token is for another entity.
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
    /// Fails with 60313 if the caller's access token is for another factor type.
    pub fn require_factor_type(&self, factor_type: FactorType) -> Result<(), Problem> {
        self.grant().map_or(Ok(()), |grant| grant.require_factor_type(factor_type))
    }

    /// Checks that the caller may create factors of this type for the entity at `path`.
    ///
    /// # Errors
    /// Fails with 20404 if the entity belongs to another account, and with 60313 if the caller's access token is for
    /// another entity or factor type.
    pub fn require_enrollment(&self, path: &EntityPath, factor_type: FactorType) -> Result<(), Problem> {
        require(path.account_sid == self.account_sid())?;
        self.require_enrollment_of(Some(path.service_sid), Some(&path.identity))?;
        self.require_factor_type(factor_type)
    }
}

impl BackendOrDevice {
    /// Returns the SID of the account for which the caller acts.
    pub fn account_sid(&self) -> AccountSid {
        match self {
            Self::Backend(backend) => backend.account_sid,
            Self::Device(factor) => factor.account_sid,
        }
    }

    /// Checks that the caller may access the entity at `path`: an entity of the backend's account, or the entity to
    /// which the device's factor belongs.
    ///
    /// # Errors
    /// Fails with 20404 for any other entity.
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

    /// Checks that a device accesses only its own factor. For a backend this always succeeds: it may use every factor
    /// of an entity that it may access.
    ///
    /// # Errors
    /// Fails with 20404 if a device accesses any factor other than its own.
    pub fn require_factor(&self, factor_sid: FactorSid) -> Result<(), Problem> {
        match self {
            Self::Backend(_) => Ok(()),
            Self::Device(factor) => require(factor.sid == factor_sid),
        }
    }

    /// Checks that the caller may access the challenge: a challenge of the backend's account, or one for the device's
    /// own factor.
    ///
    /// # Errors
    /// Fails with 20404 for any other challenge.
    pub fn require_challenge<Kind: ChallengedKind>(
        &self,
        challenge: &Challenge<Kind>,
    ) -> Result<(), Problem> {
        match self {
            Self::Backend(backend) => require(challenge.account_sid == backend.account_sid),
            Self::Device(factor) => require(
                factor.account_sid == challenge.account_sid
                    && factor.service_sid == challenge.service_sid
                    && challenge.target().is_some_and(|target| {
                        factor.identity == target.identity && factor.sid == target.factor_sid
                    }),
            ),
        }
    }
}

/// Returns 20404 unless `is_permitted`. The caller gets the same response as for a resource that does not exist, so
/// that it does not learn that the resource exists.
fn require(is_permitted: bool) -> Result<(), Problem> {
    if is_permitted { Ok(()) } else { Err(Problem::not_found()) }
}

impl App {
    /// Verifies credentials, and returns the caller to whom they belong.
    ///
    /// # Errors
    /// Fails with 20003 if the credentials are not valid, for whatever reason. Also fails if the database fails or a
    /// stored secret cannot be decrypted.
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

    /// Authenticates an enrollee by its access token. The token must still be in the database, because deleting a
    /// service also deletes its access tokens. A spent token is accepted as long as the factor on which it was spent is
    /// unverified.
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

    /// Authenticates a device by its device token. The token's `kid` header selects the factor. The token must contain
    /// the SID of that factor's account and be signed with that factor's key.
    async fn authenticate_device(&self, text: &str, now: Timestamp) -> Result<Caller, Error> {
        let token = DeviceToken::parse(text).ok_or_else(Error::unauthenticated)?;
        let kid = token.kid();
        let factor = self
            .store
            .read(async move |db: &mut store::Read| Ok::<_, Error>(db.factor_by_credential(kid).await?))
            .await?
            .ok_or_else(Error::unauthenticated)?;
        if factor.account_sid == token.account_sid() && token.verify(&factor.kind.public_key, now) {
            Ok(Caller::Device(Box::new(factor)))
        } else {
            Err(Error::unauthenticated())
        }
    }
}
