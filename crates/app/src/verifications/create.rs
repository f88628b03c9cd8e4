//! Creating a verification, and sending its code once more.

use std::num::NonZeroU32;
use std::sync::Arc;

use domain::alerts::{Alert, Level};
use domain::audit::AuditAction;
use domain::limits::Window;
use domain::locales::Locale;
use domain::messages::names_payment;
use domain::rate_limits::RateLimitValues;
use domain::services::Settings;
use domain::templates::Template;
use domain::verifications::{
    Attempt, CustomCode, MessageOptions, OneTimeCode, Payment, Status, Substitutions, Tags, Verification,
    VerificationTarget,
};
use domain::{
    AlertSid, AttemptSid, Channel, Code, Country, Entropy, Problem, Recipient, Sealed, Service, TemplateSid,
    Timestamp, VerificationSid,
};
use numbering::Line;
use serde_json::json;
use store::Write;

use crate::App;
use crate::audit::Origin;
use crate::error::Error;
use crate::master_keys::MasterKeySource;
use crate::outbox::Outbox;
use crate::rate_limits::count_rate_limits;
use crate::verifications::outlet_choice::OutletRules;
use crate::verifications::wording::Wording;
use crate::verifications::{VerificationWithAttempts, about};

/// Seconds of the period to which the limit on messages of a service applies.
const HOUR_SECONDS: i64 = 3600;

/// Seconds of the period in which messages to numbers with the same prefix count.
const PREFIX_SECONDS: i64 = 12 * HOUR_SECONDS;

/// Warning code for a message in the default text, because its locale has no translation.
const LOCALE_FALLBACK_CODE: u32 = 60325;

/// Warning code for a message in the default text, because its template is for other channels.
const CHANNEL_FALLBACK_CODE: u32 = 60327;

/// The parameters of a new verification, or of the next message of an open one.
#[derive(Clone, Debug)]
pub struct NewVerification {
    /// Recipient of the code.
    pub to: Recipient,
    /// Channel through which the code is sent.
    pub channel: Channel,
    /// Code of the caller's choice.
    pub custom_code: Option<CustomCode>,
    /// Payment that the user confirms.
    pub payment: Option<Payment>,
    /// Locale of the message; `None` for the language of the phone number's country.
    pub locale: Option<Locale>,
    /// Template of the message.
    pub template: TemplateSelection,
    /// What else the message is made of. The values of a chosen template replace the substitutions given here.
    pub message: MessageOptions,
    /// Tags of the attempt.
    pub tags: Option<Tags>,
    /// Values that the service's rate limits count.
    pub rate_limits: RateLimitValues,
    /// Whether messages to blocked countries, and too many messages, are refused.
    pub has_risk_check: bool,
}

/// The template that a caller names.
#[derive(Clone, Debug)]
pub enum TemplateSelection {
    /// The default template of the service with these values of its variables, or else the default text.
    ServiceDefault(Substitutions),
    /// This template.
    Exactly(TemplateRequest),
    /// The first of these templates that exists and is for the channel.
    FirstOf(Vec<TemplateRequest>),
}

/// A template and the values of its variables.
#[derive(Clone, Debug)]
pub struct TemplateRequest {
    /// SID of the template.
    pub sid: TemplateSid,
    /// Values of the template's variables.
    pub substitutions: Substitutions,
}

impl App {
    /// Creates a verification and sends its code. If the recipient has an open one, sends the same code once more.
    /// Returns once the message is stored; the outlet gets it afterwards.
    ///
    /// # Errors
    /// Fails with one of these codes:
    /// - 60204 if the service does not permit custom codes; 60602 for an app hash in another channel than text messages.
    /// - 60206 if the service confirms payments and none is named; 60214 for a payment by call.
    /// - 60217, 60223 or 68008 if no outlet serves the channel.
    /// - 60205 for a landline, if the service looks numbers up and skips landlines.
    /// - 60605 if the country is blocked; 60410 if the service sends too many messages, or too many that are not approved
    ///   to numbers with the same prefix.
    /// - 60228 or 60252 if a template does not exist; 60224 if a variable has no value; 60247 if the text is too long.
    /// - 20429 if a rate limit is exceeded; 60202 or 60203 if the recipient's checks or messages are used up.
    ///
    /// Also fails if the database fails. On any error, nothing is changed.
    pub async fn create_verification(
        &self,
        origin: &Origin,
        service: Service,
        new: NewVerification,
    ) -> Result<VerificationWithAttempts, Error> {
        check_parameters(&service.settings, &new)?;
        let send = Send::new(self, service, new);
        let audit = self.audit(origin, send.now);
        self.write_with_outbox(async move |tx: &mut Write, outbox: &Outbox| {
            let Send { service, new, now, .. } = &send;
            send.check_template(tx).await?;
            let outlet = send.outlets.choose(tx, service, new.channel, send.country).await?;
            send.check_risk(tx).await?;
            count_rate_limits(tx, service.sid, &new.rate_limits, send.attempt_sid, *now).await?;
            let (verification, action) = send.open(tx, outbox).await?;
            let message = send.message(tx, &verification).await?;
            tx.insert_attempt(&send.attempt(&verification, &message)).await?;
            outbox.enqueue_message(tx, &verification, send.attempt_sid, outlet.choice, *now).await?;
            outbox.enqueue_verification_event(tx, service, &verification, false, *now).await?;
            if let Some((code, text)) = message.warning {
                outbox.raise_alert(tx, &send.alert(&verification, code, text.to_owned()), *now).await?;
            }
            if let Some(sid) = outlet.passed_over {
                let text = format!(
                    "{sid}, which the service names, does not serve this channel: another outlet was used"
                );
                let code = Code::NoOutlet.number();
                outbox.raise_alert(tx, &send.alert(&verification, code, text), *now).await?;
            }
            audit.record(tx, about(action, &verification)).await?;
            let attempts = tx.attempts_of_verification(verification.sid).await?;
            Ok::<_, Error>(VerificationWithAttempts { verification, attempts })
        })
        .await
    }
}

