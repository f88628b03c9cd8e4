//! Listens to the phone: takes what it signs apart, and checks every signature itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto::Jws;
use device::wire::{Call, WireRequest};
use domain::factors::PublicKey;
use serde_json::Value;

use crate::demo::exchange::{Exchange, pairs};
use crate::demo::narrator::Narrator;
use crate::demo::text::{compact, hint, pick, short};

const SIGNATURE_FIELDS: &str = "twilio-verify-signature-fields";

/// Someone who hears all that the phone says, and who knows no secret.
pub(super) struct Listener {
    narrator: Arc<Narrator>,
    heard: Mutex<Heard>,
}

/// What was heard so far.
#[derive(Default)]
struct Heard {
    /// The phone's public key, and the step in which it was registered.
    key: Option<(PublicKey, usize)>,
    /// The step in which the phone's own token was explained.
    token_explained: Option<usize>,
    /// The step in which the answer was explained.
    answer_explained: Option<usize>,
    /// Signatures that fit the public key, and those that don't.
    fitting: usize,
    misfits: usize,
}

impl Listener {
    pub(super) fn new(narrator: Arc<Narrator>) -> Self {
        Self { narrator, heard: Mutex::default() }
    }

    /// Whether everything that the phone signed so far fits the public key that it registered.
    pub(super) fn signatures_fit(&self) -> bool {
        let heard = self.heard();
        heard.fitting > 0 && heard.misfits == 0
    }

