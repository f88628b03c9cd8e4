//! The resources that a request path can identify, and the callers that may access them.
//!
//! Each handler declares in its signature which resource its path identifies:
//! `AuthorizedRequest<Factor, BackendOrDevice>` is a request about a factor that exists and that the caller may see.
//! `request.rs` finds the resource through a [`Lookup`], which contains the caller and the path
//! parameters, but neither the body nor the query. Therefore a caller without access is refused before any other part
//! of its request is examined.

use std::str::FromStr;

use app::{AccountOwner, App, Backend, BackendOrDevice, BackendOrEnrollee};
use domain::access_tokens::TokenText;
use domain::alerts::Alert;
use domain::audit::AuditRecord;
use domain::credentials::Credential;
use domain::forms::FormType;
use domain::messaging_configurations::MessagingCountry;
use domain::parameter::Parameter as _;
use domain::rate_limits::RateLimitKey;
use domain::verifications::{Attempt, Verification, VerificationTarget};
use domain::{
    AccessToken, Account, AccountSid, ApiKey, Challenge, ChallengeSid, Entity, EntityPath, EntityRef, Factor,
    Identity, MessagingConfiguration, PhoneNumber, Problem, RateLimit, RateLimitBucket, SafeNumber, Service,
    ServiceSid, Webhook,
};
use web::PathParameters;

use crate::callers::CallerClass;
use crate::error::Error;

/// The data with which a resource is found: the caller of a request and the parameters in its path.
pub struct Lookup<'r, C> {
    app: &'r App,
    caller: &'r C,
    parameters: PathParameters<'r>,
}

impl<'r, C: CallerClass> Lookup<'r, C> {
    /// Creates a lookup for `caller` with the parameters in the request path.
    pub(crate) const fn new(app: &'r App, caller: &'r C, parameters: PathParameters<'r>) -> Self {
        Self { app, caller, parameters }
    }

    fn account_sid(&self) -> AccountSid {
        self.caller.account_sid()
    }

    fn parameter(&self, name: &str) -> &str {
        self.parameters.get(name).unwrap_or_default()
    }

    /// Returns the SID in the path parameter `name`.
    ///
    /// # Errors
    /// Returns error code 20404 if the text is not a SID of the expected kind, because no resource can have it.
    fn sid<S: FromStr>(&self, name: &str) -> Result<S, Problem> {
        self.parameter(name).parse().map_err(|_| Problem::not_found())
    }

    /// Returns the phone number in the path.
    ///
    /// # Errors
    /// Returns error code 20404 if the text is not a phone number, because no resource can have it.
    fn phone_number(&self) -> Result<PhoneNumber, Problem> {
        PhoneNumber::from_parameter(&self.recipient("PhoneNumber")).map_err(|_| Problem::not_found())
    }

    /// Returns the text of a parameter that may be a phone number or a mail address. The router leaves `%`, `/` and `+`
    /// encoded.
    fn recipient(&self, name: &str) -> String {
        let plus = self.parameter(name).replace("%2B", "+").replace("%2b", "+");
        // The percent sign comes last, so that nothing is decoded twice.
        plus.replace("%2F", "/").replace("%2f", "/").replace("%25", "%")
    }

    /// Returns the SID or the unique name of the rate limit in the path. Its parameter is `RateLimitSid` in the paths
    /// of a rate limit's subresources, otherwise `Sid`.
    ///
    /// # Errors
    /// Returns error code 20404 if the text is neither, because no resource can have it.
    fn rate_limit_key(&self) -> Result<RateLimitKey, Problem> {
        let text = self.parameters.get("RateLimitSid").unwrap_or_else(|| self.parameter("Sid"));
        RateLimitKey::from_path(text).ok_or_else(Problem::not_found)
    }

    /// Returns the challenge SID in the path. Its parameter is `Sid`, or `ChallengeSid` in the paths of a challenge's
    /// subresources.
    fn challenge_sid(&self) -> Result<ChallengeSid, Problem> {
        self.sid("Sid").or_else(|_| self.sid("ChallengeSid"))
    }

    /// Returns the SID of the caller's account, which is also the one in the path if the path names an account.
    ///
    /// # Errors
    /// Returns error code 20404 if the path names another account.
    fn own_account_sid(&self) -> Result<AccountSid, Problem> {
        const NAME: &str = "AccountSid";
        if self.parameters.get(NAME).is_some() {
            self.caller.require_account(self.sid(NAME)?)?;
        }
        Ok(self.account_sid())
    }

    /// Returns the API key in the path, which belongs to the caller's account.
    async fn api_key(&self) -> Result<ApiKey, Error> {
        Ok(self.app.api_key(self.own_account_sid()?, self.sid("Sid")?).await?)
    }

