//! Software phones: how they enroll, and the requests that they send.

use std::borrow::Cow;
use std::sync::Arc;

use device::wire::{self, Operation};
use device::{
    Answer, Challenge, Enrollment, ListRequest, NewFactor, Order, Platform, SigningKey, Status, Style,
};
use device::{responses, signing};
use domain::{Clock, Timestamp};
use serde::Deserialize;

use crate::backend::Backend;
use crate::client::{Client, Reply};
use crate::failure::Failure;
use crate::target::{Request, Target};

/// Name of the response header that lists the fields a phone must sign, in lower case.
const SIGNATURE_FIELDS_HEADER: &str = "twilio-verify-signature-fields";

/// A software phone with a verified factor.
pub(crate) struct Phone {
    enrollment: Enrollment,
    /// Path of the challenges of the phone's user.
    challenges_path: String,
    clock: Arc<dyn Clock>,
}

/// An answer that the phone has signed and not sent.
pub(crate) struct SignedAnswer {
    sid: String,
    payload: String,
}

/// The part of a list of challenges that the phone reads.
#[derive(Deserialize)]
struct ListView<'a> {
    #[serde(borrow)]
    challenges: Vec<ListedView<'a>>,
}

#[derive(Deserialize)]
struct ListedView<'a> {
    #[serde(borrow)]
    sid: Cow<'a, str>,
}

/// What the phones of a run have in common.
pub(crate) struct Enroller<'a> {
    /// The deployment with which the phones enroll.
    pub(crate) target: &'a Target,
    /// The backend that creates their access tokens.
    pub(crate) backend: &'a Backend,
    /// The clock from which the phones take the time for their tokens.
    pub(crate) clock: Arc<dyn Clock>,
    /// A text that differs between runs. Identities and push tokens contain it.
    pub(crate) run_id: &'a str,
    /// Whether the phones register for pushes.
    pub(crate) has_push: bool,
}

impl Enroller<'_> {
    /// Enrolls the phone with this number for a user of its own, as an app does. Phones with an even number are Android
    /// phones, the others are iPhones.
    pub(crate) async fn enroll(&self, client: &mut Client<'_>, number: usize) -> Result<Phone, Failure> {
        let style = if number.is_multiple_of(2) { Style::Android } else { Style::Ios };
        let identity = identity(self.run_id, number);
        let new = NewFactor {
            service_sid: self.backend.service().to_string(),
            access_token: self.backend.create_access_token(client, self.target, &identity).await?,
            identity,
            friendly_name: "Load test phone".to_owned(),
            notification: self.has_push.then(|| self.registration(style, number)),
            metadata: None,
            app_id: "com.example.load".to_owned(),
        };
        let key = SigningKey::generate().with_random_signatures();
        let request = wire::create_factor(style, &new, &key.public_key_base64());
        let created = client.send(self.target.phone_request(request)?).await?;
        let mut enrollment =
            responses::parse_enrollment(style, self.target.base_url(), &new, key, &to_response(&created)?)?;
        let request = wire::verify_factor(style, &enrollment, self.clock.now());
        let verified = client.send(self.target.phone_request(request)?).await?;
        responses::update_enrollment(Operation::VerifyFactor, &mut enrollment, &to_response(&verified)?)?;
        let challenges_path = format!("{}/Challenges", self.backend.entity_path(&enrollment.identity));
        Ok(Phone { enrollment, challenges_path, clock: Arc::clone(&self.clock) })
    }

    /// Returns the push provider of the phone, and a push token in the format of the provider.
    fn registration(&self, style: Style, number: usize) -> (Platform, String) {
        match style {
            Style::Android => (Platform::Fcm, format!("{}:push-token", identity(self.run_id, number))),
            Style::Ios => (Platform::Apn, format!("{number:064x}")),
        }
    }
}

impl Phone {
    /// Returns the SID of the phone's factor.
    pub(crate) fn factor_sid(&self) -> &str {
        &self.enrollment.factor_sid
    }

    /// Returns the path of the challenges of the phone's user.
    pub(crate) fn challenges_path(&self) -> &str {
        &self.challenges_path
    }

    /// Builds the request that lists the phone's pending challenges.
    pub(crate) fn list_pending(&self, target: &Target) -> Result<Request, Failure> {
        let pending =
            ListRequest { status: Some(Status::Pending), order: Order::Descending, ..ListRequest::default() };
        target.phone_request(wire::list_challenges(self.style(), &self.enrollment, &pending, self.now()))
    }