    /// Retells what the phone said and what it was answered.
    pub(super) fn hear(&self, exchange: &device::Exchange) {
        let (request, response) = (&exchange.request, &exchange.response);
        let form = request.body.as_deref().unwrap_or_default();
        let (authorization, signed) = {
            let step = self.narrator.number();
            let mut heard = self.heard();
            heard.learn(form, step);
            (heard.authorization(request, step), heard.signed(request, &pairs(form), step))
        };
        let fields = response.header(SIGNATURE_FIELDS).next();
        self.narrator.exchange(&Exchange {
            who: "phone",
            method: request.method.as_str(),
            path_and_query: &request.path_and_query,
            authorization,
            form,
            signed,
            checks: checks(request.what),
            status: response.status,
            header: fields
                .filter(|_| request.what == Call::GetChallenge)
                .map(|fields| ("Twilio-Verify-Signature-Fields", fields.to_owned())),
            body: &response.body,
            interesting: interesting(request.what),
        });
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heard {
    /// Remembers the public key when it goes by.
    fn learn(&mut self, form: &str, step: usize) {
        let key = pairs(form).into_iter().find(|(name, _)| name == "Binding.PublicKey");
        if let Some((_, text)) = key {
            self.key = crypto::signatures::parse_public_key(&text).map(|key| (key, step));
        }
    }

    /// How the phone signs in.
    fn authorization(&mut self, request: &WireRequest, step: usize) -> Vec<String> {
        let decoded =
            request.authorization.expose().strip_prefix("Basic ").and_then(|text| STANDARD.decode(text).ok());
        let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
        let token = decoded.strip_prefix("token:").unwrap_or_default();
        let line = |what: &str| format!("Authorization: Basic token:{}  ({what})", hint(token));
        if request.what == Call::CreateFactor {
            return vec![line("\"token\" : the access token, in base64")];
        }
        let verdict = self.check_jws(token);
        match (self.token_explained, Jws::parse(token)) {
            (None, Some(jws)) => {
                self.token_explained = Some(step);
                let claims = Value::Object(jws.claims().clone());
                let mut shown = vec![line("\"token\" : a token of the phone's making, in base64")];
                shown.push("The token is a signed JSON text (a JWT), which says:".to_owned());
                shown.extend(jws_lines(&jws, claims, verdict));
                shown
            }
            (Some(step), Some(_)) => {
                vec![line(&format!("\"token\" : a new token, made as in step {step}"))]
            }
            (_, None) => vec![line("which is no JWT")],
        }
    }

    /// What the phone signs in its form.
    fn signed(&mut self, request: &WireRequest, form: &[(String, String)], step: usize) -> Vec<String> {
        let Some((_, payload)) = form.iter().find(|(name, _)| name == "AuthPayload") else {
            return Vec::new();
        };
        match request.what {
            Call::VerifyFactor => {
                let sid = request.path_and_query.rsplit('/').next().unwrap_or_default();
                let verdict = self.check_proof(sid, payload);
                vec![
                    "AuthPayload is a signature and nothing else:".to_owned(),
                    format!("  signed     the text {}, the SID of the factor", short(sid)),
                    format!("  signature  {verdict}"),
                ]
            }
            Call::AnswerChallenge => {
                let verdict = self.check_jws(payload);
                let Some(jws) = Jws::parse(payload) else { return vec!["AuthPayload is no JWT".to_owned()] };
                let claims = Value::Object(jws.claims().clone());
                let (title, claims) = match self.answer_explained {
                    None => ("AuthPayload is a JWT too, which says:".to_owned(), claims),
                    Some(step) => (
                        format!("AuthPayload, made as in step {step}, says:"),
                        pick(&claims, &["sid", "status"]),
                    ),
                };
                self.answer_explained.get_or_insert(step);
                let mut shown = vec![title];
                shown.extend(jws_lines(&jws, claims, verdict));
                shown
            }
            _ => Vec::new(),
        }
    }

    fn check_jws(&mut self, text: &str) -> String {
        self.verdict(|key| Jws::parse(text).is_some_and(|jws| jws.verify(key)))
    }

    fn check_proof(&mut self, sid: &str, payload: &str) -> String {
        let signature = STANDARD.decode(payload).unwrap_or_default();
        self.verdict(|key| crypto::verify_der(key, sid.as_bytes(), &signature))
    }

    /// Counts a signature, and says what it is.
    fn verdict(&mut self, fits: impl FnOnce(&PublicKey) -> bool) -> String {
        match &self.key {
            Some((key, step)) if fits(key) => {
                self.fitting += 1;
                format!("ES256, by the phone's private key: it fits the public key of step {step}")
            }
            _ => {
                self.misfits += 1;
                "does NOT fit the phone's public key".to_owned()
            }
        }
    }
}

/// The parts of a JWT.
fn jws_lines(jws: &Jws<'_>, claims: Value, verdict: String) -> Vec<String> {
    let mut shown = labelled("header", compact(Value::Object(jws.header().clone())));
    shown.extend(labelled("payload", compact(claims)));
    shown.extend(labelled("signature", vec![verdict]));
    shown
}

fn labelled(label: &str, lines: Vec<String>) -> Vec<String> {
    let label = |index| if index == 0 { label } else { "" };
    lines.iter().enumerate().map(|(index, line)| format!("  {:<9}  {line}", label(index))).collect()
}

/// What the server looks at before it does what a phone wants.
const fn checks(call: Call) -> &'static str {
    match call {
        Call::CreateFactor => {
            "the access token: made by this server, for this service and this user, not too old and not used \
             before; the public key: a point on the curve P-256, for signatures of the kind ES256"
        }
        Call::VerifyFactor => {
            "the token: in date, and signed by this phone's key; the signature in AuthPayload, by the \
             same key"
        }
        Call::ListChallenges | Call::GetChallenge => "the token; that the phone asks for nothing but its own",
        Call::AnswerChallenge => {
            "the token; that the challenge still waits; the signature in AuthPayload, by the key of the phone \
             that was asked; that every signed value is the challenge's own"
        }
        Call::UpdateFactor | Call::DeleteFactor => "the token; that the factor is the phone's own",
    }
}

/// What in the answer is worth a look.
const fn interesting(call: Call) -> &'static [&'static str] {
    match call {
        Call::CreateFactor => &["sid", "identity", "friendly_name", "status", "config"],
        Call::VerifyFactor | Call::UpdateFactor | Call::DeleteFactor => &["sid", "status"],
        Call::ListChallenges => &["challenges", "sid", "status", "details"],
        Call::GetChallenge => &["sid", "status", "details", "hidden_details", "expiration_date"],
        Call::AnswerChallenge => &["sid", "status", "date_responded"],
    }
}