/// Checks the parameters that depend on the settings of the service.
fn check_parameters(settings: &Settings, new: &NewVerification) -> Result<(), Problem> {
    if new.custom_code.is_some() && !settings.custom_code_enabled {
        return Err(Code::FeatureDisabled.into());
    }
    if settings.psd2_enabled && new.payment.is_none() {
        return Err(Code::PaymentParameters.into());
    }
    if settings.psd2_enabled && new.channel == Channel::Call {
        return Err(Code::PaymentByCall.into());
    }
    if new.message.app_hash.is_some() && new.channel != Channel::Sms {
        return Err(Code::AppHashChannel.into());
    }
    Ok(())
}

/// One message, as far as it is known before the transaction begins.
struct Send {
    service: Service,
    new: NewVerification,
    country: Option<Country>,
    /// Locales for the text, best first: the one that the request names, or those of the country.
    wanted: Vec<Locale>,
    is_landline: bool,
    is_country_blocked: bool,
    /// Maximum number of messages of the service within an hour.
    cap: Option<NonZeroU32>,
    /// Number of messages to numbers with the same prefix from which on enough of them must be approved.
    prefix_cap: Option<NonZeroU32>,
    outlets: OutletRules,
    /// SID of the verification, if a new one is created.
    verification_sid: VerificationSid,
    attempt_sid: AttemptSid,
    /// Code of the verification, if a new one is created, if the caller chose it, or if the payment is another one.
    code: OneTimeCode,
    now: Timestamp,
    /// End of the validity, if a new verification is created.
    expires_at: Timestamp,
    master_keys: Arc<MasterKeySource>,
    entropy: Arc<dyn Entropy>,
}

/// What a message is made of, and whether something else was asked for.
struct Chosen {
    options: MessageOptions,
    locale: Locale,
    /// Number of characters of the code.
    code_length: usize,
    warning: Option<(u32, &'static str)>,
}

impl Send {
    fn new(app: &App, service: Service, new: NewVerification) -> Self {
        let now = app.clock.now();
        let entropy = app.entropy.as_ref();
        let facts = new.to.phone_number().map(numbering::facts);
        let country = facts.and_then(|facts| facts.country);
        let code = match &new.custom_code {
            Some(code) => code.clone().into_code(),
            None => OneTimeCode::generate(service.settings.code_length, entropy),
        };
        let wanted = match new.locale {
            Some(locale) => vec![locale],
            None => Locale::of_country(country),
        };
        Self {
            country,
            wanted,
            is_landline: facts.is_some_and(|facts| facts.line == Line::Landline),
            is_country_blocked: facts.is_some() && !app.verification_rules.permits(country),
            cap: app.verification_rules.per_service_per_hour,
            prefix_cap: app.verification_rules.per_prefix,
            outlets: OutletRules::of(app),
            verification_sid: VerificationSid::generate(now, entropy),
            attempt_sid: AttemptSid::generate(now, entropy),
            code,
            now,
            expires_at: now.plus_seconds(app.verification_rules.validity.get()),
            master_keys: Arc::clone(&app.master_keys),
            entropy: Arc::clone(&app.entropy),
            service,
            new,
        }
    }

