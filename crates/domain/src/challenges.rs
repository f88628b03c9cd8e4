//! Challenges: questions to a device, each of which is approved or denied at most once.
//!
//! ```text
//!            ┌─ signed answer ─▶ approved | denied
//! pending ───┼─ expires_at reached ─▶ expired      (computed from the clock at every read)
//!            └─ its factor deleted ─▶ voided       (shown as expired)
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::entities::EntityPath;
use crate::paging::{Listed, Position, position};
use crate::parameter::{Expected, Parameter};
use crate::problem::{Code, Problem};
use crate::sids::{AccountSid, ChallengeSid, EntitySid, FactorSid, ServiceSid};
use crate::text::{Identity, StringMap};
use crate::time::Timestamp;

/// Lifetime of a challenge if the caller sets no expiration date.
pub const DEFAULT_LIFETIME_SECONDS: i64 = 5 * 60;

/// Maximum lifetime of a challenge.
pub const MAX_LIFETIME_SECONDS: i64 = 60 * 60;

/// Maximum length of a device's signed answer (docs/protocol/decisions.md, No. 11).
pub const MAX_ANSWER_CHARACTERS: usize = 5456;

/// Length of a signed answer without its claims: the header and the signature (docs/protocol/device.md, section 10),
/// and two dots.
const ANSWER_OVERHEAD_CHARACTERS: usize = 36 + 86 + 2;

/// Names of the fields that a device signs, as listed in the header `Twilio-Verify-Signature-Fields`. There are no
/// spaces between the names, because the SDKs do not trim them (docs/protocol/device.md, section 5).
pub const SIGNATURE_FIELDS: &str = "hidden_details,account_sid,sid,expiration_date,date_created,status,factor_sid,details,service_sid,identity";

/// The user's decision on a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The user approved the challenge.
    Approved,
    /// The user denied the challenge.
    Denied,
}

impl Answer {
    /// Returns the answer's name in the API and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Denied => "denied",
        }
    }

    /// Parses an answer's name in the API and in the database; returns `None` for any other word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Approved, Self::Denied].into_iter().find(|answer| answer.as_str() == word)
    }
}

/// The SHA-256 digest of the payload that answered a challenge. An equal digest shows that the same payload was sent
/// again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerDigest(pub [u8; 32]);

/// The stored state of a challenge. Expiration is not stored, but computed; see [`Challenge::status`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The challenge is not answered.
    Pending,
    /// The factor was deleted before the challenge was answered.
    Voided,
    /// The device answered the challenge.
    Answered {
        /// The user's decision.
        answer: Answer,
        /// Time at which the device answered.
        at: Timestamp,
    },
}

/// The status of a challenge at a given time, as callers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The challenge can be answered.
    Pending,
    /// The challenge was not answered, and can no longer be answered.
    Expired,
    /// The user approved the challenge.
    Approved,
    /// The user denied the challenge.
    Denied,
}

impl Status {
    /// Returns the name of the status in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Expired => "expired",
            Self::Approved => "approved",
            Self::Denied => "denied",
        }
    }
}

impl Parameter for Status {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        [Self::Pending, Self::Expired, Self::Approved, Self::Denied]
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| Expected::new("must be pending, expired, approved or denied"))
    }
}

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

/// A challenge as it is stored.
#[derive(Clone, Debug)]
pub struct Challenge {
    /// SID of the challenge (`YC03…`).
    pub sid: ChallengeSid,
    /// Account that owns the challenge.
    pub account_sid: AccountSid,
    /// Service to which the factor belongs.
    pub service_sid: ServiceSid,
    /// Entity to which the factor belongs.
    pub entity_sid: EntitySid,
    /// Identity of the entity.
    pub identity: Identity,
    /// Factor whose device must answer the challenge.
    pub factor_sid: FactorSid,
    /// Stored state of the challenge.
    pub state: State,
    /// Details that the app displays to the user.
    pub details: Details,
    /// Details that are signed but not displayed.
    pub hidden_details: Option<StringMap>,
    /// Data that the device has stored with the challenge.
    pub metadata: Option<StringMap>,
    /// Expiry of the challenge, a whole second. At or after this time, the challenge cannot be answered.
    pub expires_at: Timestamp,
    /// Creation time of the challenge.
    pub created_at: Timestamp,
    /// Time of the last change to the challenge.
    pub updated_at: Timestamp,
}

impl Listed for Challenge {
    fn position(&self) -> Position {
        position(self.sid, self.created_at)
    }
}

