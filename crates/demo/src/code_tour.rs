//! What `--codes` shows instead of the tour of a phone: one-time codes by text message and by mail.

use std::sync::Arc;

use app::outlets::NewOutlet;
use app::{App, Origin};
use domain::{AccountSid, Channel, FriendlyName, Parameter as _};
use outlet_client::{HttpParameters, OutletParameters, OutletSettings};
use serde_json::Value;
use terminal::CliError;

use crate::backend::{Backend, Explanation, string_member};
use crate::exchange::DeliveryView;
use crate::format::select_members;
use crate::printer::Printer;
use crate::receiver::Receiver;

/// The phone number of the user, from the range that Ofcom reserves for drama.
const NUMBER: &str = "+447700900123";

/// The mail address of the user.
const ADDRESS: &str = "ada@example.com";

/// URL path to which the server sends messages.
const GATEWAY_PATH: &str = "/messages";

/// Names of the members of a verification to show.
const SHOWN_MEMBERS: &[&str] = &["sid", "to", "channel", "status", "valid", "send_code_attempts"];

/// The tour of one-time codes, with its participants. The receiver stands in for a gateway, which would pass the
/// messages on to the user.
pub(crate) struct CodeTour {
    url: String,
    backend: Backend,
    receiver: Receiver,
    printer: Arc<Printer>,
}

impl CodeTour {
    /// Creates a tour of a server at `url`, whose account sends text messages and mail through `receiver`.
    ///
    /// # Errors
    /// Returns an error if the outlets can't be created.
    pub(crate) async fn new(
        app: &App,
        account_sid: AccountSid,
        url: &str,
        backend: Backend,
        receiver: Receiver,
        printer: Arc<Printer>,
    ) -> Result<Self, CliError> {
        for channel in [Channel::Sms, Channel::Email] {
            let invalid = |error: String| CliError::new(error);
            let parameters = HttpParameters {
                url: format!("{}{GATEWAY_PATH}", receiver.url()),
                ..HttpParameters::default()
            };
            let settings = OutletSettings::new(OutletParameters::Http(parameters));
            let new = NewOutlet {
                friendly_name: FriendlyName::from_parameter("Gateway")
                    .map_err(|expected| invalid(expected.to_string()))?,
                channels: vec![channel],
                settings: settings.map_err(|error| invalid(error.to_string()))?,
                rate: None,
            };
            app.create_outlet(&Origin::operator("demo"), account_sid, new).await?;
        }
        Ok(Self { url: url.to_owned(), backend, receiver, printer })
    }

    /// Runs all steps of the tour, in order.
    ///
    /// # Errors
    /// Returns the error of the first step that fails.
    pub(crate) async fn run(mut self) -> Result<(), CliError> {
        self.printer.print_introduction(
            "Countersign: a user types a code",
            &[
                ("server", &format!("Countersign, here at {}: makes the codes and checks them", self.url)),
                ("backend", "your application's server: asks for a code, and passes on what the user types"),
                ("gateway", "carries messages to the user: a provider of text messages, a mail server"),
            ],
        );
        let service = self.create_service().await?;
        let code = self.send_text_message(&service).await?;
        self.check_wrong_code(&service, &code).await?;
        self.check_right_code(&service, &code).await?;
        self.check_code_again(&service, &code).await?;
        let code = self.send_mail(&service).await?;
        self.send_mail_again(&service, &code).await?;
        self.guess(&service, &code).await
    }

    async fn create_service(&self) -> Result<String, CliError> {
        self.start_step(
            "The backend creates a service",
            "A service contains the verifications of one application. Its name is part of every message.",
        )
        .await;
        let explanation = Explanation {
            checks: "the auth token: it must be the account's",
            shown_members: &["sid", "friendly_name", "code_length", "url"],
        };
        let form = [("FriendlyName", "Owl Bank")];
        let service = self.backend.create("/v2/Services", &form, explanation).await?;
        self.printer.check(service["code_length"] == 6, "Its codes have six digits.")?;
        string_member(&service, "sid")
    }

    /// Sends a code by text message, and returns the code from the message.
    async fn send_text_message(&mut self, service: &str) -> Result<String, CliError> {
        self.start_step(
            "The backend asks the server to send a code by text message",
            "The server makes up the code and stores it encrypted. The backend does not learn it.",
        )
        .await;
        let verification = self.verify(service, NUMBER, "sms").await?;
        self.printer.check(verification["status"] == "pending", "The verification is pending.")?;
        self.receive_message(NUMBER).await
    }

    async fn check_wrong_code(&self, service: &str, code: &str) -> Result<(), CliError> {
        self.start_step(
            "The user mistypes the code",
            "The server counts wrong codes. The fifth one ends the checks.",
        )
        .await;
        let check = self.check(service, NUMBER, &mistyped(code)).await?;
        self.printer.check(
            check["status"] == "pending" && check["valid"] == false,
            "The code is wrong, and the user may try again.",
        )
    }

