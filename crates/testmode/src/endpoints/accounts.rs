//! The description of the server, and accounts for tests.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use app::{AccountChanges, UrlChange};
use domain::{AccountSid, FriendlyName, Parameter as _};
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
    debugger_webhook: Option<String>,
    verification_events_url: Option<String>,
}

/// The URLs of an account. A member that is absent changes nothing, and an empty one removes the URL.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Urls {
    debugger_webhook: Option<String>,
    verification_events_url: Option<String>,
}

impl Urls {
    fn changes(&self) -> Result<AccountChanges, Error> {
        let parse = |name: &str, url: &Option<String>| {
            UrlChange::parse(url.as_deref())
                .map_err(|expected| Error::invalid(format_args!("{name} {expected}")))
        };
        Ok(AccountChanges {
            debugger_webhook: parse("debugger_webhook", &self.debugger_webhook)?,
            verification_events_url: parse("verification_events_url", &self.verification_events_url)?,
        })
    }
}

/// `POST /accounts`: creates an account with an API key, so that tests that run at the same time do not share one.
pub(crate) async fn create(request: ControlRequest) -> Result<HttpResponse, Error> {
    let NewAccount { friendly_name, debugger_webhook, verification_events_url } = request.json()?;
    let changes = Urls { debugger_webhook, verification_events_url }.changes()?;
    let name = friendly_name.as_deref().unwrap_or("Test account");
    let name = FriendlyName::from_parameter(name)
        .map_err(|expected| Error::invalid(format_args!("friendly_name {expected}")))?;
    let created = request.app.create_account(&origin(), None, None, name.clone()).await?;
    let created = created.ok_or_else(|| Error::Fault("the generated account exists already".to_owned()))?;
    request.app.update_account(&origin(), created.account.sid, changes).await?;
    let key = request.app.create_api_key(&origin(), created.account.sid, name).await?;
    Ok(HttpResponse::build(StatusCode::CREATED).json(json!({
        "account_sid": created.account.sid,
        "auth_token": created.auth_token.expose(),
        "api_key_sid": key.key.sid,
        "api_key_secret": key.secret.expose(),
    })))
}

/// `POST /accounts/{AccountSid}`: sets or removes the URLs of an account.
pub(crate) async fn update(request: ControlRequest) -> Result<HttpResponse, Error> {
    let sid = request.path_parameter("AccountSid");
    let missing = || Error::missing(format_args!("there is no account {sid}"));
    let account_sid: AccountSid = sid.parse().map_err(|_| missing())?;
    let changes = request.json::<Urls>()?.changes()?;
    request.app.update_account(&origin(), account_sid, changes).await?;
    let account = request.app.account(account_sid).await?;
    Ok(HttpResponse::Ok().json(json!({
        "account_sid": account.sid,
        "friendly_name": account.friendly_name,
        "debugger_webhook": account.debugger_webhook.as_ref().map(|url| url.as_str()),
        "verification_events_url": account.verification_events_url.as_ref().map(|url| url.as_str()),
    })))
}
