//! The backend: the requests that an application's server sends, with the credentials of an account or an API key.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::{Secret, ServiceSid};
use hyper::Method;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use serde::Deserialize;
use terminal::CliError;
use url::form_urlencoded;

use crate::client::{Client, Reply};
use crate::failure::Failure;
use crate::target::{Request, Target};

/// The name of a service that the command creates.
const SERVICE_NAME: &str = "Load test";

/// The code of every verification. The backend chooses it, so that it can be checked without reading the message.
const CUSTOM_CODE: &str = "271828";

/// Lifetime of an access token in seconds, the longest that the server permits. Many phones enroll at once.
const ACCESS_TOKEN_TTL_SECONDS: &str = "300";

/// The credentials of the backend.
pub struct Credentials {
    /// SID of the account, `AC…`, or of an API key, `SK…`.
    pub sid: String,
    /// Auth token of the account, or secret of the API key.
    pub secret: Secret<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("sid", &self.sid).finish_non_exhaustive()
    }
}

/// The backend of an application, which uses one service.
pub(crate) struct Backend {
    /// Value of the `Authorization` header, the same in every request.
    authorization: HeaderValue,
    service: ServiceSid,
    /// Path of the service.
    path: String,
    /// The form fields of a new challenge after the factor, encoded.
    challenge_details: String,
}

/// The members of a challenge that the backend reads.
#[derive(Deserialize)]
pub(crate) struct ChallengeView<'a> {
    /// SID of the challenge, `YC…`.
    #[serde(borrow)]
    pub(crate) sid: Cow<'a, str>,
    /// Status of the challenge, such as `pending`.
    #[serde(borrow)]
    pub(crate) status: Cow<'a, str>,
}

#[derive(Deserialize)]
struct ServiceView {
    sid: String,
}

#[derive(Deserialize)]
struct AccessTokenView {
    token: String,
}

