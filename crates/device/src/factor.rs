//! The factor, as an SDK reads it out of an answer (docs/protocol/device.md, section 8).

use domain::Timestamp;
use domain::factors::Status;
use serde_json::Value;

use crate::reading::{Flaw, Node};

/// What a device keeps of a factor.
#[derive(Debug)]
pub(crate) struct ShownFactor {
    pub(crate) sid: String,
    pub(crate) account_sid: String,
    pub(crate) credential_sid: String,
    pub(crate) friendly_name: String,
    pub(crate) status: Status,
    pub(crate) created_at: Timestamp,
}

/// The status that goes by this word.
pub(crate) fn status(word: &str) -> Option<Status> {
    [Status::Unverified, Status::Verified].into_iter().find(|status| status.as_str() == word)
}

impl ShownFactor {
    pub(crate) fn read(body: &Value) -> Result<Self, Flaw> {
        let body = Node::root(body).object()?;
        let config = body.get("config").object()?;
        config.get("notification_platform").text_or_null()?;
        body.get("metadata").strings_or_null()?;
        Ok(Self {
            sid: body.get("sid").text()?,
            account_sid: body.get("account_sid").text()?,
            credential_sid: config.get("credential_sid").text()?,
            friendly_name: body.get("friendly_name").text()?,
            status: body.get("status").word(status, "verified or unverified")?,
            created_at: body.get("date_created").date()?,
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

    fn flawed(change: impl FnOnce(&mut Value)) -> String {
        let mut body = body();
        change(&mut body);
        ShownFactor::read(&body).unwrap_err().field
    }

    #[test]
    fn reads_what_a_device_keeps() {
        let factor = ShownFactor::read(&body()).unwrap();
        assert_eq!(factor.credential_sid, "CR55555555555555555555555555555555");
        assert_eq!(factor.status, Status::Unverified);
        assert_eq!(factor.created_at.to_string(), "2026-01-01T00:00:00Z");
    }

    #[test]
    fn metadata_and_platform_may_be_missing() {
        let mut bare = body();
        bare["metadata"] = Value::Null;
        bare["config"].as_object_mut().unwrap().remove("notification_platform");
        assert!(ShownFactor::read(&bare).is_ok());
        bare.as_object_mut().unwrap().remove("metadata");
        assert!(ShownFactor::read(&bare).is_ok());
    }

    #[test]
    fn every_required_field_is_missed_by_name() {
        for field in ["sid", "account_sid", "friendly_name", "status", "date_created", "config"] {
            assert_eq!(flawed(|body| body[field] = Value::Null), field);
            assert_eq!(flawed(|body| body[field] = json!(1)), field);
            assert_eq!(flawed(|body| drop(body.as_object_mut().unwrap().remove(field))), field);
        }
        assert_eq!(flawed(|body| body["config"]["credential_sid"] = Value::Null), "config.credential_sid");
        assert_eq!(
            flawed(|body| body["config"]["notification_platform"] = json!(1)),
            "config.notification_platform"
        );
        assert_eq!(flawed(|body| body["metadata"]["os"] = json!(7)), "metadata.os");
        assert_eq!(flawed(|body| body["metadata"] = json!([])), "metadata");
        assert_eq!(flawed(|body| body["status"] = json!("Verified")), "status");
        assert_eq!(flawed(|body| body["date_created"] = json!("2026-01-01T00:00:00.000Z")), "date_created");
        assert_eq!(flawed(|body| *body = json!([])), "body");
    }
}
