//! Parses JSON from the server as strictly as the Android and iOS SDKs do: what one of them rejects is an error that
//! names the missing or invalid field.

use std::collections::BTreeMap;

use domain::{Parameter, Timestamp};
use serde_json::Value;

/// A field of a response body that a published SDK could not parse.
#[derive(Debug, PartialEq)]
pub(crate) struct UnreadableField {
    /// Path of the field, such as `details.fields[0].label`, or `body` for the whole body.
    pub(crate) field: String,
    /// Description of what the SDKs require at this path.
    pub(crate) expected: &'static str,
}

impl UnreadableField {
    pub(crate) fn new(field: impl Into<String>, expected: &'static str) -> Self {
        Self { field: field.into(), expected }
    }
}

/// A position in a response body: its path, and the value at that path, if any.
#[derive(Clone)]
pub(crate) struct Node<'a> {
    value: Option<&'a Value>,
    path: String,
}

impl<'a> Node<'a> {
    /// Returns the node for the whole body.
    pub(crate) const fn root(value: &'a Value) -> Self {
        Self { value: Some(value), path: String::new() }
    }

    /// Returns the node for the member `key` of this object. The member may be absent.
    pub(crate) fn member(&self, key: &str) -> Self {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Self { value: self.value.and_then(|value| value.get(key)), path }
    }

    fn unreadable(&self, expected: &'static str) -> UnreadableField {
        UnreadableField::new(if self.path.is_empty() { "body" } else { self.path.as_str() }, expected)
    }

    fn is_null_or_absent(&self) -> bool {
        self.value.is_none_or(Value::is_null)
    }

    /// Returns this node if its value is an object.
    pub(crate) fn object(self) -> Result<Self, UnreadableField> {
        if self.value.is_some_and(Value::is_object) { Ok(self) } else { Err(self.unreadable("an object")) }
    }

    /// Returns the value, which must be a string.
    pub(crate) fn text(&self) -> Result<String, UnreadableField> {
        self.value.and_then(Value::as_str).map(str::to_owned).ok_or_else(|| self.unreadable("a string"))
    }

    /// Returns the value, which must be a string. Returns `None` if the value is null or absent.
    pub(crate) fn text_or_null(&self) -> Result<Option<String>, UnreadableField> {
        if self.is_null_or_absent() { Ok(None) } else { self.text().map(Some) }
    }

    /// Returns the value, which must be an integer.
    pub(crate) fn integer(&self) -> Result<i64, UnreadableField> {
        self.value.and_then(Value::as_i64).ok_or_else(|| self.unreadable("an integer"))
    }

    /// Returns the value, which must be a date in the only format that both SDKs can parse
    /// (docs/protocol/device.md, section 8).
    pub(crate) fn date(&self) -> Result<Timestamp, UnreadableField> {
        let text = self.value.and_then(Value::as_str);
        text.and_then(parse_date).ok_or_else(|| self.unreadable("a date such as 2026-01-01T00:00:00Z"))
    }

    /// Returns the value, which must be a date, or `None` if it is absent. Null is an error, because the
    /// Android SDK cannot parse it.
    pub(crate) fn date_if_present(&self) -> Result<Option<Timestamp>, UnreadableField> {
        self.value.map(|_| self.date()).transpose()
    }

    /// Returns the value, which must be a string, converted by `parse`. If `parse` returns `None`, the error
    /// says that the value must be `expected`.
    pub(crate) fn parsed<T>(
        &self,
        parse: impl Fn(&str) -> Option<T>,
        expected: &'static str,
    ) -> Result<T, UnreadableField> {
        self.value.and_then(Value::as_str).and_then(parse).ok_or_else(|| self.unreadable(expected))
    }

    /// Returns the members of the value, which must be an object of strings. Returns `None` if the value is
    /// null or absent.
    pub(crate) fn strings_or_null(&self) -> Result<Option<BTreeMap<String, String>>, UnreadableField> {
        if self.is_null_or_absent() {
            return Ok(None);
        }
        let members =
            self.value.and_then(Value::as_object).ok_or_else(|| self.unreadable("an object or null"))?;
        members
            .keys()
            .map(|key| Ok((key.clone(), self.member(key).text()?)))
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// Returns a node for each item of the value, which must be an array.
    pub(crate) fn items(&self) -> Result<Vec<Self>, UnreadableField> {
        let items = self.value.and_then(Value::as_array).ok_or_else(|| self.unreadable("an array"))?;
        let item = |(index, value)| Self { value: Some(value), path: format!("{}[{index}]", self.path) };
        Ok(items.iter().enumerate().map(item).collect())
    }

    /// Returns a node for each item of the value, which must be an array. Returns no items if the value is
    /// null or absent.
    pub(crate) fn items_or_null(&self) -> Result<Vec<Self>, UnreadableField> {
        if self.is_null_or_absent() { Ok(Vec::new()) } else { self.items() }
    }
}

/// Parses a date such as `2026-01-01T00:00:00Z`: whole seconds and a literal `Z`. Returns `None` for any
/// other format.
pub(crate) fn parse_date(text: &str) -> Option<Timestamp> {
    let shape = "0000-00-00T00:00:00Z";
    let fits = |(byte, place): (u8, u8)| if place == b'0' { byte.is_ascii_digit() } else { byte == place };
    let shaped = text.len() == shape.len() && text.bytes().zip(shape.bytes()).all(fits);
    shaped.then(|| Timestamp::from_parameter(text).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parsing_any_text_as_a_date_does_not_panic(text in ".{0,24}") {
            let _ = parse_date(&text);
        }

        #[test]
        fn dates_in_the_server_format_are_parsed(seconds in 0_i64..4_000_000_000) {
            let instant = Timestamp::from_seconds(seconds);
            prop_assert_eq!(parse_date(&instant.to_string()), Some(instant));
        }
    }

    #[test]
    fn dates_in_other_formats_are_rejected() {
        assert_eq!(parse_date("2026-01-01T00:00:00Z"), Some(Timestamp::from_seconds(1_767_225_600)));
        for bad in [
            "",
            "2026-01-01T00:00:00.000Z",
            "2026-01-01T00:00:00+00:00",
            "2026-01-01T00:00:00-00:00",
            "2026-01-01 00:00:00Z",
            "2026-01-01t00:00:00z",
            "2026-13-01T00:00:00Z",
            "2026-02-30T00:00:00Z",
            "2026-01-01T25:00:00Z",
            "+026-01-01T00:00:00Z",
            "Thu, 01 Jan 2026 00:00:00 +0000",
        ] {
            assert_eq!(parse_date(bad), None, "{bad}");
        }
    }
}