    async fn check_right_code(&self, service: &str, code: &str) -> Result<(), CliError> {
        self.start_step(
            "The user types the code from the message",
            "The backend passes on what the user typed, and relies on the status alone.",
        )
        .await;
        let check = self.check(service, NUMBER, code).await?;
        self.printer.check(
            check["status"] == "approved" && check["valid"] == true,
            "The verification is approved: the phone number belongs to the user.",
        )
    }

    async fn check_code_again(&self, service: &str, code: &str) -> Result<(), CliError> {
        self.start_step(
            "The same code is typed a second time",
            "A code counts once. When its verification has ended, the server has erased the code.",
        )
        .await;
        let path = check_path(service);
        let form = [("To", NUMBER), ("Code", code)];
        let refused = self.backend.post_expecting_refusal(&path, &form, CHECK, 404).await?;
        self.printer.check(refused["code"] == 20404, "There is no open verification of this phone number.")
    }

    /// Sends a code by mail, and returns the code from the message.
    async fn send_mail(&mut self, service: &str) -> Result<String, CliError> {
        self.start_step(
            "The backend asks for a code by mail",
            "The same request, with another recipient and channel. The texts exist in eight languages, and templates \
             replace them.",
        )
        .await;
        let verification = self.verify(service, ADDRESS, "email").await?;
        self.printer.check(verification["channel"] == "email", "The code is sent by mail.")?;
        self.receive_message(ADDRESS).await
    }

    async fn send_mail_again(&mut self, service: &str, code: &str) -> Result<(), CliError> {
        self.start_step(
            "The user asks for the mail once more",
            "While a verification is open, the same code is sent again. A verification has at most five messages.",
        )
        .await;
        self.verify(service, ADDRESS, "email").await?;
        let again = self.receive_message(ADDRESS).await?;
        self.printer.check(again == code, "Both mails contain the same code.")
    }

    async fn guess(&self, service: &str, code: &str) -> Result<(), CliError> {
        self.start_step(
            "Guessing is stopped",
            "Five wrong codes end the checks of this verification, also for the right code.",
        )
        .await;
        let form = [("To", ADDRESS), ("Code", &mistyped(code))];
        for _ in 0..5 {
            self.backend.create_silently(&check_path(service), &form).await?;
        }
        self.printer.print_remark("Five requests with wrong codes are not shown.");
        let form = [("To", ADDRESS), ("Code", code)];
        let refused = self.backend.post_expecting_refusal(&check_path(service), &form, CHECK, 429).await?;
        self.printer.check(refused["code"] == 60202, "No code is accepted until the verification expires.")
    }

    async fn start_step(&self, title: &'static str, explanation: &str) {
        self.printer.start_step(title, explanation).await;
    }

    /// Creates a verification as the backend, or sends its code again.
    async fn verify(&self, service: &str, to: &str, channel: &str) -> Result<Value, CliError> {
        let explanation = Explanation {
            checks: "the auth token; the recipient; countries and limits; that an outlet serves the channel",
            shown_members: SHOWN_MEMBERS,
        };
        let path = format!("/v2/Services/{service}/Verifications");
        self.backend.create(&path, &[("To", to), ("Channel", channel)], explanation).await
    }

    /// Checks a code as the backend.
    async fn check(&self, service: &str, to: &str, code: &str) -> Result<Value, CliError> {
        self.backend.create(&check_path(service), &[("To", to), ("Code", code)], CHECK).await
    }

    /// Waits for the next message to `recipient`, prints it, and returns its code.
    async fn receive_message(&mut self, recipient: &str) -> Result<String, CliError> {
        let request = self.receiver.receive("the message", |request| request.path == GATEWAY_PATH).await?;
        let message: Value = serde_json::from_str(&request.body)?;
        self.printer.print_delivery(&DeliveryView {
            recipient: "gateway",
            path: &request.path,
            headers: Vec::new(),
            form: &[],
            json: Some(select_members(&message, &["to", "channel", "locale", "subject", "body"])),
        });
        let code = string_member(&message, "code")?;
        let has_code = message["body"].as_str().is_some_and(|text| text.contains(&code));
        self.printer.check(
            message["to"] == recipient && has_code,
            "The gateway has a message with the code. It is repeated until the gateway accepts it or the code expires.",
        )?;
        Ok(code)
    }
}

/// What is printed about the check of a code.
const CHECK: Explanation = Explanation {
    checks: "the auth token; that a verification is open and has checks left; the code, in constant time",
    shown_members: SHOWN_MEMBERS,
};

fn check_path(service: &str) -> String {
    format!("/v2/Services/{service}/VerificationCheck")
}

/// Returns a code of the same length that is wrong.
fn mistyped(code: &str) -> String {
    code.chars().map(|digit| if digit == '9' { '0' } else { '9' }).collect()
}
