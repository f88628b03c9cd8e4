//! Handlers for `/v2/Services/{ServiceSid}/Verifications` and `VerificationCheck` (docs/protocol/verifications.md).
//!
//! Invalid parameters have an error code of their own here, 60200.

use std::net::IpAddr;

use actix_web::HttpResponse;
use app::Backend;
use app::verifications::{
    NewCheck, NewVerification, TemplateRequest, TemplateSelection, VerificationWithAttempts,
};
use domain::locales::Locale;
use domain::parameter::{Expected, Parameter};
use domain::templates::TemplateChoices;
use domain::verifications::{
    Attempt, ChannelConfiguration, Conclusion, CustomCode, MessageOptions, Payment, Status, Substitutions,
    Verification,
};
use domain::{Channel, Code, Problem, Recipient, Service, TemplateSid, Timestamp};
use numbering::Line;
use serde_json::{Value, json};
use web::Form;

use crate::error::Error;
use crate::request::AuthorizedRequest;
use crate::resource::OpenVerification;
use crate::verification_parameters::{optional, required};

pub(crate) async fn create(request: AuthorizedRequest<Service, Backend>) -> Result<HttpResponse, Error> {
    let new = new_verification(&request.form)?;
    let lookup_enabled = request.resource.settings.lookup_enabled;
    // Read before the use case, whose transaction may wait: a verification that it finds pending is shown as pending.
    let now = request.app.now();
    let created = request.app.create_verification(&request.origin, request.resource, new).await?;
    Ok(HttpResponse::Created().json(view(&created, lookup_enabled, &request.public_url, now)))
}

pub(crate) async fn fetch(
    request: AuthorizedRequest<OpenVerification, Backend>,
) -> Result<HttpResponse, Error> {
    let OpenVerification { service, verification } = request.resource;
    let now = request.app.now();
    let found = request.app.with_attempts(verification).await?;
    Ok(HttpResponse::Ok().json(view(&found, service.settings.lookup_enabled, &request.public_url, now)))
}

pub(crate) async fn update(
    request: AuthorizedRequest<OpenVerification, Backend>,
) -> Result<HttpResponse, Error> {
    let OpenVerification { service, verification } = &request.resource;
    let conclusion: Conclusion = required(&request.form, "Status")?;
    let now = request.app.now();
    let ended = request.app.conclude_verification(&request.origin, verification, conclusion).await?;
    Ok(HttpResponse::Ok().json(view(&ended, service.settings.lookup_enabled, &request.public_url, now)))
}

pub(crate) async fn check(request: AuthorizedRequest<Service, Backend>) -> Result<HttpResponse, Error> {
    let form = &request.form;
    let check = NewCheck {
        to: optional::<Recipient>(form, "To")?,
        verification_sid: optional(form, "VerificationSid")?,
        code: optional::<CustomCode>(form, "Code")?.ok_or_else(|| Problem::invalid_parameter("Code"))?,
        payment: payment(form)?,
    };
    let now = request.app.now();
    let checked = request.app.check_verification(&request.origin, &request.resource, check).await?;
    Ok(HttpResponse::Created().json(check_view(&checked, now)))
}

/// Parses the parameters of a new verification.
fn new_verification(form: &Form) -> Result<NewVerification, Problem> {
    let to: String = required(form, "To")?;
    let RequestedChannel(channel) = required(form, "Channel")?;
    let to = Recipient::of_channel(channel, &to).map_err(|_| Problem::invalid_parameter("To"))?;
    // These are checked, but have no effect here.
    optional::<DeviceAddress>(form, "DeviceIp")?;
    optional::<bool>(form, "EnableSnaClientToken")?;
    let risk_check = optional(form, "RiskCheck")?.unwrap_or(RiskCheck { is_enabled: true });
    let configuration: Option<ChannelConfiguration> = optional(form, "ChannelConfiguration")?;
    let configuration = configuration.filter(|_| channel == Channel::Email).unwrap_or_default();
    Ok(NewVerification {
        to,
        channel,
        custom_code: optional(form, "CustomCode")?,
        payment: payment(form)?,
        locale: locale(form, channel)?,
        template: template(form)?,
        message: MessageOptions {
            friendly_name: optional(form, "CustomFriendlyName")?,
            app_hash: optional(form, "AppHash")?,
            send_digits: optional(form, "SendDigits")?,
            mail: configuration.mail,
            substitutions: configuration.substitutions,
            ..MessageOptions::default()
        },
        tags: optional(form, "Tags")?,
        rate_limits: optional(form, "RateLimits")?.unwrap_or_default(),
        // Only text messages can be exempt.
        has_risk_check: risk_check.is_enabled || channel != Channel::Sms,
    })
}

/// Parses `Amount` and `Payee`, which belong together.
fn payment(form: &Form) -> Result<Option<Payment>, Problem> {
    match (optional(form, "Amount")?, optional(form, "Payee")?) {
        (Some(amount), Some(payee)) => Ok(Some(Payment { amount, payee })),
        (None, None) => Ok(None),
        _ => Err(Code::PaymentParameters.into()),
    }
}

