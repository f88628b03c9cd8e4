//! `/v2/Services/{ServiceSid}/AccessTokens` (docs/protocol/resources.md, section 6).

use actix_web::HttpResponse;
use app::NewAccessToken;
use domain::access_tokens::{TokenText, Ttl};
use domain::{AccessToken, Code, Problem, Service};
use serde_json::{Value, json};

use crate::call::Call;
use crate::error::Error;
use crate::reach::UsableToken;

pub(crate) async fn create(call: Call<Service>) -> Result<HttpResponse, Error> {
    const DEFAULT_TTL: Ttl = match Ttl::new(60) {
        Some(ttl) => ttl,
        // Evaluated at compile time, so `unreachable!` can only fail the build.
        None => unreachable!(),
    };
    // What is missing has a code of its own here (docs/protocol/decisions.md, No. 2).
    let missing = |name| Problem::with(Code::AccessTokenParameters, format_args!("{name} is required"));
    let new = NewAccessToken {
        identity: call.form.optional("Identity")?.ok_or_else(|| missing("Identity"))?,
        factor_type: call.form.optional("FactorType")?.ok_or_else(|| missing("FactorType"))?,
        factor_friendly_name: call.form.optional("FactorFriendlyName")?,
        ttl: call.form.optional("Ttl")?.unwrap_or(DEFAULT_TTL),
    };
    let service = &call.resource;
    let (token, text) =
        call.app.create_access_token(&call.origin, service.account_sid, service.sid, new).await?;
    Ok(HttpResponse::Created().json(view(&token, &text, &call.base)))
}

pub(crate) async fn fetch(call: Call<UsableToken>) -> Result<HttpResponse, Error> {
    let UsableToken { token, text } = &call.resource;
    Ok(HttpResponse::Ok().json(view(token, text, &call.base)))
}

fn view(token: &AccessToken, text: &TokenText, base: &str) -> Value {
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
        "url": format!("{base}/Services/{}/AccessTokens/{}", grant.service_sid, grant.sid),
    })
}
