//! The phone: sends the requests that [`wire`](crate::wire) builds and parses the responses.

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

use crate::challenge::{Challenge, ChallengeList, ListRequest};
use crate::clock::AdjustedClock;
use crate::enrollment::{Enrollment, NewFactor};
use crate::error::Error;
use crate::exchange::{Exchange, Observer, Response};
use crate::json::UnreadableField;
use crate::style::Style;
use crate::wire::{self, Operation, WireRequest};
use crate::{responses, signing};

/// Maximum time from sending a request until its response has been received completely.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A software phone whose app uses one of the SDKs. It stores no keys; those are in the [`Enrollment`]s.
pub struct Phone {
    style: Style,
    base_url: String,
    http: reqwest::Client,
    clock: AdjustedClock,
    observer: Option<Arc<Observer>>,
}

/// The response to a request that the phone may have repeated with a corrected clock.
struct Reply {
    response: Response,
    /// Whether this is the response to the repeated request.
    is_repeated: bool,
}

impl Phone {
    /// Creates a phone for the server at `base_url`, such as `http://127.0.0.1:8080`.
    ///
    /// # Errors
    /// Returns [`Error::BaseUrl`] if `base_url` is not an `http` or `https` URL, or [`Error::Transport`] if
    /// TLS cannot be set up.
    pub fn new(style: Style, base_url: &str, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let base_url = base_url.trim_end_matches('/').to_owned();
        let url = Url::parse(&base_url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let Some(url) = url else { return Err(Error::BaseUrl(base_url)) };
        let mut http = reqwest::Client::builder()
            .timeout(REQUEST_TIMEOUT)
            .redirect(redirect::Policy::none())
            .http1_title_case_headers();
        if is_loopback(&url) {
            // Ignore proxies in the environment: a proxy would resolve a loopback address to its own machine.
            http = http.no_proxy();
        }
        let http = http.build()?;
        Ok(Self { style, base_url, http, clock: AdjustedClock::new(clock), observer: None })
    }

    /// Returns a phone for the same server that shares the connections of this one, with a clock of its own and without
    /// an observer.
    #[must_use]
    pub fn another(&self, style: Style, clock: Arc<dyn Clock>) -> Self {
        Self {
            style,
            base_url: self.base_url.clone(),
            http: self.http.clone(),
            clock: AdjustedClock::new(clock),
            observer: None,
        }
    }

    /// Sets the observer, which is called for every exchange. Replaces any previous observer.
    #[must_use]
    pub fn with_observer(mut self, observer: Arc<Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Returns the number of seconds by which the server is estimated to be ahead of the local clock. Zero
    /// until a `401` response corrects the estimate (docs/protocol/device.md, section 7).
    pub fn clock_offset(&self) -> i64 {
        self.clock.offset()
    }

    /// Creates a key and enrolls it, in the two requests that the SDK sends. To survive a failure between the
    /// two, call [`create_factor`](Self::create_factor), store its result, and call
    /// [`verify_factor`](Self::verify_factor).
    ///
    /// # Errors
    /// Returns [`Error::Api`] if the server refuses a request, [`Error::Transport`] if no response is received, or
    /// [`Error::Unreadable`] if a published SDK could not parse a response.
    pub async fn enroll(&self, new: &NewFactor) -> Result<Enrollment, Error> {
        let mut enrollment = self.create_factor(new).await?;
        self.verify_factor(&mut enrollment).await?;
        Ok(enrollment)
    }

    /// Creates a key and an unverified factor. Unlike the other requests, this one is never repeated with a
    /// corrected clock, because the phone did not create the access token.
    ///
    /// # Errors
    /// Returns [`Error::Api`] if the server refuses a request, [`Error::Transport`] if no response is received, or
    /// [`Error::Unreadable`] if a published SDK could not parse a response.
    pub async fn create_factor(&self, new: &NewFactor) -> Result<Enrollment, Error> {
        self.create_factor_with(new, SigningKey::generate()).await
    }

    /// Creates an unverified factor with an existing key. A phone does this if it lost the response to its
    /// first attempt.
    ///
    /// # Errors
    /// Returns [`Error::Api`] if the server refuses a request, [`Error::Transport`] if no response is received, or
    /// [`Error::Unreadable`] if a published SDK could not parse a response.
    pub async fn create_factor_with(&self, new: &NewFactor, key: SigningKey) -> Result<Enrollment, Error> {
        let request = wire::create_factor(self.style, new, &key.public_key_base64());
        let response = self.send(request).await?;
        responses::parse_enrollment(self.style, &self.base_url, new, key, &response)
    }

    /// Verifies the factor: proves to the server that the phone holds the private key. Updates `enrollment` from
    /// the response.
    ///
    /// # Errors
    /// Returns [`Error::Api`] if the server refuses a request, [`Error::Transport`] if no response is received, or
    /// [`Error::Unreadable`] if a published SDK could not parse a response.
    pub async fn verify_factor(&self, enrollment: &mut Enrollment) -> Result<(), Error> {
        let reply = self.send_signed(|now| wire::verify_factor(self.style, enrollment, now)).await?;
        responses::update_enrollment(Operation::VerifyFactor, enrollment, &reply.response)
    }

    /// Sends the given push registration and the enrollment's name to the server, and updates `enrollment`
    /// from the response. To rename the factor, change [`Enrollment::friendly_name`] first.
    ///
    /// # Errors
    /// Returns [`Error::Api`] if the server refuses a request, [`Error::Transport`] if no response is received, or
    /// [`Error::Unreadable`] if a published SDK could not parse a response.
    pub async fn update_factor(
        &self,
        enrollment: &mut Enrollment,
        notification: Option<(Platform, String)>,
    ) -> Result<(), Error> {
        let notification = notification.as_ref();
        let reply =
            self.send_signed(|now| wire::update_factor(self.style, enrollment, notification, now)).await?;
        responses::update_enrollment(Operation::UpdateFactor, enrollment, &reply.response)
    }

    /// Deletes the factor on the server. Succeeds if the factor no longer exists, which a second `401`
    /// response also indicates (docs/protocol/device.md, section 7).
    ///
    /// # Errors
    /// Returns [`Error::Api`] if the server refuses a request, [`Error::Transport`] if no response is received, or
    /// [`Error::Unreadable`] if a published SDK could not parse a response.
    pub async fn delete_factor(&self, enrollment: &Enrollment) -> Result<(), Error> {
        let reply = self.send_signed(|now| wire::delete_factor(self.style, enrollment, now)).await?;
        match reply.response.status {
            404 => Ok(()),
            401 if reply.is_repeated => Ok(()),
            _ => responses::require_success(Operation::DeleteFactor, &reply.response),
        }
    }

    /// Returns the first page of the factor's pending challenges: up to twenty, newest first.
    ///
    /// # Errors
    /// Returns [`Error::Api`] if the server refuses a request, [`Error::Transport`] if no response is received, or
    /// [`Error::Unreadable`] if a published SDK could not parse a response.
    pub async fn list_pending(&self, enrollment: &Enrollment) -> Result<ChallengeList, Error> {
        let pending =
            ListRequest { status: Some(Status::Pending), order: Order::Descending, ..ListRequest::default() };
        self.list_challenges(enrollment, &pending).await
    }

    /// Returns the page of the factor's challenges that `list` selects.
    ///
    /// # Errors
    /// Returns [`Error::Api`] if the server refuses a request, [`Error::Transport`] if no response is received, or
    /// [`Error::Unreadable`] if a published SDK could not parse a response.
    pub async fn list_challenges(
        &self,
        enrollment: &Enrollment,
        list: &ListRequest,
    ) -> Result<ChallengeList, Error> {
        let reply = self.send_signed(|now| wire::list_challenges(self.style, enrollment, list, now)).await?;
        responses::parse_challenge_list(enrollment, &reply.response)
    }

    /// Returns the challenge with the SID `sid`. If the challenge is pending, it contains the fields that
    /// [`send_answer`](Self::send_answer) signs.
    ///
    /// # Errors
    /// Returns [`Error::Api`] if the server refuses a request, [`Error::Transport`] if no response is received, or
    /// [`Error::Unreadable`] if a published SDK could not parse a response.
    pub async fn get_challenge(&self, enrollment: &Enrollment, sid: &str) -> Result<Challenge, Error> {
        let reply = self.send_signed(|now| wire::get_challenge(self.style, enrollment, sid, now)).await?;
        responses::parse_challenge(enrollment, &reply.response)
    }

    /// Answers a challenge in the three requests that the SDK sends: fetch, answer, fetch
    /// (docs/protocol/device.md, section 1). Returns the challenge from the last fetch.
    ///
    /// # Errors
    /// Returns [`Error::NotPending`] if the challenge cannot be answered, or [`Error::NotUpdated`] if the
    /// last fetch returns another status. Otherwise returns [`Error::Api`], [`Error::Transport`], or
    /// [`Error::Unreadable`] if a request fails.
    pub async fn answer(
        &self,
        enrollment: &Enrollment,
        sid: &str,
        answer: Answer,
    ) -> Result<Challenge, Error> {
        let challenge = self.get_challenge(enrollment, sid).await?;
        self.send_answer(enrollment, &challenge, answer).await?;
        let challenge = self.get_challenge(enrollment, sid).await?;
        if challenge.status.as_str() == answer.as_str() {
            Ok(challenge)
        } else {
            Err(Error::NotUpdated(Box::new(challenge)))
        }
    }

    /// Sends the answer to a challenge that was fetched before: the second of the three requests that
    /// [`answer`](Self::answer) sends. Does not check the resulting status.
    ///
    /// # Errors
    /// Returns [`Error::NotPending`] if the challenge was not pending when it was fetched, or was taken from
    /// a list. Otherwise returns [`Error::Api`], [`Error::Transport`], or [`Error::Unreadable`] if the
    /// request fails.
    pub async fn send_answer(
        &self,
        enrollment: &Enrollment,
        challenge: &Challenge,
        answer: Answer,
    ) -> Result<(), Error> {
        let payload = signing::sign_answer(self.style, enrollment, challenge, answer)
            .ok_or_else(|| Error::NotPending(Box::new(challenge.clone())))?;
        let reply = self
            .send_signed(|now| wire::answer_challenge(self.style, enrollment, &challenge.sid, &payload, now))
            .await?;
        // The body is not parsed, because neither SDK reads it.
        responses::require_success(Operation::AnswerChallenge, &reply.response)
    }

    /// Sends the request that `request` builds for the current time. If the response is a `401` with a `Date`
    /// header, corrects the clock, then builds and sends the request once more (docs/protocol/device.md,
    /// section 7).
    async fn send_signed(&self, request: impl Fn(Timestamp) -> WireRequest) -> Result<Reply, Error> {
        let response = self.send(request(self.clock.now())).await?;
        let is_adjusted =
            response.status == 401 && response.header("date").any(|date| self.clock.adjust_to(date));
        if is_adjusted {
            let response = self.send(request(self.clock.now())).await?;
            return Ok(Reply { response, is_repeated: true });
        }
        Ok(Reply { response, is_repeated: false })
    }

    /// Sends a request that [`wire`] built, once, and returns the response whatever its status is.
    ///
    /// # Errors
    /// Returns [`Error::Transport`] if no response is received, or [`Error::Unreadable`] if its body is not UTF-8.
    pub async fn send(&self, request: WireRequest) -> Result<Response, Error> {
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
        let received = builder.send().await?;
        let status = received.status().as_u16();
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers =
            received.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        let body = String::from_utf8(received.bytes().await?.to_vec())
            .map_err(|_| Error::unreadable(request.operation, UnreadableField::new("body", "UTF-8")))?;
        let response = Response { status, headers, body };
        let exchange = Exchange { request, url, response };
        if let Some(observer) = &self.observer {
            observer(&exchange);
        }
        Ok(exchange.response)
    }
}

/// Returns whether the host of `url` is `localhost` or a loopback address.
fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct FixedClock;

    impl Clock for FixedClock {
        fn now(&self) -> Timestamp {
            Timestamp::from_seconds(0)
        }
    }

    #[test]
    fn base_url_must_be_http_or_https() {
        let phone = |url| Phone::new(Style::Android, url, Arc::new(FixedClock));
        assert_eq!(phone("http://127.0.0.1:8080/").unwrap().base_url, "http://127.0.0.1:8080");
        assert!(phone("https://verify.example/prefix").is_ok());
        for bad in ["", "127.0.0.1:8080", "ftp://verify.example", "http://"] {
            assert!(matches!(phone(bad), Err(Error::BaseUrl(_))), "{bad}");
        }
    }

    #[test]
    fn only_localhost_and_loopback_addresses_count_as_loopback_hosts() {
        let local = |url| is_loopback(&Url::parse(url).unwrap());
        for here in ["http://127.0.0.1:8080", "http://127.1.2.3", "http://[::1]:8080", "https://localhost/v"]
        {
            assert!(local(here), "{here}");
        }
        for elsewhere in ["http://10.0.0.1", "https://localhost.example", "http://[2001:db8::1]"] {
            assert!(!local(elsewhere), "{elsewhere}");
        }
    }
}
