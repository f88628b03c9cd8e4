//! The steps of the demo. [`Tour::run`] lists them in order. Each step is a method that prints the step's
//! title and explanation, makes the requests, and checks the result.

mod answers;
mod codes;
mod deliveries;
mod enrollment;
mod sign_in;

use std::sync::Arc;

use device::{Enrollment, Error, Phone, Style};
use serde_json::Value;
use terminal::CliError;

use crate::backend::{Backend, Explanation, string_member};
use crate::clock::PausableClock;
use crate::phone_observer::PhoneObserver;
use crate::printer::Printer;
use crate::receiver::Receiver;

/// Identity of the user who owns the phone.
const IDENTITY: &str = "user-0001";

/// The guided tour, with the participants of the demo.
pub(crate) struct Tour {
    url: String,
    backend: Backend,
    phone: Phone,
    observer: Arc<PhoneObserver>,
    receiver: Receiver,
    clock: Arc<PausableClock>,
    printer: Arc<Printer>,
}

impl Tour {
    /// Creates a tour with a new phone that sends its requests to the server at `url`.
    pub(crate) fn new(
        url: &str,
        backend: Backend,
        receiver: Receiver,
        clock: Arc<PausableClock>,
        printer: Arc<Printer>,
    ) -> Result<Self, CliError> {
        let observer = Arc::new(PhoneObserver::new(Arc::clone(&printer)));
        let observe = Arc::clone(&observer);
        let phone = Phone::new(Style::Android, url, Arc::clone(&clock) as _)?
            .with_observer(Arc::new(move |exchange| observe.observe(exchange)));
        Ok(Self { url: url.to_owned(), backend, phone, observer, receiver, clock, printer })
    }

    /// Runs all steps of the tour, in order.
    ///
    /// # Errors
    /// Returns the error of the first step that fails.
    pub(crate) async fn run(mut self) -> Result<(), CliError> {
        self.printer.print_introduction(
            "Countersign: a phone confirms a sign-in",
            &[
                ("server", &format!("Countersign, here at {}: verifies what the phones sign", self.url)),
                ("backend", "your application's server: asks the user's phone to confirm a sign-in"),
                ("phone", "your app on the user's phone: answers, and signs with a key that never leaves it"),
            ],
        );

        let service_sid = self.create_service().await?;
        let access_token = self.create_access_token(&service_sid).await?;
        let mut enrollment = self.register_public_key(&service_sid, access_token).await?;
        self.prove_possession(&mut enrollment).await?;

        let sign_in = self.create_sign_in_challenge(&enrollment).await?;
        self.list_pending_challenges(&enrollment, &sign_in).await?;
        let challenge = self.fetch_challenge(&enrollment, &sign_in).await?;
        self.approve_challenge(&enrollment, &challenge).await?;
        self.read_answer(&enrollment, &sign_in).await?;

        self.answer_twice(&enrollment, &challenge).await?;
        self.deny_challenge(&enrollment).await?;
        let expired = self.let_challenge_expire(&enrollment).await?;
        self.answer_too_late(&enrollment, &expired).await?;

        let credential_sid = self.upload_push_credential().await?;
        self.select_push_credential(&service_sid, &credential_sid).await?;
        self.create_webhook(&service_sid).await?;
        let payment = self.create_payment_challenge(&enrollment).await?;
        self.receive_push(&payment).await?;
        self.approve_payment(&enrollment, &payment).await?;
        self.receive_webhook(&payment).await?;

        let totp = self.share_secret(&service_sid).await?;
        self.sign_in_with_code(&service_sid, &totp).await
    }

    async fn start_step(&self, title: &'static str, explanation: &str) {
        self.printer.start_step(title, explanation).await;
    }

    /// Creates a challenge as the backend, with the additional form fields `fields`, and returns its SID.
    async fn create_challenge(
        &self,
        enrollment: &Enrollment,
        message: &str,
        fields: &[(&str, &str)],
    ) -> Result<String, CliError> {
        let mut form = vec![("FactorSid", enrollment.factor_sid.as_str()), ("Details.Message", message)];
        form.extend_from_slice(fields);
        let explanation = Explanation {
            checks: "the auth token; that the factor belongs to this user and is verified",
            shown_members: &["sid", "status", "date_created", "expiration_date"],
        };
        let challenge = self.backend.create(&challenges_path(enrollment), &form, explanation).await?;
        self.printer.check(
            challenge["status"] == "pending",
            "The challenge is pending until the phone answers it.",
        )?;
        string_member(&challenge, "sid")
    }

    /// Fetches a challenge as the backend and returns it.
    async fn read_challenge(&self, enrollment: &Enrollment, sid: &str) -> Result<Value, CliError> {
        let explanation = Explanation {
            checks: "the auth token; that the challenge belongs to this account",
            shown_members: &["sid", "status", "date_responded"],
        };
        self.backend.get(&challenge_path(enrollment, sid), explanation).await
    }

    /// Checks that the server refused the phone's request with `expected_code` although its signature was
    /// valid. `statement` is printed as the result.
    fn check_refused(
        &self,
        result: Result<(), Error>,
        expected_code: i64,
        statement: &str,
    ) -> Result<(), CliError> {
        match result {
            Err(Error::Api { code, .. }) => {
                self.printer.check(code == expected_code && self.observer.are_signatures_valid(), statement)
            }
            Err(other) => Err(other.into()),
            Ok(()) => self.printer.check(false, statement),
        }
    }

    /// Checks that every signature by the phone so far was valid. `statement` is printed as the result.
    fn check_signatures(&self, statement: &str) -> Result<(), CliError> {
        self.printer.check(self.observer.are_signatures_valid(), statement)
    }
}

fn challenges_path(enrollment: &Enrollment) -> String {
    format!("/v2/Services/{}/Entities/{}/Challenges", enrollment.service_sid, enrollment.identity)
}

fn challenge_path(enrollment: &Enrollment, sid: &str) -> String {
    format!("{}/{sid}", challenges_path(enrollment))
}
