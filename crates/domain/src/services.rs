//! Services: an application's settings, under which its users are kept apart from all others.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::limits::ServiceLimits;
use crate::paging::{Listed, Position, position};
use crate::parameter::{Bounded, Expected, Parameter};
use crate::sids::{AccountSid, CredentialSid, MessagingServiceSid, ServiceSid, TemplateSid};
use crate::text::{FriendlyName, Text};
use crate::time::Timestamp;

/// A Verify service.
#[derive(Clone, Debug)]
pub struct Service {
    /// `VA…`
    pub sid: ServiceSid,
    /// The owner.
    pub account_sid: AccountSid,
    /// Everything a caller can set.
    pub settings: Settings,
    /// What the operator says about the challenges of its factors. No caller sees it.
    pub limits: ServiceLimits,
    /// When it was made.
    pub created_at: Timestamp,
    /// When a setting last changed.
    pub updated_at: Timestamp,
}

impl Listed for Service {
    fn position(&self) -> Position {
        position(self.sid, self.created_at)
    }
}

/// What a caller can set on a service (docs/protocol/resources.md, section 1). Only [`Push`] changes what this server
/// does; the rest belongs to channels that it does not serve, and is kept and echoed so that a
/// program that manages services finds what it wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Name of the service.
    pub friendly_name: FriendlyName,
    /// Digits of a one-time code.
    pub code_length: Bounded<4, 10>,
    /// Look the number up first.
    pub lookup_enabled: bool,
    /// Strong customer authentication.
    pub psd2_enabled: bool,
    /// No messages to landlines.
    pub skip_sms_to_landlines: bool,
    /// Ask for a key press in a call.
    pub dtmf_input_required: bool,
    /// Name to speak in a call.
    pub tts_name: Option<Text<1, 256>>,
    /// Add a warning to messages.
    pub do_not_share_warning_enabled: bool,
    /// The caller may choose the code.
    pub custom_code_enabled: bool,
    /// Template of messages.
    pub default_template_sid: Option<TemplateSid>,
    /// Events about verifications.
    pub verify_event_subscription_enabled: bool,
    /// Push factors.
    pub push: Push,
    /// TOTP factors.
    pub totp: Totp,
    /// WhatsApp.
    pub whatsapp: Whatsapp,
    /// Passkeys.
    pub passkeys: Passkeys,
}

/// Settings of push factors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Push {
    /// Add `details.date` to challenges.
    pub include_date: bool,
    /// Credential for APNs.
    pub apn_credential_sid: Option<CredentialSid>,
    /// Credential for FCM.
    pub fcm_credential_sid: Option<CredentialSid>,
}

/// Settings of TOTP factors; unset ones mean the defaults of RFC 6238.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totp {
    /// Who issues the code.
    pub issuer: Option<Text<1, 256>>,
    /// Seconds a code lives.
    pub time_step: Option<Bounded<20, 60>>,
    /// Digits of a code.
    pub code_length: Option<Bounded<3, 8>>,
    /// Codes accepted before and after the current one.
    pub skew: Option<Bounded<0, 2>>,
}

/// Settings of WhatsApp messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whatsapp {
    /// Messaging service that sends.
    pub msg_service_sid: Option<MessagingServiceSid>,
    /// Sender.
    pub from: Option<Text<1, 256>>,
}

/// Settings of passkeys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passkeys {
    /// Who relies on them.
    pub relying_party: RelyingParty,
    /// `platform`, `cross-platform` or `any`.
    pub authenticator_attachment: Option<Attachment>,
    /// `required`, `preferred` or `discouraged`.
    pub discoverable_credentials: Option<Requirement>,
    /// `required`, `preferred` or `discouraged`.
    pub user_verification: Option<Requirement>,
}

/// The relying party of passkeys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelyingParty {
    /// Domain.
    pub id: Option<Text<1, 256>>,
    /// Name shown to the user.
    pub name: Option<Text<1, 256>>,
    /// Origins that may ask.
    pub origins: Option<Vec<Text<1, 256>>>,
}

/// Where the authenticator of a passkey sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attachment {
    /// In the device itself.
    Platform,
    /// In another device.
    CrossPlatform,
    /// Either.
    Any,
}

