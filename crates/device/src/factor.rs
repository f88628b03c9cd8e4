//! Factors, as an SDK parses them from a response (docs/protocol/device.md, section 8).

use domain::Timestamp;
use domain::factors::Status;
use serde_json::Value;

use crate::json::{Node, UnreadableField};

/// The fields of a factor response that a phone stores.
#[derive(Debug)]
pub(crate) struct FactorResponse {
    pub(crate) sid: String,
    pub(crate) account_sid: String,
    pub(crate) credential_sid: String,
    pub(crate) friendly_name: String,
    pub(crate) status: Status,
    pub(crate) created_at: Timestamp,
}

/// Returns the factor status with the name `word`, or `None` if there is no such status.
pub(crate) fn parse_status(word: &str) -> Option<Status> {
    [Status::Unverified, Status::Verified].into_iter().find(|status| status.as_str() == word)
}

impl FactorResponse {
    /// Parses the response body that describes a factor. Returns an error if a published SDK could not parse
    /// it.
    pub(crate) fn parse(body: &Value) -> Result<Self, UnreadableField> {
        let body = Node::root(body).object()?;
        let config = body.member("config").object()?;
        config.member("notification_platform").text_or_null()?;
        body.member("metadata").strings_or_null()?;
        Ok(Self {
            sid: body.member("sid").text()?,
            account_sid: body.member("account_sid").text()?,
            credential_sid: config.member("credential_sid").text()?,
            friendly_name: body.member("friendly_name").text()?,
            status: body.member("status").parsed(parse_status, "verified or unverified")?,
            created_at: body.member("date_created").date()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn body() -> Value {
        json!({
            "sid": "YF03333333333333333333333333333333",
            "account_sid": "AC11111111111111111111111111111111",
            "friendly_name": "My phone",
            "status": "unverified",
            "date_created": "2026-01-01T00:00:00Z",
            "config": { "credential_sid": "CR55555555555555555555555555555555", "notification_platform": "none" },
            "metadata": { "os": "Android" },
        })
    }

    fn unreadable_field(change: impl FnOnce(&mut Value)) -> String {
        let mut body = body();
        change(&mut body);
        FactorResponse::parse(&body).unwrap_err().field
    }

    #[test]
    fn factor_is_parsed() {
        let factor = FactorResponse::parse(&body()).unwrap();
        assert_eq!(factor.credential_sid, "CR55555555555555555555555555555555");
        assert_eq!(factor.status, Status::Unverified);
        assert_eq!(factor.created_at.to_string(), "2026-01-01T00:00:00Z");
    }

    #[test]
    fn factor_without_metadata_and_platform_is_parsed() {
        let mut bare = body();
        bare["metadata"] = Value::Null;
        bare["config"].as_object_mut().unwrap().remove("notification_platform");
        assert!(FactorResponse::parse(&bare).is_ok());
        bare.as_object_mut().unwrap().remove("metadata");
        assert!(FactorResponse::parse(&bare).is_ok());
    }

    #[test]
    fn error_names_a_missing_or_invalid_factor_field() {
        for field in ["sid", "account_sid", "friendly_name", "status", "date_created", "config"] {
            assert_eq!(unreadable_field(|body| body[field] = Value::Null), field);
            assert_eq!(unreadable_field(|body| body[field] = json!(1)), field);
            assert_eq!(unreadable_field(|body| drop(body.as_object_mut().unwrap().remove(field))), field);
        }
        assert_eq!(
            unreadable_field(|body| body["config"]["credential_sid"] = Value::Null),
            "config.credential_sid"
        );
        assert_eq!(
            unreadable_field(|body| body["config"]["notification_platform"] = json!(1)),
            "config.notification_platform"
        );
        assert_eq!(unreadable_field(|body| body["metadata"]["os"] = json!(7)), "metadata.os");
        assert_eq!(unreadable_field(|body| body["metadata"] = json!([])), "metadata");
        assert_eq!(unreadable_field(|body| body["status"] = json!("Verified")), "status");
        assert_eq!(
            unreadable_field(|body| body["date_created"] = json!("2026-01-01T00:00:00.000Z")),
            "date_created"
        );
        assert_eq!(unreadable_field(|body| *body = json!([])), "body");
    }
}
