//! Services: each contains the settings of an application, and has its own users, separate from those of all other
//! services.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::limits::ServiceLimits;
use crate::paging::{Listed, Position, position};
use crate::parameter::{Bounded, Expected, Parameter};
use crate::sids::{AccountSid, CredentialSid, MessagingServiceSid, ServiceSid, TemplateSid};
use crate::text::{FriendlyName, Text};
use crate::time::Timestamp;

/// A Verify service as it is stored.
#[derive(Clone, Debug)]
pub struct Service {
    /// SID of the service (`VA…`).
    pub sid: ServiceSid,
    /// Account that owns the service.
    pub account_sid: AccountSid,
    /// Settings of the service, which callers can change.
    pub settings: Settings,
    /// Limits that an operator set on challenges to the service's factors. Callers cannot see them.
    pub limits: ServiceLimits,
    /// Creation time of the service.
    pub created_at: Timestamp,
    /// Time of the last change to the service's settings.
    pub updated_at: Timestamp,
}

impl Listed for Service {
    fn position(&self) -> Position {
        position(self.sid, self.created_at)
    }
}

/// The settings of a service that callers can change (docs/protocol/resources.md, section 1).
///
/// `tts_name` has no effect. It is stored and returned, so that programs that manage services read back what they wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Friendly name of the service.
    pub friendly_name: FriendlyName,
    /// Number of digits of a one-time code.
    pub code_length: Bounded<4, 10>,
    /// Whether verifications show the type of the phone number, such as `landline`.
    pub lookup_enabled: bool,
    /// Whether verifications must name an amount and a payee, for strong customer authentication (PSD2).
    pub psd2_enabled: bool,
    /// Whether to refuse text messages to landlines; has an effect only with `lookup_enabled`.
    pub skip_sms_to_landlines: bool,
    /// Whether a call says the code only after a key was pressed. Has an effect only with a public URL.
    pub dtmf_input_required: bool,
    /// Name of the text-to-speech service for voice calls.
    pub tts_name: Option<Text<1, 256>>,
    /// Whether messages contain a warning not to share the code.
    pub do_not_share_warning_enabled: bool,
    /// Whether callers may choose the verification code.
    pub custom_code_enabled: bool,
    /// SID of the default template for messages.
    pub default_template_sid: Option<TemplateSid>,
    /// Whether to send events about verifications, if the account has a URL for them.
    pub verify_event_subscription_enabled: bool,
    /// Settings for push factors.
    pub push: Push,
    /// Settings for TOTP factors.
    pub totp: Totp,
    /// Settings for WhatsApp messages.
    pub whatsapp: Whatsapp,
    /// Settings for passkeys.
    pub passkeys: Passkeys,
}

/// A service's settings for push factors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Push {
    /// Whether to add `details.date` to challenges.
    pub include_date: bool,
    /// SID of the push credential for APNs; `None` if there is none.
    pub apn_credential_sid: Option<CredentialSid>,
    /// SID of the push credential for FCM; `None` if there is none.
    pub fcm_credential_sid: Option<CredentialSid>,
}

/// A service's settings for TOTP factors. Settings that are `None` have the defaults of RFC 6238.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totp {
    /// Issuer that authenticator apps display.
    pub issuer: Option<Text<1, 256>>,
    /// Number of seconds for which a code is valid.
    pub time_step: Option<Bounded<20, 60>>,
    /// Number of digits of a code.
    pub code_length: Option<Bounded<3, 8>>,
    /// Number of time steps before and after the current one whose codes are accepted.
    pub skew: Option<Bounded<0, 2>>,
}

/// A service's settings for WhatsApp messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whatsapp {
    /// SID of the messaging service that sends the messages.
    pub msg_service_sid: Option<MessagingServiceSid>,
    /// Sender of the messages.
    pub from: Option<Text<1, 256>>,
}

/// A service's settings for passkeys: the defaults of new passkeys, and the relying party of challenges that name no
/// user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passkeys {
    /// Relying party of the passkeys.
    pub relying_party: RelyingParty,
    /// Attachment of the authenticator: `platform`, `cross-platform` or `any`.
    pub authenticator_attachment: Option<Attachment>,
    /// Whether passkeys must be discoverable: `required`, `preferred` or `discouraged`.
    pub discoverable_credentials: Option<Requirement>,
    /// Whether the authenticator must verify the user: `required`, `preferred` or `discouraged`.
    pub user_verification: Option<Requirement>,
}

