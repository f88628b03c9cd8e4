//! Handler for `/2010-04-01/Accounts/{AccountSid}` (docs/protocol/resources.md, section 9).

use actix_web::HttpResponse;
use app::Backend;
use domain::Account;
use serde_json::{Value, json};

use crate::error::Error;
use crate::request::AuthorizedRequest;

pub(crate) async fn fetch(request: AuthorizedRequest<Account, Backend>) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().json(view(&request.resource)))
}

fn view(account: &Account) -> Value {
    let path = format!("/2010-04-01/Accounts/{}", account.sid);
    json!({
        "sid": account.sid,
        "friendly_name": account.friendly_name,
        "status": "active",
        "type": "Full",
        // Never revealed: a caller with an API key does not know it (docs/protocol/decisions.md, No. 46).
        "auth_token": "",
        // There are no subaccounts, so every account is its own owner.
        "owner_account_sid": account.sid,
        "date_created": account.created_at.to_rfc2822(),
        "date_updated": account.updated_at.to_rfc2822(),
        "uri": format!("{path}.json"),
        "subresource_uris": { "keys": format!("{path}/Keys.json") },
    })
}
