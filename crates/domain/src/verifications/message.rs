//! What the message of an attempt is made of, apart from the code and what belongs to the service.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::parameter::{Expected, Parameter};
use crate::recipients::EmailAddress;
use crate::sids::TemplateSid;
use crate::text::Text;

/// The options of one attempt. They are stored as JSON until the verification is closed, because the message is written
/// when it is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageOptions {
    /// Name in the text, instead of the name of the service.
    pub friendly_name: Option<Text<1, 30>>,
    /// Template of the text; `None` for the default text.
    pub template_sid: Option<TemplateSid>,
    /// Values of the template's variables.
    pub substitutions: Substitutions,
    /// Hash of the Android app that reads the text message.
    pub app_hash: Option<AppHash>,
    /// Keys to press after the call is answered.
    pub send_digits: Option<SendDigits>,
    /// Options of a mail.
    pub mail: MailOptions,
}

/// The options of a mail.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailOptions {
    /// Address of the sender, instead of the outlet's.
    pub from: Option<String>,
    /// Name of the sender, instead of the outlet's.
    pub from_name: Option<Text<1, 64>>,
}

/// What a caller sets for a mail: a JSON object with the members `from`, `from_name`, `template_id` and
/// `substitutions`, all of them optional. `template_id` names a template of a mail provider, which this server does not
/// use; it is only checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelConfiguration {
    /// Sender of the mail.
    pub mail: MailOptions,
    /// Values of the variables of the mail's template.
    pub substitutions: Substitutions,
}

impl Parameter for ChannelConfiguration {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        #[derive(Deserialize)]
        struct Members {
            from: Option<String>,
            from_name: Option<String>,
            template_id: Option<String>,
            substitutions: Option<serde_json::Value>,
        }
        let expected =
            || Expected::new("must be a JSON object with from, from_name, template_id or substitutions");
        let members: Members = serde_json::from_str(text).map_err(|_| expected())?;
        let from = members.from.as_deref().map(EmailAddress::from_parameter).transpose()?;
        let from_name = members.from_name.as_deref().map(Text::from_parameter).transpose()?;
        members.template_id.as_deref().map(Text::<1, 64>::from_parameter).transpose()?;
        let substitutions =
            members.substitutions.map(|value| Substitutions::from_parameter(&value.to_string()));
        Ok(Self {
            mail: MailOptions { from: from.map(|address| address.to_string()), from_name },
            substitutions: substitutions.transpose()?.unwrap_or_default(),
        })
    }

    fn is_absent(text: &str) -> bool {
        matches!(text.trim(), "" | "null")
    }
}

/// Values of a template's variables: a JSON object of strings, at most 2048 characters long.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Substitutions(BTreeMap<String, String>);

impl Substitutions {
    /// Returns the value of a variable, or `None` if there is none.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Adds the values of `others`. A variable that both have gets the value of `others`.
    pub fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }
}

impl Parameter for Substitutions {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        let expected = || Expected::new("must be a JSON object of strings, at most 2048 characters long");
        if text.chars().count() > 2048 {
            return Err(expected());
        }
        let map: BTreeMap<String, String> = serde_json::from_str(text).map_err(|_| expected())?;
        let has_control = |text: &str| text.chars().any(char::is_control);
        if map.iter().any(|(name, value)| has_control(name) || has_control(value)) {
            return Err(Expected::new("must not contain control characters"));
        }
        Ok(Self(map))
    }

    fn is_absent(text: &str) -> bool {
        matches!(text.trim(), "" | "null")
    }
}

impl fmt::Debug for Substitutions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Substitutions({} keys)", self.0.len())
    }
}

/// The hash with which Google's SMS Retriever finds the Android app that reads a text message: 11 characters of Base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AppHash(String);

impl AppHash {
    /// Returns the text of the hash.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Parameter for AppHash {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
        if text.len() == 11 && text.bytes().all(is_base64) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Expected::new("must be a hash of 11 characters"))
        }
    }
}

/// Keys to press after a call is answered: 1 to 32 digits, `#` and `*`, and `w` or `W` to wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SendDigits(String);

