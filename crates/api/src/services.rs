//! Handlers for `/v2/Services` (docs/protocol/resources.md, section 1).

use actix_web::HttpResponse;
use app::Backend;
use domain::parameter::Parameter as _;
use domain::services::Settings;
use domain::text::Text;
use domain::{AccountSid, Code, FriendlyName, Order, Problem, Service};
use serde_json::{Value, json};
use web::Form;

use crate::error::Error;
use crate::paging::Listing;
use crate::request::AuthorizedRequest;

pub(crate) async fn create(request: AuthorizedRequest<AccountSid, Backend>) -> Result<HttpResponse, Error> {
    let friendly_name = friendly_name(&request.form)?.ok_or_else(|| Problem::missing("FriendlyName"))?;
    let mut settings = Settings::with_defaults(friendly_name);
    apply(&request.form, &mut settings)?;
    let service = request.app.create_service(&request.origin, request.resource, settings).await?;
    Ok(HttpResponse::Created().json(view(&service, &request.public_url)))
}

pub(crate) async fn fetch(request: AuthorizedRequest<Service, Backend>) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().json(view(&request.resource, &request.public_url)))
}

pub(crate) async fn list(request: AuthorizedRequest<AccountSid, Backend>) -> Result<HttpResponse, Error> {
    let listing = Listing::of(&request, Order::Ascending, &[])?;
    let page = request.app.services(request.resource, listing.page).await?;
    Ok(listing.body("services", &page, |service| view(service, &request.public_url)))
}

pub(crate) async fn update(request: AuthorizedRequest<Service, Backend>) -> Result<HttpResponse, Error> {
    let (service, form) = (request.resource, request.form);
    let change = move |settings: &mut Settings| apply(&form, settings);
    let service =
        request.app.update_service(&request.origin, service.account_sid, service.sid, change).await?;
    Ok(HttpResponse::Ok().json(view(&service, &request.public_url)))
}

pub(crate) async fn delete(request: AuthorizedRequest<Service, Backend>) -> Result<HttpResponse, Error> {
    let service = request.resource;
    request.app.delete_service(&request.origin, service.account_sid, service.sid).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Parses the optional `FriendlyName` of a service. An invalid name has its own error code, 20002
/// (docs/protocol/decisions.md, No. 3).
fn friendly_name(form: &Form) -> Result<Option<FriendlyName>, Problem> {
    form.optional_or("FriendlyName", |expected| {
        Problem::with_advice(Code::InvalidFriendlyName, format_args!("it {expected}"))
    })
}

/// Sets each setting whose parameter is in the form. An empty value clears a setting that may be empty.
fn apply(form: &Form, settings: &mut Settings) -> Result<(), Problem> {
    if let Some(name) = friendly_name(form)? {
        settings.friendly_name = name;
    }
    form.set("CodeLength", &mut settings.code_length)?;
    form.set("LookupEnabled", &mut settings.lookup_enabled)?;
    form.set("Psd2Enabled", &mut settings.psd2_enabled)?;
    form.set("SkipSmsToLandlines", &mut settings.skip_sms_to_landlines)?;
    form.set("DtmfInputRequired", &mut settings.dtmf_input_required)?;
    form.set_or_clear("TtsName", &mut settings.tts_name)?;
    form.set("DoNotShareWarningEnabled", &mut settings.do_not_share_warning_enabled)?;
    form.set("CustomCodeEnabled", &mut settings.custom_code_enabled)?;
    form.set_or_clear("DefaultTemplateSid", &mut settings.default_template_sid)?;
    form.set("VerifyEventSubscriptionEnabled", &mut settings.verify_event_subscription_enabled)?;

    form.set("Push.IncludeDate", &mut settings.push.include_date)?;
    form.set_or_clear("Push.ApnCredentialSid", &mut settings.push.apn_credential_sid)?;
    form.set_or_clear("Push.FcmCredentialSid", &mut settings.push.fcm_credential_sid)?;

    form.set_or_clear("Totp.Issuer", &mut settings.totp.issuer)?;
    form.set_or_clear("Totp.TimeStep", &mut settings.totp.time_step)?;
    form.set_or_clear("Totp.CodeLength", &mut settings.totp.code_length)?;
    form.set_or_clear("Totp.Skew", &mut settings.totp.skew)?;

    form.set_or_clear("Whatsapp.MsgServiceSid", &mut settings.whatsapp.msg_service_sid)?;
    form.set_or_clear("Whatsapp.From", &mut settings.whatsapp.from)?;

    let passkeys = &mut settings.passkeys;
    form.set_or_clear("Passkeys.RelyingParty.Id", &mut passkeys.relying_party.id)?;
    form.set_or_clear("Passkeys.RelyingParty.Name", &mut passkeys.relying_party.name)?;
    set_origins(form, &mut passkeys.relying_party.origins)?;
    form.set_or_clear("Passkeys.AuthenticatorAttachment", &mut passkeys.authenticator_attachment)?;
    form.set_or_clear("Passkeys.DiscoverableCredentials", &mut passkeys.discoverable_credentials)?;
    form.set_or_clear("Passkeys.UserVerification", &mut passkeys.user_verification)?;
    Ok(())
}

/// Sets the origins of the passkey relying party from `Passkeys.RelyingParty.Origins`, a comma-separated list. An empty
/// value clears them; if the parameter is absent, they stay unchanged.
fn set_origins(form: &Form, field: &mut Option<Vec<Text<1, 256>>>) -> Result<(), Problem> {
    const NAME: &str = "Passkeys.RelyingParty.Origins";
    match form.text(NAME)? {
        None => {}
        Some("") => *field = None,
        Some(text) => {
            let origins = text.split(',').map(|origin| Text::from_parameter(origin.trim()));
            let origins: Result<Vec<_>, _> = origins.collect();
            *field = Some(origins.map_err(|expected| Problem::invalid(NAME, &expected))?);
        }
    }
    Ok(())
}

fn view(service: &Service, public_url: &str) -> Value {
    let settings = &service.settings;
    let url = format!("{public_url}/v2/Services/{}", service.sid);
    json!({
        "sid": service.sid,
        "account_sid": service.account_sid,
        "friendly_name": settings.friendly_name,
        "code_length": settings.code_length,
        "lookup_enabled": settings.lookup_enabled,
        "psd2_enabled": settings.psd2_enabled,
        "skip_sms_to_landlines": settings.skip_sms_to_landlines,
        "dtmf_input_required": settings.dtmf_input_required,
        "tts_name": settings.tts_name,
        "do_not_share_warning_enabled": settings.do_not_share_warning_enabled,
        "custom_code_enabled": settings.custom_code_enabled,
        "push": settings.push,
        "totp": settings.totp,
        "whatsapp": settings.whatsapp,
        "passkeys": settings.passkeys,
        "default_template_sid": settings.default_template_sid,
        "verify_event_subscription_enabled": settings.verify_event_subscription_enabled,
        "date_created": service.created_at,
        "date_updated": service.updated_at,
        "url": url,
        "links": {
            "verification_checks": format!("{url}/VerificationCheck"),
            "verifications": format!("{url}/Verifications"),
            "rate_limits": format!("{url}/RateLimits"),
            "messaging_configurations": format!("{url}/MessagingConfigurations"),
            "entities": format!("{url}/Entities"),
            "webhooks": format!("{url}/Webhooks"),
            "access_tokens": format!("{url}/AccessTokens"),
        },
    })
}
