//! Parses the responses to a phone's requests as strictly as the SDKs do (docs/protocol/device.md, sections 7 and 8).
//! This module does no I/O: [`wire`](crate::wire) builds the requests, and any HTTP client can send them.

use crypto::SigningKey;
use serde_json::Value;

use crate::challenge::{Challenge, ChallengeList, SIGNATURE_FIELDS_HEADER};
use crate::enrollment::{Enrollment, NewFactor};
use crate::error::Error;
use crate::exchange::Response;
use crate::factor::FactorResponse;
use crate::json::{Node, UnreadableField};
use crate::style::Style;
use crate::wire::Operation;

/// Returns what a phone stores after [`wire::create_factor`](crate::wire::create_factor): the enrollment with the
/// factor in `response`. `key` is the key whose public part was sent, to the server at `base_url`.
///
/// # Errors
/// Returns [`Error::Api`] if the server refused the request, or [`Error::Unreadable`] if a published SDK could not
/// parse the response.
pub fn parse_enrollment(
    style: Style,
    base_url: &str,
    new: &NewFactor,
    key: SigningKey,
    response: &Response,
) -> Result<Enrollment, Error> {
    let factor = parse_factor(Operation::CreateFactor, response)?;
    Ok(Enrollment {
        style,
        base_url: base_url.to_owned(),
        account_sid: factor.account_sid,
        service_sid: new.service_sid.clone(),
        identity: new.identity.clone(),
        factor_sid: factor.sid,
        credential_sid: factor.credential_sid,
        friendly_name: factor.friendly_name,
        app_id: new.app_id.clone(),
        created_at: factor.created_at,
        status: factor.status,
        key,
    })
}

/// Updates `enrollment` with the name and status of the factor in the response to `operation`, which verified or
/// updated the factor.
///
/// # Errors
/// Returns [`Error::Api`] if the server refused the request, or [`Error::Unreadable`] if a published SDK could not
/// parse the response.
pub fn update_enrollment(
    operation: Operation,
    enrollment: &mut Enrollment,
    response: &Response,
) -> Result<(), Error> {
    let factor = parse_factor(operation, response)?;
    enrollment.friendly_name = factor.friendly_name;
    enrollment.status = factor.status;
    Ok(())
}

/// Returns the challenge in the response to [`wire::get_challenge`](crate::wire::get_challenge).
///
/// # Errors
/// Returns [`Error::Api`] if the server refused the request, or [`Error::Unreadable`] if a published SDK could not
/// parse the response.
pub fn parse_challenge(enrollment: &Enrollment, response: &Response) -> Result<Challenge, Error> {
    let operation = Operation::GetChallenge;
    let body = parse_success(operation, response)?;
    let name = SIGNATURE_FIELDS_HEADER.to_ascii_lowercase();
    let fields: Vec<&str> = response.header(&name).collect();
    Challenge::parse(&body, &fields, &enrollment.factor_sid)
        .map_err(|part| Error::unreadable(operation, part))
}

/// Returns the page in the response to [`wire::list_challenges`](crate::wire::list_challenges).
///
/// # Errors
/// Returns [`Error::Api`] if the server refused the request, or [`Error::Unreadable`] if a published SDK could not
/// parse the response.
pub fn parse_challenge_list(enrollment: &Enrollment, response: &Response) -> Result<ChallengeList, Error> {
    let operation = Operation::ListChallenges;
    let body = parse_success(operation, response)?;
    ChallengeList::parse(&body, &enrollment.factor_sid).map_err(|part| Error::unreadable(operation, part))
}

/// Returns `Ok` if the response is a success (status below 300), otherwise the error that the server sent.
///
/// # Errors
/// Returns [`Error::Api`] if the server refused the request, or [`Error::Unreadable`] if a published SDK could not
/// parse the refusal.
pub fn require_success(operation: Operation, response: &Response) -> Result<(), Error> {
    if response.status < 300 {
        return Ok(());
    }
    Err(parse_error(response).unwrap_or_else(|part| Error::unreadable(operation, part)))
}

fn parse_factor(operation: Operation, response: &Response) -> Result<FactorResponse, Error> {
    let body = parse_success(operation, response)?;
    FactorResponse::parse(&body).map_err(|part| Error::unreadable(operation, part))
}

/// Returns the JSON body of a successful response, or the error that the server sent.
fn parse_success(operation: Operation, response: &Response) -> Result<Value, Error> {
    require_success(operation, response)?;
    parse_json(response).map_err(|part| Error::unreadable(operation, part))
}

/// Parses the body of an error response (docs/protocol/device.md, section 7). The code must be a number,
/// because the iOS SDK requires one.
fn parse_error(response: &Response) -> Result<Error, UnreadableField> {
    let body = parse_json(response)?;
    let body = Node::root(&body).object()?;
    body.member("more_info").text_or_null()?;
    Ok(Error::Api {
        status: response.status,
        code: body.member("code").integer()?,
        message: body.member("message").text()?,
    })
}

fn parse_json(response: &Response) -> Result<Value, UnreadableField> {
    serde_json::from_str(&response.body).map_err(|_| UnreadableField::new("body", "JSON"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, body: &str) -> Response {
        Response { status, headers: Vec::new(), body: body.to_owned() }
    }

    fn unreadable_field(status: u16, body: &str) -> String {
        match require_success(Operation::GetChallenge, &response(status, body)).unwrap_err() {
            Error::Unreadable { operation: Operation::GetChallenge, field, .. } => field,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn status_below_300_is_a_success() {
        for status in [200, 201, 204] {
            assert!(require_success(Operation::DeleteFactor, &response(status, "")).is_ok());
        }
    }

    #[test]
    fn code_and_message_of_an_error_body_are_parsed() {
        let body = r#"{"code":20003,"message":"Authenticate","more_info":"https://x","status":401}"#;
        match require_success(Operation::GetChallenge, &response(401, body)).unwrap_err() {
            Error::Api { status, code, message } => {
                assert_eq!((status, code, message.as_str()), (401, 20003, "Authenticate"));
            }
            other => panic!("{other}"),
        }
    }

    #[test]
    fn error_for_an_invalid_error_body_names_the_invalid_field() {
        assert_eq!(unreadable_field(500, ""), "body");
        assert_eq!(unreadable_field(302, "<html>"), "body");
        assert_eq!(unreadable_field(400, "[]"), "body");
        assert_eq!(unreadable_field(400, r#"{"code":"20001","message":"x"}"#), "code");
        assert_eq!(unreadable_field(400, r#"{"message":"x"}"#), "code");
        assert_eq!(unreadable_field(400, r#"{"code":20001,"message":null}"#), "message");
        assert_eq!(unreadable_field(400, r#"{"code":20001,"message":"x","more_info":1}"#), "more_info");
    }

    #[test]
    fn successful_response_must_be_json() {
        assert!(parse_success(Operation::GetChallenge, &response(200, "{}")).is_ok());
        assert!(parse_success(Operation::GetChallenge, &response(200, "")).is_err());
    }
}
