//! The description of the server, and accounts for tests.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use domain::{FriendlyName, Parameter as _};
use serde::Deserialize;
use serde_json::json;

use crate::error::Error;
use crate::request::{ControlRequest, origin};

/// `GET /`: describes the server.
pub(crate) async fn describe(request: ControlRequest) -> Result<HttpResponse, Error> {
    let state = &request.state;
    let settings = &state.settings;
    let (pushes, webhooks) = state.captures.counts();
    Ok(HttpResponse::Ok().json(json!({
        "test_mode": settings.exposure.as_str(),
        "version": settings.version,
        "account": {
            "sid": settings.account_sid,
            "auth_token": settings.is_account_public.then(|| settings.auth_token.expose()),
        },
        "clock": state.clock.describe(),
        "counts": { "devices": state.fleet.len(), "pushes": pushes, "webhooks": webhooks },
    })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewAccount {
    friendly_name: Option<String>,
}

/// `POST /accounts`: creates an account with an API key, so that tests that run at the same time do not share one.
pub(crate) async fn create(request: ControlRequest) -> Result<HttpResponse, Error> {
    let NewAccount { friendly_name } = request.json()?;
    let name = friendly_name.as_deref().unwrap_or("Test account");
    let name = FriendlyName::from_parameter(name)
        .map_err(|expected| Error::invalid(format_args!("friendly_name {expected}")))?;
    let created = request.app.create_account(&origin(), None, None, name.clone()).await?;
    let created = created.ok_or_else(|| Error::Fault("the generated account exists already".to_owned()))?;
    let key = request.app.create_api_key(&origin(), created.account.sid, name).await?;
    Ok(HttpResponse::build(StatusCode::CREATED).json(json!({
        "account_sid": created.account.sid,
        "auth_token": created.auth_token.expose(),
        "api_key_sid": key.key.sid,
        "api_key_secret": key.secret.expose(),
    })))
}
