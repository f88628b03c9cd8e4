//! The details of a challenge, which are shown to the user.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::parameter::{Expected, Parameter};
use crate::time::Timestamp;

/// The part of a challenge that the app displays to the user.
#[derive(Clone, PartialEq, Eq)]
pub struct Details {
    /// Question to the user.
    pub message: Message,
    /// Labeled facts that are displayed below the question, at most [`Details::MAX_FIELDS`].
    pub fields: Vec<Field>,
    /// Creation time of the challenge; `None` unless the service includes it (`Push.IncludeDate`).
    pub date: Option<Timestamp>,
}

impl Details {
    /// Maximum number of fields in the details of a challenge.
    pub const MAX_FIELDS: usize = 20;

    /// Returns the details as JSON, in the form of the API. An absent `date` is omitted, because the Android SDK cannot
    /// parse null.
    pub fn to_json(&self) -> Value {
        let mut details = json!({ "message": self.message.as_str(), "fields": self.fields });
        if let (Some(date), Some(object)) = (self.date, details.as_object_mut()) {
            object.insert("date".into(), date.to_string().into());
        }
        details
    }
}

impl fmt::Debug for Details {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Details(…)")
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Message(…)")
    }
}

/// The question of a challenge: 1 to 256 characters, which may include line breaks.
#[derive(Clone, PartialEq, Eq)]
pub struct Message(String);

impl Message {
    /// Returns the text of the question.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Wraps a question from the database without validation. The question was validated before it was stored.
    pub const fn from_stored(text: String) -> Self {
        Self(text)
    }
}

impl Parameter for Message {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        if (1..=256).contains(&text.chars().count()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Expected::new("must have 1 to 256 characters"))
        }
    }
}

impl fmt::Debug for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Field(…)")
    }
}

/// A labeled fact below the question of a challenge. Each fact is sent as JSON text in a separate parameter.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    label: String,
    value: String,
}

impl Field {
    /// Returns the label of the fact.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Returns the fact.
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl Parameter for Field {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        let expected = "must be a JSON object such as {\"label\":\"…\",\"value\":\"…\"}, \
                        with a label of 1 to 36 characters and a value of at most 128 characters";
        // Parse the text as a JSON object first: serde would also accept an array of the members' values in order.
        let members = serde_json::from_str::<Map<String, Value>>(text);
        let field = members.and_then(|members| serde_json::from_value::<Self>(members.into()));
        let field = field.map_err(|_| Expected::new(expected))?;
        let label = field.label.chars().count();
        if label == 0 || label > 36 || field.value.chars().count() > 128 {
            return Err(Expected::new(expected));
        }
        // PostgreSQL cannot store NUL characters.
        if field.label.contains('\0') || field.value.contains('\0') {
            return Err(Expected::new("must not contain NUL characters"));
        }
        Ok(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

    #[test]
    fn challenge_details_omit_an_absent_date() {
        let mut details = Details {
            message: Message::from_stored("Sign in?".into()),
            fields: vec![Field::from_parameter(r#"{"label":"IP","value":"203.0.113.9"}"#).unwrap()],
            date: None,
        };
        assert!(details.to_json().get("date").is_none());
        details.date = Some(NOW);
        assert_eq!(details.to_json()["date"], "2026-01-01T00:00:00Z");
        details.fields.clear();
        assert_eq!(details.to_json()["fields"], json!([]));
    }

    #[test]
    fn detail_field_must_be_an_object_with_a_label_and_value_within_limits() {
        for bad in [
            "",
            "{}",
            r#"{"label":"x"}"#,
            r#"{"label":1,"value":"x"}"#,
            r#"{"label":"","value":"x"}"#,
            r#"["x","y"]"#,
        ] {
            assert!(Field::from_parameter(bad).is_err(), "{bad}");
        }
        let field = |label: usize, value: usize| {
            Field::from_parameter(
                &json!({"label": "l".repeat(label), "value": "v".repeat(value)}).to_string(),
            )
        };
        assert!(field(36, 128).is_ok());
        assert!(field(37, 128).is_err());
        assert!(field(36, 129).is_err());
    }

    #[test]
    fn challenge_message_must_have_1_to_256_characters() {
        for (length, is_message) in [(0, false), (1, true), (256, true), (257, false)] {
            assert_eq!(Message::from_parameter(&"ü".repeat(length)).is_ok(), is_message, "{length}");
        }
        assert_eq!(Message::from_parameter("a\nb").unwrap().as_str(), "a\nb");
    }

    #[test]
    fn detail_field_that_contains_a_nul_character_is_refused() {
        for bad in [r#"{"label":"a\u0000","value":"b"}"#, r#"{"label":"a","value":"b\u0000"}"#] {
            assert!(Field::from_parameter(bad).is_err(), "{bad}");
        }
        let shortest = Field::from_parameter(r#"{"label":"l","value":""}"#).unwrap();
        assert_eq!(serde_json::to_string(&shortest).unwrap(), r#"{"label":"l","value":""}"#);
    }
}
