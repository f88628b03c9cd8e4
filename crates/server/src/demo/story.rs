//! The story: who does what, in which order, and what has to come of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use device::{Answer, Enrollment, Error, NewFactor, Phone, Platform, ShownChallenge, Style};
use domain::{Clock as _, Secret};
use serde_json::Value;

use crate::demo::backend::{Backend, Retold};
use crate::demo::clock::StoryClock;
use crate::demo::exchange::{Notice, pairs};
use crate::demo::listener::Listener;
use crate::demo::narrator::Narrator;
use crate::demo::outside::{HOOK, Outside};
use crate::failure::Failure;

/// The user whose phone it is, by the backend's own name for them.
const USER: &str = "user-0001";

/// How long a challenge that should have expired may go on not to.
const PATIENCE: Duration = Duration::from_secs(15);

/// Everybody who takes part.
pub(super) struct Stage {
    url: String,
    backend: Backend,
    phone: Phone,
    listener: Arc<Listener>,
    outside: Outside,
    clock: Arc<StoryClock>,
    narrator: Arc<Narrator>,
}

impl Stage {
    pub(super) fn new(
        url: &str,
        backend: Backend,
        outside: Outside,
        clock: Arc<StoryClock>,
        narrator: Arc<Narrator>,
    ) -> Result<Self, Failure> {
        let listener = Arc::new(Listener::new(Arc::clone(&narrator)));
        let observer = Arc::clone(&listener);
        let phone = Phone::new(Style::Android, url, Arc::clone(&clock) as _)?
            .observed_by(Arc::new(move |exchange| observer.hear(exchange)));
        Ok(Self { url: url.to_owned(), backend, phone, listener, outside, clock, narrator })
    }
}

/// Tells it from beginning to end.
///
/// # Errors
/// At the first step that does not hold.
pub(super) async fn tell(mut stage: Stage) -> Result<(), Failure> {
    stage.narrator.introduce(&stage.url);
    let service = stage.create_a_service().await?;
    let access_token = stage.permit_a_phone(&service).await?;
    let mut phone = stage.register_the_phone(&service, access_token).await?;
    stage.prove_the_key(&mut phone).await?;
    let sign_in = stage.ask(&phone).await?;
    stage.list_what_waits(&phone, &sign_in).await?;
    let shown = stage.fetch(&phone, &sign_in).await?;
    stage.approve(&phone, &shown).await?;
    stage.read_the_answer(&phone, &sign_in).await?;
    stage.answer_again(&phone, &shown).await?;
    stage.deny_another(&phone).await?;
    let late = stage.let_one_expire(&phone).await?;
    stage.answer_too_late(&phone, &late).await?;
    // What a real application adds.
    let credential = stage.hand_over_the_push_credential().await?;
    stage.use_the_push_credential(&service, &credential).await?;
    stage.create_a_webhook(&service).await?;
    let payment = stage.ask_about_a_payment(&phone).await?;
    stage.push(&payment).await?;
    stage.approve_the_payment(&phone, &payment).await?;
    stage.receive_the_answer(&payment).await
}

impl Stage {
    async fn hand_over_the_push_credential(&self) -> Result<String, Failure> {
        self.step(
            "The backend hands over its push credential",
            "So far the phone had to look for challenges. With this credential the server may push to the \
             app in the backend's name: for Android the JSON of a service account at Google, for iOS a \
             certificate or key of Apple's. It is kept encrypted.",
        )
        .await;
        let account = self.outside.service_account()?;
        let form = [("Type", "fcm"), ("FriendlyName", "Owl Bank on Android"), ("Secret", account.as_str())];
        let retold = Retold {
            checks: "the auth token; that the JSON is a service account with a usable key",
            interesting: &["sid", "type", "friendly_name", "date_created"],
        };
        let credential = self.backend.create("/v1/Credentials", &form, retold).await?;
        self.narrator.check(
            !credential.to_string().contains("PRIVATE KEY"),
            "The credential has a SID; its content is never given out again.",
        )?;
        text(&credential, "sid")
    }

