//! Observes the phone: prints its exchanges, decodes the data it signs, and verifies every signature
//! independently.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto::Jws;
use device::wire::{Operation, WireRequest};
use domain::factors::PublicKey;
use serde_json::Value;

use crate::exchange::{ExchangeView, decode_form};
use crate::format::{abbreviate, abbreviate_secret, compact, select_members};
use crate::printer::Printer;

/// Name of the response header that lists the fields to sign, spelled as it is printed.
const SIGNATURE_FIELDS_HEADER: &str = "Twilio-Verify-Signature-Fields";

/// An observer that sees all traffic of the phone but knows no secret.
pub(crate) struct PhoneObserver {
    printer: Arc<Printer>,
    state: Mutex<State>,
}

/// What the observer has learned from the exchanges so far.
#[derive(Default)]
struct State {
    /// The phone's public key, and the number of the step in which it was registered.
    key: Option<(PublicKey, usize)>,
    /// Number of the step in which the device token was explained.
    token_explained_in: Option<usize>,
    /// Number of the step in which a signed answer was explained.
    answer_explained_in: Option<usize>,
    /// Number of signatures that matched the public key.
    valid_signatures: usize,
    /// Number of signatures that did not match the public key.
    invalid_signatures: usize,
}

impl PhoneObserver {
    /// Creates an observer that prints to `printer`.
    pub(crate) fn new(printer: Arc<Printer>) -> Self {
        Self { printer, state: Mutex::default() }
    }

    /// Returns whether the phone has signed at least once and every signature matched the public key that it
    /// registered.
    pub(crate) fn are_signatures_valid(&self) -> bool {
        let state = self.state();
        state.valid_signatures > 0 && state.invalid_signatures == 0
    }

