//! Settings of servers that are compatible with Twilio's API.

use domain::{Channel, Secret};
use reqwest::Url;
use serde::{Deserialize, Serialize};

use super::{InvalidOutlet, OutletField, OutletSummary, secret_text};

/// The server of outlets without a URL.
const DEFAULT_URL: &str = "https://api.twilio.com";

/// Settings of a server that is compatible with Twilio's API, as an operator enters them.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct TwilioParameters {
    /// The server; `None` for `https://api.twilio.com`.
    #[serde(default)]
    pub url: Option<String>,
    /// The SID of the account, which is a part of the path.
    pub account_sid: String,
    /// The user: the SID of the account, or that of an API key. `None` for the account.
    #[serde(default)]
    pub user: Option<String>,
    /// The auth token of the account, or the secret of the API key.
    #[serde(default, with = "secret_text")]
    pub secret: Option<Secret<String>>,
    /// The number or the name of the sender.
    #[serde(default)]
    pub from: Option<String>,
    /// The SID of the messaging service that sends text messages, instead of a number.
    #[serde(default)]
    pub messaging_service_sid: Option<String>,
}

/// Valid settings of a server that is compatible with Twilio's API.
#[derive(Clone)]
pub struct TwilioSettings {
    parameters: TwilioParameters,
    url: Url,
    secret: Secret<String>,
}

impl TwilioSettings {
    /// Validates parameters.
    ///
    /// # Errors
    /// Returns an error that names the first invalid parameter.
    pub fn new(parameters: TwilioParameters) -> Result<Self, InvalidOutlet> {
        let url = parse_base_url(parameters.url.as_deref().unwrap_or(DEFAULT_URL)).ok_or_else(|| {
            OutletField::Url
                .must("must be the URL of a server, such as https://api.twilio.com, without user and query")
        })?;
        if !is_id(&parameters.account_sid) {
            return Err(OutletField::AccountSid.must("must have 1 to 64 letters, digits, '-' and '_'"));
        }
        if parameters.user.as_deref().is_some_and(|user| !is_id(user)) {
            return Err(OutletField::User.must("must have 1 to 64 letters, digits, '-' and '_'"));
        }
        let secret = parameters.secret.clone().ok_or_else(|| OutletField::Secret.must("is required"))?;
        if !is_header_text(secret.expose()) {
            return Err(OutletField::Secret.must("must have 1 to 255 characters of ASCII"));
        }
        if parameters.messaging_service_sid.as_deref().is_some_and(|sid| !is_id(sid)) {
            return Err(
                OutletField::MessagingServiceSid.must("must have 1 to 64 letters, digits, '-' and '_'")
            );
        }
        match &parameters.from {
            Some(from) if !is_sender(from) => Err(OutletField::From.must(
                "must be a number such as +14155552671, or a name of at most 11 letters, digits, spaces, '-' and '_'",
            )),
            None if parameters.messaging_service_sid.is_none() => {
                Err(OutletField::From.must("is required, or a messaging service SID"))
            }
            _ => Ok(Self { url, secret, parameters }),
        }
    }

    pub(super) const fn parameters(&self) -> &TwilioParameters {
        &self.parameters
    }

    pub(super) fn summary(&self) -> OutletSummary {
        let from = self.messaging_service_sid().or(self.from());
        OutletSummary {
            target: self.url.as_str().trim_end_matches('/').to_owned(),
            user: Some(self.user().to_owned()),
            from: from.map(str::to_owned),
        }
    }

    /// Returns whether there is a sender for messages through `channel`. A call must come from a number.
    pub(super) fn can_serve(&self, channel: Channel) -> bool {
        match channel {
            Channel::Sms | Channel::Whatsapp => true,
            Channel::Call => self.from().is_some_and(is_number),
            Channel::Email => false,
        }
    }

    /// Returns the URL of a collection of the account, such as `Messages.json`.
    pub(crate) fn resource_url(&self, resource: &str) -> Url {
        let mut url = self.url.clone();
        let path = url.path().trim_end_matches('/');
        let path = format!("{path}/2010-04-01/Accounts/{}/{resource}", self.parameters.account_sid);
        url.set_path(&path);
        url
    }

    pub(crate) fn user(&self) -> &str {
        self.parameters.user.as_deref().unwrap_or(&self.parameters.account_sid)
    }

    pub(crate) const fn secret(&self) -> &Secret<String> {
        &self.secret
    }

    pub(crate) fn from(&self) -> Option<&str> {
        self.parameters.from.as_deref()
    }

    pub(crate) fn messaging_service_sid(&self) -> Option<&str> {
        self.parameters.messaging_service_sid.as_deref()
    }
}

