//! Handlers for `/v1/Credentials`: push credentials, in the format of Twilio Notify (docs/protocol/push.md, section 2).

use actix_web::HttpResponse;
use app::Backend;
use app::credentials::{CredentialChange, NewCredential, Upload};
use domain::credentials::{Credential, CredentialType};
use domain::{AccountSid, Order, Problem};
use serde_json::{Value, json};
use web::Form;

use crate::error::Error;
use crate::paging::Listing;
use crate::request::AuthorizedRequest;

pub(crate) async fn create(request: AuthorizedRequest<AccountSid, Backend>) -> Result<HttpResponse, Error> {
    let sandbox = request.form.optional("Sandbox")?.unwrap_or(false);
    let new = NewCredential {
        friendly_name: request.form.optional("FriendlyName")?,
        upload: upload(&request.form, request.form.required("Type")?, sandbox)?,
    };
    let credential = request.app.create_credential(&request.origin, request.resource, new).await?;
    Ok(HttpResponse::Created().json(view(&credential, &request.public_url)))
}

pub(crate) async fn fetch(request: AuthorizedRequest<Credential, Backend>) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().json(view(&request.resource, &request.public_url)))
}

pub(crate) async fn list(request: AuthorizedRequest<AccountSid, Backend>) -> Result<HttpResponse, Error> {
    let listing = Listing::of(&request, Order::Ascending, &[])?;
    let page = request.app.credentials(request.resource, listing.page).await?;
    Ok(listing.body("credentials", &page, |credential| view(credential, &request.public_url)))
}

pub(crate) async fn update(request: AuthorizedRequest<Credential, Backend>) -> Result<HttpResponse, Error> {
    let current = &request.resource;
    let sandbox = request.form.optional("Sandbox")?;
    let secrets: &[&str] = match current.credential_type {
        CredentialType::Apn => &["Certificate", "PrivateKey", "KeyId", "TeamId"],
        CredentialType::Fcm => &["Secret"],
    };
    let mut has_secrets = false;
    for name in secrets {
        has_secrets |= request.form.optional::<String>(name)?.is_some();
    }
    let upload = has_secrets
        .then(|| upload(&request.form, current.credential_type, sandbox.unwrap_or(current.sandbox)));
    let change = CredentialChange {
        friendly_name: request.form.optional("FriendlyName")?,
        upload: upload.transpose()?,
        sandbox: sandbox.filter(|_| current.credential_type == CredentialType::Apn),
    };
    let credential =
        request.app.update_credential(&request.origin, current.account_sid, current.sid, change).await?;
    Ok(HttpResponse::Ok().json(view(&credential, &request.public_url)))
}

pub(crate) async fn delete(request: AuthorizedRequest<Credential, Backend>) -> Result<HttpResponse, Error> {
    request
        .app
        .delete_credential(&request.origin, request.resource.account_sid, request.resource.sid)
        .await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Parses the secrets of a push credential. For APNs, they are a certificate with its key, or a token key with `KeyId`
/// and `TeamId` (an extension that Twilio does not have). For FCM, they are a service account.
fn upload(form: &Form, credential_type: CredentialType, sandbox: bool) -> Result<Upload, Problem> {
    let has = |name| Ok::<_, Problem>(form.optional::<String>(name)?.is_some());
    match credential_type {
        CredentialType::Apn if has("KeyId")? || has("TeamId")? => Ok(Upload::Token {
            private_key: form.required("PrivateKey")?,
            key_id: form.required("KeyId")?,
            team_id: form.required("TeamId")?,
            sandbox,
        }),
        CredentialType::Apn => Ok(Upload::Certificate {
            certificate: form.required("Certificate")?,
            private_key: form.required("PrivateKey")?,
            sandbox,
        }),
        CredentialType::Fcm => Ok(Upload::ServiceAccount(form.required("Secret")?)),
    }
}

fn view(credential: &Credential, public_url: &str) -> Value {
    let is_apn = credential.credential_type == CredentialType::Apn;
    json!({
        "sid": credential.sid,
        "account_sid": credential.account_sid,
        "friendly_name": credential.friendly_name,
        "type": credential.credential_type.as_str(),
        // A capitalized string, as in Twilio Notify.
        "sandbox": is_apn.then_some(if credential.sandbox { "True" } else { "False" }),
        "date_created": credential.created_at,
        "date_updated": credential.updated_at,
        "url": format!("{public_url}/v1/Credentials/{}", credential.sid),
    })
}
