//! `POST /reset`: the state of a server that has just started.

use actix_web::HttpResponse;
use app::Kept;
use domain::{FriendlyName, Parameter as _};
use serde::Deserialize;

use crate::chaos::Plan;
use crate::endpoints::clock::IDLE_TIMEOUT;
use crate::error::Error;
use crate::request::{ControlRequest, origin};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResetRequest {
    #[serde(default)]
    keep: Vec<Keep>,
}

/// What a reset can keep.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Keep {
    Accounts,
    Credentials,
}

/// `POST /reset`: deletes devices, captures and all data, and sets the clock to the real time.
pub(crate) async fn reset(request: ControlRequest) -> Result<HttpResponse, Error> {
    let ResetRequest { keep } = request.json()?;
    let state = &request.state;
    let account_sid = state.settings.account_sid;
    state.fleet.clear();
    state.captures.wait_until_idle(IDLE_TIMEOUT).await;
    state.chaos.set(Plan::default());
    state.clock.reset();
    let kept = Kept {
        account_sid,
        accounts: keep.contains(&Keep::Accounts),
        credentials: keep.contains(&Keep::Credentials),
    };
    request.app.erase(kept).await?;
    let name = FriendlyName::from_parameter("First account")
        .map_err(|expected| Error::Fault(expected.to_string()))?;
    let auth_token = state.settings.auth_token.clone();
    request.app.create_account(&origin(), Some(account_sid), Some(auth_token), name).await?;
    // What ran until now may have been captured after the devices were deleted.
    state.captures.clear();
    Ok(HttpResponse::NoContent().finish())
}