/// Returns the expiration time of a challenge that is created at `now`: the requested time, or by default five minutes
/// after `now`. The result is truncated to a whole second, because clients see and sign only whole seconds.
///
/// # Errors
/// Returns error 60306 if the requested time is not in the future, or is more than an hour away.
pub fn resolve_expiration(requested: Option<Timestamp>, now: Timestamp) -> Result<Timestamp, Problem> {
    let Some(requested) = requested.map(Timestamp::truncate_to_second) else {
        return Ok(now.plus_seconds(DEFAULT_LIFETIME_SECONDS).truncate_to_second());
    };
    if requested > now && requested <= now.plus_seconds(MAX_LIFETIME_SECONDS) {
        Ok(requested)
    } else {
        let expected = Expected::new("must be in the future, at most 60 minutes from now");
        Err(Problem::invalid("ExpirationDate", &expected))
    }
}

impl Challenge {
    /// Returns the path of the entity to which the challenge belongs.
    pub fn path(&self) -> EntityPath {
        EntityPath {
            account_sid: self.account_sid,
            service_sid: self.service_sid,
            identity: self.identity.clone(),
        }
    }

    /// Returns the status that callers see at `now`.
    pub fn status(&self, now: Timestamp) -> Status {
        match self.state {
            State::Pending if now < self.expires_at => Status::Pending,
            State::Pending | State::Voided => Status::Expired,
            State::Answered { answer: Answer::Approved, .. } => Status::Approved,
            State::Answered { answer: Answer::Denied, .. } => Status::Denied,
        }
    }

    /// Returns the time of the answer, or `None` if the challenge is not answered.
    pub const fn responded_at(&self) -> Option<Timestamp> {
        match self.state {
            State::Answered { at, .. } => Some(at),
            State::Pending | State::Voided => None,
        }
    }

    /// Checks that the challenge can be answered at `now`. The statement that stores the answer checks this again, so
    /// that only one of several concurrent answers succeeds.
    ///
    /// # Errors
    /// Returns error 60322 if the challenge was answered, and 60323 if it has expired.
    pub fn require_pending(&self, now: Timestamp) -> Result<(), Problem> {
        match self.status(now) {
            Status::Pending => Ok(()),
            Status::Expired => Err(Code::ChallengeExpired.into()),
            Status::Approved | Status::Denied => Err(Code::ChallengeResponded.into()),
        }
    }

    /// Returns the names and values of the fields that a device signs ([`SIGNATURE_FIELDS`]), as the API shows them at
    /// `now`.
    pub fn signed_fields(&self, now: Timestamp) -> Map<String, Value> {
        let fields = json!({
            "hidden_details": self.hidden_details,
            "account_sid": self.account_sid,
            "sid": self.sid,
            "expiration_date": self.expires_at,
            "date_created": self.created_at,
            "status": self.status(now).as_str(),
            "factor_sid": self.factor_sid,
            "details": self.details.to_json(),
            "service_sid": self.service_sid,
            "identity": self.identity,
        });
        match fields {
            Value::Object(fields) => fields,
            _ => Map::new(),
        }
    }

    /// Checks that the signed answer to this challenge will have at most [`MAX_ANSWER_CHARACTERS`]. A device repeats
    /// all details in the answer that it signs.
    ///
    /// # Errors
    /// Returns error 60306 if the details are too long.
    pub fn check_answer_length(&self) -> Result<(), Problem> {
        let claims = serde_json::to_string(&self.signed_fields(self.created_at)).unwrap_or_default();
        // Both SDKs escape slashes in JSON, and `approved` is one letter longer than `pending`.
        let claims = claims.len() + claims.matches('/').count() + 1;
        if ANSWER_OVERHEAD_CHARACTERS + (claims * 4).div_ceil(3) <= MAX_ANSWER_CHARACTERS {
            return Ok(());
        }
        let expected = "must be shorter: the device's signed answer repeats Details and HiddenDetails, and may have \
                        at most 5456 characters";
        Err(Problem::invalid("Details", &Expected::new(expected)))
    }