impl SendDigits {
    /// Returns the text of the keys.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Parameter for SendDigits {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        let is_key = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'#' | b'*' | b'w' | b'W');
        if (1..=32).contains(&text.len()) && text.bytes().all(is_key) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Expected::new("must be 1 to 32 of the characters 0-9, #, *, w and W"))
        }
    }
}

/// Tags of an attempt: a JSON object of at most 10 strings of at most 128 characters each. Only events about the
/// verification contain them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tags(BTreeMap<String, String>);

impl Parameter for Tags {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        let expected = || Expected::new("must be a JSON object of at most 10 strings");
        let map: BTreeMap<String, String> = serde_json::from_str(text).map_err(|_| expected())?;
        let is_short = |text: &String| text.chars().count() <= 128;
        if map.len() <= 10 && map.iter().all(|(name, value)| is_short(name) && is_short(value)) {
            Ok(Self(map))
        } else {
            Err(expected())
        }
    }

    fn is_absent(text: &str) -> bool {
        matches!(text.trim(), "" | "null")
    }
}

impl fmt::Debug for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tags({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn substitutions_are_strings_without_control_characters() {
        let values = Substitutions::from_parameter(r#"{"user":"Ann"}"#).unwrap();
        assert_eq!((values.get("user"), values.get("name")), (Some("Ann"), None));
        for bad in
            ["[]", "1", r#"{"n":1}"#, "{", r#"{"a":"b\n"}"#, &format!(r#"{{"a":"{}"}}"#, "x".repeat(2048))]
        {
            assert!(Substitutions::from_parameter(bad).is_err(), "{bad}");
        }
        assert!(Substitutions::is_absent("null") && Substitutions::is_absent(""));
        assert!(!format!("{values:?}").contains("Ann"));
    }

    #[test]
    fn channel_configuration_is_for_a_mail() {
        let text = r#"{"from":"a@owl.example","from_name":"Owl","template_id":"d-1","substitutions":{"user":"Ann"},"x":1}"#;
        let found = ChannelConfiguration::from_parameter(text).unwrap();
        assert_eq!(found.mail.from.as_deref(), Some("a@owl.example"));
        assert_eq!(found.mail.from_name.as_ref().map(Text::as_str), Some("Owl"));
        assert_eq!(found.substitutions.get("user"), Some("Ann"));
        assert_eq!(ChannelConfiguration::from_parameter("{}"), Ok(ChannelConfiguration::default()));
        for bad in [
            "[]",
            r#"{"from":"owl"}"#,
            r#"{"from_name":""}"#,
            r#"{"template_id":""}"#,
            r#"{"template_id":1}"#,
            r#"{"substitutions":[]}"#,
        ] {
            assert!(ChannelConfiguration::from_parameter(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn added_values_replace_earlier_ones() {
        let mut values = Substitutions::from_parameter(r#"{"a":"1","b":"1"}"#).unwrap();
        values.extend(Substitutions::from_parameter(r#"{"b":"2","c":"2"}"#).unwrap());
        assert_eq!(["a", "b", "c"].map(|name| values.get(name)), [Some("1"), Some("2"), Some("2")]);
    }

    #[test]
    fn app_hash_has_11_characters() {
        assert!(AppHash::from_parameter("He42w354ol9").is_ok());
        for bad in ["", "He42w354ol", "He42w354ol90", "He42w354ol ", "He42w354olé"] {
            assert!(AppHash::from_parameter(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_of_a_call_are_digits_and_waits() {
        assert!(SendDigits::from_parameter("ww12#*W").is_ok());
        for bad in ["", "12a", "1 2", &"1".repeat(33)] {
            assert!(SendDigits::from_parameter(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tags_are_at_most_ten_short_strings() {
        assert!(Tags::from_parameter(r#"{"campaign":"spring"}"#).is_ok());
        let many: BTreeMap<String, String> = (0..11).map(|n| (n.to_string(), String::new())).collect();
        for bad in [
            "[]".to_owned(),
            r#"{"a":1}"#.to_owned(),
            serde_json::to_string(&many).unwrap(),
            format!(r#"{{"a":"{}"}}"#, "x".repeat(129)),
        ] {
            assert!(Tags::from_parameter(&bad).is_err(), "{bad}");
        }
    }
}