    /// Returns the path of the entity that the request identifies, within the caller's account.
    ///
    /// # Errors
    /// Returns error code 20404 if the service SID or the identity is invalid, because no resource can have it.
    fn entity_path(&self) -> Result<EntityPath, Problem> {
        Ok(EntityPath {
            account_sid: self.account_sid(),
            service_sid: self.sid("ServiceSid")?,
            identity: Identity::from_parameter(self.parameter("Identity"))
                .map_err(|_| Problem::not_found())?,
        })
    }
}

/// A resource that a request path can identify. The trait is implemented for each class of callers that may access the
/// resource. A handler that exposes it to other callers therefore does not compile.
pub trait Resource<C>: Sized {
    /// Finds the resource that the path identifies.
    ///
    /// # Errors
    /// Returns error code 20404 if the resource does not exist or the caller may not see it, and 60313 for an access
    /// token of another entity. Also returns an error if the database fails.
    fn find(lookup: &Lookup<'_, C>) -> impl Future<Output = Result<Self, Error>>;
}

/// The caller's account, which is the resource of requests for account-wide collections.
impl Resource<Backend> for AccountSid {
    async fn find(lookup: &Lookup<'_, Backend>) -> Result<Self, Error> {
        Ok(lookup.own_account_sid()?)
    }
}

impl Resource<AccountOwner> for AccountSid {
    async fn find(lookup: &Lookup<'_, AccountOwner>) -> Result<Self, Error> {
        Ok(lookup.own_account_sid()?)
    }
}

impl Resource<Backend> for Account {
    async fn find(lookup: &Lookup<'_, Backend>) -> Result<Self, Error> {
        Ok(lookup.app.account(lookup.own_account_sid()?).await?)
    }
}

impl Resource<Backend> for ApiKey {
    async fn find(lookup: &Lookup<'_, Backend>) -> Result<Self, Error> {
        lookup.api_key().await
    }
}

impl Resource<AccountOwner> for ApiKey {
    async fn find(lookup: &Lookup<'_, AccountOwner>) -> Result<Self, Error> {
        lookup.api_key().await
    }
}

impl Resource<Backend> for Service {
    async fn find(lookup: &Lookup<'_, Backend>) -> Result<Self, Error> {
        Ok(lookup.app.service(lookup.account_sid(), lookup.sid("ServiceSid")?).await?)
    }
}

impl Resource<Backend> for Entity {
    async fn find(lookup: &Lookup<'_, Backend>) -> Result<Self, Error> {
        let caller = BackendOrDevice::from(*lookup.caller);
        Ok(lookup.app.entity(&caller, lookup.entity_path()?).await?)
    }
}

impl Resource<BackendOrDevice> for EntityRef {
    async fn find(lookup: &Lookup<'_, BackendOrDevice>) -> Result<Self, Error> {
        Ok(lookup.app.entity_ref(lookup.caller, lookup.entity_path()?).await?)
    }
}

/// The path of an entity that need not exist yet, in a service that exists. An invalid identity is reported only after
/// authorization, as an error in the request (60306).
impl Resource<BackendOrEnrollee> for EntityPath {
    async fn find(lookup: &Lookup<'_, BackendOrEnrollee>) -> Result<Self, Error> {
        let service_sid = lookup.sid::<ServiceSid>("ServiceSid");
        let identity = Identity::from_parameter(lookup.parameter("Identity"));
        lookup.caller.require_enrollment_of(service_sid.as_ref().ok().copied(), identity.as_ref().ok())?;
        let service = lookup.app.service(lookup.account_sid(), service_sid?).await?;
        let identity = identity.map_err(|expected| Problem::invalid("Identity", &expected))?;
        Ok(Self { account_sid: service.account_sid, service_sid: service.sid, identity })
    }
}

impl Resource<BackendOrDevice> for Factor {
    async fn find(lookup: &Lookup<'_, BackendOrDevice>) -> Result<Self, Error> {
        Ok(lookup.app.factor(lookup.caller, lookup.entity_path()?, lookup.sid("Sid")?).await?)
    }
}

impl Resource<Backend> for Challenge {
    async fn find(lookup: &Lookup<'_, Backend>) -> Result<Self, Error> {
        let caller = BackendOrDevice::from(*lookup.caller);
        Ok(lookup.app.challenge(&caller, lookup.entity_path()?, lookup.challenge_sid()?).await?)
    }
}

impl Resource<BackendOrDevice> for Challenge {
    async fn find(lookup: &Lookup<'_, BackendOrDevice>) -> Result<Self, Error> {
        Ok(lookup.app.challenge(lookup.caller, lookup.entity_path()?, lookup.challenge_sid()?).await?)
    }
}

/// An access token that can still be used.
pub(crate) struct UsableToken {
    /// The stored access token, without its text.
    pub(crate) token: AccessToken,
    /// The text of the access token, which the phone sends.
    pub(crate) text: TokenText,
}

impl Resource<Backend> for UsableToken {
    async fn find(lookup: &Lookup<'_, Backend>) -> Result<Self, Error> {
        let (service_sid, sid) = (lookup.sid("ServiceSid")?, lookup.sid("Sid")?);
        let (token, text) = lookup.app.access_token(*lookup.caller, service_sid, sid).await?;
        Ok(Self { token, text })
    }
}

/// A verification that can still be approved, and the service to which it belongs.
pub(crate) struct OpenVerification {
    pub(crate) service: Service,
    pub(crate) verification: Verification,
}

/// The path may name the verification by its SID, or by the phone number or mail address of its recipient.
impl Resource<Backend> for OpenVerification {
    async fn find(lookup: &Lookup<'_, Backend>) -> Result<Self, Error> {
        let service = lookup.app.service(lookup.account_sid(), lookup.sid("ServiceSid")?).await?;
        let target =
            VerificationTarget::from_path(&lookup.recipient("Sid")).ok_or_else(Problem::not_found)?;
        let verification = lookup.app.pending_verification(service.account_sid, service.sid, target).await?;
        Ok(Self { service, verification })
    }
}

impl Resource<Backend> for Webhook {
    async fn find(lookup: &Lookup<'_, Backend>) -> Result<Self, Error> {
        let (service_sid, sid) = (lookup.sid("ServiceSid")?, lookup.sid("Sid")?);
        Ok(lookup.app.webhook(lookup.account_sid(), service_sid, sid).await?)
    }
}

impl Resource<Backend> for RateLimit {
    async fn find(lookup: &Lookup<'_, Backend>) -> Result<Self, Error> {
        let (service_sid, key) = (lookup.sid("ServiceSid")?, lookup.rate_limit_key()?);
        Ok(lookup.app.rate_limit(lookup.account_sid(), service_sid, key).await?)
    }
}

impl Resource<Backend> for RateLimitBucket {
    async fn find(lookup: &Lookup<'_, Backend>) -> Result<Self, Error> {
        let (service_sid, key) = (lookup.sid("ServiceSid")?, lookup.rate_limit_key()?);
        Ok(lookup.app.bucket(lookup.account_sid(), service_sid, key, lookup.sid("Sid")?).await?)
    }
}

impl Resource<Backend> for MessagingConfiguration {
    async fn find(lookup: &Lookup<'_, Backend>) -> Result<Self, Error> {
        let service_sid = lookup.sid("ServiceSid")?;
        let country = MessagingCountry::from_parameter(lookup.parameter("Country"));
        let country = country.map_err(|_| Problem::not_found())?;
        Ok(lookup.app.messaging_configuration(lookup.account_sid(), service_sid, country).await?)
    }
}

impl Resource<Backend> for SafeNumber {
    async fn find(lookup: &Lookup<'_, Backend>) -> Result<Self, Error> {
        Ok(lookup.app.safe_number(lookup.account_sid(), lookup.phone_number()?).await?)
    }
}

/// The forms, which are the same for all accounts.
impl Resource<Backend> for FormType {
    async fn find(lookup: &Lookup<'_, Backend>) -> Result<Self, Error> {
        Ok(Self::from_path(lookup.parameter("FormType")).ok_or_else(Problem::not_found)?)
    }
}

impl Resource<Backend> for Credential {
    async fn find(lookup: &Lookup<'_, Backend>) -> Result<Self, Error> {
        Ok(lookup.app.credential(lookup.account_sid(), lookup.sid("Sid")?).await?)
    }
}

impl Resource<Backend> for Alert {
    async fn find(lookup: &Lookup<'_, Backend>) -> Result<Self, Error> {
        Ok(lookup.app.alert(lookup.account_sid(), lookup.sid("Sid")?).await?)
    }
}

impl Resource<Backend> for Attempt {
    async fn find(lookup: &Lookup<'_, Backend>) -> Result<Self, Error> {
        Ok(lookup.app.attempt(lookup.account_sid(), lookup.sid("Sid")?).await?)
    }
}

impl Resource<Backend> for AuditRecord {
    async fn find(lookup: &Lookup<'_, Backend>) -> Result<Self, Error> {
        Ok(lookup.app.event(lookup.account_sid(), lookup.sid("Sid")?).await?)
    }
}