/// Parses the locale. The managed service ignores it for mail, whose text it does not write. Here it is used, but an
/// unknown one is no error.
fn locale(form: &Form, channel: Channel) -> Result<Option<Locale>, Problem> {
    let Some(tag) = optional::<String>(form, "Locale")? else { return Ok(None) };
    match Locale::from_tag(&tag) {
        None if channel != Channel::Email => Err(Code::LocaleNotFound.into()),
        locale => Ok(locale),
    }
}

/// Parses the parameters that choose a template. `Templates` goes before the others.
fn template(form: &Form) -> Result<TemplateSelection, Problem> {
    let choices = form.optional_or::<TemplateChoices>("Templates", |_| Code::InvalidTemplates.into())?;
    let sid: Option<TemplateSid> = optional(form, "TemplateSid")?;
    let substitutions: Substitutions = optional(form, "TemplateCustomSubstitutions")?.unwrap_or_default();
    Ok(match (choices, sid) {
        (Some(choices), _) => TemplateSelection::FirstOf(
            choices
                .as_slice()
                .iter()
                .map(|choice| TemplateRequest {
                    sid: choice.sid,
                    substitutions: choice.substitutions.clone(),
                })
                .collect(),
        ),
        (None, Some(sid)) => TemplateSelection::Exactly(TemplateRequest { sid, substitutions }),
        (None, None) => TemplateSelection::ServiceDefault(substitutions),
    })
}

/// The channel that a request asks for. `auto` stands for text messages, because this server cannot verify numbers
/// through operators (`sna`), with which the managed service begins.
struct RequestedChannel(Channel);

impl Parameter for RequestedChannel {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        match text {
            "auto" => Ok(Self(Channel::Sms)),
            name => Channel::from_parameter(name).map(Self),
        }
    }
}

/// Whether messages to blocked countries, and too many messages, are refused.
struct RiskCheck {
    is_enabled: bool,
}

impl Parameter for RiskCheck {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        match text {
            "enable" => Ok(Self { is_enabled: true }),
            "disable" => Ok(Self { is_enabled: false }),
            _ => Err(Expected::new("must be enable or disable")),
        }
    }
}

/// The IP address of the user's device.
struct DeviceAddress;

impl Parameter for DeviceAddress {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        text.parse::<IpAddr>().map(|_| Self).map_err(|_| Expected::new("must be an IP address"))
    }
}

fn view(found: &VerificationWithAttempts, lookup_enabled: bool, public_url: &str, now: Timestamp) -> Value {
    let VerificationWithAttempts { verification, attempts } = found;
    let (sid, service_sid) = (verification.sid, verification.service_sid);
    let status = verification.status(now);
    json!({
        "sid": sid,
        "service_sid": service_sid,
        "account_sid": verification.account_sid,
        "to": verification.to.as_str(),
        "channel": verification.channel.as_str(),
        "status": status.as_str(),
        "valid": status == Status::Approved,
        "date_created": verification.created_at,
        "date_updated": verification.updated_at,
        "lookup": lookup(verification, lookup_enabled),
        "amount": verification.payment.as_ref().map(|payment| payment.amount.as_str()),
        "payee": verification.payment.as_ref().map(|payment| payment.payee.as_str()),
        "send_code_attempts": attempts.iter().map(attempt_view).collect::<Vec<_>>(),
        "sna": null,
        "url": format!("{public_url}/v2/Services/{service_sid}/Verifications/{sid}"),
    })
}

/// Returns what the numbering plan says about the recipient, if the service looks numbers up.
fn lookup(verification: &Verification, lookup_enabled: bool) -> Value {
    let Some(number) = verification.to.phone_number().filter(|_| lookup_enabled) else { return json!({}) };
    let line = match numbering::facts(number).line {
        Line::Mobile => Some("mobile"),
        Line::Landline => Some("landline"),
        Line::Voip => Some("voip"),
        Line::Unknown => None,
    };
    json!({
        "carrier": {
            "type": line,
            "name": null,
            "mobile_country_code": null,
            "mobile_network_code": null,
            "error_code": null,
        },
    })
}

fn attempt_view(attempt: &Attempt) -> Value {
    let channel = match attempt.channel {
        Channel::Sms => "SMS",
        Channel::Call => "CALL",
        Channel::Email => "EMAIL",
        Channel::Whatsapp => "whatsapp",
    };
    json!({ "time": attempt.created_at, "channel": channel, "attempt_sid": attempt.sid })
}

fn check_view(verification: &Verification, now: Timestamp) -> Value {
    let status = verification.status(now);
    json!({
        "sid": verification.sid,
        "service_sid": verification.service_sid,
        "account_sid": verification.account_sid,
        "to": verification.to.as_str(),
        "channel": verification.channel.as_str(),
        "status": status.as_str(),
        "valid": status == Status::Approved,
        "amount": verification.payment.as_ref().map(|payment| payment.amount.as_str()),
        "payee": verification.payment.as_ref().map(|payment| payment.payee.as_str()),
        "sna_attempts_error_codes": [],
        "date_created": verification.created_at,
        "date_updated": verification.updated_at,
    })
}
