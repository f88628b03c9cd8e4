//! Steps 14 to 20 of the tour: a push to the phone and a webhook to the backend.

use device::{Answer, Enrollment};
use serde_json::Value;
use terminal::CliError;

use super::Tour;
use crate::backend::{Explanation, string_member};
use crate::exchange::{DeliveryView, decode_form};
use crate::receiver::WEBHOOK_PATH;

impl Tour {
    /// Runs step 14: creates a push credential and returns its SID.
    pub(super) async fn upload_push_credential(&self) -> Result<String, CliError> {
        self.start_step(
            "The backend uploads its push credential",
            "So far the phone had to look for challenges. With this credential the server can send pushes to the app: \
             for Android it is the JSON of a Google service account, for iOS a certificate or key from Apple. The \
             server stores it encrypted.",
        )
        .await;
        let account = self.receiver.create_service_account()?;
        let form = [("Type", "fcm"), ("FriendlyName", "Owl Bank on Android"), ("Secret", account.as_str())];
        let explanation = Explanation {
            checks: "the auth token; that the JSON is a service account with a usable key",
            shown_members: &["sid", "type", "friendly_name", "date_created"],
        };
        let credential = self.backend.create("/v1/Credentials", &form, explanation).await?;
        self.printer.check(
            !credential.to_string().contains("PRIVATE KEY"),
            "The credential has a SID. No response ever contains its secret.",
        )?;
        string_member(&credential, "sid")
    }

    pub(super) async fn select_push_credential(
        &self,
        service_sid: &str,
        credential_sid: &str,
    ) -> Result<(), CliError> {
        self.start_step(
            "The backend selects the credential for its service",
            "From now on the server sends a push to the phone for each challenge.",
        )
        .await;
        let form = [("Push.FcmCredentialSid", credential_sid)];
        let explanation = Explanation {
            checks: "the auth token; that the credential belongs to this account and is for FCM",
            shown_members: &["sid", "friendly_name", "push"],
        };
        let path = format!("/v2/Services/{service_sid}");
        let service = self.backend.update(&path, &form, explanation).await?;
        let selected = &service["push"]["fcm_credential_sid"];
        self.printer.check(*selected == credential_sid, "The service uses the credential.")
    }

    pub(super) async fn create_webhook(&self, service_sid: &str) -> Result<(), CliError> {
        self.start_step(
            "The backend creates a webhook",
            "With a webhook, the backend does not have to poll for the user's answer.",
        )
        .await;
        let url = self.webhook_url();
        let form = [
            ("FriendlyName", "Answers"),
            ("EventTypes", "challenge.approved"),
            ("EventTypes", "challenge.denied"),
            ("WebhookUrl", url.as_str()),
        ];
        let explanation = Explanation {
            checks: "the auth token; that the URL is valid, and the event types exist",
            shown_members: &["sid", "event_types", "webhook_url", "status", "version"],
        };
        let path = format!("/v2/Services/{service_sid}/Webhooks");
        let webhook = self.backend.create(&path, &form, explanation).await?;
        self.printer.check(webhook["status"] == "enabled", "The webhook is enabled.")
    }

    /// Runs step 17: creates the challenge for a payment and returns its SID.
    pub(super) async fn create_payment_challenge(&self, enrollment: &Enrollment) -> Result<String, CliError> {
        self.start_step(
            "The user pays, and the backend asks the phone",
            "As before, but now the server also sends a push to the phone, and calls the backend when the phone has \
             answered.",
        )
        .await;
        let fields = [
            ("Details.Fields", r#"{"label":"Amount","value":"12 €"}"#),
            ("Details.Fields", r#"{"label":"To","value":"Owl Books"}"#),
        ];
        self.create_challenge(enrollment, "Pay Owl Books?", &fields).await
    }

    pub(super) async fn receive_push(&mut self, sid: &str) -> Result<(), CliError> {
        self.start_step(
            "A push wakes the phone",
            "The server stored the push in the same transaction as the challenge, so that a crash cannot lose it. Now \
             it sends the push to Google, here replaced by a stand-in, from which the app receives it.",
        )
        .await;
        let body = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
        let is_expected = |text: &str| body(text)["message"]["data"]["challenge_sid"] == sid;
        let request = self.receiver.receive("the push", |request| is_expected(&request.body)).await?;
        let push = body(&request.body);
        let is_challenge = push["message"]["data"]["type"] == "verify_push_challenge";
        self.printer.print_delivery(&DeliveryView {
            recipient: "Google",
            path: &request.path,
            headers: vec!["Authorization: Bearer …  (from Google, for the service account)".to_owned()],
            form: &[],
            json: Some(push),
        });
        self.printer.check(
            is_challenge,
            "The push contains the SID of the challenge. The app fetches the rest from the server.",
        )
    }

    pub(super) async fn approve_payment(&self, enrollment: &Enrollment, sid: &str) -> Result<(), CliError> {
        self.start_step(
            "The user approves the payment",
            "The phone fetches the challenge and signs the approval, as before.",
        )
        .await;
        let challenge = self.phone.get_challenge(enrollment, sid).await?;
        self.phone.send_answer(enrollment, &challenge, Answer::Approved).await?;
        self.check_signatures(
            "The signature matches the phone's public key, and the server accepted the answer.",
        )
    }

    pub(super) async fn receive_webhook(&mut self, sid: &str) -> Result<(), CliError> {
        self.start_step(
            "The server calls the backend's webhook",
            "The server stored the webhook delivery together with the answer. If the backend is unreachable, it \
             retries for a day. The signature proves that the request comes from the server.",
        )
        .await;
        let has_pair = |body: &str, name: &str, value: &str| {
            decode_form(body).iter().any(|pair| (pair.0.as_str(), pair.1.as_str()) == (name, value))
        };
        let request = self
            .receiver
            .receive("the webhook", |request| {
                request.path == WEBHOOK_PATH && has_pair(&request.body, "challenge_sid", sid)
            })
            .await?;
        let form = decode_form(&request.body);
        self.printer.print_delivery(&DeliveryView {
            recipient: "backend",
            path: &request.path,
            headers: vec![format!("X-Twilio-Signature: {}", request.signature)],
            form: &form,
            json: None,
        });
        self.printer.check(
            request.signature == self.backend.sign_webhook(&self.webhook_url(), &form),
            "The signature is an HMAC of the URL and the parameters, keyed with the account's auth token. The backend \
             has computed the same value.",
        )?;
        self.printer.check(
            has_pair(&request.body, "type", "challenge.approved"),
            "The webhook reports that the user approved the payment.",
        )
    }

    fn webhook_url(&self) -> String {
        format!("{}{WEBHOOK_PATH}", self.receiver.url())
    }
}