/// The relying party of passkeys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelyingParty {
    /// Domain name of the relying party.
    pub id: Option<Text<1, 256>>,
    /// Name of the relying party that is shown to the user.
    pub name: Option<Text<1, 64>>,
    /// Origins of the web pages that may use the passkeys.
    pub origins: Option<Vec<Text<1, 256>>>,
}

/// The attachment of the authenticator that holds a passkey.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attachment {
    /// The authenticator is part of the user's device.
    Platform,
    /// The authenticator is a separate device, such as a security key.
    CrossPlatform,
    /// Either kind of authenticator is permitted.
    Any,
}

impl Attachment {
    /// Returns the attachment's name in the API and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::CrossPlatform => "cross-platform",
            Self::Any => "any",
        }
    }
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

/// How strongly a property of a passkey is required. The order begins with the strongest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Requirement {
    /// The property is required.
    Required,
    /// The property is preferred, but not required.
    Preferred,
    /// The property is discouraged.
    Discouraged,
}

impl Requirement {
    /// Returns the requirement's name in the API and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::Preferred => "preferred",
            Self::Discouraged => "discouraged",
        }
    }
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
    /// Returns the settings of a new service: the given name, and defaults for all other settings.
    pub fn with_defaults(friendly_name: FriendlyName) -> Self {
        const SIX_DIGITS: Bounded<4, 10> = match Bounded::new(6) {
            Some(length) => length,
            // This is evaluated at compile time, so `unreachable!` can only fail the build.
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

    /// Returns the names of the settings that differ from `before`, as API responses spell them. The name of a setting
    /// in a group is prefixed with the name of the group and a dot.
    pub fn changed_fields(&self, before: &Self) -> Vec<String> {
        let value = |settings| serde_json::to_value(settings).unwrap_or_default();
        let mut names = Vec::new();
        push_differences("", &value(before), &value(self), &mut names);
        names.sort_unstable();
        names
    }
}

/// Appends to `names` the paths of the members that differ between two JSON values of the same structure. `path` is the
/// path of the two values.
fn push_differences(path: &str, before: &Value, after: &Value, names: &mut Vec<String>) {
    match (before.as_object(), after.as_object()) {
        _ if before == after => {}
        (Some(before), Some(after)) => {
            for (name, value) in after {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                push_differences(&path, before.get(name).unwrap_or(&Value::Null), value, names);
            }
        }
        _ => names.push(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_update_lists_the_names_of_the_changed_settings() {
        let name = |name: &str| FriendlyName::from_parameter(name).unwrap();
        let before = Settings::with_defaults(name("Shop"));
        assert_eq!(before.changed_fields(&before), [""; 0]);
        let mut after = Settings::with_defaults(name("Store"));
        after.push.include_date = !before.push.include_date;
        after.passkeys.relying_party.name = Some(Text::from_parameter("Shop").unwrap());
        assert_eq!(
            after.changed_fields(&before),
            ["friendly_name", "passkeys.relying_party.name", "push.include_date"]
        );
    }

    #[test]
    fn passkey_settings_have_the_names_used_by_the_api() {
        let attachments = [
            ("platform", Attachment::Platform),
            ("cross-platform", Attachment::CrossPlatform),
            ("any", Attachment::Any),
        ];
        for (word, attachment) in attachments {
            assert_eq!((attachment.as_str(), Attachment::from_parameter(word)), (word, Ok(attachment)));
            assert_eq!(serde_json::to_value(attachment).unwrap(), word);
        }
        let requirements = [
            ("required", Requirement::Required),
            ("preferred", Requirement::Preferred),
            ("discouraged", Requirement::Discouraged),
        ];
        for (word, requirement) in requirements {
            assert_eq!((requirement.as_str(), Requirement::from_parameter(word)), (word, Ok(requirement)));
            assert_eq!(serde_json::to_value(requirement).unwrap(), word);
        }
        assert!(Attachment::from_parameter("required").is_err());
        assert!(Requirement::from_parameter("any").is_err());
    }

    #[test]
    fn service_code_length_must_be_4_to_10() {
        let length = |digits| Bounded::<4, 10>::new(digits).is_some();
        assert_eq!([3, 4, 10, 11].map(length), [false, true, true, false]);
        assert_eq!(
            Settings::with_defaults(FriendlyName::from_parameter("Shop").unwrap()).code_length.get(),
            6
        );
    }
}
