//! Virtual devices.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::device::wire::Operation;
use ::device::{Answer, Exchange, Status};
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use domain::{ChallengeSid, Clock as _, Code, Problem};
use serde::Deserialize;
use serde_json::Value;

use crate::behavior::{Behavior, Reaction};
use crate::capture_filter::MAX_WAIT;
use crate::device::Device;
use crate::enrollment::{NewDevice, enroll};
use crate::error::Error;
use crate::request::{ControlRequest, array};
use crate::step_log::{Subject, What};

/// `POST /devices`: creates a virtual device.
pub(crate) async fn create(request: ControlRequest) -> Result<HttpResponse, Error> {
    let new: NewDevice = request.json()?;
    let account_sid = new.account_sid.unwrap_or(request.state.settings.account_sid);
    let (app, fleet) = (Arc::clone(&request.app), &request.state.fleet);
    let device = fleet.network()?.run(enroll(app, Arc::clone(fleet), account_sid, new)).await?;
    Ok(HttpResponse::build(StatusCode::CREATED).json(device.describe(&request.app).await?))
}

/// `GET /devices`: returns all virtual devices.
pub(crate) async fn list(request: ControlRequest) -> Result<HttpResponse, Error> {
    let mut descriptions = Vec::new();
    for device in request.state.fleet.all() {
        descriptions.push(device.describe(&request.app).await?);
    }
    Ok(HttpResponse::Ok().json(array(descriptions)))
}

fn find(request: &ControlRequest) -> Result<Arc<Device>, Error> {
    request.state.fleet.require(request.path_parameter("Id"))
}

/// `GET /devices/{id}`: returns a virtual device.
pub(crate) async fn fetch(request: ControlRequest) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().json(find(&request)?.describe(&request.app).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeviceUpdate {
    #[serde(rename = "behaviour")]
    behavior: Behavior,
}

/// `PATCH /devices/{id}`: replaces the behavior for challenges that are created from now on.
pub(crate) async fn update(request: ControlRequest) -> Result<HttpResponse, Error> {
    let device = find(&request)?;
    let DeviceUpdate { behavior } = request.json()?;
    device.set_behavior(behavior);
    Ok(HttpResponse::Ok().json(device.describe(&request.app).await?))
}

/// `DELETE /devices/{id}`: lets the device delete its factor, as an app does when its user signs out.
pub(crate) async fn delete(request: ControlRequest) -> Result<HttpResponse, Error> {
    let device = find(&request)?;
    let fleet = &request.state.fleet;
    let network = fleet.network()?;
    let phone = device.phone(network, network.clock(), Subject::default());
    let enrollment = device.enrollment();
    network.run(async move { Ok(phone.delete_factor(&enrollment).await?) }).await?;
    fleet.remove(device.factor_sid);
    Ok(HttpResponse::NoContent().finish())
}

/// `GET /devices/{id}/log`: returns the steps of a device, oldest first.
pub(crate) async fn steps(request: ControlRequest) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().json(array(find(&request)?.log.steps())))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnswerRequest {
    challenge_sid: Option<ChallengeSid>,
    #[serde(default)]
    wait: f64,
}

/// `POST /devices/{id}/approve`: lets the device approve a challenge.
pub(crate) async fn approve(request: ControlRequest) -> Result<HttpResponse, Error> {
    answer(request, Answer::Approved).await
}

/// `POST /devices/{id}/deny`: lets the device deny a challenge.
pub(crate) async fn deny(request: ControlRequest) -> Result<HttpResponse, Error> {
    answer(request, Answer::Denied).await
}

/// Lets a device answer a challenge, and returns the challenge as the device fetched it afterwards.
async fn answer(request: ControlRequest, answer: Answer) -> Result<HttpResponse, Error> {
    let device = find(&request)?;
    let AnswerRequest { challenge_sid, wait } = request.json()?;
    let wait = Duration::try_from_secs_f64(wait).ok().filter(|wait| *wait <= MAX_WAIT);
    let wait = wait.ok_or_else(|| Error::invalid("wait must be a number of seconds from 0 to 60"))?;
    let sid = match challenge_sid {
        Some(sid) => sid.to_string(),
        None => wait_for_pending(&request, &device, wait).await?,
    };
    let network = request.state.fleet.network()?;
    let reaction = match answer {
        Answer::Approved => Reaction::Approve,
        Answer::Denied => Reaction::Deny,
    };
    let subject = Subject { challenge_sid: Some(sid.clone()), reaction: Some(reaction) };
    let fetched = Arc::new(Mutex::new(Value::Null));
    let last_fetched = Arc::clone(&fetched);
    let observe = move |exchange: &Exchange| {
        if exchange.request.operation == Operation::GetChallenge {
            let body = serde_json::from_str(&exchange.response.body).unwrap_or_default();
            *last_fetched.lock().unwrap_or_else(PoisonError::into_inner) = body;
        }
    };
    let phone = device.observed_phone(network, network.clock(), subject.clone(), observe);
    let enrollment = device.enrollment();
    let answering = async move { phone.answer(&enrollment, &sid, answer).await.map(drop).map_err(refusal) };
    if let Err(error) = network.run(answering).await {
        device.log.add(network.clock.now(), What::GaveUp, &subject, &error.to_string());
        return Err(error);
    }
    let body = fetched.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(HttpResponse::Ok().json(body))
}

/// Returns the error for an answer that the API refused, or that the phone could not send.
fn refusal(error: ::device::Error) -> Error {
    match error {
        ::device::Error::Api { code, message, .. } => {
            Error::Conflict { code: u32::try_from(code).unwrap_or_default(), message }
        }
        ::device::Error::NotPending(challenge) => {
            let code = match challenge.status {
                Status::Approved | Status::Denied => Code::ChallengeResponded,
                Status::Expired | Status::Pending => Code::ChallengeExpired,
            };
            let problem = Problem::new(code);
            Error::Conflict { code: code.number(), message: problem.message().to_owned() }
        }
        other => other.into(),
    }
}

/// Returns the SID of the device's newest pending challenge. If there is none, waits for one.
///
/// # Errors
/// Returns error code 20404 if there is none at the end of the time.
async fn wait_for_pending(
    request: &ControlRequest,
    device: &Arc<Device>,
    wait: Duration,
) -> Result<String, Error> {
    let network = request.state.fleet.network()?;
    let mut challenged = device.challenged();
    let mut timeout = std::pin::pin!(tokio::time::sleep(wait));
    let mut stopped = std::pin::pin!(request.state.stopped());
    loop {
        let phone = device.phone(network, network.clock(), Subject::default());
        let enrollment = device.enrollment();
        let list = network.run(async move { phone.list_pending(&enrollment).await.map_err(refusal) }).await?;
        if let Some(sid) = device.newest(list.challenges.into_iter().map(|challenge| challenge.sid)) {
            return Ok(sid);
        }
        tokio::select! {
            // The device keeps the sender, so the channel cannot be closed.
            _ = challenged.changed() => {}
            () = &mut timeout => return Err(Error::missing("the virtual device has no pending challenge")),
            () = &mut stopped => return Err(Problem::new(Code::Unavailable).into()),
        }
    }
}
