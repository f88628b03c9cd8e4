//! Handlers for `/v2/Services/{ServiceSid}/AccessTokens` (docs/protocol/resources.md, section 6), and the
//! QR code of a token, which is an addition of Countersign.

use actix_web::HttpResponse;
use app::Backend;
use app::NewAccessToken;
use domain::access_tokens::{TokenText, Ttl};
use domain::{AccessToken, Code, Problem, Service};
use enrollment_link::EnrollmentLink;
use serde_json::{Value, json};

use crate::error::Error;
use crate::request::AuthorizedRequest;
use crate::resource::UsableToken;

pub(crate) async fn create(request: AuthorizedRequest<Service, Backend>) -> Result<HttpResponse, Error> {
    const DEFAULT_TTL: Ttl = match Ttl::new(60) {
        Some(ttl) => ttl,
        // This `match` is evaluated at compile time, so `unreachable!` can only fail the build.
        None => unreachable!(),
    };
    // A missing parameter of an access token has its own error code, 60305 (docs/protocol/decisions.md, No. 2).
    let missing =
        |name| Problem::with_advice(Code::AccessTokenParameters, format_args!("{name} is required"));
    let new = NewAccessToken {
        identity: request.form.optional("Identity")?.ok_or_else(|| missing("Identity"))?,
        factor_type: request.form.optional("FactorType")?.ok_or_else(|| missing("FactorType"))?,
        factor_friendly_name: request.form.optional("FactorFriendlyName")?,
        ttl: request.form.optional("Ttl")?.unwrap_or(DEFAULT_TTL),
    };
    let service_sid = request.resource.sid;
    let (token, text) =
        request.app.create_access_token(&request.origin, request.caller, service_sid, new).await?;
    Ok(HttpResponse::Created().json(view(&token, &text, &request.public_url)))
}

pub(crate) async fn fetch(request: AuthorizedRequest<UsableToken, Backend>) -> Result<HttpResponse, Error> {
    let UsableToken { token, text } = &request.resource;
    Ok(HttpResponse::Ok().json(view(token, text, &request.public_url)))
}

/// Returns the QR code of the link with which the token enrolls a browser (docs/browser-phone.md). Like the token's own
/// route, this works until the token is used or expires.
///
/// It does not matter whether this process serves the browser phone, because another one at the same URL may.
pub(crate) async fn qr_code(request: AuthorizedRequest<UsableToken, Backend>) -> Result<HttpResponse, Error> {
    let UsableToken { token, text } = &request.resource;
    let grant = &token.grant;
    let link = EnrollmentLink::new(&request.public_url, text.expose(), grant.service_sid, &grant.identity);
    let code = link.qr_code().map_err(|too_long| Problem::with_advice(Code::Internal, too_long))?;
    Ok(HttpResponse::Ok().content_type("image/svg+xml").body(code.svg()))
}

fn view(token: &AccessToken, text: &TokenText, public_url: &str) -> Value {
    let grant = &token.grant;
    json!({
        "sid": grant.sid,
        "account_sid": grant.account_sid,
        "service_sid": grant.service_sid,
        "entity_identity": grant.identity,
        "factor_type": grant.factor_type.as_str(),
        "factor_friendly_name": token.factor_friendly_name,
        "token": text.expose(),
        "ttl": token.ttl,
        "date_created": token.created_at,
        "url": format!("{public_url}/v2/Services/{}/AccessTokens/{}", grant.service_sid, grant.sid),
    })
}