    /// Builds the request that fetches a challenge.
    pub(crate) fn get_challenge(&self, target: &Target, sid: &str) -> Result<Request, Failure> {
        target.phone_request(wire::get_challenge(self.style(), &self.enrollment, sid, self.now()))
    }

    /// Parses the response to [`Self::get_challenge`] as strictly as the SDKs do.
    pub(crate) fn parse_challenge(&self, reply: &Reply) -> Result<Challenge, Failure> {
        Ok(responses::parse_challenge(&self.enrollment, &to_response(reply)?)?)
    }

    /// Signs the approval of a challenge that was fetched.
    pub(crate) fn sign_approval(&self, challenge: &Challenge) -> Result<SignedAnswer, Failure> {
        let payload = signing::sign_answer(self.style(), &self.enrollment, challenge, Answer::Approved);
        let payload = payload.ok_or_else(|| {
            Failure::Unexpected(format!("the new challenge is {}", challenge.status.as_str()))
        })?;
        Ok(SignedAnswer { sid: challenge.sid.clone(), payload })
    }

    /// Builds the request that sends an answer of this phone.
    pub(crate) fn answer(&self, target: &Target, answer: &SignedAnswer) -> Result<Request, Failure> {
        let SignedAnswer { sid, payload } = answer;
        target.phone_request(wire::answer_challenge(self.style(), &self.enrollment, sid, payload, self.now()))
    }

    fn style(&self) -> Style {
        self.enrollment.style
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// Returns the identity of the user whose phone has this number.
pub(crate) fn identity(run_id: &str, number: usize) -> String {
    format!("load-{run_id}-{number:06}")
}

/// Checks that the list in the response to [`Phone::list_pending`] contains the challenge `sid`.
pub(crate) fn require_listed(reply: &Reply, sid: &str) -> Result<(), Failure> {
    let list: ListView<'_> =
        serde_json::from_slice(&reply.body).map_err(|error| Failure::unexpected(&error))?;
    if list.challenges.iter().any(|challenge| challenge.sid == sid) {
        Ok(())
    } else {
        Err(Failure::Unexpected("the list of pending challenges lacks the new challenge".to_owned()))
    }
}

/// Converts a response for the parsers of crate `device`, which read only one header.
fn to_response(reply: &Reply) -> Result<device::Response, Failure> {
    let fields = reply.headers.get_all(SIGNATURE_FIELDS_HEADER).iter();
    let fields = fields.map(|value| {
        let value = value.to_str().map_err(|error| Failure::unexpected(&error))?;
        Ok((SIGNATURE_FIELDS_HEADER.to_owned(), value.to_owned()))
    });
    let body = str::from_utf8(&reply.body).map_err(|error| Failure::unexpected(&error))?;
    Ok(device::Response {
        status: reply.status.as_u16(),
        headers: fields.collect::<Result<_, Failure>>()?,
        body: body.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use hyper::body::Bytes;
    use hyper::{HeaderMap, StatusCode};

    use super::*;

    fn reply(body: &'static str) -> Reply {
        Reply { status: StatusCode::OK, headers: HeaderMap::new(), body: Bytes::from_static(body.as_bytes()) }
    }

    #[test]
    fn new_challenge_must_be_in_the_list_of_pending_challenges() {
        let list = reply(r#"{"challenges":[{"sid":"YC1","status":"pending"},{"sid":"YC2"}],"meta":{}}"#);
        assert_eq!(require_listed(&list, "YC2"), Ok(()));
        assert!(matches!(require_listed(&list, "YC3"), Err(Failure::Unexpected(_))));
        assert!(matches!(require_listed(&reply("[]"), "YC1"), Err(Failure::Unexpected(_))));
    }

    #[test]
    fn users_of_different_runs_have_different_identities() {
        let identities = [("a", 1), ("a", 2), ("b", 1)].map(|(run, number)| identity(run, number));
        assert_eq!(identities, ["load-a-000001", "load-a-000002", "load-b-000001"]);
    }

    #[test]
    fn only_the_header_that_lists_signed_fields_is_converted() {
        let mut reply = reply("{}");
        reply.headers.insert(SIGNATURE_FIELDS_HEADER, "sid,status".parse().unwrap());
        reply.headers.insert("date", "x".parse().unwrap());
        let response = to_response(&reply).unwrap();
        assert_eq!((response.status, response.body.as_str()), (200, "{}"));
        assert_eq!(response.headers, [(SIGNATURE_FIELDS_HEADER.to_owned(), "sid,status".to_owned())]);
    }
}
