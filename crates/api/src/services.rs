//! `/v2/Services` (docs/protocol/resources.md, section 1).

use actix_web::HttpResponse;
use domain::services::Settings;
use domain::text::Text;
use domain::{AccountSid, Code, FriendlyName, Order, Problem, Service};
use serde_json::{Value, json};

use crate::call::Call;
use crate::error::Error;
use crate::form::Form;
use crate::list::Listing;

pub(crate) async fn create(call: Call<AccountSid>) -> Result<HttpResponse, Error> {
    let friendly_name = friendly_name(&call.form)?.ok_or_else(|| Problem::missing("FriendlyName"))?;
    let mut settings = Settings::named(friendly_name);
    fill(&call.form, &mut settings)?;
    let service = call.app.create_service(&call.origin, call.resource, settings).await?;
    Ok(HttpResponse::Created().json(view(&service, &call.base)))
}

pub(crate) async fn fetch(call: Call<Service>) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().json(view(&call.resource, &call.base)))
}

pub(crate) async fn list(call: Call<AccountSid>) -> Result<HttpResponse, Error> {
    let listing = Listing::of(&call, Order::Ascending, &[])?;
    let page = call.app.services(call.resource, listing.page).await?;
    Ok(listing.body("services", &page, |service| view(service, &call.base)))
}

pub(crate) async fn update(call: Call<Service>) -> Result<HttpResponse, Error> {
    let (service, form) = (call.resource, call.form);
    let change = move |settings: &mut Settings| fill(&form, settings);
    let service = call.app.update_service(&call.origin, service.account_sid, service.sid, change).await?;
    Ok(HttpResponse::Ok().json(view(&service, &call.base)))
}

pub(crate) async fn delete(call: Call<Service>) -> Result<HttpResponse, Error> {
    let service = call.resource;
    call.app.delete_service(&call.origin, service.account_sid, service.sid).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// A service's name has an error code of its own (docs/protocol/decisions.md, No. 3).
fn friendly_name(form: &Form) -> Result<Option<FriendlyName>, Problem> {
    form.optional_or("FriendlyName", |expected| {
        Problem::with(Code::InvalidFriendlyName, format_args!("it {expected}"))
    })
}

/// Sets what the form names and leaves the rest; an empty value clears what can be empty.
fn fill(form: &Form, settings: &mut Settings) -> Result<(), Problem> {
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
    if let Some(origins) = origins(form)? {
        passkeys.relying_party.origins = origins;
    }
    form.set_or_clear("Passkeys.AuthenticatorAttachment", &mut passkeys.authenticator_attachment)?;
    form.set_or_clear("Passkeys.DiscoverableCredentials", &mut passkeys.discoverable_credentials)?;
    form.set_or_clear("Passkeys.UserVerification", &mut passkeys.user_verification)?;
    Ok(())
}

/// `Passkeys.RelyingParty.Origins` is one text with commas; empty clears.
fn origins(form: &Form) -> Result<Option<Option<Vec<Text<1, 256>>>>, Problem> {
    const NAME: &str = "Passkeys.RelyingParty.Origins";
    match form.text(NAME)? {
        None => Ok(None),
        Some("") => Ok(Some(None)),
        Some(text) => {
            let origins = text.split(',').map(|origin| domain::Parameter::from_parameter(origin.trim()));
            let origins: Result<Vec<_>, _> = origins.collect();
            Ok(Some(Some(origins.map_err(|expected| Problem::invalid(NAME, &expected))?)))
        }
    }
}

fn view(service: &Service, base: &str) -> Value {
    let settings = &service.settings;
    let url = format!("{base}/Services/{}", service.sid);
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
