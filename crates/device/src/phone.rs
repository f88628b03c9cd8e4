//! The phone: sends what [`wire`](crate::wire) writes, and reads the answers.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crypto::SigningKey;
use domain::challenges::{Answer, Status};
use domain::factors::Platform;
use domain::paging::Order;
use domain::{Clock, Timestamp};
use reqwest::header::HeaderValue;
use reqwest::{Url, redirect};
use serde_json::Value;

use crate::challenge::{ChallengeList, FIELDS_HEADER, ListRequest, ShownChallenge};
use crate::clock::RepairedClock;
use crate::enrollment::{Enrollment, NewFactor};
use crate::error::Error;
use crate::exchange::{Exchange, Observer, Response};
use crate::factor::ShownFactor;
use crate::reading::{Flaw, Node};
use crate::signing;
use crate::style::Style;
use crate::wire::{self, Call, WireRequest};

const TIMEOUT: Duration = Duration::from_secs(30);

/// A phone with one of the SDKs in its app. It holds no keys: these are in the [`Enrollment`]s.
pub struct Phone {
    style: Style,
    base_url: String,
    http: reqwest::Client,
    clock: RepairedClock,
    observer: Option<Arc<Observer>>,
}

/// What came back from a call that a device may repeat.
struct Reply {
    response: Response,
    /// Whether this is the answer to the second try.
    repeated: bool,
}

