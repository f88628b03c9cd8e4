//! JSON bodies of the routes of passkeys: members in both spellings, and the responses of browsers.

use crypto::passkeys::{AssertionResponse, RegistrationResponse};
use domain::{Code, FactorSid, FriendlyName, Parameter, Problem};
use serde_json::{Map, Value};

/// The JSON module of `countersign-web`, without the HTTP server of that crate.
#[path = "../../crates/web/src/json.rs"]
mod subject;

use subject::{JsonObject, Members};

/// Names of members in snake case and in camel case.
const NAMES: &[(&str, &str)] = &[
    ("friendly_name", "friendlyName"),
    ("identity", "identity"),
    ("factor_sid", "factorSid"),
    ("config", "config"),
    ("relying_party", "relyingParty"),
    ("id", "id"),
    ("origins", "origins"),
    ("authenticator_attachment", "authenticatorAttachment"),
];

/// Names of members of a credential and of its response in snake case and in camel case.
const CREDENTIAL_NAMES: &[(&str, &str)] = &[
    ("raw_id", "rawId"),
    ("authenticator_attachment", "authenticatorAttachment"),
    ("client_data_json", "clientDataJSON"),
    ("attestation_object", "attestationObject"),
    ("authenticator_data", "authenticatorData"),
    ("user_handle", "userHandle"),
];

/// The error code that the checks pass to the parser.
const CODE: Code = Code::InvalidDisplayName;

/// Interprets the input as a body.
pub fn check(data: &[u8]) {
    let parsed: Option<Map<String, Value>> = match data {
        [] => Some(Map::new()),
        data => serde_json::from_slice(data).ok(),
    };
    let object = match (JsonObject::parse(data, Code::InvalidAuthenticatorResponse), &parsed) {
        (Ok(object), Some(_)) => object,
        (Err(problem), None) => return assert_short_message(&problem, Code::InvalidAuthenticatorResponse),
        (object, parsed) => panic!("{object:?} instead of {parsed:?}"),
    };
    let Some(parsed) = parsed else { return };
    assert_eq!(object.value().as_object(), Some(&parsed));
    assert_agreement(object.members(), &parsed);
    for (name, path) in [("config", "config."), ("relying_party", "config.relying_party.")] {
        match (object.members().object(name, path, CODE), member(&parsed, name)) {
            (Ok(None), None) => {}
            (Ok(Some(inner)), Some(Value::Object(value))) => assert_agreement(inner, value),
            (Err(problem), Some(value)) if !value.is_object() => assert_short_message(&problem, CODE),
            (inner, value) => panic!("{name}: {inner:?} instead of {value:?}"),
        }
    }
    credential(object.value());
}

/// Returns the member with this name in snake case, or in camel case if the first is absent or null.
fn member<'a>(object: &'a Map<String, Value>, snake: &str) -> Option<&'a Value> {
    let (_, camel) = NAMES.iter().find(|(name, _)| *name == snake)?;
    [snake, camel].into_iter().filter_map(|name| object.get(name)).find(|value| !value.is_null())
}

/// Checks that every accessor of `members` returns what the member of `object` holds.
fn assert_agreement(members: Members<'_>, object: &Map<String, Value>) {
    for (name, _) in NAMES {
        let expected = member(object, name);
        text::<String>(members, name, expected);
        text::<FriendlyName>(members, name, expected);
        text::<FactorSid>(members, name, expected);
        match (members.texts::<String>(name, CODE), expected) {
            (Ok(None), None) => {}
            (Ok(Some(texts)), Some(Value::Array(values))) => assert_eq!(texts, *values),
            (Err(problem), Some(value)) => {
                let is_list = value.as_array().is_some_and(|values| values.iter().all(Value::is_string));
                assert!(!is_list, "{value}");
                assert_short_message(&problem, CODE);
            }
            (texts, value) => panic!("{name}: {texts:?} instead of {value:?}"),
        }
    }
}

/// Checks the accessors for a member that is parsed from a string.
fn text<T: Parameter>(members: Members<'_>, name: &str, expected: Option<&Value>) {
    let (optional, required) = (members.optional::<T>(name, CODE), members.required::<T>(name, CODE));
    assert_eq!(required.is_ok(), matches!(optional, Ok(Some(_))));
    for problem in [optional.as_ref().err(), required.as_ref().err()].into_iter().flatten() {
        assert_short_message(problem, CODE);
    }
    match expected {
        None => assert!(matches!(optional, Ok(None))),
        Some(Value::String(text)) if T::is_absent(text) => assert!(matches!(optional, Ok(None))),
        Some(Value::String(text)) => assert_eq!(optional.is_ok(), T::from_parameter(text).is_ok()),
        Some(_) => assert!(optional.is_err()),
    }
}

/// Checks that the spelling of the members of a credential does not matter, and neither do null and unknown members.
fn credential(body: &Value) {
    let results = |body: &Value| {
        (format!("{:?}", RegistrationResponse::parse(body)), format!("{:?}", AssertionResponse::parse(body)))
    };
    let expected = results(body);
    let mut other = body.clone();
    rewrite(&mut other);
    if let Some(response) = other.get_mut("response") {
        rewrite(response);
    }
    assert_eq!(results(&other), expected, "{other}");
}

/// Removes null from an object, adds an unknown member, and writes names in camel case in snake case. A name that the
/// object has in both spellings stays, because parsers need not agree about which one counts.
fn rewrite(value: &mut Value) {
    let Some(object) = value.as_object_mut() else { return };
    object.retain(|_, value| !value.is_null());
    object.insert("later".to_owned(), Value::Bool(true));
    for (snake, camel) in CREDENTIAL_NAMES {
        if !object.contains_key(*snake)
            && let Some(value) = object.remove(*camel)
        {
            object.insert((*snake).to_owned(), value);
        }
    }
}

/// Checks that the message of a problem is short and printable, whatever the body contains.
fn assert_short_message(problem: &Problem, code: Code) {
    assert_eq!(problem.code(), code);
    let message = problem.message();
    assert!(message.starts_with(code.title()) && message.chars().count() < 250, "{message}");
    assert!(!message.contains(char::is_control), "{message}");
}