    /// Refuses messages to landlines, to blocked countries, and beyond the limits of the service. All but the first do
    /// not concern numbers on the safe list, and requests that turn them off.
    async fn check_risk(&self, tx: &mut Write) -> Result<(), Error> {
        let settings = &self.service.settings;
        let skips_landlines = settings.lookup_enabled && settings.skip_sms_to_landlines;
        if self.is_landline && skips_landlines && self.new.channel == Channel::Sms {
            return Err(Code::Landline.into());
        }
        let has_prefix_cap = self.prefix_cap.is_some() && self.new.to.phone_number().is_some();
        let is_limited = self.cap.is_some() || has_prefix_cap;
        let is_checked = self.new.has_risk_check && (self.is_country_blocked || is_limited);
        let account_sid = self.service.account_sid;
        let is_exempt = match self.new.to.phone_number() {
            Some(number) if is_checked => tx.is_safe_number(account_sid, number).await?,
            _ => !is_checked,
        };
        if is_exempt {
            return Ok(());
        }
        if self.is_country_blocked {
            return Err(Code::CountryBlocked.into());
        }
        if is_limited {
            // Lock the service, so that concurrent requests are counted one after another.
            tx.lock_service(account_sid, self.service.sid).await?.ok_or_else(Error::not_found)?;
            self.check_limits(tx).await?;
        }
        Ok(())
    }

    /// Refuses messages beyond the limits of the service: within an hour, and to numbers with the same prefix.
    async fn check_limits(&self, tx: &mut Write) -> Result<(), Error> {
        if let Some(cap) = self.cap {
            let window = Window::new(cap, HOUR_SECONDS);
            let span = window.span(self.now);
            let back = tx.nth_latest_attempt_created_at(self.service.sid, span, cap).await?;
            window.check(back, self.now, Code::SendingBlocked)?;
        }
        if let (Some(cap), Some(number)) = (self.prefix_cap, self.new.to.phone_number()) {
            let window = Window::new(cap, PREFIX_SECONDS);
            let span = window.span(self.now);
            let traffic = tx.prefix_traffic(self.service.sid, number, span, cap).await?;
            let is_blocked = traffic.summary.total >= u64::from(cap.get()) && traffic.is_suspicious();
            window.check(traffic.oldest.filter(|_| is_blocked), self.now, Code::SendingBlocked)?;
        }
        Ok(())
    }

    /// Chooses the template and the locale, and writes the text once, to see whether it can be written.
    async fn message(&self, tx: &mut Write, verification: &Verification) -> Result<Chosen, Error> {
        let payment = verification.payment.as_ref();
        let (template, substitutions) = self.template(tx, payment).await?;
        let usable = template.as_ref().and_then(|template| {
            let locale = self.usable_locale(template, payment)?;
            Some((template, locale))
        });
        let text = usable.map(|(template, _)| template);
        let default = || self.wanted.iter().find_map(|locale| locale.default_text());
        let locale = usable.map(|(_, locale)| locale).or_else(default).unwrap_or(Locale::ENGLISH);
        let warning = match &template {
            // A default template of the service is meant only for the channels that it has.
            Some(template)
                if matches!(self.new.template, TemplateSelection::Exactly(_))
                    && !template.channels.contains(self.new.channel) =>
            {
                Some((
                    CHANNEL_FALLBACK_CODE,
                    "the template is not for this channel, so the default text was sent",
                ))
            }
            None if !self.wanted.contains(&locale) && locale == Locale::ENGLISH => {
                Some((LOCALE_FALLBACK_CODE, "there is no text in this locale, so the English one was sent"))
            }
            _ => None,
        };
        let mut options = self.new.message.clone();
        options.template_sid = text.map(|template| template.sid);
        options.substitutions.extend(substitutions);
        let wording = Wording {
            settings: &self.service.settings,
            options: &options,
            template: text,
            channel: self.new.channel,
            locale,
            payment,
            seconds_left: i64::try_from(self.now.until(verification.expires_at).as_secs())
                .unwrap_or(i64::MAX),
        };
        let sealed = verification.code.as_ref().ok_or(Code::Internal)?;
        let code = self.master_keys.open(sealed, &verification.sid.to_string())?;
        wording.compose(code.expose(), None)?;
        Ok(Chosen { options, locale, code_length: code.length(), warning })
    }

    /// Refuses templates of the request that do not exist. Everything that is counted comes later.
    async fn check_template(&self, tx: &mut Write) -> Result<(), Error> {
        match &self.new.template {
            TemplateSelection::ServiceDefault(_) => Ok(()),
            TemplateSelection::Exactly(_) | TemplateSelection::FirstOf(_) => {
                self.template(tx, self.new.payment.as_ref()).await.map(drop)
            }
        }
    }