    /// Prints an exchange of the phone, and verifies and counts the signatures in it.
    pub(crate) fn observe(&self, exchange: &device::Exchange) {
        let (request, response) = (&exchange.request, &exchange.response);
        let form = request.body.as_deref().unwrap_or_default();
        let (authorization, signed) = {
            let step = self.printer.step_number();
            let mut state = self.state();
            state.remember_key(form, step);
            (
                state.explain_authorization(request, step),
                state.explain_signed(request, &decode_form(form), step),
            )
        };
        let header = SIGNATURE_FIELDS_HEADER.to_ascii_lowercase();
        let fields = response.header(&header).next();
        self.printer.print_exchange(&ExchangeView {
            sender: "phone",
            method: request.method.as_str(),
            path_and_query: &request.path_and_query,
            authorization,
            form,
            signed,
            checks: checks(request.operation),
            status: response.status,
            header: fields
                .filter(|_| request.operation == Operation::GetChallenge)
                .map(|fields| (SIGNATURE_FIELDS_HEADER, fields.to_owned())),
            body: &response.body,
            shown_members: shown_members(request.operation),
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Stores the public key if the form contains one. `step` is the number of the current step.
    fn remember_key(&mut self, form: &str, step: usize) {
        let key = decode_form(form).into_iter().find(|(name, _)| name == "Binding.PublicKey");
        if let Some((_, text)) = key {
            self.key = crypto::signatures::parse_public_key(&text).map(|key| (key, step));
        }
    }

    /// Returns the lines that explain the `Authorization` header. Verifies the device token in it.
    fn explain_authorization(&mut self, request: &WireRequest, step: usize) -> Vec<String> {
        let decoded =
            request.authorization.expose().strip_prefix("Basic ").and_then(|text| STANDARD.decode(text).ok());
        let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
        let token = decoded.strip_prefix("token:").unwrap_or_default();
        let line = |what: &str| format!("Authorization: Basic token:{}  ({what})", abbreviate_secret(token));
        if request.operation == Operation::CreateFactor {
            return vec![line("\"token\" : the access token, in base64")];
        }
        let verdict = self.verify_jws(token);
        match (self.token_explained_in, Jws::parse(token)) {
            (None, Some(jws)) => {
                self.token_explained_in = Some(step);
                let claims = Value::Object(jws.claims().clone());
                let mut lines = vec![line("\"token\" : a token that the phone created, in base64")];
                lines.push("The token is a JWT, a signed JSON text:".to_owned());
                lines.extend(jws_lines(&jws, claims, verdict));
                lines
            }
            (Some(step), Some(_)) => {
                vec![line(&format!("\"token\" : a new token, created as in step {step}"))]
            }
            (_, None) => vec![line("which is not a JWT")],
        }
    }

    /// Returns the lines that explain what the phone signed in its form, or none if the form has no
    /// `AuthPayload`. Verifies the signature.
    fn explain_signed(
        &mut self,
        request: &WireRequest,
        form: &[(String, String)],
        step: usize,
    ) -> Vec<String> {
        let Some((_, payload)) = form.iter().find(|(name, _)| name == "AuthPayload") else {
            return Vec::new();
        };
        match request.operation {
            Operation::VerifyFactor => {
                let sid = request.path_and_query.rsplit('/').next().unwrap_or_default();
                let verdict = self.verify_possession_proof(sid, payload);
                vec![
                    "AuthPayload is only a signature:".to_owned(),
                    format!("  signed     the text {}, the SID of the factor", abbreviate(sid)),
                    format!("  signature  {verdict}"),
                ]
            }
            Operation::AnswerChallenge => self.explain_answer(payload, step),
            _ => Vec::new(),
        }
    }

    /// Returns the lines that explain a signed answer: all its claims for the first answer, only the most
    /// important ones for later answers.
    fn explain_answer(&mut self, payload: &str, step: usize) -> Vec<String> {
        let verdict = self.verify_jws(payload);
        let Some(jws) = Jws::parse(payload) else { return vec!["AuthPayload is not a JWT".to_owned()] };
        let claims = Value::Object(jws.claims().clone());
        let (title, claims) = match self.answer_explained_in {
            None => ("AuthPayload is also a JWT:".to_owned(), claims),
            Some(step) => (
                format!("AuthPayload, created as in step {step}:"),
                select_members(&claims, &["sid", "status"]),
            ),
        };
        self.answer_explained_in.get_or_insert(step);
        let mut lines = vec![title];
        lines.extend(jws_lines(&jws, claims, verdict));
        lines
    }

    fn verify_jws(&mut self, text: &str) -> String {
        self.verify(|key| Jws::parse(text).is_some_and(|jws| jws.verify(key)))
    }

    fn verify_possession_proof(&mut self, sid: &str, payload: &str) -> String {
        let signature = STANDARD.decode(payload).unwrap_or_default();
        self.verify(|key| crypto::verify_der(key, sid.as_bytes(), &signature))
    }

    /// Verifies a signature with `is_valid`, counts it, and returns the result as text.
    fn verify(&mut self, is_valid: impl FnOnce(&PublicKey) -> bool) -> String {
        match &self.key {
            Some((key, step)) if is_valid(key) => {
                self.valid_signatures += 1;
                format!("ES256, by the phone's private key: it matches the public key of step {step}")
            }
            _ => {
                self.invalid_signatures += 1;
                "does NOT match the phone's public key".to_owned()
            }
        }
    }
}

/// Returns the lines that show the three parts of a JWT.
fn jws_lines(jws: &Jws<'_>, claims: Value, verdict: String) -> Vec<String> {
    let mut lines = labeled("header", compact(Value::Object(jws.header().clone())));
    lines.extend(labeled("payload", compact(claims)));
    lines.extend(labeled("signature", vec![verdict]));
    lines
}

/// Returns the lines with `label` before the first one and the others aligned with it.
fn labeled(label: &str, lines: Vec<String>) -> Vec<String> {
    let label = |index| if index == 0 { label } else { "" };
    lines.iter().enumerate().map(|(index, line)| format!("  {:<9}  {line}", label(index))).collect()
}

/// Returns a description of what the server checks before it executes the phone's operation.
const fn checks(operation: Operation) -> &'static str {
    match operation {
        Operation::CreateFactor => {
            "the access token: created by this server for this service and user, not expired and not yet used; \
             the public key: a point on the curve P-256, for ES256 signatures"
        }
        Operation::VerifyFactor => {
            "the token: not expired, and signed by the phone's key; the signature in AuthPayload, by the same key"
        }
        Operation::ListChallenges | Operation::GetChallenge => {
            "the token; that the phone requests only its own challenges"
        }
        Operation::AnswerChallenge => {
            "the token; that the challenge is pending; the signature in AuthPayload, by the key of the phone that the \
             challenge is for; that every signed value equals that of the challenge"
        }
        Operation::UpdateFactor | Operation::DeleteFactor => {
            "the token; that the factor belongs to the phone"
        }
    }
}

/// Returns the names of the response body members to show for `operation`.
const fn shown_members(operation: Operation) -> &'static [&'static str] {
    match operation {
        Operation::CreateFactor => &["sid", "identity", "friendly_name", "status", "config"],
        Operation::VerifyFactor | Operation::UpdateFactor | Operation::DeleteFactor => &["sid", "status"],
        Operation::ListChallenges => &["challenges", "sid", "status", "details"],
        Operation::GetChallenge => &["sid", "status", "details", "hidden_details", "expiration_date"],
        Operation::AnswerChallenge => &["sid", "status", "date_responded"],
    }
}
