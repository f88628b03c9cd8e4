//! Handlers for `/v2/Services/{ServiceSid}/Passkeys` (docs/protocol/resources.md, section 8). They take and return
//! JSON.

use actix_web::HttpResponse;
use app::Backend;
use app::challenges::PasskeySelection;
use app::factors::NewPasskey;
use domain::challenges::PasskeyChallenge;
use domain::services::{Passkeys, RelyingParty};
use domain::{Challenge, Code, FactorSid, Identity, Problem, Service, Timestamp};
use serde_json::{Value, json};
use web::{JsonObject, Members};

use crate::error::Error;
use crate::request::AuthorizedRequest;
use crate::{challenges, factors};

type Request = AuthorizedRequest<Service, Backend, JsonObject>;

pub(crate) async fn create_factor(request: Request) -> Result<HttpResponse, Error> {
    let members = request.form.members();
    let new = NewPasskey {
        friendly_name: members.required("friendly_name", Code::InvalidDisplayName)?,
        identity: members.required("identity", Code::InvalidIdentity)?,
        config: config(members)?,
    };
    let created =
        request.app.create_passkey(&request.origin, request.caller, request.resource.sid, new).await?;
    let (factor, options) = created;
    let mut body = factors::view(&factor.into(), &request.public_url);
    body["binding"] = Value::Null;
    // Only the response to a factor's creation contains its options.
    body["options"] = options;
    Ok(HttpResponse::Created().json(body))
}

pub(crate) async fn verify_factor(request: Request) -> Result<HttpResponse, Error> {
    let (service_sid, credential) = (request.resource.sid, request.form.value());
    let factor = request.app.verify_passkey(&request.origin, request.caller, service_sid, credential).await?;
    Ok(HttpResponse::Ok().json(factors::view(&factor.into(), &request.public_url)))
}

pub(crate) async fn create_challenge(request: Request) -> Result<HttpResponse, Error> {
    let selection = selection(request.form.members())?;
    let (app, service_sid) = (&request.app, request.resource.sid);
    let challenge =
        app.create_passkey_challenge(&request.origin, request.caller, service_sid, selection).await?;
    let now = challenge.created_at;
    Ok(HttpResponse::Created().json(view(challenge, now, &request)))
}

pub(crate) async fn approve_challenge(request: Request) -> Result<HttpResponse, Error> {
    let (app, service_sid) = (&request.app, request.resource.sid);
    let credential = request.form.value();
    let challenge =
        app.approve_passkey_challenge(&request.origin, request.caller, service_sid, credential).await?;
    let now = challenge.updated_at;
    Ok(HttpResponse::Ok().json(view(challenge, now, &request)))
}

/// Returns the JSON body for a challenge. Its URL is that of the request, because the real service returns that.
fn view(challenge: Challenge<PasskeyChallenge>, now: Timestamp, request: &Request) -> Value {
    let options = challenge.kind.options.clone();
    let mut body = challenges::view(&challenge.into(), now, &request.public_url);
    body["options"] = options;
    body["url"] = json!(request.url());
    body
}

/// Parses `config`. What is absent comes from the settings of the service.
fn config(members: Members<'_>) -> Result<Passkeys, Problem> {
    let criterion = Code::MissingAuthenticatorCriteria;
    let Some(config) = members.object("config", "config.", criterion)? else {
        return Ok(Passkeys::default());
    };
    let party = config.object("relying_party", "config.relying_party.", Code::InvalidRelyingParty)?;
    let relying_party = match party {
        None => RelyingParty::default(),
        Some(party) => RelyingParty {
            id: party.optional("id", Code::InvalidRelyingPartyId)?,
            name: party.optional("name", Code::InvalidRelyingParty)?,
            origins: party.texts("origins", Code::InvalidRelyingParty)?,
        },
    };
    Ok(Passkeys {
        relying_party,
        authenticator_attachment: config.optional("authenticator_attachment", criterion)?,
        discoverable_credentials: config.optional("discoverable_credentials", criterion)?,
        user_verification: config.optional("user_verification", criterion)?,
    })
}

/// Parses `identity` and `factor_sid`. A malformed identity is one that no entity has.
fn selection(members: Members<'_>) -> Result<PasskeySelection, Problem> {
    let factor_sid = members.optional::<FactorSid>("factor_sid", Code::InvalidFactorSid)?;
    let identity = members.optional::<Identity>("identity", Code::EntityNotFound)?;
    Ok(match (factor_sid, identity) {
        (Some(factor_sid), identity) => PasskeySelection::One(factor_sid, identity),
        (None, Some(identity)) => PasskeySelection::OfEntity(identity),
        (None, None) => PasskeySelection::Any,
    })
}
