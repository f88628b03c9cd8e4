//! The parameters and the view of TOTP factors.

use actix_web::HttpResponse;
use app::factors::{NewTotpFactor, TotpFactorUpdate};
use app::{BackendOrDevice, BackendOrEnrollee};
use crypto::TotpKey;
use domain::factors::{TotpChanges, TotpChoices, TotpFactor};
use domain::{Code, EntityPath, Factor, Problem};
use serde_json::{Value, json};
use web::Form;

use crate::error::Error;
use crate::factors::view;
use crate::request::AuthorizedRequest;

pub(super) async fn create(
    request: AuthorizedRequest<EntityPath, BackendOrEnrollee>,
) -> Result<HttpResponse, Error> {
    let new = NewTotpFactor {
        friendly_name: request.form.required("FriendlyName")?,
        secret: secret(&request.form)?,
        settings: settings(&request.form)?,
        metadata: request.form.optional("Metadata")?,
    };
    let created =
        request.app.create_totp_factor(&request.origin, &request.caller, request.resource, new).await?;
    // Only the response to a factor's creation contains its secret.
    let mut body = view(&created.factor.into(), &request.public_url);
    body["binding"] = json!({ "secret": created.secret.expose(), "uri": created.uri.expose() });
    body["options"] = Value::Null;
    Ok(HttpResponse::Created().json(body))
}

/// Changes the factor's settings, verifies it with the code in `AuthPayload`, or both.
pub(super) async fn update(
    request: &AuthorizedRequest<Factor, BackendOrDevice>,
) -> Result<Factor<TotpFactor>, Error> {
    let update = TotpFactorUpdate {
        code: request.form.optional("AuthPayload")?,
        changes: TotpChanges {
            friendly_name: request.form.optional("FriendlyName")?,
            settings: settings(&request.form)?,
        },
    };
    let (path, sid) = (request.resource.path(), request.resource.sid);
    Ok(request.app.update_totp_factor(&request.origin, &request.caller, path, sid, update).await?)
}

/// Returns the member `config` of a TOTP factor.
pub(super) fn config(totp: &TotpFactor) -> Value {
    json!({
        "alg": totp.algorithm.as_str(),
        "skew": totp.skew,
        "code_length": totp.code_length,
        "time_step": totp.time_step,
    })
}

fn settings(form: &Form) -> Result<TotpChoices, Problem> {
    Ok(TotpChoices {
        algorithm: form.optional("Config.Alg")?,
        code_length: form.optional("Config.CodeLength")?,
        time_step: form.optional("Config.TimeStep")?,
        skew: form.optional("Config.Skew")?,
    })
}

/// Parses `Binding.Secret`. Returns the secret, or `None` if the parameter is absent.
///
/// # Errors
/// Returns error code 60306 if the parameter was sent twice, or 60314 if its value is invalid.
fn secret(form: &Form) -> Result<Option<TotpKey>, Problem> {
    let Some(text) = form.optional::<String>("Binding.Secret")? else { return Ok(None) };
    let expected = "Binding.Secret must be the base32 of 10 to 128 bytes, without spaces";
    let problem = || Problem::with_advice(Code::InvalidBinding, expected);
    TotpKey::parse(&text).map(Some).ok_or_else(problem)
}
