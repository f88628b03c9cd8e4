//! Outlets that send one HTTP request for each message, in a form that the operator chooses.

use std::borrow::Cow;

use domain::Channel;
use reqwest::RequestBuilder;
use reqwest::header::CONTENT_TYPE;
use serde_json::json;
use url::form_urlencoded;

use crate::codes;
use crate::message::{Message, Outcome};
use crate::redaction::Redactor;
use crate::settings::{Auth, Content, HttpSettings, SuccessRule};
use crate::template::{Escaping, Values};
use crate::transport::{self, MAX_JSON_BYTES, MAX_TEXT_BYTES, Response, Transport};

/// Sends `message` through an outlet of this kind.
pub(crate) async fn send(http: &Transport, settings: &HttpSettings, message: &Message) -> Outcome {
    let redactor = Redactor::new(message, settings.secret());
    let reads_body = settings.parses_json() || matches!(settings.success(), SuccessRule::Text(_));
    let max_bytes = if reads_body { MAX_JSON_BYTES } else { MAX_TEXT_BYTES };
    match Response::to(build_request(http, settings, message), max_bytes).await {
        Ok(response) => outcome(settings, &response, &redactor),
        Err(reason) => transport::no_response(&reason, &redactor),
    }
}

/// Returns the request that sends a message.
fn build_request(http: &Transport, settings: &HttpSettings, message: &Message) -> RequestBuilder {
    let values = Values {
        message,
        from: message.from.as_deref().or(settings.from()).unwrap_or_default(),
        secret: settings.secret().map(|secret| secret.expose().as_str()).unwrap_or_default(),
    };
    let mut url = settings.url().clone();
    if let Some(query) = settings.query() {
        url.set_query(Some(&query.render(Escaping::Percent, |placeholder| values.get(placeholder))));
    }
    let mut request = http.request(settings.method().clone(), url);
    request = match settings.auth() {
        Auth::None => request,
        Auth::Basic { user } => request.basic_auth(user, Some(values.secret)),
        Auth::Bearer => request.bearer_auth(values.secret),
    };
    request = request.header("Idempotency-Key", message.attempt_sid.to_string());
    for (name, value) in settings.headers() {
        request = request.header(name, value.render(Escaping::None, |placeholder| values.get(placeholder)));
    }
    match settings.content() {
        Content::None => request,
        Content::Json(template) => {
            let body = template.as_ref().map_or_else(
                || default_json(&values),
                |template| template.render(Escaping::Json, |placeholder| values.get(placeholder)),
            );
            request.header(CONTENT_TYPE, "application/json").body(body)
        }
        Content::Form(template) => {
            let body = template.as_ref().map_or_else(
                || default_form(&values),
                |template| template.render(Escaping::Percent, |placeholder| values.get(placeholder)),
            );
            request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body)
        }
    }
}

/// Returns the names and values of a body without a template.
fn default_fields<'a>(values: &Values<'a>) -> Vec<(&'static str, Cow<'a, str>)> {
    let message = values.message;
    let sid = message.attempt_sid.to_string();
    let mut fields = vec![
        ("to", message.to.as_str().into()),
        ("from", values.from.into()),
        ("body", message.text.as_str().into()),
        ("code", message.code.expose().into()),
        ("channel", message.channel.as_str().into()),
        ("locale", message.locale.as_str().into()),
        ("attempt_sid", sid.clone().into()),
        ("idempotency_key", sid.into()),
    ];
    if message.channel == Channel::Email {
        fields.push(("subject", message.subject.as_str().into()));
    }
    if let Some(url) = &message.report_url {
        fields.push(("report_url", url.as_str().into()));
    }
    fields
}

fn default_json(values: &Values<'_>) -> String {
    let fields = default_fields(values).into_iter().map(|(name, value)| {
        let is_missing = name == "from" && value.is_empty();
        (name.to_owned(), if is_missing { json!(null) } else { json!(value) })
    });
    serde_json::Value::Object(fields.collect()).to_string()
}

fn default_form(values: &Values<'_>) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(default_fields(values)).finish()
}

/// Returns the outcome that a response reports.
fn outcome(settings: &HttpSettings, response: &Response, redactor: &Redactor) -> Outcome {
    let body = if settings.parses_json() { response.json() } else { serde_json::Value::Null };
    let is_accepted = response.is_success()
        && match settings.success() {
            SuccessRule::Status => true,
            SuccessRule::Text(text) => response.body.contains(text),
            SuccessRule::Pointer { pointer, value } => {
                body.pointer(pointer).and_then(transport::plain_text).as_ref() == Some(value)
            }
        };
    if !is_accepted {
        return response.failure(codes::UNKNOWN_ERROR, &response.body, redactor);
    }
    let id = settings.id_pointer().and_then(|pointer| body.pointer(pointer));
    Outcome::Accepted { provider_id: id.and_then(|id| transport::provider_id(id, redactor)) }
}
