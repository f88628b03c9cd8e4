//! Events about verifications: CloudEvents with the content that the managed service's Event Streams give them
//! (docs/protocol/verifications.md, section 9). The content of an event is fixed when the event happens.

use serde_json::{Value, json};

use crate::entropy::Entropy;
use crate::time::Timestamp;
use crate::verifications::{Attempt, DeliveryProgress, Status, Verification};

/// Identifier of the schema of the event's `data`.
const SCHEMA: &str = "https://events-schemas.twilio.com/AccountSecurity.VerifyEventStreamEvent/2";

/// A verification that was created, sent again, or ended.
#[derive(Debug)]
pub struct VerificationEvent<'e> {
    /// Verification after the change. Its stored status is the type of the event.
    pub verification: &'e Verification,
    /// Attempts of the verification, oldest first.
    pub attempts: &'e [Attempt],
    /// Name of the service.
    pub service_name: &'e str,
    /// Whether the right code was entered. A backend can approve a verification without one.
    pub has_right_check: bool,
    /// Time of the event.
    pub time: Timestamp,
}

impl VerificationEvent<'_> {
    /// Returns the body of a request: a JSON array that contains the event. Members that do not apply are absent.
    pub fn to_body(&self, entropy: &dyn Entropy) -> String {
        let Verification { sid, account_sid, service_sid, stored_status, .. } = self.verification;
        let mut id = [0; 32];
        entropy.fill(&mut id);
        let name = stored_status.as_str().replace('_', "-");
        json!([{
            "specversion": "1.0",
            "type": format!("com.twilio.accountsecurity.verify.verification.{name}"),
            "source": format!("/v1/Accounts/{account_sid}/Services/{service_sid}/Verifications/{sid}"),
            "id": hex::encode(id),
            "dataschema": SCHEMA,
            "datacontenttype": "application/json",
            "time": self.time.to_millisecond_text(),
            "data": self.data(),
        }])
        .to_string()
    }

    fn data(&self) -> Value {
        let verification = self.verification;
        let last = self.attempts.last();
        let custom_name = last.and_then(|attempt| attempt.message.as_ref()?.friendly_name.as_ref());
        let is_approved = verification.stored_status == Status::Approved;
        let verified_at = verification.closed_at.filter(|_| is_approved);
        // A custom code has no length here, because the caller knows it.
        let code_length = last.filter(|_| !verification.is_custom).map(|attempt| attempt.code_length);
        without_nulls(json!({
            "account_sid": verification.account_sid,
            "service_sid": verification.service_sid,
            "verification_sid": verification.sid,
            "friendly_name": self.service_name,
            "custom_code_enabled": verification.is_custom,
            "custom_friendly_name": custom_name,
            "created_at": verification.created_at.to_precise_text(),
            "verified_at": verified_at.map(Timestamp::to_precise_text),
            "to": verification.to.as_str(),
            "verification_status": verification.stored_status.as_str().to_uppercase(),
            "country": last.and_then(|attempt| attempt.country).map(|country| country.to_string()),
            "code_length": code_length,
            "send_code_attempts": list(self.attempts.iter().map(attempt_json).collect()),
            "check_attempts": list(self.checks()),
            "expired_at": verification.expires_at.to_precise_text(),
        }))
    }

    /// Returns the checks of the verification, oldest first.
    fn checks(&self) -> Vec<Value> {
        let check = |at: Timestamp, status| json!({ "time": at.to_precise_text(), "status": status });
        let wrong = self.verification.wrong_checks.iter().map(|at| check(*at, "FAILURE"));
        wrong.chain(self.has_right_check.then(|| check(self.time, "SUCCESS"))).collect()
    }
}

/// Returns the number of items together with the items, which are absent if there are none.
fn list(items: Vec<Value>) -> Value {
    match items.len() {
        0 => json!({ "count": 0 }),
        count => json!({ "count": count, "attempts": items }),
    }
}

fn attempt_json(attempt: &Attempt) -> Value {
    without_nulls(json!({
        "time": attempt.created_at.to_precise_text(),
        "channel": attempt.channel.as_str().to_uppercase(),
        "attempt_sid": attempt.sid,
        "delivery_status": attempt.progress.map(delivery_status),
        "error_code": attempt.error_code.map(|code| code.to_string()),
        "locale": attempt.locale,
        "tags": attempt.tags,
    }))
}

/// Removes the members of an object that are null.
fn without_nulls(mut object: Value) -> Value {
    if let Some(members) = object.as_object_mut() {
        members.retain(|_, value| !value.is_null());
    }
    object
}