    /// Returns the answer that is contained in `claims`, whose signature the caller has verified.
    ///
    /// Every signed field must have the value that the API shows to the device at `now`. Values are compared as JSON,
    /// not as text, because the SDKs serialize them again (docs/protocol/device.md, section 5). `status` must be
    /// `approved` or `denied`.
    ///
    /// # Errors
    /// Returns error 60324 with the name of the field that does not match.
    pub fn parse_answer(&self, claims: &Map<String, Value>, now: Timestamp) -> Result<Answer, Problem> {
        let failed = |advice: String| Problem::with_advice(Code::ChallengeVerificationFailed, advice);
        for (name, shown) in self.signed_fields(now) {
            if name != "status" && claims.get(&name) != Some(&shown) {
                return Err(failed(format!(
                    "the signed {name} differs from the challenge; sign the value that the API shows"
                )));
            }
        }
        let word = claims.get("status").and_then(Value::as_str);
        word.and_then(Answer::parse)
            .ok_or_else(|| failed("the signed status must be approved or denied".to_owned()))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

    pub(crate) fn challenge(state: State, expires_at: Timestamp) -> Challenge {
        let sid = |prefix: &str, digit: &str| format!("{prefix}{}", digit.repeat(32));
        Challenge {
            sid: sid("YC", "4").parse().unwrap(),
            account_sid: sid("AC", "1").parse().unwrap(),
            service_sid: sid("VA", "2").parse().unwrap(),
            entity_sid: sid("YE", "5").parse().unwrap(),
            identity: Identity::from_stored("user-0001-abcd".into()),
            factor_sid: sid("YF", "3").parse().unwrap(),
            state,
            details: Details {
                message: Message::from_stored("Sign in to https://example.com/?".into()),
                fields: vec![Field::from_parameter(r#"{"label":"IP","value":"203.0.113.9"}"#).unwrap()],
                date: None,
            },
            hidden_details: Some(StringMap::from_parameter(r#"{"txn":"a/b"}"#).unwrap()),
            metadata: None,
            expires_at,
            created_at: NOW,
            updated_at: NOW,
        }
    }

    #[test]
    fn signature_fields_list_exactly_the_signed_fields() {
        let pending = challenge(State::Pending, NOW.plus_seconds(300));
        let mut named: Vec<&str> = SIGNATURE_FIELDS.split(',').collect();
        let fields = pending.signed_fields(NOW);
        let mut signed: Vec<&str> = fields.keys().map(String::as_str).collect();
        named.sort_unstable();
        signed.sort_unstable();
        assert_eq!(named, signed);
    }

    #[test]
    fn answer_with_a_missing_or_changed_field_is_refused() {
        let pending = challenge(State::Pending, NOW.plus_seconds(300));
        let mut claims = pending.signed_fields(NOW);
        claims.insert("status".into(), "approved".into());
        assert_eq!(pending.parse_answer(&claims, NOW), Ok(Answer::Approved));
        claims.insert("status".into(), "denied".into());
        claims.insert("more".into(), "is fine".into());
        assert_eq!(pending.parse_answer(&claims, NOW), Ok(Answer::Denied));
        for name in SIGNATURE_FIELDS.split(',') {
            let mut missing = claims.clone();
            missing.remove(name);
            let mut changed = claims.clone();
            changed.insert(name.into(), "pending".into());
            for claims in [missing, changed] {
                let problem = pending.parse_answer(&claims, NOW).unwrap_err();
                assert_eq!(problem.code(), Code::ChallengeVerificationFailed, "{name}");
            }
        }
    }

    #[test]
    fn challenge_with_too_long_details_is_refused() {
        let mut long = challenge(State::Pending, NOW.plus_seconds(300));
        assert_eq!(long.check_answer_length(), Ok(()));
        let field = format!(r#"{{"label":"{}","value":"{}"}}"#, "l".repeat(36), "/".repeat(128));
        long.details.fields = vec![Field::from_parameter(&field).unwrap(); 20];
        assert_eq!(long.check_answer_length().unwrap_err().code(), Code::InvalidRequest);
    }

    #[test]
    fn challenge_details_omit_an_absent_date() {
        let mut details = challenge(State::Pending, NOW).details;
        assert!(details.to_json().get("date").is_none());
        details.date = Some(NOW);
        assert_eq!(details.to_json()["date"], "2026-01-01T00:00:00Z");
        details.fields.clear();
        assert_eq!(details.to_json()["fields"], json!([]));
    }

    #[test]
    fn challenge_expiration_must_be_at_most_an_hour_ahead() {
        assert_eq!(resolve_expiration(None, NOW), Ok(NOW.plus_seconds(300)));
        assert_eq!(resolve_expiration(Some(NOW.plus_seconds(3600)), NOW), Ok(NOW.plus_seconds(3600)));
        for refused in [NOW, NOW.plus_seconds(-1), NOW.plus_seconds(3601)] {
            assert_eq!(resolve_expiration(Some(refused), NOW).unwrap_err().code(), Code::InvalidRequest);
        }
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

    fn states() -> impl Strategy<Value = State> {
        prop_oneof![
            Just(State::Pending),
            Just(State::Voided),
            Just(State::Answered { answer: Answer::Approved, at: NOW }),
            Just(State::Answered { answer: Answer::Denied, at: NOW }),
        ]
    }

    proptest! {
        /// Only a pending challenge that has not expired can be answered. No challenge becomes pending again, and no
        /// answer changes.
        #[test]
        fn challenge_status_never_returns_to_pending(state in states(), expires in -10_i64..10, early in -20_i64..20, later in 0_i64..20) {
            let challenge = challenge(state, NOW.plus_seconds(expires));
            let (first, then) = (NOW.plus_seconds(early), NOW.plus_seconds(early + later));
            let (before, after) = (challenge.status(first), challenge.status(then));
            prop_assert_eq!(challenge.require_pending(first).is_ok(), before == Status::Pending);
            match before {
                Status::Pending => prop_assert!(matches!(after, Status::Pending | Status::Expired)),
                closed => prop_assert_eq!(closed, after),
            }
            prop_assert_eq!(challenge.responded_at().is_some(), matches!(state, State::Answered { .. }));
        }
    }

    #[test]
    fn challenge_can_be_answered_only_before_its_expiration() {
        let pending = challenge(State::Pending, NOW.plus_seconds(300));
        let expiry = pending.expires_at;
        let last = Timestamp::from_micros(expiry.micros() - 1);
        assert_eq!((pending.status(last), pending.require_pending(last)), (Status::Pending, Ok(())));
        for late in [expiry, expiry.plus_seconds(1)] {
            assert_eq!(pending.status(late), Status::Expired);
            assert_eq!(pending.require_pending(late).unwrap_err().code(), Code::ChallengeExpired);
        }
    }

    #[test]
    fn answered_challenge_never_expires_and_voided_challenge_is_shown_as_expired() {
        let (expiry, at) = (NOW.plus_seconds(300), NOW.plus_seconds(7));
        for (answer, status) in [(Answer::Approved, Status::Approved), (Answer::Denied, Status::Denied)] {
            let answered = challenge(State::Answered { answer, at }, expiry);
            for now in [NOW, expiry] {
                assert_eq!(answered.status(now), status);
                assert_eq!(answered.require_pending(now).unwrap_err().code(), Code::ChallengeResponded);
            }
            assert_eq!(answered.responded_at(), Some(at));
        }
        let voided = challenge(State::Voided, expiry);
        assert_eq!((voided.status(NOW), voided.responded_at()), (Status::Expired, None));
        assert_eq!(voided.require_pending(NOW).unwrap_err().code(), Code::ChallengeExpired);
    }

    #[test]
    fn challenge_statuses_and_answers_have_the_names_used_by_the_api() {
        let words = ["pending", "expired", "approved", "denied"];
        let statuses = [Status::Pending, Status::Expired, Status::Approved, Status::Denied];
        for (word, status) in words.into_iter().zip(statuses) {
            assert_eq!((status.as_str(), Status::from_parameter(word)), (word, Ok(status)));
        }
        assert!(Status::from_parameter("Pending").is_err());
        for (word, answer) in [("approved", Answer::Approved), ("denied", Answer::Denied)] {
            assert_eq!((answer.as_str(), Answer::parse(word)), (word, Some(answer)));
        }
        assert_eq!(Answer::parse("pending"), None);
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

    /// A JWS of 5456 characters contains 3999 bytes of claims. The header has 36 characters, the signature 86 and the
    /// dots 2; every 3 bytes of claims become 4 characters.
    #[test]
    fn answer_of_exactly_the_maximum_length_is_accepted() {
        let mut long = challenge(State::Pending, NOW.plus_seconds(300));
        // Returns the length of the claims as the SDKs serialize them on approval.
        let claims = |challenge: &Challenge| {
            let mut claims = challenge.signed_fields(NOW);
            claims.insert("status".into(), "approved".into());
            serde_json::to_string(&claims).unwrap().replace('/', r"\/").len()
        };
        let message = |length| Message::from_stored("m".repeat(length));
        long.details.message = message(0);
        let rest = 3999 - claims(&long);
        long.details.message = message(rest);
        assert_eq!((claims(&long), long.check_answer_length()), (3999, Ok(())));
        long.details.message = message(rest + 1);
        let refused = long.check_answer_length().unwrap_err();
        assert_eq!((claims(&long), refused.code()), (4000, Code::InvalidRequest));
    }

    #[test]
    fn challenge_expiration_is_truncated_to_a_whole_second() {
        let odd = Timestamp::from_micros(NOW.micros() + 999_999);
        assert_eq!(resolve_expiration(None, odd), Ok(NOW.plus_seconds(300)));
        assert_eq!(resolve_expiration(Some(NOW.plus_seconds(1)), odd), Ok(NOW.plus_seconds(1)));
        // Truncated to a whole second, the requested time equals `now`.
        assert!(resolve_expiration(Some(odd), NOW).is_err());
    }
}