    async fn use_the_push_credential(&self, service: &str, credential: &str) -> Result<(), Failure> {
        self.step(
            "The backend names the credential in its service",
            "From now on each challenge is followed by a push to the phone.",
        )
        .await;
        let form = [("Push.FcmCredentialSid", credential)];
        let retold = Retold {
            checks: "the auth token; that the credential is this account's, and of Google's kind",
            interesting: &["sid", "friendly_name", "push"],
        };
        let service = self.backend.update(&format!("/v2/Services/{service}"), &form, retold).await?;
        let named = &service["push"]["fcm_credential_sid"];
        self.narrator.check(*named == credential, "The service has the credential.")
    }

    async fn create_a_webhook(&self, service: &str) -> Result<(), Failure> {
        self.step(
            "The backend says where it wants to be called",
            "With a webhook it need not ask again and again whether the user has answered.",
        )
        .await;
        let url = format!("{}{HOOK}", self.outside.url());
        let form = [
            ("FriendlyName", "Answers"),
            ("EventTypes", "challenge.approved"),
            ("EventTypes", "challenge.denied"),
            ("WebhookUrl", url.as_str()),
        ];
        let retold = Retold {
            checks: "the auth token; that the URL is one, and the events exist",
            interesting: &["sid", "event_types", "webhook_url", "status", "version"],
        };
        let path = format!("/v2/Services/{service}/Webhooks");
        let webhook = self.backend.create(&path, &form, retold).await?;
        self.narrator.check(webhook["status"] == "enabled", "The webhook is enabled.")
    }

    async fn push(&mut self, sid: &str) -> Result<(), Failure> {
        self.step(
            "A push wakes the phone",
            "It was stored together with the challenge, so that it is not lost even if the server dies in \
             this moment; now it goes to Google, or here to a stand-in, and from there to the app.",
        )
        .await;
        let is_it = |body: &str| serde_json::from_str::<Value>(body).unwrap_or_default();
        let data = |body: &str| is_it(body)["message"]["data"].clone();
        let call = self.outside.wait("the push", |call| data(&call.body)["challenge_sid"] == sid).await?;
        self.narrator.notice(&Notice {
            to: "Google",
            path: &call.path,
            headers: vec!["Authorization: Bearer …  (from Google, for the service account)".to_owned()],
            form: &[],
            json: Some(is_it(&call.body)),
        });
        self.narrator.check(
            data(&call.body)["type"] == "verify_push_challenge",
            "The app knows which challenge it is about, and fetches the rest itself.",
        )
    }

    async fn receive_the_answer(&mut self, sid: &str) -> Result<(), Failure> {
        self.step(
            "The server calls the backend's webhook",
            "The call was stored together with the answer; while the backend can't be reached, the server \
             tries again for a day. The signature shows that it is the server that calls.",
        )
        .await;
        let says = |body: &str, name: &str, value: &str| {
            pairs(body).iter().any(|(found, said)| found == name && said == value)
        };
        let is_it =
            |call: &crate::demo::outside::Call| call.path == HOOK && says(&call.body, "challenge_sid", sid);
        let call = self.outside.wait("the webhook", is_it).await?;
        let form = pairs(&call.body);
        self.narrator.notice(&Notice {
            to: "backend",
            path: &call.path,
            headers: vec![format!("X-Twilio-Signature: {}", call.signature)],
            form: &form,
            json: None,
        });
        let url = format!("{}{HOOK}", self.outside.url());
        self.narrator.check(
            call.signature == self.backend.webhook_signature(&url, &form),
            "The signature is an HMAC of URL and parameters under the account's auth token: the backend has \
             computed the same.",
        )?;
        self.narrator.check(
            says(&call.body, "type", "challenge.approved"),
            "The backend knows that the user said yes.",
        )
    }

