//! The endpoint that returns the rest of a call after a key was pressed. Requests have no credentials. The token in the
//! path gives access to the code of one verification.

use actix_web::HttpResponse;
use web::PathParameters;

use crate::error::Error;
use crate::request::ReceivedRequest;

/// `POST /countersign/v1/SpokenCodes/{Token}`: returns instructions in TwiML. The parameters of the request, such as the
/// key that was pressed, have no effect.
pub(crate) async fn instructions(request: ReceivedRequest) -> Result<HttpResponse, Error> {
    let ReceivedRequest { state, http, pattern, .. } = request;
    let parameters = PathParameters { pattern, path: http.match_info().as_str() };
    let attempt = state.app.spoken_attempt(parameters.get("Token").unwrap_or_default())?;
    let twiml = state.app.spoken_code(attempt).await?;
    Ok(HttpResponse::Ok().content_type("text/xml").body(twiml))
}
