//! Validated texts: identities, friendly names, unique names, and JSON objects of strings.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::parameter::{Expected, Parameter};

/// A text of `MIN` to `MAX` characters (Unicode scalar values) without control characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Text<const MIN: usize, const MAX: usize>(String);

impl<const MIN: usize, const MAX: usize> Text<MIN, MAX> {
    /// Returns the text as a string slice.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Wraps a text from the database without validation. The text was validated before it was stored.
    pub const fn from_stored(text: String) -> Self {
        Self(text)
    }
}

impl<const MIN: usize, const MAX: usize> Parameter for Text<MIN, MAX> {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        let length = text.chars().count();
        if length < MIN || length > MAX {
            return Err(Expected::new(format!("must have {MIN} to {MAX} characters")));
        }
        if text.chars().any(char::is_control) {
            return Err(Expected::new("must not contain control characters"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl<const MIN: usize, const MAX: usize> fmt::Display for Text<MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<const MIN: usize, const MAX: usize> fmt::Debug for Text<MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The text may be personal, so show only its length.
        write!(f, "Text({} bytes)", self.0.len())
    }
}

/// The friendly name of an account, API key, service, factor, webhook or credential: 1 to 64 characters
/// (docs/protocol/decisions.md, No. 3).
pub type FriendlyName = Text<1, 64>;

/// The backend's own ID of a user: 8 to 64 of the characters `A–Z a–z 0–9 _ -`. Identities are compared exactly
/// (docs/protocol/decisions.md, No. 10).
#[derive(Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Identity(String);

impl Identity {
    /// Returns the text of the identity.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Wraps an identity from the database without validation. The identity was validated before it was stored.
    pub const fn from_stored(text: String) -> Self {
        Self(text)
    }
}

impl Parameter for Identity {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if (8..=64).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Expected::new("must be 8 to 64 characters from A-Z, a-z, 0-9, '_' and '-'"))
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(…)")
    }
}

/// The unique name of a rate limit: 1 to 64 of the characters `A–Z a–z 0–9 . _ -`. Names are compared exactly.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct UniqueName(String);

impl UniqueName {
    /// Returns the text of the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Wraps a name from the database without validation. The name was validated before it was stored.
    pub const fn from_stored(text: String) -> Self {
        Self(text)
    }
}

impl Parameter for UniqueName {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Expected::new("must be 1 to 64 characters from A-Z, a-z, 0-9, '.', '_' and '-'"))
        }
    }
}

impl fmt::Display for UniqueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A JSON object whose values are all strings, such as `Metadata` and `HiddenDetails`. Its JSON text has at most 1024
/// characters.
///
/// Values of other types are refused, because the iOS SDK fails on them (docs/protocol/device.md, section 8).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StringMap(BTreeMap<String, String>);

impl StringMap {
    /// Maximum length of the JSON text, in characters.
    pub const MAX_CHARACTERS: usize = 1024;

    /// Returns the value of a key, or `None` if the map does not have the key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }
}

impl Parameter for StringMap {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        let expected =
            || Expected::new("must be a JSON object with string values only, at most 1024 characters long");
        if text.chars().count() > Self::MAX_CHARACTERS {
            return Err(expected());
        }
        let map: BTreeMap<String, String> = serde_json::from_str(text).map_err(|_| expected())?;
        // PostgreSQL cannot store NUL characters.
        if map.iter().any(|(key, value)| key.contains('\0') || value.contains('\0')) {
            return Err(Expected::new("must not contain NUL characters"));
        }
        Ok(Self(map))
    }

    /// Returns whether the text is empty or `null`. The library twilio-node sends `null` for an absent object.
    fn is_absent(text: &str) -> bool {
        matches!(text.trim(), "" | "null")
    }
}

impl fmt::Debug for StringMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StringMap({} keys)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_must_be_8_to_64_permitted_characters() {
        for good in ["user-0001-abcd", "User_UUID", &"a".repeat(64)] {
            assert!(Identity::from_parameter(good).is_ok(), "{good}");
        }
        for bad in ["", "short", &"a".repeat(65), "with space", "user@example.com", "üüüüüüüü", "a/../../b"]
        {
            assert!(Identity::from_parameter(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn unique_name_has_1_to_64_permitted_characters() {
        for good in ["end_user_ip", "a", "User.Agent-2", &"x".repeat(64)] {
            assert_eq!(UniqueName::from_parameter(good).unwrap().as_str(), good);
        }
        for bad in ["", &"x".repeat(65), "end user", "ip/1", "ü", "a\0", "a@b"] {
            assert!(UniqueName::from_parameter(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn friendly_name_is_1_to_64_characters_without_control_characters() {
        assert!(FriendlyName::from_parameter(&"ü".repeat(64)).is_ok());
        for bad in ["", &"x".repeat(65), "line\nbreak", "bell\u{7}"] {
            assert!(FriendlyName::from_parameter(bad).is_err());
        }
    }

    #[test]
    fn string_map_must_be_an_object_of_strings() {
        assert!(StringMap::from_parameter(r#"{"ip":"172.168.1.234"}"#).is_ok());
        assert!(StringMap::from_parameter("{}").is_ok());
        let long = format!(r#"{{"k":"{}"}}"#, "x".repeat(1024));
        for bad in [
            r#"{"n":1}"#,
            r#"{"n":null}"#,
            r#"{"n":{"a":"b"}}"#,
            "[]",
            "\"x\"",
            "null",
            "",
            "{",
            &long,
            "{\"a\":\"\\u0000\"}",
        ] {
            assert!(StringMap::from_parameter(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn text_lengths_are_counted_in_characters_not_bytes() {
        for (length, is_text) in [(1, false), (2, true), (3, true), (4, false)] {
            let text = "ü".repeat(length);
            assert_eq!(Text::<2, 3>::from_parameter(&text).is_ok(), is_text, "{length}");
        }
        for (length, is_identity) in [(7, false), (8, true), (64, true), (65, false)] {
            let text = "a".repeat(length);
            let read = Identity::from_parameter(&text);
            assert_eq!(
                read.ok().map(|identity| identity.to_string()),
                is_identity.then_some(text),
                "{length}"
            );
        }
        for (value, is_map) in [(1018, true), (1019, false)] {
            // `{"k":""}` is 8 characters.
            let text = format!(r#"{{"k":"{}"}}"#, "ü".repeat(value - 2));
            assert_eq!(StringMap::from_parameter(&text).is_ok(), is_map, "{}", text.chars().count());
        }
    }

    #[test]
    fn string_map_with_nul_is_refused() {
        for bad in [r#"{"a\u0000":"b"}"#, r#"{"a":"b\u0000"}"#] {
            assert!(StringMap::from_parameter(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn debug_output_of_a_text_value_hides_the_text() {
        let name = FriendlyName::from_parameter("Ann").unwrap();
        assert_eq!((name.to_string().as_str(), name.as_str()), ("Ann", "Ann"));
        let identity = Identity::from_stored("user-0001".to_owned());
        assert_eq!(identity.as_str(), "user-0001");
        let map = StringMap::from_parameter(r#"{"secret":"value"}"#).unwrap();
        let debug = format!("{name:?} {identity:?} {map:?}");
        assert!(
            !debug.contains("Ann") && !debug.contains("user-0001") && !debug.contains("secret"),
            "{debug}"
        );
    }
}
