//! The parameters of TOTP challenges.

use actix_web::HttpResponse;
use app::Backend;
use app::challenges::NewTotpChallenge;
use domain::challenges::TotpChallenge;
use domain::factors::TotpCode;
use domain::{Challenge, Entity, FactorSid, Parameter as _, Problem};

use crate::challenges::{Update, fields, view};
use crate::error::Error;
use crate::request::AuthorizedRequest;

pub(super) async fn create(
    request: AuthorizedRequest<Entity, Backend>,
    factor_sid: FactorSid,
) -> Result<HttpResponse, Error> {
    let new = NewTotpChallenge {
        factor_sid,
        message: request.form.optional("Details.Message")?,
        fields: fields(&request.form)?,
        hidden_details: request.form.optional("HiddenDetails")?,
        expires_at: request.form.optional("ExpirationDate")?,
        code: request.form.optional("AuthPayload")?,
    };
    let path = request.resource.path();
    let challenge = request.app.create_totp_challenge(&request.origin, request.caller, path, new).await?;
    let now = challenge.created_at;
    Ok(HttpResponse::Created().json(view(&challenge.into(), now, &request.public_url)))
}

/// Tries the code in `AuthPayload`, sets the challenge's `Metadata`, or both.
pub(super) async fn update(update: Update, challenge: Challenge<TotpChallenge>) -> Result<Challenge, Error> {
    let Update { app, caller, origin, payload, metadata } = update;
    Ok(match (payload, metadata) {
        (Some(payload), metadata) => {
            let code = TotpCode::from_parameter(&payload);
            let code = code.map_err(|expected| Problem::invalid("AuthPayload", &expected))?;
            app.answer_totp_challenge(&origin, &caller, challenge, code, metadata).await?.into()
        }
        (None, Some(metadata)) => {
            app.set_challenge_metadata(&origin, &caller, challenge.path(), &challenge, metadata).await?
        }
        (None, None) => return Err(Problem::missing("AuthPayload").into()),
    })
}
