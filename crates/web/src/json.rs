//! Parses JSON bodies.
//!
//! Twilio's libraries spell the same member differently: twilio-python sends snake case, the typed classes of
//! twilio-node send camel case. Both spellings are accepted. Null and an empty string count as absent, and unknown
//! members are ignored.

use domain::parameter::Parameter;
use domain::{Code, Problem};
use serde_json::Value;

/// A JSON object that is the body of a request.
#[derive(Debug)]
pub struct JsonObject(Value);

impl JsonObject {
    /// Parses a body. An empty one counts as an empty object.
    ///
    /// # Errors
    /// Returns the error `code` if the body is not a JSON object.
    pub fn parse(body: &[u8], code: Code) -> Result<Self, Problem> {
        if body.is_empty() {
            return Ok(Self(Value::Object(serde_json::Map::new())));
        }
        let value: Option<Value> = serde_json::from_slice(body).ok();
        let value = value.filter(Value::is_object);
        let refusal = || Problem::with_advice(code, "the body must be a JSON object");
        value.map(Self).ok_or_else(refusal)
    }

    /// Returns the object.
    pub const fn value(&self) -> &Value {
        &self.0
    }

    /// Returns the members of the object.
    pub const fn members(&self) -> Members<'_> {
        Members { path: "", value: &self.0 }
    }
}

/// The members of a JSON object.
#[derive(Clone, Copy, Debug)]
pub struct Members<'v> {
    /// Path of the object with a dot at its end, or an empty string for the body itself.
    path: &'static str,
    value: &'v Value,
}

impl<'v> Members<'v> {
    /// Returns the member with this name in snake case, or with the same name in camel case.
    fn get(&self, name: &str) -> Option<&'v Value> {
        let member = |name: &str| self.value.get(name).filter(|value| !value.is_null());
        member(name).or_else(|| member(&camel_case(name)))
    }

    /// Returns a member that is parsed from a string, or `None` if it is absent or empty.
    ///
    /// # Errors
    /// Returns the error `code` if the member is not a string or cannot be parsed.
    pub fn optional<T: Parameter>(&self, name: &str, code: Code) -> Result<Option<T>, Problem> {
        let invalid = |expected: &dyn std::fmt::Display| {
            Problem::with_advice(code, format_args!("{}{name} {expected}", self.path))
        };
        let Some(value) = self.get(name) else { return Ok(None) };
        let text = value.as_str().ok_or_else(|| invalid(&"must be a string"))?;
        if T::is_absent(text) {
            return Ok(None);
        }
        T::from_parameter(text).map(Some).map_err(|expected| invalid(&expected))
    }

    /// Returns a member that is parsed from a string and must not be absent.
    ///
    /// # Errors
    /// Returns the error `code` if the member is absent or empty, is not a string, or cannot be parsed.
    pub fn required<T: Parameter>(&self, name: &str, code: Code) -> Result<T, Problem> {
        let missing = || Problem::with_advice(code, format_args!("{}{name} is required", self.path));
        self.optional(name, code)?.ok_or_else(missing)
    }

    /// Returns a member that is an array of strings, or `None` if it is absent.
    ///
    /// # Errors
    /// Returns the error `code` if the member is not an array of strings, or one of them cannot be parsed.
    pub fn texts<T: Parameter>(&self, name: &str, code: Code) -> Result<Option<Vec<T>>, Problem> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let parsed = |text: &Value| T::from_parameter(text.as_str()?).ok();
        let texts = value.as_array().and_then(|texts| texts.iter().map(parsed).collect());
        let invalid =
            || Problem::with_advice(code, format_args!("{}{name} must be an array of strings", self.path));
        texts.map(Some).ok_or_else(invalid)
    }

    /// Returns the members of a member that is an object, or `None` if it is absent. `path` is its path with a dot at
    /// the end, for messages.
    ///
    /// # Errors
    /// Returns the error `code` if the member is not an object.
    pub fn object(&self, name: &str, path: &'static str, code: Code) -> Result<Option<Self>, Problem> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let invalid = || Problem::with_advice(code, format_args!("{}{name} must be an object", self.path));
        value.is_object().then_some(Some(Self { path, value })).ok_or_else(invalid)
    }
}

/// Converts a name from snake case to camel case.
fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| {
        let mut letters = word.chars();
        let initial = letters.next().map(|letter| letter.to_ascii_uppercase());
        name + &initial.into_iter().chain(letters).collect::<String>()
    })
}

#[cfg(test)]
mod tests {
    use domain::FriendlyName;
    use proptest::prelude::*;

    use super::*;

    const CODE: Code = Code::InvalidDisplayName;

    fn name(json: &str) -> Result<Option<String>, Problem> {
        let object = JsonObject::parse(json.as_bytes(), CODE)?;
        let name = object.members().optional::<FriendlyName>("friendly_name", CODE)?;
        Ok(name.map(|name| name.to_string()))
    }

    #[test]
    fn member_is_found_in_snake_case_and_camel_case() {
        for json in [
            r#"{"friendly_name":"A"}"#,
            r#"{"friendlyName":"A"}"#,
            r#"{"friendly_name":null,"friendlyName":"A"}"#,
            r#"{"friendly_name":"A","friendlyName":"B","more":[]}"#,
        ] {
            assert_eq!(name(json), Ok(Some("A".to_owned())), "{json}");
        }
        assert_eq!(camel_case("relying_party"), "relyingParty");
        assert_eq!(camel_case("id"), "id");
    }

    #[test]
    fn null_and_empty_strings_count_as_absent() {
        for json in ["", "{}", r#"{"friendly_name":null}"#, r#"{"friendlyName":""}"#] {
            assert_eq!(name(json), Ok(None), "{json}");
        }
        let object = JsonObject::parse(b"", CODE).unwrap();
        let missing = object.members().required::<FriendlyName>("friendly_name", CODE).unwrap_err();
        assert_eq!(missing.message(), "Display name invalid or not provided: friendly_name is required");
    }

    #[test]
    fn error_for_a_wrong_member_has_its_code_and_path() {
        let object = JsonObject::parse(br#"{"a":{"b":7,"c":["x",1]},"d":"text"}"#, CODE).unwrap();
        let inner = object.members().object("a", "a.", CODE).unwrap().unwrap();
        let message = inner.optional::<String>("b", CODE).unwrap_err().message().to_owned();
        assert!(message.ends_with(": a.b must be a string"), "{message}");
        assert_eq!(inner.texts::<String>("c", CODE).unwrap_err().code(), CODE);
        assert_eq!(inner.texts::<String>("b", CODE).unwrap_err().code(), CODE);
        assert_eq!(object.members().object("d", "d.", CODE).unwrap_err().code(), CODE);
    }

    #[test]
    fn body_that_is_not_a_json_object_is_refused() {
        for json in ["[]", "null", "7", "{", "{}}", "\u{0}", r#"{"a":"\ud800"}"#] {
            assert_eq!(name(json).unwrap_err().code(), CODE, "{json}");
        }
        let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(5000), "]".repeat(5000));
        assert!(JsonObject::parse(deep.as_bytes(), CODE).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused_without_a_panic(bytes: Vec<u8>) {
            let _ = JsonObject::parse(&bytes, CODE);
        }
    }
}
