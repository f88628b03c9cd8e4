//! The parameters of push challenges.

use actix_web::HttpResponse;
use app::Backend;
use app::challenges::NewPushChallenge;
use domain::challenges::PushChallenge;
use domain::{Challenge, Entity, FactorSid, Problem};

use crate::challenges::{Update, fields, view};
use crate::error::Error;
use crate::request::AuthorizedRequest;

pub(super) async fn create(
    request: AuthorizedRequest<Entity, Backend>,
    factor_sid: FactorSid,
) -> Result<HttpResponse, Error> {
    let new = NewPushChallenge {
        factor_sid,
        message: request.form.required("Details.Message")?,
        fields: fields(&request.form)?,
        hidden_details: request.form.optional("HiddenDetails")?,
        expires_at: request.form.optional("ExpirationDate")?,
    };
    let path = request.resource.path();
    let challenge = request.app.create_push_challenge(&request.origin, request.caller, path, new).await?;
    let now = challenge.created_at;
    Ok(HttpResponse::Created().json(view(&challenge.into(), now, &request.public_url)))
}

/// Answers the challenge with `AuthPayload`, sets its `Metadata`, or both.
pub(super) async fn update(update: Update, challenge: Challenge<PushChallenge>) -> Result<Challenge, Error> {
    let Update { app, caller, origin, payload, metadata } = update;
    Ok(match (payload, metadata) {
        (Some(payload), metadata) => {
            app.answer_push_challenge(&origin, &caller, challenge, &payload, metadata).await?.into()
        }
        (None, Some(metadata)) => {
            app.set_challenge_metadata(&origin, &caller, challenge.path(), &challenge, metadata).await?
        }
        (None, None) => return Err(Problem::missing("AuthPayload").into()),
    })
}
