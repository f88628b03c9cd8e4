//! What the path of a request names, looked up within the caller's reach.
//!
//! Each handler says in its signature what its path names: `Call<Factor>` is a request about a factor that exists and
//! that its caller may see. The extractor (`call.rs`) looks it up through a [`Lookup`], which holds the caller and the
//! segments of the path and nothing else that was sent. So the body and the query can't be refused before the caller
//! is: whether they are well formed is looked at afterwards.

use std::str::FromStr;

use actix_web::dev::{Path, Url};
use app::{App, Caller};
use domain::access_tokens::TokenText;
use domain::alerts::Alert;
use domain::audit::Line;
use domain::credentials::Credential;
use domain::parameter::Parameter as _;
use domain::{
    AccessToken, AccountSid, Challenge, Entity, EntityPath, Factor, Identity, Problem, Service, ServiceSid,
    Webhook,
};

use crate::error::Error;

/// A request whose caller is known and may use the route: what decides whether the caller may reach what the path
/// names.
pub(crate) struct Lookup<'r> {
    app: &'r App,
    caller: &'r Caller,
    segments: &'r Path<Url>,
}

impl<'r> Lookup<'r> {
    /// Looks for `caller` at what these segments name.
    pub(crate) const fn new(app: &'r App, caller: &'r Caller, segments: &'r Path<Url>) -> Self {
        Self { app, caller, segments }
    }

    fn account_sid(&self) -> AccountSid {
        self.caller.account_sid()
    }

    fn segment(&self, name: &str) -> &str {
        self.segments.get(name).unwrap_or_default()
    }

    /// A SID out of the path.
    ///
    /// # Errors
    /// 20404 for a text that is no SID of this kind, since it names nothing.
    fn sid<S: FromStr>(&self, name: &str) -> Result<S, Problem> {
        self.segment(name).parse().map_err(|_| Problem::not_found())
    }

    /// The path of an entity that the caller may see if it exists.
    ///
    /// # Errors
    /// 20404 for an identity that no entity can have, and for another entity than a device's own.
    fn entity_path(&self) -> Result<EntityPath, Problem> {
        let identity =
            Identity::from_parameter(self.segment("Identity")).map_err(|_| Problem::not_found())?;
        self.caller.path(self.sid("ServiceSid")?, identity)
    }
}

/// What a path can name.
pub(crate) trait Resource: Sized {
    /// Finds it.
    ///
    /// # Errors
    /// 20404 when there is no such thing within the caller's reach, 60313 for an access token that was made for
    /// something else; when the database fails.
    async fn find(lookup: &Lookup<'_>) -> Result<Self, Error>;
}

/// The caller's account, to which the collections belong that no segment of the path narrows down.
impl Resource for AccountSid {
    async fn find(lookup: &Lookup<'_>) -> Result<Self, Error> {
        Ok(lookup.account_sid())
    }
}

impl Resource for Service {
    async fn find(lookup: &Lookup<'_>) -> Result<Self, Error> {
        Ok(lookup.app.service(lookup.account_sid(), lookup.sid("ServiceSid")?).await?)
    }
}

impl Resource for Entity {
    async fn find(lookup: &Lookup<'_>) -> Result<Self, Error> {
        Ok(lookup.app.entity(lookup.entity_path()?).await?)
    }
}

/// An entity that need not exist yet, in a service that does. Its identity is looked at last: one that can't be is a
/// mistake in the request (60306).
impl Resource for EntityPath {
    async fn find(lookup: &Lookup<'_>) -> Result<Self, Error> {
        let service_sid = lookup.sid::<ServiceSid>("ServiceSid");
        let identity = Identity::from_parameter(lookup.segment("Identity"));
        lookup.caller.may_enroll(service_sid.as_ref().ok().copied(), identity.as_ref().ok())?;
        let service = lookup.app.service(lookup.account_sid(), service_sid?).await?;
        let identity = identity.map_err(|expected| Problem::invalid("Identity", &expected))?;
        Ok(lookup.caller.path(service.sid, identity)?)
    }
}

impl Resource for Factor {
    async fn find(lookup: &Lookup<'_>) -> Result<Self, Error> {
        Ok(lookup.app.factor(lookup.caller, lookup.entity_path()?, lookup.sid("Sid")?).await?)
    }
}

impl Resource for Challenge {
    async fn find(lookup: &Lookup<'_>) -> Result<Self, Error> {
        // The segment has another name where something under the challenge follows.
        let sid = lookup.sid("Sid").or_else(|_| lookup.sid("ChallengeSid"))?;
        Ok(lookup.app.challenge(lookup.caller, lookup.entity_path()?, sid).await?)
    }
}

/// An access token that can still be used, with its text.
pub(crate) struct UsableToken {
    /// What is remembered of it.
    pub(crate) token: AccessToken,
    /// The token itself.
    pub(crate) text: TokenText,
}

impl Resource for UsableToken {
    async fn find(lookup: &Lookup<'_>) -> Result<Self, Error> {
        let (service_sid, sid) = (lookup.sid("ServiceSid")?, lookup.sid("Sid")?);
        let (token, text) = lookup.app.access_token(lookup.account_sid(), service_sid, sid).await?;
        Ok(Self { token, text })
    }
}

impl Resource for Webhook {
    async fn find(lookup: &Lookup<'_>) -> Result<Self, Error> {
        let (service_sid, sid) = (lookup.sid("ServiceSid")?, lookup.sid("Sid")?);
        Ok(lookup.app.webhook(lookup.account_sid(), service_sid, sid).await?)
    }
}

impl Resource for Credential {
    async fn find(lookup: &Lookup<'_>) -> Result<Self, Error> {
        Ok(lookup.app.credential(lookup.account_sid(), lookup.sid("Sid")?).await?)
    }
}

impl Resource for Alert {
    async fn find(lookup: &Lookup<'_>) -> Result<Self, Error> {
        Ok(lookup.app.alert(lookup.account_sid(), lookup.sid("Sid")?).await?)
    }
}

impl Resource for Line {
    async fn find(lookup: &Lookup<'_>) -> Result<Self, Error> {
        Ok(lookup.app.event(lookup.account_sid(), lookup.sid("Sid")?).await?)
    }
}
