//! Handler for `/v2/Services/{ServiceSid}/Entities/{Identity}/Challenges/{ChallengeSid}/Notifications`
//! (docs/protocol/resources.md, section 5).

use actix_web::HttpResponse;
use app::Backend;
use domain::challenges::ChallengeKind;
use domain::notifications::Ttl;
use domain::{Challenge, Code};
use serde_json::json;

use crate::error::Error;
use crate::request::AuthorizedRequest;

pub(crate) async fn create(request: AuthorizedRequest<Challenge, Backend>) -> Result<HttpResponse, Error> {
    const DEFAULT_TTL: Ttl = match Ttl::new(300) {
        Some(ttl) => ttl,
        // This `match` is evaluated at compile time, so `unreachable!` can only fail the build.
        None => unreachable!(),
    };
    let ttl = request.form.optional("Ttl")?.unwrap_or(DEFAULT_TTL);
    let (challenge, kind) = request.resource.split();
    let challenge = match kind {
        ChallengeKind::Push(push) => challenge.with(push),
        ChallengeKind::Totp(_) | ChallengeKind::Passkey(_) => return Err(Code::NoNotificationPlatform.into()),
    };
    let (path, sid) = (challenge.path(), challenge.sid);
    let (notification, challenge) =
        request.app.notify(&request.origin, request.caller, path, sid, ttl).await?;
    Ok(HttpResponse::Created().json(json!({
        "sid": notification.sid,
        "account_sid": challenge.account_sid,
        "service_sid": challenge.service_sid,
        "entity_sid": challenge.kind.target.entity_sid,
        "identity": challenge.kind.target.identity,
        "challenge_sid": challenge.sid,
        "priority": "high",
        "ttl": notification.ttl,
        "date_created": notification.created_at,
    })))
}
