//! Reading JSON as strictly as the SDKs' parsers do, with the name of the field that does not fit.

use std::collections::BTreeMap;

use domain::{Parameter, Timestamp};
use serde_json::Value;

use crate::error::Error;
use crate::wire::Call;

/// What a shipped SDK could not have read.
#[derive(Debug, PartialEq)]
pub(crate) struct Flaw {
    pub(crate) field: String,
    pub(crate) expected: &'static str,
}

impl Flaw {
    pub(crate) fn new(field: impl Into<String>, expected: &'static str) -> Self {
        Self { field: field.into(), expected }
    }

    /// The error to report when this is found in the answer to `call`.
    pub(crate) fn in_answer_to(self, call: Call) -> Error {
        Error::Unreadable { call, field: self.field, expected: self.expected }
    }
}

/// A place in a body: a value, or nothing, and the way that led there.
#[derive(Clone)]
pub(crate) struct Node<'a> {
    value: Option<&'a Value>,
    path: String,
}

impl<'a> Node<'a> {
    /// The whole body.
    pub(crate) const fn root(value: &'a Value) -> Self {
        Self { value: Some(value), path: String::new() }
    }

    /// The member of that name, whether or not it is there.
    pub(crate) fn get(&self, key: &str) -> Self {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Self { value: self.value.and_then(|value| value.get(key)), path }
    }

    fn flaw(&self, expected: &'static str) -> Flaw {
        Flaw::new(if self.path.is_empty() { "body" } else { self.path.as_str() }, expected)
    }

    fn is_null_or_absent(&self) -> bool {
        self.value.is_none_or(Value::is_null)
    }

    /// Itself, if it is an object.
    pub(crate) fn object(self) -> Result<Self, Flaw> {
        if self.value.is_some_and(Value::is_object) { Ok(self) } else { Err(self.flaw("an object")) }
    }

    pub(crate) fn text(&self) -> Result<String, Flaw> {
        self.value.and_then(Value::as_str).map(str::to_owned).ok_or_else(|| self.flaw("a string"))
    }

    pub(crate) fn text_or_null(&self) -> Result<Option<String>, Flaw> {
        if self.is_null_or_absent() { Ok(None) } else { self.text().map(Some) }
    }

    pub(crate) fn integer(&self) -> Result<i64, Flaw> {
        self.value.and_then(Value::as_i64).ok_or_else(|| self.flaw("an integer"))
    }

    /// A date in the only form that both SDKs can read (docs/protocol/device.md, section 8).
    pub(crate) fn date(&self) -> Result<Timestamp, Flaw> {
        let text = self.value.and_then(Value::as_str);
        text.and_then(date).ok_or_else(|| self.flaw("a date such as 2026-01-01T00:00:00Z"))
    }

    /// A date, or nothing at all: null is more than Android can read.
    pub(crate) fn date_if_present(&self) -> Result<Option<Timestamp>, Flaw> {
        self.value.map(|_| self.date()).transpose()
    }

    /// The word that `known` understands.
    pub(crate) fn word<T>(
        &self,
        known: impl Fn(&str) -> Option<T>,
        expected: &'static str,
    ) -> Result<T, Flaw> {
        self.value.and_then(Value::as_str).and_then(known).ok_or_else(|| self.flaw(expected))
    }

    /// An object with nothing but strings, or null, or nothing.
    pub(crate) fn strings_or_null(&self) -> Result<Option<BTreeMap<String, String>>, Flaw> {
        if self.is_null_or_absent() {
            return Ok(None);
        }
        let members = self.value.and_then(Value::as_object).ok_or_else(|| self.flaw("an object or null"))?;
        members.keys().map(|key| Ok((key.clone(), self.get(key).text()?))).collect::<Result<_, _>>().map(Some)
    }

    pub(crate) fn items(&self) -> Result<Vec<Self>, Flaw> {
        let items = self.value.and_then(Value::as_array).ok_or_else(|| self.flaw("an array"))?;
        let item = |(index, value)| Self { value: Some(value), path: format!("{}[{index}]", self.path) };
        Ok(items.iter().enumerate().map(item).collect())
    }

    pub(crate) fn items_or_null(&self) -> Result<Vec<Self>, Flaw> {
        if self.is_null_or_absent() { Ok(Vec::new()) } else { self.items() }
    }
}

/// Reads `2026-01-01T00:00:00Z`: whole seconds and a literal `Z`, nothing else.
pub(crate) fn date(text: &str) -> Option<Timestamp> {
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
        fn dates_are_read_without_panic(text in ".{0,24}") {
            let _ = date(&text);
        }

        #[test]
        fn dates_that_the_server_prints_are_read(seconds in 0_i64..4_000_000_000) {
            let instant = Timestamp::from_seconds(seconds);
            prop_assert_eq!(date(&instant.to_string()), Some(instant));
        }
    }

    #[test]
    fn dates_have_one_form() {
        assert_eq!(date("2026-01-01T00:00:00Z"), Some(Timestamp::from_seconds(1_767_225_600)));
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
            assert_eq!(date(bad), None, "{bad}");
        }
    }
}
