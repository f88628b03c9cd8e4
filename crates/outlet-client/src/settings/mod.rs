//! The settings of outlets: their validation, what may be shown of them, and the form in which they are stored.
//!
//! Parameters (`…Parameters`) are texts, as an operator enters them. Settings (`…Settings`) are made of parameters, and
//! are valid. The stored form is that of the parameters, so that there is only one.

mod capture;
mod http;
mod invalid;
mod secret_text;
mod smtp;
mod twilio;
mod url_user;

use std::fmt;

use domain::outlets::{OutletContent, OutletKind};
use domain::{Channel, Expected};
use serde::{Deserialize, Serialize};

pub use capture::{CaptureParameters, CaptureSettings};
pub(crate) use http::{Auth, Content, SuccessRule};
pub use http::{HttpParameters, HttpSettings};
pub use invalid::{InvalidOutlet, OutletField};
pub(crate) use smtp::Encryption;
pub use smtp::{SmtpParameters, SmtpSettings};
pub use twilio::{TwilioParameters, TwilioSettings};

/// The settings of an outlet as an operator enters them. They are also the stored form: every form that was ever
/// written must remain readable.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum OutletParameters {
    /// A mail server.
    Smtp(SmtpParameters),
    /// A server that is compatible with Twilio's API.
    Twilio(TwilioParameters),
    /// A gateway that takes one HTTP request for each message.
    Http(HttpParameters),
    /// A file that records messages.
    Capture(CaptureParameters),
}

/// The valid settings of an outlet. Its `Debug` output contains no secrets.
#[derive(Clone)]
pub enum OutletSettings {
    /// A mail server.
    Smtp(SmtpSettings),
    /// A server that is compatible with Twilio's API.
    Twilio(TwilioSettings),
    /// A gateway that takes one HTTP request for each message.
    Http(Box<HttpSettings>),
    /// A file that records messages.
    Capture(CaptureSettings),
}

/// The parts of an outlet's settings that are not secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutletSummary {
    /// The server, as a URL without user and query, or the file.
    pub target: String,
    /// The user as which the server is used.
    pub user: Option<String>,
    /// The sender: a mail address, a number, or the SID of a messaging service.
    pub from: Option<String>,
}

impl OutletSettings {
    /// Validates parameters.
    ///
    /// # Errors
    /// Returns an error that names the first invalid parameter.
    pub fn new(parameters: OutletParameters) -> Result<Self, InvalidOutlet> {
        Ok(match parameters {
            OutletParameters::Smtp(parameters) => Self::Smtp(SmtpSettings::new(parameters)?),
            OutletParameters::Twilio(parameters) => Self::Twilio(TwilioSettings::new(parameters)?),
            OutletParameters::Http(parameters) => Self::Http(Box::new(HttpSettings::new(parameters)?)),
            OutletParameters::Capture(parameters) => Self::Capture(CaptureSettings::new(parameters)?),
        })
    }

    /// Returns parameters that make these settings, with the secret.
    pub fn parameters(&self) -> OutletParameters {
        match self {
            Self::Smtp(settings) => OutletParameters::Smtp(settings.parameters().clone()),
            Self::Twilio(settings) => OutletParameters::Twilio(settings.parameters().clone()),
            Self::Http(settings) => OutletParameters::Http(settings.parameters().clone()),
            Self::Capture(settings) => OutletParameters::Capture(settings.parameters().clone()),
        }
    }

    /// Returns the kind of the outlet.
    pub const fn kind(&self) -> OutletKind {
        match self {
            Self::Smtp(_) => OutletKind::Smtp,
            Self::Twilio(_) => OutletKind::Twilio,
            Self::Http(_) => OutletKind::Http,
            Self::Capture(_) => OutletKind::Capture,
        }
    }

    /// Returns the parts of the settings that are not secret.
    pub fn summary(&self) -> OutletSummary {
        match self {
            Self::Smtp(settings) => settings.summary(),
            Self::Twilio(settings) => settings.summary(),
            Self::Http(settings) => settings.summary(),
            Self::Capture(settings) => settings.summary(),
        }
    }

    /// Returns whether an outlet with these settings can send messages through `channel`.
    pub fn can_serve(&self, channel: Channel) -> bool {
        match self {
            Self::Smtp(_) => matches!(channel, Channel::Email),
            Self::Twilio(settings) => settings.can_serve(channel),
            Self::Http(_) | Self::Capture(_) => true,
        }
    }