impl Parameter for Attachment {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        match text {
            "platform" => Ok(Self::Platform),
            "cross-platform" => Ok(Self::CrossPlatform),
            "any" => Ok(Self::Any),
            _ => Err(Expected::new("must be platform, cross-platform or any")),
        }
    }
}

/// How much a property of a passkey is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Requirement {
    /// Must have.
    Required,
    /// Nice to have.
    Preferred,
    /// Better without.
    Discouraged,
}

impl Parameter for Requirement {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        match text {
            "required" => Ok(Self::Required),
            "preferred" => Ok(Self::Preferred),
            "discouraged" => Ok(Self::Discouraged),
            _ => Err(Expected::new("must be required, preferred or discouraged")),
        }
    }
}

impl Settings {
    /// The settings of a new service that was given nothing but a name.
    pub fn named(friendly_name: FriendlyName) -> Self {
        const SIX_DIGITS: Bounded<4, 10> = match Bounded::new(6) {
            Some(length) => length,
            // Evaluated at compile time, so `unreachable!` can only fail the build.
            None => unreachable!(),
        };
        Self {
            friendly_name,
            code_length: SIX_DIGITS,
            lookup_enabled: false,
            psd2_enabled: false,
            skip_sms_to_landlines: false,
            dtmf_input_required: false,
            tts_name: None,
            do_not_share_warning_enabled: false,
            custom_code_enabled: false,
            default_template_sid: None,
            verify_event_subscription_enabled: false,
            push: Push::default(),
            totp: Totp::default(),
            whatsapp: Whatsapp::default(),
            passkeys: Passkeys::default(),
        }
    }

    /// What differs from what they were before, as the API's answers name it: those of a group behind its own
    /// name and a dot.
    pub fn changed(&self, before: &Self) -> Vec<String> {
        let value = |settings| serde_json::to_value(settings).unwrap_or_default();
        let mut names = Vec::new();
        differing("", &value(before), &value(self), &mut names);
        names.sort_unstable();
        names
    }
}

/// Names what differs in two JSON texts of one form.
fn differing(path: &str, before: &Value, after: &Value, names: &mut Vec<String>) {
    match (before.as_object(), after.as_object()) {
        _ if before == after => {}
        (Some(before), Some(after)) => {
            for (name, value) in after {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                differing(&path, before.get(name).unwrap_or(&Value::Null), value, names);
            }
        }
        _ => names.push(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named() {
        let name = |name: &str| FriendlyName::from_parameter(name).unwrap();
        let before = Settings::named(name("Shop"));
        assert_eq!(before.changed(&before), [""; 0]);
        let mut after = Settings::named(name("Store"));
        after.push.include_date = !before.push.include_date;
        after.passkeys.relying_party.name = Some(Text::from_parameter("Shop").unwrap());
        assert_eq!(
            after.changed(&before),
            ["friendly_name", "passkeys.relying_party.name", "push.include_date"]
        );
    }

    #[test]
    fn settings_of_passkeys_have_the_words_of_the_api() {
        let attachments = [
            ("platform", Attachment::Platform),
            ("cross-platform", Attachment::CrossPlatform),
            ("any", Attachment::Any),
        ];
        for (word, attachment) in attachments {
            assert_eq!(Attachment::from_parameter(word), Ok(attachment));
            assert_eq!(serde_json::to_value(attachment).unwrap(), word);
        }
        let requirements = [
            ("required", Requirement::Required),
            ("preferred", Requirement::Preferred),
            ("discouraged", Requirement::Discouraged),
        ];
        for (word, requirement) in requirements {
            assert_eq!(Requirement::from_parameter(word), Ok(requirement));
            assert_eq!(serde_json::to_value(requirement).unwrap(), word);
        }
        assert!(Attachment::from_parameter("required").is_err());
        assert!(Requirement::from_parameter("any").is_err());
    }

    #[test]
    fn codes_have_4_to_10_digits() {
        let length = |digits| Bounded::<4, 10>::new(digits).is_some();
        assert_eq!([3, 4, 10, 11].map(length), [false, true, true, false]);
        assert_eq!(Settings::named(FriendlyName::from_parameter("Shop").unwrap()).code_length.get(), 6);
    }
}