impl Phone {
    /// A phone that talks to the server at `base_url`, such as `http://127.0.0.1:8080`.
    ///
    /// # Errors
    /// [`Error::BaseUrl`] when that is no such address, [`Error::Transport`] when there is no TLS.
    pub fn new(style: Style, base_url: &str, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let base_url = base_url.trim_end_matches('/').to_owned();
        let url = Url::parse(&base_url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let Some(url) = url else { return Err(Error::BaseUrl(base_url)) };
        let mut http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .redirect(redirect::Policy::none())
            .http1_title_case_headers();
        if is_this_machine(&url) {
            // A proxy out of the environment would look for the server on its own machine.
            http = http.no_proxy();
        }
        let http = http.build()?;
        Ok(Self { style, base_url, http, clock: RepairedClock::new(clock), observer: None })
    }

    /// The same phone with someone watching.
    #[must_use]
    pub fn observed_by(mut self, observer: Arc<Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Seconds by which the phone takes the server to be ahead of its own clock: zero until a `401`
    /// has told it otherwise (docs/protocol/device.md, section 7).
    pub fn clock_offset(&self) -> i64 {
        self.clock.offset()
    }

    /// Makes a key and enrolls with it, in the two calls of the SDK. Who wants to survive a failure
    /// between the two makes them apart, and keeps what the first one gives.
    ///
    /// # Errors
    /// [`Error::Api`], [`Error::Transport`] or [`Error::Unreadable`].
    pub async fn enroll(&self, new: &NewFactor) -> Result<Enrollment, Error> {
        let mut enrollment = self.create_factor(new).await?;
        self.verify_factor(&mut enrollment).await?;
        Ok(enrollment)
    }

    /// Makes a key and an unverified factor. Unlike the other calls it is never repeated, not even
    /// when the clock is wrong: the access token was not made by this phone.
    ///
    /// # Errors
    /// [`Error::Api`], [`Error::Transport`] or [`Error::Unreadable`].
    pub async fn create_factor(&self, new: &NewFactor) -> Result<Enrollment, Error> {
        self.create_factor_with(new, SigningKey::generate()).await
    }

    /// As [`create_factor`](Self::create_factor), with a key that is there already: what a phone
    /// does that has lost the answer to its first try.
    ///
    /// # Errors
    /// [`Error::Api`], [`Error::Transport`] or [`Error::Unreadable`].
    pub async fn create_factor_with(&self, new: &NewFactor, key: SigningKey) -> Result<Enrollment, Error> {
        let request = wire::create_factor(self.style, new, &key.public_key_base64());
        let factor = read_factor(Call::CreateFactor, &self.send(request).await?)?;
        Ok(Enrollment {
            style: self.style,
            base_url: self.base_url.clone(),
            account_sid: factor.account_sid,
            service_sid: new.service_sid.clone(),
            identity: new.identity.clone(),
            factor_sid: factor.sid,
            credential_sid: factor.credential_sid,
            friendly_name: factor.friendly_name,
            app_id: new.app_id.clone(),
            created_at: factor.created_at,
            status: factor.status,
            key,
        })
    }

    /// Shows the server that the phone holds the key, and notes what the server thinks of it.
    ///
    /// # Errors
    /// [`Error::Api`], [`Error::Transport`] or [`Error::Unreadable`].
    pub async fn verify_factor(&self, enrollment: &mut Enrollment) -> Result<(), Error> {
        let reply = self.call(|now| wire::verify_factor(self.style, enrollment, now)).await?;
        enrollment.status = read_factor(Call::VerifyFactor, &reply.response)?.status;
        Ok(())
    }

    /// Tells the server the push address anew, and the name as the enrollment has it: change it there
    /// first to rename the factor.
    ///
    /// # Errors
    /// [`Error::Api`], [`Error::Transport`] or [`Error::Unreadable`].
    pub async fn update_factor(
        &self,
        enrollment: &mut Enrollment,
        notification: Option<(Platform, String)>,
    ) -> Result<(), Error> {
        let notification = notification.as_ref();
        let reply = self.call(|now| wire::update_factor(self.style, enrollment, notification, now)).await?;
        let factor = read_factor(Call::UpdateFactor, &reply.response)?;
        enrollment.friendly_name = factor.friendly_name;
        enrollment.status = factor.status;
        Ok(())
    }

    /// Deletes the factor. That there is none any more is a success, and so is a token that is
    /// refused twice, for the same reason (docs/protocol/device.md, section 7).
    ///
    /// # Errors
    /// [`Error::Api`], [`Error::Transport`] or [`Error::Unreadable`].
    pub async fn delete_factor(&self, enrollment: &Enrollment) -> Result<(), Error> {
        let reply = self.call(|now| wire::delete_factor(self.style, enrollment, now)).await?;
        match reply.response.status {
            404 => Ok(()),
            401 if reply.repeated => Ok(()),
            _ => accepted(Call::DeleteFactor, &reply.response),
        }
    }

    /// What waits for an answer, newest first: the first page of twenty.
    ///
    /// # Errors
    /// [`Error::Api`], [`Error::Transport`] or [`Error::Unreadable`].
    pub async fn pending(&self, enrollment: &Enrollment) -> Result<ChallengeList, Error> {
        let pending =
            ListRequest { status: Some(Status::Pending), order: Order::Descending, ..ListRequest::default() };
        self.challenges(enrollment, &pending).await
    }

    /// A page of the factor's challenges.
    ///
    /// # Errors
    /// [`Error::Api`], [`Error::Transport`] or [`Error::Unreadable`].
    pub async fn challenges(
        &self,
        enrollment: &Enrollment,
        list: &ListRequest,
    ) -> Result<ChallengeList, Error> {
        let call = Call::ListChallenges;
        let reply = self.call(|now| wire::list_challenges(self.style, enrollment, list, now)).await?;
        let body = success(call, &reply.response)?;
        ChallengeList::read(&body, &enrollment.factor_sid).map_err(|flaw| flaw.in_answer_to(call))
    }

    /// One challenge, with what is needed to answer it if it is pending.
    ///
    /// # Errors
    /// [`Error::Api`], [`Error::Transport`] or [`Error::Unreadable`].
    pub async fn challenge(&self, enrollment: &Enrollment, sid: &str) -> Result<ShownChallenge, Error> {
        let call = Call::GetChallenge;
        let reply = self.call(|now| wire::get_challenge(self.style, enrollment, sid, now)).await?;
        let body = success(call, &reply.response)?;
        let name = FIELDS_HEADER.to_ascii_lowercase();
        let fields: Vec<&str> = reply.response.header(&name).collect();
        ShownChallenge::read(&body, &fields, &enrollment.factor_sid).map_err(|flaw| flaw.in_answer_to(call))
    }

    /// Answers a challenge in the three calls of the SDK: fetch, answer, fetch (docs/protocol/device.md, section 1).
    /// Gives the challenge as the last fetch showed it.
    ///
    /// # Errors
    /// [`Error::NotPending`] when there is nothing to answer, [`Error::NotUpdated`] when the last
    /// fetch shows another status, else [`Error::Api`], [`Error::Transport`] or [`Error::Unreadable`].
    pub async fn answer(
        &self,
        enrollment: &Enrollment,
        sid: &str,
        answer: Answer,
    ) -> Result<ShownChallenge, Error> {
        let challenge = self.challenge(enrollment, sid).await?;
        self.respond(enrollment, &challenge, answer).await?;
        let challenge = self.challenge(enrollment, sid).await?;
        if challenge.status.as_str() == answer.as_str() {
            Ok(challenge)
        } else {
            Err(Error::NotUpdated(Box::new(challenge)))
        }
    }

    /// The middle one of the three calls of [`answer`](Self::answer): answers a challenge as it was
    /// fetched before, and does not look what became of it.
    ///
    /// # Errors
    /// [`Error::NotPending`] when it was not pending then, or came out of a list; else
    /// [`Error::Api`], [`Error::Transport`] or [`Error::Unreadable`].
    pub async fn respond(
        &self,
        enrollment: &Enrollment,
        challenge: &ShownChallenge,
        answer: Answer,
    ) -> Result<(), Error> {
        let payload = signing::answer(self.style, enrollment, challenge, answer)
            .ok_or_else(|| Error::NotPending(Box::new(challenge.clone())))?;
        let reply = self
            .call(|now| wire::answer_challenge(self.style, enrollment, &challenge.sid, &payload, now))
            .await?;
        // No SDK reads the body of this one.
        accepted(Call::AnswerChallenge, &reply.response)
    }

    /// Sends what `request` makes for the time that it is. A `401` that says what time it really is
    /// repairs the clock and earns one more try (docs/protocol/device.md, section 7).
    async fn call(&self, request: impl Fn(Timestamp) -> WireRequest) -> Result<Reply, Error> {
        let response = self.send(request(self.clock.now())).await?;
        let repaired = response.status == 401 && response.header("date").any(|date| self.clock.repair(date));
        if repaired {
            let response = self.send(request(self.clock.now())).await?;
            return Ok(Reply { response, repeated: true });
        }
        Ok(Reply { response, repeated: false })
    }

    async fn send(&self, request: WireRequest) -> Result<Response, Error> {
        let url = format!("{}{}", self.base_url, request.path_and_query);
        let mut builder = self
            .http
            .request(request.method.clone(), &url)
            .header("Authorization", request.authorization.expose());
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        if let Some(body) = &request.body {
            builder = builder.body(body.clone());
        }
        let answer = builder.send().await?;
        let status = answer.status().as_u16();
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = answer.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        let body = String::from_utf8(answer.bytes().await?.to_vec())
            .map_err(|_| Flaw::new("body", "UTF-8").in_answer_to(request.what))?;
        let response = Response { status, headers, body };
        let exchange = Exchange { request, url, response };
        if let Some(observer) = &self.observer {
            observer(&exchange);
        }
        Ok(exchange.response)
    }
}

fn is_this_machine(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

fn read_factor(call: Call, response: &Response) -> Result<ShownFactor, Error> {
    ShownFactor::read(&success(call, response)?).map_err(|flaw| flaw.in_answer_to(call))
}

/// The body of a success.
fn success(call: Call, response: &Response) -> Result<Value, Error> {
    accepted(call, response)?;
    json(response).map_err(|flaw| flaw.in_answer_to(call))
}

/// Nothing if the server agreed, else the error that it sent.
fn accepted(call: Call, response: &Response) -> Result<(), Error> {
    if response.status < 300 {
        return Ok(());
    }
    Err(refusal(response).unwrap_or_else(|flaw| flaw.in_answer_to(call)))
}

/// The error body (docs/protocol/device.md, section 7): the code has to be a number for iOS.
fn refusal(response: &Response) -> Result<Error, Flaw> {
    let body = json(response)?;
    let body = Node::root(&body).object()?;
    body.get("more_info").text_or_null()?;
    Ok(Error::Api {
        status: response.status,
        code: body.get("code").integer()?,
        message: body.get("message").text()?,
    })
}

fn json(response: &Response) -> Result<Value, Flaw> {
    serde_json::from_str(&response.body).map_err(|_| Flaw::new("body", "JSON"))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Stopped;

    impl Clock for Stopped {
        fn now(&self) -> Timestamp {
            Timestamp::from_seconds(0)
        }
    }

    fn response(status: u16, body: &str) -> Response {
        Response { status, headers: Vec::new(), body: body.to_owned() }
    }

    fn unreadable(status: u16, body: &str) -> String {
        match accepted(Call::GetChallenge, &response(status, body)).unwrap_err() {
            Error::Unreadable { call: Call::GetChallenge, field, .. } => field,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn addresses_are_http() {
        let phone = |url| Phone::new(Style::Android, url, Arc::new(Stopped));
        assert_eq!(phone("http://127.0.0.1:8080/").unwrap().base_url, "http://127.0.0.1:8080");
        assert!(phone("https://verify.example/prefix").is_ok());
        for bad in ["", "127.0.0.1:8080", "ftp://verify.example", "http://"] {
            assert!(matches!(phone(bad), Err(Error::BaseUrl(_))), "{bad}");
        }
    }

    #[test]
    fn only_loopback_is_this_machine() {
        let local = |url| is_this_machine(&Url::parse(url).unwrap());
        for here in ["http://127.0.0.1:8080", "http://127.1.2.3", "http://[::1]:8080", "https://localhost/v"]
        {
            assert!(local(here), "{here}");
        }
        for elsewhere in ["http://10.0.0.1", "https://localhost.example", "http://[2001:db8::1]"] {
            assert!(!local(elsewhere), "{elsewhere}");
        }
    }

    #[test]
    fn what_lies_below_300_is_a_success() {
        for status in [200, 201, 204] {
            assert!(accepted(Call::DeleteFactor, &response(status, "")).is_ok());
        }
    }

    #[test]
    fn a_refusal_has_a_code_and_a_message() {
        let body = r#"{"code":20003,"message":"Authenticate","more_info":"https://x","status":401}"#;
        match accepted(Call::GetChallenge, &response(401, body)).unwrap_err() {
            Error::Api { status, code, message } => {
                assert_eq!((status, code, message.as_str()), (401, 20003, "Authenticate"));
            }
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_refusal_that_an_sdk_can_not_read_names_the_field() {
        assert_eq!(unreadable(500, ""), "body");
        assert_eq!(unreadable(302, "<html>"), "body");
        assert_eq!(unreadable(400, "[]"), "body");
        assert_eq!(unreadable(400, r#"{"code":"20001","message":"x"}"#), "code");
        assert_eq!(unreadable(400, r#"{"message":"x"}"#), "code");
        assert_eq!(unreadable(400, r#"{"code":20001,"message":null}"#), "message");
        assert_eq!(unreadable(400, r#"{"code":20001,"message":"x","more_info":1}"#), "more_info");
    }

    #[test]
    fn a_success_has_json() {
        assert!(success(Call::GetChallenge, &response(200, "{}")).is_ok());
        assert!(success(Call::GetChallenge, &response(200, "")).is_err());
    }
}