    async fn create_a_service(&self) -> Result<String, Failure> {
        self.step(
            "The backend creates a service",
            "A service keeps the users of one application, and what they are asked, apart from all others.",
        )
        .await;
        let form = [("FriendlyName", "Owl Bank")];
        let retold = Retold {
            checks: "the auth token: it must be this account's",
            interesting: &["sid", "friendly_name", "date_created", "url"],
        };
        let service = self.backend.create("/v2/Services", &form, retold).await?;
        let sid = text(&service, "sid")?;
        self.narrator
            .check(sid.starts_with("VA"), "The service exists; its SID goes into every path below.")?;
        Ok(sid)
    }

    async fn permit_a_phone(&self, service: &str) -> Result<String, Failure> {
        self.step(
            "The backend gives a phone permission to enroll",
            "An access token lets one phone enroll, for this user only, within 60 seconds; the backend hands \
             it to the app once it is sure, by other means, who the user is.",
        )
        .await;
        let form = [("Identity", USER), ("FactorType", "push")];
        let retold = Retold {
            checks: "the auth token; that the service is this account's",
            interesting: &["sid", "entity_identity", "factor_type", "ttl", "token"],
        };
        let path = format!("/v2/Services/{service}/AccessTokens");
        let token = self.backend.create(&path, &form, retold).await?;
        self.narrator.check(token["entity_identity"] == USER, "The app has a token for its user.")?;
        text(&token, "token")
    }

    async fn register_the_phone(&self, service: &str, access_token: String) -> Result<Enrollment, Failure> {
        self.step(
            "The phone makes a key pair and registers the public key",
            "The private key stays where it was made; the server keeps the public one, in what is called a \
             factor: this phone of this user.",
        )
        .await;
        let new = NewFactor {
            service_sid: service.to_owned(),
            identity: USER.to_owned(),
            access_token: Secret::new(access_token),
            friendly_name: "Ada's phone".to_owned(),
            notification: Some((Platform::Fcm, "registration-token-of-Ada's-phone-with-Google".to_owned())),
            metadata: None,
            app_id: "com.example.owlbank".to_owned(),
        };
        let enrollment = self.phone.create_factor(&new).await?;
        self.narrator.check(
            enrollment.status == domain::factors::Status::Unverified,
            "The factor is unverified: the phone has not shown yet that it holds the private key.",
        )?;
        Ok(enrollment)
    }

    async fn prove_the_key(&self, phone: &mut Enrollment) -> Result<(), Failure> {
        self.step(
            "The phone proves that it holds the private key",
            "It signs the SID that its factor was just given; and from here on it identifies itself with \
             tokens that it makes and signs on its own, a new one for each request.",
        )
        .await;
        self.phone.verify_factor(phone).await?;
        self.narrator.check(
            self.listener.signatures_fit(),
            "Both signatures fit the public key: the demo has checked that, as anybody can.",
        )?;
        self.narrator.check(
            phone.status == domain::factors::Status::Verified,
            "The factor is verified: from now on it can be asked.",
        )
    }