/// Returns the word for the progress of a message in events, which have fewer words than the API.
const fn delivery_status(progress: DeliveryProgress) -> &'static str {
    match progress {
        DeliveryProgress::Queued | DeliveryProgress::Sending => "QUEUED",
        DeliveryProgress::Sent => "SENT",
        DeliveryProgress::Delivered | DeliveryProgress::Read => "DELIVERED",
        DeliveryProgress::Undelivered | DeliveryProgress::Busy | DeliveryProgress::Canceled => "UNDELIVERED",
        DeliveryProgress::Failed => "FAILED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameter::Parameter as _;
    use crate::recipients::{Channel, Country};
    use crate::text::Text;
    use crate::verifications::{MessageOptions, Tags};

    const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_000_123);

    struct Ones;

    impl Entropy for Ones {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(0xff);
        }
    }

    /// Returns a pending verification whose times have microseconds.
    fn verification() -> Verification {
        Verification {
            expires_at: NOW.plus_seconds(600),
            created_at: NOW,
            ..crate::verifications::tests::verification()
        }
    }

    fn attempt(verification: &Verification) -> Attempt {
        Attempt {
            sid: "VL019b76daa8007b6f0d0a5c3e91d2f4a8".parse().unwrap(),
            account_sid: verification.account_sid,
            service_sid: verification.service_sid,
            verification_sid: verification.sid,
            to: verification.to.clone(),
            channel: Channel::Sms,
            country: Country::from_parameter("AT").ok(),
            code_length: 6,
            locale: Some("de".to_owned()),
            is_converted: false,
            progress: None,
            error_code: None,
            message: Some(MessageOptions::default()),
            tags: None,
            expires_at: verification.expires_at,
            created_at: NOW,
            updated_at: NOW,
        }
    }

    fn body(verification: &Verification, attempts: &[Attempt], has_right_check: bool) -> Value {
        let time = NOW.plus_seconds(5);
        let event = VerificationEvent { verification, attempts, service_name: "Owl", has_right_check, time };
        serde_json::from_str(&event.to_body(&Ones)).unwrap()
    }

    #[test]
    fn new_verification_has_neither_checks_nor_a_time_of_approval() {
        let verification = verification();
        assert_eq!(
            body(&verification, &[attempt(&verification)], false),
            json!([{
                "specversion": "1.0",
                "type": "com.twilio.accountsecurity.verify.verification.pending",
                "source": "/v1/Accounts/AC019b76daa8007b6f0d0a5c3e91d2f4a8\
                           /Services/VA019b76daa8007b6f0d0a5c3e91d2f4a8\
                           /Verifications/VE019b76daa8007b6f0d0a5c3e91d2f4a8",
                "id": "ff".repeat(32),
                "dataschema": SCHEMA,
                "datacontenttype": "application/json",
                "time": "2026-01-01T00:00:05.000Z",
                "data": {
                    "account_sid": "AC019b76daa8007b6f0d0a5c3e91d2f4a8",
                    "service_sid": "VA019b76daa8007b6f0d0a5c3e91d2f4a8",
                    "verification_sid": "VE019b76daa8007b6f0d0a5c3e91d2f4a8",
                    "friendly_name": "Owl",
                    "custom_code_enabled": false,
                    "created_at": "2026-01-01T00:00:00.000123Z",
                    "to": "+4366412345678",
                    "verification_status": "PENDING",
                    "country": "AT",
                    "code_length": 6,
                    "send_code_attempts": {
                        "count": 1,
                        "attempts": [{
                            "time": "2026-01-01T00:00:00.000123Z",
                            "channel": "SMS",
                            "attempt_sid": "VL019b76daa8007b6f0d0a5c3e91d2f4a8",
                            "locale": "de",
                        }],
                    },
                    "check_attempts": { "count": 0 },
                    "expired_at": "2026-01-01T00:10:00.000123Z",
                },
            }])
        );
    }

    #[test]
    fn right_code_is_the_last_check_of_an_approved_verification() {
        let mut verification = verification();
        verification.wrong_checks = vec![NOW.plus_seconds(1)];
        verification.close(Status::Approved, NOW.plus_seconds(5));
        let with_code = body(&verification, &[attempt(&verification)], true);
        let data = &with_code[0]["data"];
        assert_eq!(with_code[0]["type"], "com.twilio.accountsecurity.verify.verification.approved");
        assert_eq!(data["verified_at"], "2026-01-01T00:00:05.000123Z");
        assert_eq!(
            data["check_attempts"],
            json!({ "count": 2, "attempts": [
                { "time": "2026-01-01T00:00:01.000123Z", "status": "FAILURE" },
                { "time": "2026-01-01T00:00:05.000123Z", "status": "SUCCESS" },
            ]})
        );
        let by_the_backend = body(&verification, &[attempt(&verification)], false);
        assert_eq!(by_the_backend[0]["data"]["check_attempts"]["count"], 1);
    }

    #[test]
    fn used_up_checks_have_a_type_with_hyphens_and_a_status_with_underscores() {
        let mut verification = verification();
        (0..5).for_each(|_| verification.count_wrong_check(NOW));
        let body = body(&verification, &[], false);
        assert_eq!(body[0]["type"], "com.twilio.accountsecurity.verify.verification.max-attempts-reached");
        assert_eq!(body[0]["data"]["verification_status"], "MAX_ATTEMPTS_REACHED");
        assert_eq!(body[0]["data"]["verified_at"], Value::Null);
        assert_eq!(body[0]["data"]["send_code_attempts"], json!({ "count": 0 }));
    }

    #[test]
    fn attempts_have_their_tags_and_what_became_of_the_message() {
        let mut verification = verification();
        verification.is_custom = true;
        let mut attempt = attempt(&verification);
        attempt.channel = Channel::Call;
        attempt.progress = Some(DeliveryProgress::Busy);
        attempt.error_code = Some(30004);
        attempt.tags = Tags::from_parameter(r#"{"campaign":"spring"}"#).ok();
        attempt.message = Some(MessageOptions {
            friendly_name: Some(Text::from_stored("Night owl".to_owned())),
            ..MessageOptions::default()
        });
        let body = body(&verification, &[attempt], false);
        let data = &body[0]["data"];
        assert_eq!(
            (&data["custom_friendly_name"], &data["code_length"]),
            (&json!("Night owl"), &Value::Null)
        );
        assert_eq!(data["custom_code_enabled"], true);
        let attempt = &data["send_code_attempts"]["attempts"][0];
        assert_eq!(attempt["channel"], "CALL");
        assert_eq!(
            (&attempt["delivery_status"], &attempt["error_code"]),
            (&json!("UNDELIVERED"), &json!("30004"))
        );
        assert_eq!(attempt["tags"], json!({ "campaign": "spring" }));
    }
}
