//! Handlers for API keys (docs/protocol/resources.md, section 9). Two of Twilio's APIs have them: the API version
//! 2010-04-01 below the account (`v2010.rs`), and IAM at `/v1/Keys` (`iam.rs`). Both show the same keys.

pub(crate) mod iam;
pub(crate) mod v2010;

use actix_web::HttpResponse;
use app::{AccountOwner, ApiKeyWithSecret};
use domain::{AccountSid, ApiKey};
use serde_json::{Value, json};

use crate::error::Error;
use crate::request::AuthorizedRequest;

pub(crate) async fn delete(request: AuthorizedRequest<ApiKey, AccountOwner>) -> Result<HttpResponse, Error> {
    request.app.revoke_api_key(&request.origin, request.resource.sid).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Creates the API key that a request describes.
async fn create(request: &AuthorizedRequest<AccountSid, AccountOwner>) -> Result<ApiKeyWithSecret, Error> {
    let name = request.form.optional("FriendlyName")?.unwrap_or_else(ApiKey::default_name);
    Ok(request.app.create_api_key(&request.origin, request.resource, name).await?)
}

/// Changes an API key as a request describes, and returns the key.
async fn update(request: AuthorizedRequest<ApiKey, AccountOwner>) -> Result<ApiKey, Error> {
    let key = request.resource;
    Ok(match request.form.optional("FriendlyName")? {
        Some(name) => request.app.rename_api_key(&request.origin, key.account_sid, key.sid, name).await?,
        None => key,
    })
}

/// Returns the members that both APIs show.
fn view(key: &ApiKey) -> Value {
    json!({
        "sid": key.sid,
        "friendly_name": key.friendly_name,
        "date_created": key.created_at.to_rfc2822(),
        // The time of a change is only in the audit log (docs/protocol/decisions.md, No. 49).
        "date_updated": key.created_at.to_rfc2822(),
    })
}

/// Returns the view of a new API key. No other response has the secret.
fn view_with_secret(created: &ApiKeyWithSecret) -> Value {
    let mut view = view(&created.key);
    view["secret"] = created.secret.expose().into();
    view
}