    async fn ask(&self, phone: &Enrollment) -> Result<String, Failure> {
        self.step(
            "The user signs in, and the backend asks the phone",
            "A challenge is one question to one phone, with the facts that the user needs to decide; left \
             alone, it expires after five minutes.",
        )
        .await;
        let more = [
            ("Details.Fields", r#"{"label":"Place","value":"Vienna, Austria"}"#),
            ("Details.Fields", r#"{"label":"Device","value":"Firefox on Linux"}"#),
            ("HiddenDetails", r#"{"session":"8f14e45f"}"#),
        ];
        self.challenge(phone, "Is it you who signs in to Owl Bank?", &more).await
    }

    async fn list_what_waits(&self, phone: &Enrollment, sid: &str) -> Result<(), Failure> {
        self.step(
            "The phone asks what waits for an answer",
            "Whenever the app is opened, it can ask. A push only saves time, and comes later in this demo.",
        )
        .await;
        let list = self.phone.pending(phone).await?;
        let found = matches!(list.challenges.as_slice(), [only] if only.sid == sid);
        self.narrator.check(found, "The phone finds the challenge, and no other.")
    }

    async fn fetch(&self, phone: &Enrollment, sid: &str) -> Result<ShownChallenge, Failure> {
        self.step(
            "The phone fetches the challenge",
            "A header of the server's answer lists the values that have to be signed, so that the user's \
             decision is bound to the very question that was on the screen.",
        )
        .await;
        let challenge = self.phone.challenge(phone, sid).await?;
        self.narrator.check(
            challenge.status == device::Status::Pending && challenge.fields.len() == 2,
            "The user sees the question and two facts; the hidden details are signed, but not shown.",
        )?;
        Ok(challenge)
    }

    async fn approve(&self, phone: &Enrollment, challenge: &ShownChallenge) -> Result<(), Failure> {
        self.step(
            "The user says yes, and the phone signs that",
            "It copies the listed values, writes the decision into status, and signs the whole: nobody can \
             change the question or the answer on the way.",
        )
        .await;
        self.phone.respond(phone, challenge, Answer::Approved).await?;
        self.narrator.check(
            self.listener.signatures_fit(),
            "The signature fits the phone's public key, and the server took the answer.",
        )
    }

    async fn read_the_answer(&self, phone: &Enrollment, sid: &str) -> Result<(), Failure> {
        self.step(
            "The backend reads the answer",
            "It asks until the challenge is no longer pending; then the user is let in. Later in this demo \
             the server calls it instead.",
        )
        .await;
        let challenge = self.read(phone, sid).await?;
        self.narrator.check(challenge["status"] == "approved", "The challenge is approved.")
    }

    async fn answer_again(&self, phone: &Enrollment, challenge: &ShownChallenge) -> Result<(), Failure> {
        self.step(
            "A second answer is refused",
            "The phone now signs a no to the question that it has just said yes to; but an answer is final.",
        )
        .await;
        let outcome = self.phone.respond(phone, challenge, Answer::Denied).await;
        self.refused(
            outcome,
            60322,
            "The signature is good, and yet the server refuses, with code 60322: it was answered before.",
        )
    }

    async fn deny_another(&self, phone: &Enrollment) -> Result<(), Failure> {
        self.step(
            "Another challenge is denied",
            "This time another person tries to sign in; the user's no tells the backend that the password is \
             in the wrong hands.",
        )
        .await;
        let sid = self.challenge(phone, "Is it you who signs in to Owl Bank?", &[]).await?;
        let challenge = self.phone.challenge(phone, &sid).await?;
        self.phone.respond(phone, &challenge, Answer::Denied).await?;
        let challenge = self.read(phone, &sid).await?;
        self.narrator.check(challenge["status"] == "denied", "The challenge is denied.")
    }

    async fn let_one_expire(&self, phone: &Enrollment) -> Result<ShownChallenge, Failure> {
        self.step(
            "A third challenge expires",
            "The backend gives the user only five or six seconds; the phone fetches the challenge in time, \
             but nobody answers.",
        )
        .await;
        // An expiry is a whole second: this is five to six seconds ahead.
        let expires_at = self.clock.now().plus_seconds(6).whole_second().to_string();
        let sid =
            self.challenge(phone, "Is it still you?", &[("ExpirationDate", expires_at.as_str())]).await?;
        let challenge = self.phone.challenge(phone, &sid).await?;
        let looks = self.wait_until_expired(&challenge_path(phone, &sid)).await?;
        self.narrator.aside(&format!(
            "Meanwhile the backend looks {looks} times and finds the challenge pending. Then:"
        ));
        let expired = self.read(phone, &sid).await?;
        self.narrator.check(expired["status"] == "expired", "The challenge is expired.")?;
        Ok(challenge)
    }

    async fn answer_too_late(&self, phone: &Enrollment, challenge: &ShownChallenge) -> Result<(), Failure> {
        self.step(
            "An answer that comes too late is refused",
            "The phone still holds the challenge, and its signed yes is as good as the first one; but time \
             is up.",
        )
        .await;
        let outcome = self.phone.respond(phone, challenge, Answer::Approved).await;
        self.refused(
            outcome,
            60323,
            "The signature is good, and yet the server refuses, with code 60323: it has expired.",
        )
    }

    /// Begins a step.
    async fn step(&self, title: &'static str, why: &str) {
        self.narrator.step(title, why).await;
    }

    async fn ask_about_a_payment(&self, phone: &Enrollment) -> Result<String, Failure> {
        self.step(
            "The user pays, and the backend asks the phone",
            "As before; but now the server wakes the phone, and calls the backend when there is an answer.",
        )
        .await;
        let more = [
            ("Details.Fields", r#"{"label":"Amount","value":"12 €"}"#),
            ("Details.Fields", r#"{"label":"To","value":"Owl Books"}"#),
        ];
        self.challenge(phone, "Do you pay Owl Books?", &more).await
    }

    async fn approve_the_payment(&self, phone: &Enrollment, sid: &str) -> Result<(), Failure> {
        self.step("The user says yes again", "The phone fetches the challenge and signs, as before.").await;
        let challenge = self.phone.challenge(phone, sid).await?;
        self.phone.respond(phone, &challenge, Answer::Approved).await?;
        self.narrator.check(
            self.listener.signatures_fit(),
            "The signature fits the phone's public key, and the server took the answer.",
        )
    }

    /// Creates a challenge, aloud, and returns its SID.
    async fn challenge(
        &self,
        phone: &Enrollment,
        message: &str,
        more: &[(&str, &str)],
    ) -> Result<String, Failure> {
        let mut form = vec![("FactorSid", phone.factor_sid.as_str()), ("Details.Message", message)];
        form.extend_from_slice(more);
        let retold = Retold {
            checks: "the auth token; that the factor is this user's, and verified",
            interesting: &["sid", "status", "date_created", "expiration_date"],
        };
        let challenge = self.backend.create(&challenges_path(phone), &form, retold).await?;
        self.narrator
            .check(challenge["status"] == "pending", "The challenge is pending: it waits for an answer.")?;
        text(&challenge, "sid")
    }

    /// The challenge as the backend sees it, aloud.
    async fn read(&self, phone: &Enrollment, sid: &str) -> Result<Value, Failure> {
        let retold = Retold {
            checks: "the auth token; that the challenge is this account's",
            interesting: &["sid", "status", "date_responded"],
        };
        self.backend.read(&challenge_path(phone, sid), retold).await
    }

    /// Looks until the challenge is not pending any more; returns how often it was.
    async fn wait_until_expired(&self, path: &str) -> Result<usize, Failure> {
        let began = Instant::now();
        let mut looks = 0;
        while self.backend.peek(path).await?["status"] == "pending" {
            if began.elapsed() > PATIENCE {
                return Err(Failure::new("the challenge is still pending, and should have expired"));
            }
            looks += 1;
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        Ok(looks)
    }

    /// What should be refused is, with this code, and not because of its signature.
    fn refused(&self, outcome: Result<(), Error>, wanted: i64, promise: &str) -> Result<(), Failure> {
        match outcome {
            Err(Error::Api { code, .. }) => {
                self.narrator.check(code == wanted && self.listener.signatures_fit(), promise)
            }
            Err(other) => Err(other.into()),
            Ok(()) => self.narrator.check(false, promise),
        }
    }
}

fn challenges_path(phone: &Enrollment) -> String {
    format!("/v2/Services/{}/Entities/{}/Challenges", phone.service_sid, phone.identity)
}

fn challenge_path(phone: &Enrollment, sid: &str) -> String {
    format!("{}/{sid}", challenges_path(phone))
}

/// A member of the body that must be a text.
fn text(body: &Value, name: &str) -> Result<String, Failure> {
    let text = body[name].as_str().map(str::to_owned);
    text.ok_or_else(|| Failure::new(format!("the answer has no {name}")))
}