/// Parses the URL of a server, which may have a path.
fn parse_base_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let is_base = matches!(url.scheme(), "https" | "http")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    is_base.then_some(url)
}

/// Returns whether a text is like the SIDs of Twilio, or the IDs of providers with the same API.
fn is_id(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=64).contains(&text.len()) && text.bytes().all(is_allowed)
}

/// Returns whether a text can be sent in a header.
pub(super) fn is_header_text(text: &str) -> bool {
    (1..=255).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

/// Returns whether a text is a phone number, a short code or the name of a sender.
fn is_sender(text: &str) -> bool {
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b' ' | b'-' | b'_');
    is_number(text) || (1..=11).contains(&text.len()) && text.bytes().all(is_of_name) && text.trim() == text
}

/// Returns whether a text is a phone number or a short code.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('+').unwrap_or(text);
    (3..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters() -> TwilioParameters {
        TwilioParameters {
            account_sid: "AC11111111111111111111111111111111".to_owned(),
            secret: Some(Secret::new("token".to_owned())),
            from: Some("+14155552671".to_owned()),
            ..TwilioParameters::default()
        }
    }

    fn invalid_field(parameters: TwilioParameters) -> Option<OutletField> {
        TwilioSettings::new(parameters).err().map(|invalid| invalid.field)
    }

    #[test]
    fn path_of_the_server_is_kept() {
        for (url, expected) in [
            (None, "https://api.twilio.com/2010-04-01"),
            (Some("https://owl.signalwire.com/api/laml"), "https://owl.signalwire.com/api/laml/2010-04-01"),
            (Some("http://127.0.0.1:8080/"), "http://127.0.0.1:8080/2010-04-01"),
        ] {
            let settings =
                TwilioSettings::new(TwilioParameters { url: url.map(str::to_owned), ..parameters() });
            let found = settings.unwrap().resource_url("Calls.json");
            let expected = format!("{expected}/Accounts/AC11111111111111111111111111111111/Calls.json");
            assert_eq!(found.as_str(), expected);
        }
    }

    #[test]
    fn invalid_parameters_are_refused() {
        for bad in
            ["", "api.twilio.com", "ftp://host", "https://ann:pw@host", "https://host?a", "https://host#a"]
        {
            let url = Some(bad.to_owned());
            assert_eq!(
                invalid_field(TwilioParameters { url, ..parameters() }),
                Some(OutletField::Url),
                "{bad}"
            );
        }
        for bad in ["", "AC/1", "AC 1", "../1"] {
            let with = |account_sid| TwilioParameters { account_sid, ..parameters() };
            assert_eq!(invalid_field(with(bad.to_owned())), Some(OutletField::AccountSid), "{bad}");
            let with = |user| TwilioParameters { user: Some(user), ..parameters() };
            assert_eq!(invalid_field(with(bad.to_owned())), Some(OutletField::User), "{bad}");
            let with = |sid| TwilioParameters { messaging_service_sid: Some(sid), ..parameters() };
            assert_eq!(invalid_field(with(bad.to_owned())), Some(OutletField::MessagingServiceSid), "{bad}");
        }
        for bad in [None, Some(""), Some("a\nb"), Some("é")] {
            let secret = bad.map(|text| Secret::new(text.to_owned()));
            assert_eq!(invalid_field(TwilioParameters { secret, ..parameters() }), Some(OutletField::Secret));
        }
    }

    #[test]
    fn calls_come_from_numbers_only() {
        for (from, expected) in [("+14155552671", true), ("14155552671", true), ("Owl Bank", false)] {
            let settings =
                TwilioSettings::new(TwilioParameters { from: Some(from.to_owned()), ..parameters() });
            assert_eq!(settings.unwrap().can_serve(Channel::Call), expected, "{from}");
        }
    }

    #[test]
    fn sender_is_a_number_a_name_or_a_messaging_service() {
        for good in ["+14155552671", "12345", "Owl Bank", "OwlBank-1"] {
            let from = Some(good.to_owned());
            assert_eq!(invalid_field(TwilioParameters { from, ..parameters() }), None, "{good}");
        }
        for bad in [
            None,
            Some(""),
            Some("+1"),
            Some("Owl Bank Ltd."),
            Some(" Owl"),
            Some("a@b"),
            Some("whatsapp:+1"),
        ] {
            let from = bad.map(str::to_owned);
            assert_eq!(
                invalid_field(TwilioParameters { from, ..parameters() }),
                Some(OutletField::From),
                "{bad:?}"
            );
        }
        let messaging_service_sid = Some("MG11111111111111111111111111111111".to_owned());
        let parameters = TwilioParameters { from: None, messaging_service_sid, ..parameters() };
        assert_eq!(invalid_field(parameters), None);
    }
}