    /// Checks that an outlet with these settings can serve all of `channels`.
    ///
    /// # Errors
    /// Returns an error that names the first channel that it cannot serve.
    pub fn require_channels(&self, channels: &[Channel]) -> Result<(), InvalidOutlet> {
        match channels.iter().find(|channel| !self.can_serve(**channel)) {
            None => Ok(()),
            Some(channel) => {
                let advice = match (self, channel) {
                    (Self::Twilio(_), Channel::Call) => " without a number to call from",
                    _ => "",
                };
                let (kind, channel) = (self.kind().as_str(), channel.as_str());
                let expected =
                    format!("must not be {channel}: an outlet of the kind {kind} can't serve it{advice}");
                Err(OutletField::Channel.invalid(Expected::new(expected)))
            }
        }
    }

    /// Serializes the settings, including the secret in plaintext. The caller must seal the result immediately.
    #[expect(clippy::expect_used, reason = "texts always serialize")]
    pub fn to_bytes(&self) -> OutletContent {
        OutletContent::new(serde_json::to_vec(&self.parameters()).expect("parameters are serializable"))
    }

    /// Parses the output of [`OutletSettings::to_bytes`]. Returns `None` if it is malformed.
    pub fn parse(content: &OutletContent) -> Option<Self> {
        Self::new(serde_json::from_slice(content.expose()).ok()?).ok()
    }
}

impl fmt::Debug for OutletSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OutletSettings").field(&self.kind()).field(&self.summary()).finish()
    }
}

#[cfg(test)]
mod tests {
    use domain::Secret;

    use super::*;

    fn secret() -> Option<Secret<String>> {
        Some(Secret::new("hunter2".to_owned()))
    }

    fn all() -> [OutletSettings; 4] {
        let smtp = SmtpParameters {
            url: "smtps://ann@mail.example.com".to_owned(),
            secret: secret(),
            from: "codes@example.com".to_owned(),
            ..SmtpParameters::default()
        };
        let twilio = TwilioParameters {
            account_sid: "AC11111111111111111111111111111111".to_owned(),
            secret: secret(),
            messaging_service_sid: Some("MG11111111111111111111111111111111".to_owned()),
            ..TwilioParameters::default()
        };
        let http = HttpParameters {
            url: "http://gateway.example.com/send?password={{secret}}&to={{to}}".to_owned(),
            secret: secret(),
            ..HttpParameters::default()
        };
        let capture = CaptureParameters { path: "/tmp/messages".to_owned() };
        [
            OutletParameters::Smtp(smtp),
            OutletParameters::Twilio(twilio),
            OutletParameters::Http(http),
            OutletParameters::Capture(capture),
        ]
        .map(|parameters| OutletSettings::new(parameters).unwrap())
    }

    #[test]
    fn settings_are_read_back_and_never_printed_with_their_secret() {
        for settings in all() {
            let content = settings.to_bytes();
            let found = OutletSettings::parse(&content).unwrap();
            assert_eq!(found.to_bytes().expose(), content.expose());
            assert_eq!((found.kind(), found.summary()), (settings.kind(), settings.summary()));
            assert!(!format!("{found:?} {:?}", found.summary()).contains("hunter2"), "{found:?}");
        }
    }

    #[test]
    fn malformed_settings_are_not_parsed() {
        for bad in ["", "{}", r#"{"kind":"smpp"}"#, r#"{"kind":"capture","path":"relative"}"#] {
            assert!(OutletSettings::parse(&OutletContent::new(bad.into())).is_none(), "{bad}");
        }
    }

    #[test]
    fn outlets_serve_only_the_channels_of_their_kind() {
        let served = all().map(|settings| {
            let served = Channel::ALL.into_iter().filter(|channel| settings.can_serve(*channel));
            served.map(Channel::as_str).collect::<Vec<_>>().join(" ")
        });
        assert_eq!(served, ["email", "sms whatsapp", "sms call email whatsapp", "sms call email whatsapp"]);
        let [smtp, twilio, ..] = all();
        assert!(smtp.require_channels(&[Channel::Email]).is_ok());
        let refused = twilio.require_channels(&[Channel::Sms, Channel::Call]).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the channel must not be call: an outlet of the kind twilio can't serve it without a number to call from"
        );
    }
}
