//! The resources that a path can name, and the callers that may reach them.
//!
//! Each handler declares in its signature what its path names: `AuthorizedRequest<Factor, BackendOrDevice>` is a
//! request about a factor that exists and that its caller may see. The extractor (`request.rs`) finds it through a
//! [`Lookup`], which contains the caller and the parameters of the path, but neither the body nor the query. So a
//! caller without access is refused before anything else that it sent is looked at.

use std::str::FromStr;

use actix_web::dev::{Path, Url};
use app::{App, Backend, BackendOrDevice, BackendOrEnrollee};
use domain::access_tokens::TokenText;
use domain::alerts::Alert;
use domain::audit::AuditRecord;
use domain::credentials::Credential;
use domain::parameter::Parameter as _;
use domain::{
    AccessToken, AccountSid, Challenge, ChallengeSid, Entity, EntityPath, Factor, Identity, Problem, Service,
    ServiceSid, Webhook,
};

use crate::callers::CallerClass;
use crate::error::Error;

/// The caller of a request, and the parameters of its path.
pub struct Lookup<'r, C> {
    app: &'r App,
    caller: &'r C,
    parameters: &'r Path<Url>,
}

impl<'r, C: CallerClass> Lookup<'r, C> {
    /// Creates a lookup for `caller`, with the parameters of the path.
    pub(crate) const fn new(app: &'r App, caller: &'r C, parameters: &'r Path<Url>) -> Self {
        Self { app, caller, parameters }
    }

    fn account_sid(&self) -> AccountSid {
        self.caller.account_sid()
    }

    fn parameter(&self, name: &str) -> &str {
        self.parameters.get(name).unwrap_or_default()
    }

    /// Parses a SID of the path.
    ///
    /// # Errors
    /// 20404 for a text that is not a SID of this kind, because nothing can have it.
    fn sid<S: FromStr>(&self, name: &str) -> Result<S, Problem> {
        self.parameter(name).parse().map_err(|_| Problem::not_found())
    }

    /// Returns the SID of a challenge. The parameter has a longer name in paths of what belongs to the challenge.
    fn challenge_sid(&self) -> Result<ChallengeSid, Problem> {
        self.sid("Sid").or_else(|_| self.sid("ChallengeSid"))
    }

    /// Returns the path of the entity that the request names, in the caller's account.
    ///
    /// # Errors
    /// 20404 for an identity that no entity can have.
    fn entity_path(&self) -> Result<EntityPath, Problem> {
        Ok(EntityPath {
            account_sid: self.account_sid(),
            service_sid: self.sid("ServiceSid")?,
            identity: Identity::from_parameter(self.parameter("Identity"))
                .map_err(|_| Problem::not_found())?,
        })
    }
}

/// A resource that a path can name. It is implemented for each class of callers that may reach it, so a handler that
/// opens it to other callers does not compile.
pub trait Resource<C>: Sized {
    /// Finds the resource that the path names.
    ///
    /// # Errors
    /// 20404 if there is none that the caller may see, 60313 for an access token of another entity. Also fails if the
    /// database fails.
    fn find(lookup: &Lookup<'_, C>) -> impl Future<Output = Result<Self, Error>>;
}

/// The caller's account, for collections of the whole account.
impl Resource<Backend> for AccountSid {
    async fn find(lookup: &Lookup<'_, Backend>) -> Result<Self, Error> {
        Ok(lookup.account_sid())
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

impl Resource<BackendOrDevice> for Entity {
    async fn find(lookup: &Lookup<'_, BackendOrDevice>) -> Result<Self, Error> {
        Ok(lookup.app.entity(lookup.caller, lookup.entity_path()?).await?)
    }
}

/// The path of an entity that need not exist yet, in a service that does. Its identity is parsed after authorization;
/// an invalid one is an error in the request (60306).
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
    /// The stored token.
    pub(crate) token: AccessToken,
    /// Its text.
    pub(crate) text: TokenText,
}

impl Resource<Backend> for UsableToken {
    async fn find(lookup: &Lookup<'_, Backend>) -> Result<Self, Error> {
        let (service_sid, sid) = (lookup.sid("ServiceSid")?, lookup.sid("Sid")?);
        let (token, text) = lookup.app.access_token(*lookup.caller, service_sid, sid).await?;
        Ok(Self { token, text })
    }
}

impl Resource<Backend> for Webhook {
    async fn find(lookup: &Lookup<'_, Backend>) -> Result<Self, Error> {
        let (service_sid, sid) = (lookup.sid("ServiceSid")?, lookup.sid("Sid")?);
        Ok(lookup.app.webhook(lookup.account_sid(), service_sid, sid).await?)
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

impl Resource<Backend> for AuditRecord {
    async fn find(lookup: &Lookup<'_, Backend>) -> Result<Self, Error> {
        Ok(lookup.app.event(lookup.account_sid(), lookup.sid("Sid")?).await?)
    }
}
