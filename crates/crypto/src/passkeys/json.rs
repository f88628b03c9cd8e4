//! Members of the JSON that clients send.
//!
//! Twilio's libraries differ: some send the camel case of browsers, others snake case, and some send null for an absent
//! member. Both spellings are accepted, and null counts as absent.

use domain::services::Attachment;
use serde_json::{Map, Value};

use super::Rejection;
use super::credential_id::{StatedId, parse_ids};

/// Returns the member of `object` with the first of these names that is present and not null.
fn member<'a>(object: &'a Map<String, Value>, names: &[&str]) -> Option<&'a Value> {
    names.iter().find_map(|name| object.get(*name).filter(|value| !value.is_null()))
}

/// Returns the string with one of these names. Returns `None` if it is absent, or the rejection if it is not a string.
pub(super) fn text<'a>(
    object: &'a Map<String, Value>,
    names: &[&str],
    rejection: Rejection,
) -> Result<Option<&'a str>, Rejection> {
    member(object, names).map(|value| value.as_str().ok_or(rejection)).transpose()
}

/// Returns the string with one of these names. Returns [`Rejection::Response`] if it is absent or not a string.
pub(super) fn required_text<'a>(
    object: &'a Map<String, Value>,
    names: &[&str],
) -> Result<&'a str, Rejection> {
    text(object, names, Rejection::Response)?.ok_or(Rejection::Response)
}

/// The members of a credential that registrations and assertions have in common.
pub(super) struct Credential<'a> {
    /// The ID in `id` and `rawId`; `None` if both are absent.
    pub id: Option<StatedId>,
    /// The members of `response`.
    pub response: &'a Map<String, Value>,
}

impl<'a> Credential<'a> {
    /// Parses a credential and checks its type, ID and attachment.
    pub(super) fn parse(credential: &'a Value) -> Result<Self, Rejection> {
        let credential = credential.as_object().ok_or(Rejection::Response)?;
        let response = member(credential, &["response"]).and_then(Value::as_object);
        let response = response.ok_or(Rejection::Response)?;
        if text(credential, &["type"], Rejection::Type)?.is_some_and(|kind| kind != "public-key") {
            return Err(Rejection::Type);
        }
        let id = text(credential, &["id"], Rejection::Id)?;
        let raw_id = text(credential, &["rawId", "raw_id"], Rejection::RawId)?;
        let id = parse_ids(id, raw_id)?;
        let names = ["authenticatorAttachment", "authenticator_attachment"];
        let attachment = text(credential, &names, Rejection::Attachment)?;
        let is_known =
            |name| matches!(parse_attachment(name), Some(Attachment::Platform | Attachment::CrossPlatform));
        if !attachment.is_none_or(is_known) {
            return Err(Rejection::Attachment);
        }
        Ok(Self { id, response })
    }
}

fn parse_attachment(name: &str) -> Option<Attachment> {
    domain::Parameter::from_parameter(name).ok()
}