    /// Returns the template that the request or the service names, with the values of its variables.
    async fn template(
        &self,
        tx: &mut Write,
        payment: Option<&Payment>,
    ) -> Result<(Option<Template>, Substitutions), Error> {
        let account_sid = self.service.account_sid;
        match &self.new.template {
            TemplateSelection::ServiceDefault(substitutions) => {
                let template = match self.service.settings.default_template_sid {
                    Some(sid) => tx.template(account_sid, sid).await?,
                    None => None,
                };
                Ok((template, substitutions.clone()))
            }
            TemplateSelection::Exactly(request) => {
                let template = tx.template(account_sid, request.sid).await?;
                Ok((Some(template.ok_or(Code::TemplateNotFound)?), request.substitutions.clone()))
            }
            TemplateSelection::FirstOf(requests) => {
                for request in requests {
                    let template = tx.template(account_sid, request.sid).await?;
                    let is_usable = |template: &Template| self.usable_locale(template, payment).is_some();
                    if let Some(template) = template.filter(is_usable) {
                        return Ok((Some(template), request.substitutions.clone()));
                    }
                }
                Err(Code::NoUsableTemplate.into())
            }
        }
    }

    /// Returns the locale of the template's best text for a message. Returns `None` if the template is not for the
    /// channel, or if no text names the payment.
    fn usable_locale(&self, template: &Template, payment: Option<&Payment>) -> Option<Locale> {
        let mut texts = template.texts_for(self.new.channel, &self.wanted);
        texts.find(|(text, _)| payment.is_none() || names_payment(text)).map(|(_, locale)| locale)
    }

    /// Returns the recipient's open verification after counting this message, or creates one.
    async fn open(&self, tx: &mut Write, outbox: &Outbox) -> Result<(Verification, AuditAction), Error> {
        let target = VerificationTarget::Recipient(self.new.to.clone());
        loop {
            if let Some(mut found) = tx.lock_open_verification(self.service.sid, &target).await? {
                if found.is_open(self.now) {
                    self.send_again(&mut found)?;
                    tx.update_verification(&found).await?;
                    return Ok((found, AuditAction::VerificationSent));
                }
                found.close(found.status(self.now), self.now);
                if found.stored_status == Status::Expired {
                    outbox.enqueue_verification_event(tx, &self.service, &found, false, self.now).await?;
                }
                tx.update_verification(&found).await?;
            }
            let verification = self.verification();
            if tx.insert_verification(&verification).await? {
                return Ok((verification, AuditAction::VerificationCreated));
            }
            // Another request created one at the same time. It is found in the next round.
        }
    }

    fn send_again(&self, verification: &mut Verification) -> Result<(), Problem> {
        verification.require_send(self.now)?;
        verification.sends += 1;
        verification.channel = self.new.channel;
        verification.updated_at = self.now;
        // A code confirms the payment next to which the user read it, so another payment needs another code.
        let has_other_payment = self.new.payment != verification.payment;
        if self.new.custom_code.is_some() || has_other_payment {
            verification.code = Some(self.seal(verification.sid));
            verification.is_custom = self.new.custom_code.is_some();
        }
        if has_other_payment {
            verification.payment.clone_from(&self.new.payment);
        }
        Ok(())
    }

    fn verification(&self) -> Verification {
        Verification {
            sid: self.verification_sid,
            account_sid: self.service.account_sid,
            service_sid: self.service.sid,
            to: self.new.to.clone(),
            channel: self.new.channel,
            stored_status: Status::Pending,
            code: Some(self.seal(self.verification_sid)),
            is_custom: self.new.custom_code.is_some(),
            payment: self.new.payment.clone(),
            sends: 1,
            wrong_checks: Vec::new(),
            expires_at: self.expires_at,
            closed_at: None,
            created_at: self.now,
            updated_at: self.now,
        }
    }

    fn seal(&self, sid: VerificationSid) -> Sealed<OneTimeCode> {
        self.master_keys.seal(&self.code, &sid.to_string(), self.entropy.as_ref())
    }

    fn attempt(&self, verification: &Verification, message: &Chosen) -> Attempt {
        Attempt {
            sid: self.attempt_sid,
            account_sid: verification.account_sid,
            service_sid: verification.service_sid,
            verification_sid: verification.sid,
            to: verification.to.clone(),
            channel: self.new.channel,
            country: self.country,
            code_length: u32::try_from(message.code_length).unwrap_or_default(),
            locale: Some(message.locale.as_str().to_owned()),
            is_converted: false,
            progress: None,
            error_code: None,
            message: Some(message.options.clone()),
            tags: self.new.tags.clone(),
            expires_at: verification.expires_at,
            created_at: self.now,
            updated_at: self.now,
        }
    }

    fn alert(&self, verification: &Verification, error_code: u32, text: String) -> Alert {
        Alert {
            sid: AlertSid::generate(self.now, self.entropy.as_ref()),
            account_sid: verification.account_sid,
            service_sid: Some(verification.service_sid),
            resource_sid: verification.sid.to_string(),
            error_code,
            level: Level::Warning,
            more_info: json!({ "description": text }),
            text,
            call: None,
            created_at: self.now,
        }
    }
}