impl Backend {
    /// Creates a backend that uses `service`, or a new service, which permits custom codes if `has_codes`. Either way
    /// the server has accepted the credentials.
    ///
    /// # Errors
    /// Returns an error if the server refuses the credentials or has no such service.
    pub(crate) async fn open(
        client: &mut Client<'_>,
        target: &Target,
        credentials: &Credentials,
        service: Option<ServiceSid>,
        has_codes: bool,
    ) -> Result<Self, CliError> {
        let pair = format!("{}:{}", credentials.sid, credentials.secret.expose());
        let mut authorization = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair)))?;
        authorization.set_sensitive(true);
        let (purpose, sid) = match service {
            Some(sid) => {
                let request = target.request(Method::GET, &service_path(sid), authorization.clone(), None);
                ("read the service", send(client, request).await)
            }
            None => {
                let mut fields = vec![("FriendlyName", SERVICE_NAME)];
                fields.extend(has_codes.then_some(("CustomCodeEnabled", "true")));
                let form = form(&fields);
                let request = post(target, "/v2/Services", &authorization, form);
                ("create a service", send(client, request).await)
            }
        };
        let sid = sid
            .and_then(|reply| parse::<ServiceView>(&reply))
            .map_err(|failure| failure.explain(purpose))?
            .sid;
        let service: ServiceSid = sid.parse()?;
        let challenge_details = form(&[
            ("Details.Message", "Sign in to Owl Bank?"),
            ("Details.Fields", r#"{"label":"Place","value":"Vienna"}"#),
            ("Details.Fields", r#"{"label":"IP","value":"203.0.113.9"}"#),
        ]);
        Ok(Self { authorization, service, path: service_path(service), challenge_details })
    }

    /// Returns the SID of the service.
    pub(crate) const fn service(&self) -> ServiceSid {
        self.service
    }

    /// Returns the path of an entity of the service.
    pub(crate) fn entity_path(&self, identity: &str) -> String {
        format!("{}/Entities/{identity}", self.path)
    }

    /// Creates an access token with which a phone can enroll for `identity`.
    pub(crate) async fn create_access_token(
        &self,
        client: &mut Client<'_>,
        target: &Target,
        identity: &str,
    ) -> Result<Secret<String>, Failure> {
        let form = form(&[("Identity", identity), ("FactorType", "push"), ("Ttl", ACCESS_TOKEN_TTL_SECONDS)]);
        let request = post(target, &format!("{}/AccessTokens", self.path), &self.authorization, form);
        Ok(Secret::new(parse::<AccessTokenView>(&send(client, request).await?)?.token))
    }

    /// Builds the request that creates a challenge for a factor. Without an expiration date, the challenge expires
    /// after five minutes.
    pub(crate) fn create_challenge(
        &self,
        target: &Target,
        challenges_path: &str,
        factor_sid: &str,
        expiration_date: Option<&str>,
    ) -> Result<Request, Failure> {
        let mut body = format!("FactorSid={factor_sid}&{}", self.challenge_details);
        if let Some(date) = expiration_date {
            body.push('&');
            body.push_str(&form(&[("ExpirationDate", date)]));
        }
        post(target, challenges_path, &self.authorization, body)
    }

    /// Builds the request that reads a challenge.
    pub(crate) fn read_challenge(
        &self,
        target: &Target,
        challenges_path: &str,
        sid: &str,
    ) -> Result<Request, Failure> {
        let path = format!("{challenges_path}/{sid}");
        target.request(Method::GET, &path, self.authorization.clone(), None)
    }

    /// Builds the request that sends a code to a phone number.
    pub(crate) fn send_code(&self, target: &Target, number: u64) -> Result<Request, Failure> {
        let to = phone_number(number);
        let form = form(&[("To", to.as_str()), ("Channel", "sms"), ("CustomCode", CUSTOM_CODE)]);
        post(target, &format!("{}/Verifications", self.path), &self.authorization, form)
    }

    /// Builds the request that checks the code that was sent to a phone number.
    pub(crate) fn check_code(&self, target: &Target, number: u64) -> Result<Request, Failure> {
        let form = form(&[("To", phone_number(number).as_str()), ("Code", CUSTOM_CODE)]);
        post(target, &format!("{}/VerificationCheck", self.path), &self.authorization, form)
    }

    /// Builds the request that reads the service.
    pub(crate) fn read_service(&self, target: &Target) -> Result<Request, Failure> {
        target.request(Method::GET, &self.path, self.authorization.clone(), None)
    }

    /// Deletes the service with all that it contains.
    pub(crate) async fn delete_service(
        &self,
        client: &mut Client<'_>,
        target: &Target,
    ) -> Result<(), Failure> {
        send(client, target.request(Method::DELETE, &self.path, self.authorization.clone(), None))
            .await
            .map(drop)
    }

    /// Deletes an entity with its factors and challenges.
    pub(crate) async fn delete_entity(
        &self,
        client: &mut Client<'_>,
        target: &Target,
        identity: &str,
    ) -> Result<(), Failure> {
        let path = self.entity_path(identity);
        send(client, target.request(Method::DELETE, &path, self.authorization.clone(), None)).await.map(drop)
    }
}

impl<'a> ChallengeView<'a> {
    /// Parses a response that contains a challenge.
    pub(crate) fn parse(reply: &'a Reply) -> Result<Self, Failure> {
        parse(reply)
    }
}

/// Returns a phone number of a mobile network in Austria.
fn phone_number(number: u64) -> String {
    format!("+43664{number:08}")
}

fn service_path(sid: ServiceSid) -> String {
    format!("/v2/Services/{sid}")
}

fn form(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

fn post(target: &Target, path: &str, authorization: &HeaderValue, form: String) -> Result<Request, Failure> {
    let mut request = target.request(Method::POST, path, authorization.clone(), Some(form))?;
    let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
    request.headers_mut().insert(CONTENT_TYPE, form_type);
    Ok(request)
}

/// Sends a request and returns its response, which must be a success.
async fn send(client: &mut Client<'_>, request: Result<Request, Failure>) -> Result<Reply, Failure> {
    client.send(request?).await?.require_success()
}

/// Parses a response body of JSON.
fn parse<'a, T: Deserialize<'a>>(reply: &'a Reply) -> Result<T, Failure> {
    serde_json::from_slice(&reply.body).map_err(|error| Failure::unexpected(&error))
}
