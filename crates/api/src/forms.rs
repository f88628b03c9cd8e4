//! Handler for `/v2/Forms/{FormType}` (docs/protocol/verifications.md).

use actix_web::HttpResponse;
use app::Backend;
use domain::forms::FormType;
use serde_json::{Value, json};

use crate::error::Error;
use crate::request::AuthorizedRequest;

pub(crate) async fn fetch(request: AuthorizedRequest<FormType, Backend>) -> Result<HttpResponse, Error> {
    let form_type = request.resource;
    let name = form_type.as_str();
    Ok(HttpResponse::Ok().json(json!({
        "form_type": name,
        "forms": forms(form_type),
        "form_meta": {},
        "url": format!("{}/v2/Forms/{name}", request.public_url),
    })))
}

/// Returns the forms of a type, each as a JSON Schema of the request's parameters.
fn forms(form_type: FormType) -> Value {
    match form_type {
        FormType::Push => json!({
            "create_factor": create_factor(),
            "verify_factor": verify_factor(),
            "create_challenge": create_challenge(),
        }),
    }
}

/// Returns the JSON Schema of an object with these properties.
fn schema(title: &str, required: &[&str], properties: Value) -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "type": "object",
        "required": required,
        "properties": properties,
    })
}

fn create_factor() -> Value {
    let required =
        ["FriendlyName", "FactorType", "Binding.PublicKey", "Config.AppId", "Config.NotificationPlatform"];
    schema(
        "Enroll a phone",
        &required,
        json!({
            "FriendlyName": { "type": "string", "minLength": 1, "maxLength": 64 },
            "FactorType": { "const": "push" },
            "Binding.Alg": { "const": "ES256" },
            "Binding.PublicKey": { "type": "string", "description": "P-256 public key: SubjectPublicKeyInfo in Base64." },
            "Config.AppId": { "type": "string", "description": "Name of the app's package or bundle." },
            "Config.NotificationPlatform": { "enum": ["apn", "fcm", "none"] },
            "Config.NotificationToken": { "type": "string", "description": "Push token of the app; not for none." },
            "Config.SdkVersion": { "type": "string" },
            "Metadata": { "type": "string", "description": "JSON object whose values are strings." },
        }),
    )
}

fn verify_factor() -> Value {
    schema(
        "Verify a phone",
        &["AuthPayload"],
        json!({
            "AuthPayload": {
                "type": "string",
                "description": "Signature of the factor's SID with the private key: DER in Base64.",
            },
        }),
    )
}

fn create_challenge() -> Value {
    schema(
        "Ask the user of a phone",
        &["FactorSid", "Details.Message"],
        json!({
            "FactorSid": { "type": "string", "pattern": "^YF[0-9a-fA-F]{32}$" },
            "Details.Message": { "type": "string", "description": "Question that the app shows." },
            "Details.Fields": {
                "type": "array",
                "items": { "type": "string", "description": "JSON object with label and value." },
            },
            "HiddenDetails": { "type": "string", "description": "JSON object whose values are strings." },
            "ExpirationDate": { "type": "string", "format": "date-time" },
        }),
    )
}
