//! The requests with which a virtual device reacts to a challenge.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ::device::wire::{self, WireRequest};
use ::device::{Answer, Challenge, Enrollment, Phone, SigningKey, responses, signing};
use domain::{ChallengeSid, Clock, Timestamp};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::behavior::{Act, Reaction};
use crate::clock::TravelingClock;
use crate::device::Device;
use crate::error::Error;
use crate::network::Network;
use crate::step_log::{Subject, What};

/// Time after the expiry of a challenge at which [`Reaction::Late`] sends its answer, in seconds.
const LATE_SECONDS: i64 = 1;

/// Age of the device token of [`Reaction::StaleToken`], in seconds.
const STALE_SECONDS: i64 = 2 * 3600;

/// Time by which the clock of [`Reaction::WrongClock`] is fast, in seconds.
const FAST_SECONDS: i64 = 3600;

/// A clock that is fast.
struct FastClock(Arc<TravelingClock>);

impl Clock for FastClock {
    fn now(&self) -> Timestamp {
        self.0.now().plus_seconds(FAST_SECONDS)
    }
}

/// Lets a device react to a challenge, unless it has done so already.
pub(crate) async fn react(network: Arc<Network>, device: Arc<Device>, challenge_sid: ChallengeSid) {
    let Some(act) = device.take_act(challenge_sid) else { return };
    let subject = Subject { challenge_sid: Some(challenge_sid.to_string()), reaction: Some(act.reaction) };
    let began = network.clock.now();
    let source = if device.has_push() { "by a push" } else { "without a push" };
    device.log.add(began, What::Heard, &subject, source);
    if let Err(error) = carry_out(&network, &device, act, began, &subject).await {
        device.log.add(network.clock.now(), What::GaveUp, &subject, &error.to_string());
    }
}

async fn carry_out(
    network: &Network,
    device: &Arc<Device>,
    act: Act,
    began: Timestamp,
    subject: &Subject,
) -> Result<(), Error> {
    let sid = subject.challenge_sid.as_deref().unwrap_or_default();
    if let Some(after) = act.after {
        network.clock.wait_until(later(began, after.0)).await;
        device.log.add(network.clock.now(), What::Waited, subject, &format!("{} s", after.0.as_secs_f64()));
    }
    let enrollment = device.enrollment();
    let clock: Arc<dyn Clock> = match act.reaction {
        Reaction::WrongClock => Arc::new(FastClock(Arc::clone(&network.clock))),
        _ => network.clock(),
    };
    let phone = device.phone(network, clock, subject.clone());
    match act.reaction {
        Reaction::Approve | Reaction::WrongClock => {
            drop(phone.answer(&enrollment, sid, Answer::Approved).await?)
        }
        Reaction::Deny => drop(phone.answer(&enrollment, sid, Answer::Denied).await?),
        Reaction::Ignore | Reaction::Offline | Reaction::Uninstall => {}
        Reaction::Late => {
            let challenge = phone.get_challenge(&enrollment, sid).await?;
            network.clock.wait_until(challenge.expires_at.plus_seconds(LATE_SECONDS)).await;
            device.log.add(network.clock.now(), What::Waited, subject, "until after the expiry");
            phone.send_answer(&enrollment, &challenge, Answer::Approved).await?;
        }
        Reaction::Twice => {
            let challenge = phone.get_challenge(&enrollment, sid).await?;
            let key = enrollment.key().clone().with_random_signatures();
            let other = enrollment.clone().with_key(key);
            let (first, second) = tokio::join!(
                phone.send_answer(&enrollment, &challenge, Answer::Approved),
                phone.send_answer(&other, &challenge, Answer::Approved),
            );
            first.and(second)?;
        }
        Reaction::WrongSignature => {
            let challenge = phone.get_challenge(&enrollment, sid).await?;
            let other = enrollment.clone().with_key(SigningKey::generate());
            let request = signed_request(device, &enrollment, &other, &challenge, network.clock.now())?;
            send(&phone, request).await?;
        }
        Reaction::Tampered => {
            let challenge = phone.get_challenge(&enrollment, sid).await?;
            let challenge = challenge.with_signed_field("identity", "someone-else".into());
            let request = signed_request(device, &enrollment, &enrollment, &challenge, network.clock.now())?;
            send(&phone, request).await?;
        }
        Reaction::StaleToken => {
            let challenge = phone.get_challenge(&enrollment, sid).await?;
            let then = network.clock.now().plus_seconds(-STALE_SECONDS);
            let request = signed_request(device, &enrollment, &enrollment, &challenge, then)?;
            send(&phone, request).await?;
        }
        Reaction::LostAnswer => {
            let challenge = phone.get_challenge(&enrollment, sid).await?;
            let request = signed_request(device, &enrollment, &enrollment, &challenge, network.clock.now())?;
            device.log.add(
                network.clock.now(),
                What::Sent,
                subject,
                "answer challenge, then drop the connection",
            );
            send_and_disconnect(network.address, &request).await?;
            phone.get_challenge(&enrollment, sid).await?;
        }
    }
    Ok(())
}

/// Returns the instant that is later by `duration`.
fn later(instant: Timestamp, duration: Duration) -> Timestamp {
    let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(instant.micros().saturating_add(micros))
}

/// Returns the request that approves a challenge. `signer` signs the answer, and `enrollment` the device token of
/// `now`.
fn signed_request(
    device: &Device,
    enrollment: &Enrollment,
    signer: &Enrollment,
    challenge: &Challenge,
    now: Timestamp,
) -> Result<WireRequest, Error> {
    let payload = signing::sign_answer(device.style, signer, challenge, Answer::Approved)
        .ok_or_else(|| ::device::Error::NotPending(Box::new(challenge.clone())))?;
    Ok(wire::answer_challenge(device.style, enrollment, &challenge.sid, &payload, now))
}

/// Sends a request, and returns the error of the API if it refuses the request.
async fn send(phone: &Phone, request: WireRequest) -> Result<(), Error> {
    let operation = request.operation;
    let response = phone.send(request).await?;
    Ok(responses::require_success(operation, &response)?)
}

/// Sends a request, waits until the response begins, and closes the connection without reading the rest. So the request
/// counts, but its sender cannot know that.
async fn send_and_disconnect(address: SocketAddr, request: &WireRequest) -> Result<(), Error> {
    let body = request.body.as_deref().unwrap_or_default();
    let mut text = format!(
        "{} {} HTTP/1.1\r\nHost: {address}\r\nAuthorization: {}\r\nContent-Length: {}\r\n",
        request.method,
        request.path_and_query,
        request.authorization.expose(),
        body.len()
    );
    for (name, value) in &request.headers {
        text.extend([*name, ": ", value.as_str(), "\r\n"]);
    }
    text.extend(["\r\n", body]);
    let exchange = async {
        let mut connection = TcpStream::connect(address).await?;
        connection.write_all(text.as_bytes()).await?;
        connection.read_u8().await.map(drop)
    };
    exchange.await.map_err(|error| Error::Fault(format!("the virtual device lost its connection: {error}")))
}
