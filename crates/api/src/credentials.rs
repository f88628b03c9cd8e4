//! `/v1/Credentials`: push credentials, as Notify has them (docs/protocol/push.md, section 2).

use actix_web::HttpResponse;
use app::credentials::{CredentialChange, NewCredential, Upload};
use domain::credentials::{Credential, CredentialType};
use domain::{AccountSid, Order, Problem};
use serde_json::{Value, json};

use crate::call::Call;
use crate::error::Error;
use crate::form::Form;
use crate::list::Listing;

pub(crate) async fn create(call: Call<AccountSid>) -> Result<HttpResponse, Error> {
    let sandbox = call.form.optional("Sandbox")?.unwrap_or(false);
    let new = NewCredential {
        friendly_name: call.form.optional("FriendlyName")?,
        upload: upload(&call.form, call.form.required("Type")?, sandbox)?,
    };
    let credential = call.app.create_credential(&call.origin, call.resource, new).await?;
    Ok(HttpResponse::Created().json(view(&credential, &call.root())))
}

pub(crate) async fn fetch(call: Call<Credential>) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().json(view(&call.resource, &call.root())))
}

pub(crate) async fn list(call: Call<AccountSid>) -> Result<HttpResponse, Error> {
    let listing = Listing::of(&call, Order::Ascending, &[])?;
    let page = call.app.credentials(call.resource, listing.page).await?;
    Ok(listing.body("credentials", &page, |credential| view(credential, &call.root())))
}

pub(crate) async fn update(call: Call<Credential>) -> Result<HttpResponse, Error> {
    let current = &call.resource;
    let sandbox = call.form.optional("Sandbox")?;
    let secrets: &[&str] = match current.credential_type {
        CredentialType::Apn => &["Certificate", "PrivateKey", "KeyId", "TeamId"],
        CredentialType::Fcm => &["Secret"],
    };
    let mut is_new = false;
    for name in secrets {
        is_new |= call.form.optional::<String>(name)?.is_some();
    }
    let upload =
        is_new.then(|| upload(&call.form, current.credential_type, sandbox.unwrap_or(current.sandbox)));
    let change = CredentialChange {
        friendly_name: call.form.optional("FriendlyName")?,
        upload: upload.transpose()?,
        sandbox: sandbox.filter(|_| current.credential_type == CredentialType::Apn),
    };
    let credential =
        call.app.update_credential(&call.origin, current.account_sid, current.sid, change).await?;
    Ok(HttpResponse::Ok().json(view(&credential, &call.root())))
}

pub(crate) async fn delete(call: Call<Credential>) -> Result<HttpResponse, Error> {
    call.app.delete_credential(&call.origin, call.resource.account_sid, call.resource.sid).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// The secrets: a certificate and its key, or (beyond Twilio) a token key with `KeyId` and `TeamId`, or
/// a service account.
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

fn view(credential: &Credential, origin: &str) -> Value {
    let is_apn = credential.credential_type == CredentialType::Apn;
    json!({
        "sid": credential.sid,
        "account_sid": credential.account_sid,
        "friendly_name": credential.friendly_name,
        "type": credential.credential_type.as_str(),
        // A text, with a capital, as Notify has it.
        "sandbox": is_apn.then_some(if credential.sandbox { "True" } else { "False" }),
        "date_created": credential.created_at,
        "date_updated": credential.updated_at,
        "url": format!("{origin}/v1/Credentials/{}", credential.sid),
    })
}
