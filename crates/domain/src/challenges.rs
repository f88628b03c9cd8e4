//! Challenges: one question to one device, answered at most once.
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

/// Seconds a challenge lives when the caller does not say.
pub const DEFAULT_LIFETIME: i64 = 5 * 60;

/// Seconds a challenge may live at most.
pub const MAX_LIFETIME: i64 = 60 * 60;

/// Names of the body's keys whose values the device signs, for the header
/// `Twilio-Verify-Signature-Fields`. Without spaces: the SDKs don't trim (docs/protocol/device.md, section 5).
pub const SIGNATURE_FIELDS: &str = "hidden_details,account_sid,sid,expiration_date,date_created,status,factor_sid,details,service_sid,identity";

/// What the person said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Yes.
    Approved,
    /// No.
    Denied,
}

impl Answer {
    /// The word on the wire and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Denied => "denied",
        }
    }

    /// The answer that goes by this word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Approved, Self::Denied].into_iter().find(|answer| answer.as_str() == word)
    }
}

/// The SHA-256 digest of the payload that answered a challenge, by which the same payload is recognized when it comes
/// again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerDigest(pub [u8; 32]);

/// What has happened to a challenge. That time passed is not something that happens to it: see
/// [`Challenge::status`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing yet.
    Pending,
    /// Its factor was deleted first.
    Voided,
    /// It was answered.
    Answered {
        /// How.
        answer: Answer,
        /// When.
        at: Timestamp,
    },
}

/// What a caller sees of a challenge's state, at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It can be answered.
    Pending,
    /// It can't be answered any more.
    Expired,
    /// Yes.
    Approved,
    /// No.
    Denied,
}

impl Status {
    /// The word on the wire.
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

/// What the app shows to the person.
#[derive(Clone, PartialEq, Eq)]
pub struct Details {
    /// The question.
    pub message: Message,
    /// At most twenty facts beside it.
    pub fields: Vec<Field>,
    /// When the challenge was made, if the service wants it said (`Push.IncludeDate`).
    pub date: Option<Timestamp>,
}

impl Details {
    /// Most fields a challenge can have.
    pub const MAX_FIELDS: usize = 20;

    /// As the body carries it. `date` is left out rather than null, which Android can't parse.
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

/// The question of a push challenge: 1–256 characters, line breaks allowed.
#[derive(Clone, PartialEq, Eq)]
pub struct Message(String);

impl Message {
    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A message that was parsed before, as it comes back from the database.
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

/// One fact beside the question. Sent as JSON text, one parameter each.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    label: String,
    value: String,
}

impl Parameter for Field {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        let expected = "must be JSON such as {\"label\":\"…\",\"value\":\"…\"}, \
                        the label with 1 to 36 and the value with at most 128 characters";
        // By way of an object: serde would also take the members of an array in their order.
        let members = serde_json::from_str::<Map<String, Value>>(text);
        let field = members.and_then(|members| serde_json::from_value::<Self>(members.into()));
        let field = field.map_err(|_| Expected::new(expected))?;
        let label = field.label.chars().count();
        if label == 0 || label > 36 || field.value.chars().count() > 128 {
            return Err(Expected::new(expected));
        }
        // PostgreSQL stores no NUL, and no client means one.
        if field.label.contains('\0') || field.value.contains('\0') {
            return Err(Expected::new("must not contain NUL characters"));
        }
        Ok(field)
    }
}

/// A question to a device.
#[derive(Clone, Debug)]
pub struct Challenge {
    /// `YC03…`
    pub sid: ChallengeSid,
    /// The owner.
    pub account_sid: AccountSid,
    /// The service.
    pub service_sid: ServiceSid,
    /// The entity.
    pub entity_sid: EntitySid,
    /// The entity's identity.
    pub identity: Identity,
    /// Who is asked.
    pub factor_sid: FactorSid,
    /// What has happened to it.
    pub state: State,
    /// What is shown.
    pub details: Details,
    /// What is signed but not shown.
    pub hidden_details: Option<StringMap>,
    /// What the device wanted to be remembered.
    pub metadata: Option<StringMap>,
    /// Until when it can be answered, on a whole second.
    pub expires_at: Timestamp,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl Listed for Challenge {
    fn position(&self) -> Position {
        position(self.sid, self.created_at)
    }
}

/// When a challenge that is made at `now` expires: at the caller's date, else after five minutes.
///
/// # Errors
/// 60306 for a date that has passed or lies more than an hour ahead.
pub fn expiry(requested: Option<Timestamp>, now: Timestamp) -> Result<Timestamp, Problem> {
    let Some(requested) = requested.map(Timestamp::whole_second) else {
        return Ok(now.plus_seconds(DEFAULT_LIFETIME).whole_second());
    };
    if requested > now && requested <= now.plus_seconds(MAX_LIFETIME) {
        Ok(requested)
    } else {
        let expected = Expected::new("must lie ahead by at most 60 minutes");
        Err(Problem::invalid("ExpirationDate", &expected))
    }
}

/// Most characters of a device's signed answer (docs/protocol/decisions.md, No. 11).
pub const LONGEST_ANSWER: usize = 5456;

/// Characters of a device's answer beside its claims: the header, the signature (docs/protocol/device.md, section 10) and two dots.
const AROUND_CLAIMS: usize = 36 + 86 + 2;

impl Challenge {
    /// Where its entity is to be found.
    pub fn path(&self) -> EntityPath {
        EntityPath {
            account_sid: self.account_sid,
            service_sid: self.service_sid,
            identity: self.identity.clone(),
        }
    }

    /// What a caller sees of its state at `now`.
    pub fn status(&self, now: Timestamp) -> Status {
        match self.state {
            State::Pending if now < self.expires_at => Status::Pending,
            State::Pending | State::Voided => Status::Expired,
            State::Answered { answer: Answer::Approved, .. } => Status::Approved,
            State::Answered { answer: Answer::Denied, .. } => Status::Denied,
        }
    }

    /// When it was answered.
    pub const fn responded_at(&self) -> Option<Timestamp> {
        match self.state {
            State::Answered { at, .. } => Some(at),
            State::Pending | State::Voided => None,
        }
    }

    /// Whether it can be answered at `now`. The database guards the same rule again when the answer
    /// is written, so that it holds among many who ask at once.
    ///
    /// # Errors
    /// 60322 when it was answered before, 60323 when it is too late.
    pub fn answerable(&self, now: Timestamp) -> Result<(), Problem> {
        match self.status(now) {
            Status::Pending => Ok(()),
            Status::Expired => Err(Code::ChallengeExpired.into()),
            Status::Approved | Status::Denied => Err(Code::ChallengeResponded.into()),
        }
    }

    /// The values of the fields that a device signs ([`SIGNATURE_FIELDS`]), as the body carries them.
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

    /// Whether the details leave room for an answer: a device repeats them in what it signs, which has a
    /// longest length.
    ///
    /// # Errors
    /// 60306, when no device could answer.
    pub fn fits_into_an_answer(&self) -> Result<(), Problem> {
        let claims = serde_json::to_string(&self.signed_fields(self.created_at)).unwrap_or_default();
        // Both SDKs escape slashes, and `approved` is a letter longer than `pending`.
        let claims = claims.len() + claims.matches('/').count() + 1;
        if AROUND_CLAIMS + (claims * 4).div_ceil(3) <= LONGEST_ANSWER {
            return Ok(());
        }
        let expected = "must be short enough, together with HiddenDetails, for a device's signed answer, which \
                        repeats them, to fit into 5456 characters";
        Err(Problem::invalid("Details", &Expected::new(expected)))
    }

    /// Reads the answer out of claims whose signature holds: every signed field must be there with
    /// the value that the device was shown, compared as JSON values since the SDKs write them anew
    /// (docs/protocol/device.md, section 5), and `status` must be an answer.
    ///
    /// # Errors
    /// 60324, with the name of the field that does not fit.
    pub fn answer_in(&self, claims: &Map<String, Value>, now: Timestamp) -> Result<Answer, Problem> {
        let failed = |advice: String| Problem::with(Code::ChallengeVerificationFailed, advice);
        for (name, shown) in self.signed_fields(now) {
            if name != "status" && claims.get(&name) != Some(&shown) {
                return Err(failed(format!("the signed {name} is not the challenge's")));
            }
        }
        let word = claims.get("status").and_then(Value::as_str);
        word.and_then(Answer::from_word)
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
    fn signature_fields_are_what_is_signed() {
        let pending = challenge(State::Pending, NOW.plus_seconds(300));
        let mut named: Vec<&str> = SIGNATURE_FIELDS.split(',').collect();
        let fields = pending.signed_fields(NOW);
        let mut signed: Vec<&str> = fields.keys().map(String::as_str).collect();
        named.sort_unstable();
        signed.sort_unstable();
        assert_eq!(named, signed);
    }

    #[test]
    fn every_signed_field_must_be_there_and_unchanged() {
        let pending = challenge(State::Pending, NOW.plus_seconds(300));
        let mut claims = pending.signed_fields(NOW);
        claims.insert("status".into(), "approved".into());
        assert_eq!(pending.answer_in(&claims, NOW), Ok(Answer::Approved));
        claims.insert("status".into(), "denied".into());
        claims.insert("more".into(), "is fine".into());
        assert_eq!(pending.answer_in(&claims, NOW), Ok(Answer::Denied));
        for name in SIGNATURE_FIELDS.split(',') {
            let mut missing = claims.clone();
            missing.remove(name);
            let mut changed = claims.clone();
            changed.insert(name.into(), "pending".into());
            for claims in [missing, changed] {
                let problem = pending.answer_in(&claims, NOW).unwrap_err();
                assert_eq!(problem.code(), Code::ChallengeVerificationFailed, "{name}");
            }
        }
    }

    #[test]
    fn a_challenge_that_no_device_could_answer_is_refused() {
        let mut long = challenge(State::Pending, NOW.plus_seconds(300));
        assert_eq!(long.fits_into_an_answer(), Ok(()));
        let field = format!(r#"{{"label":"{}","value":"{}"}}"#, "l".repeat(36), "/".repeat(128));
        long.details.fields = vec![Field::from_parameter(&field).unwrap(); 20];
        assert_eq!(long.fits_into_an_answer().unwrap_err().code(), Code::InvalidRequest);
    }

    #[test]
    fn details_date_is_absent_or_a_date() {
        let mut details = challenge(State::Pending, NOW).details;
        assert!(details.to_json().get("date").is_none());
        details.date = Some(NOW);
        assert_eq!(details.to_json()["date"], "2026-01-01T00:00:00Z");
        details.fields.clear();
        assert_eq!(details.to_json()["fields"], json!([]));
    }

    #[test]
    fn expiry_lies_ahead_by_at_most_an_hour() {
        assert_eq!(expiry(None, NOW), Ok(NOW.plus_seconds(300)));
        assert_eq!(expiry(Some(NOW.plus_seconds(3600)), NOW), Ok(NOW.plus_seconds(3600)));
        for refused in [NOW, NOW.plus_seconds(-1), NOW.plus_seconds(3601)] {
            assert_eq!(expiry(Some(refused), NOW).unwrap_err().code(), Code::InvalidRequest);
        }
    }

    #[test]
    fn fields_have_bounds() {
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
        /// Only a pending challenge before its expiry can be answered; nothing ever becomes pending
        /// again; an answer never turns into something else.
        #[test]
        fn time_only_ever_closes(state in states(), expires in -10_i64..10, early in -20_i64..20, later in 0_i64..20) {
            let challenge = challenge(state, NOW.plus_seconds(expires));
            let (first, then) = (NOW.plus_seconds(early), NOW.plus_seconds(early + later));
            let (before, after) = (challenge.status(first), challenge.status(then));
            prop_assert_eq!(challenge.answerable(first).is_ok(), before == Status::Pending);
            match before {
                Status::Pending => prop_assert!(matches!(after, Status::Pending | Status::Expired)),
                closed => prop_assert_eq!(closed, after),
            }
            prop_assert_eq!(challenge.responded_at().is_some(), matches!(state, State::Answered { .. }));
        }
    }

    #[test]
    fn a_challenge_can_be_answered_until_its_expiry_and_not_at_it() {
        let pending = challenge(State::Pending, NOW.plus_seconds(300));
        let expiry = pending.expires_at;
        let last = Timestamp::from_micros(expiry.micros() - 1);
        assert_eq!((pending.status(last), pending.answerable(last)), (Status::Pending, Ok(())));
        for late in [expiry, expiry.plus_seconds(1)] {
            assert_eq!(pending.status(late), Status::Expired);
            assert_eq!(pending.answerable(late).unwrap_err().code(), Code::ChallengeExpired);
        }
    }

    #[test]
    fn an_answer_stays_after_the_expiry_and_a_voided_challenge_shows_as_expired() {
        let (expiry, at) = (NOW.plus_seconds(300), NOW.plus_seconds(7));
        for (answer, status) in [(Answer::Approved, Status::Approved), (Answer::Denied, Status::Denied)] {
            let answered = challenge(State::Answered { answer, at }, expiry);
            for now in [NOW, expiry] {
                assert_eq!(answered.status(now), status);
                assert_eq!(answered.answerable(now).unwrap_err().code(), Code::ChallengeResponded);
            }
            assert_eq!(answered.responded_at(), Some(at));
        }
        let voided = challenge(State::Voided, expiry);
        assert_eq!((voided.status(NOW), voided.responded_at()), (Status::Expired, None));
        assert_eq!(voided.answerable(NOW).unwrap_err().code(), Code::ChallengeExpired);
    }

    #[test]
    fn states_and_answers_have_the_words_of_the_api() {
        let words = ["pending", "expired", "approved", "denied"];
        let statuses = [Status::Pending, Status::Expired, Status::Approved, Status::Denied];
        for (word, status) in words.into_iter().zip(statuses) {
            assert_eq!((status.as_str(), Status::from_parameter(word)), (word, Ok(status)));
        }
        assert!(Status::from_parameter("Pending").is_err());
        for (word, answer) in [("approved", Answer::Approved), ("denied", Answer::Denied)] {
            assert_eq!((answer.as_str(), Answer::from_word(word)), (word, Some(answer)));
        }
        assert_eq!(Answer::from_word("pending"), None);
    }

    #[test]
    fn a_message_has_1_to_256_characters() {
        for (length, is_message) in [(0, false), (1, true), (256, true), (257, false)] {
            assert_eq!(Message::from_parameter(&"ü".repeat(length)).is_ok(), is_message, "{length}");
        }
        assert_eq!(Message::from_parameter("a\nb").unwrap().as_str(), "a\nb");
    }

    #[test]
    fn a_field_contains_no_nul_in_its_label_or_its_value() {
        for bad in [r#"{"label":"a\u0000","value":"b"}"#, r#"{"label":"a","value":"b\u0000"}"#] {
            assert!(Field::from_parameter(bad).is_err(), "{bad}");
        }
        let shortest = Field::from_parameter(r#"{"label":"l","value":""}"#).unwrap();
        assert_eq!(serde_json::to_string(&shortest).unwrap(), r#"{"label":"l","value":""}"#);
    }

    /// A JWS of 5456 characters has 3999 bytes of claims: 36 and 86 characters, two dots, and 4 for each 3 bytes.
    #[test]
    fn an_answer_that_is_exactly_as_long_as_it_may_be_fits() {
        let mut long = challenge(State::Pending, NOW.plus_seconds(300));
        // As the SDKs write it when the person says yes.
        let claims = |challenge: &Challenge| {
            let mut claims = challenge.signed_fields(NOW);
            claims.insert("status".into(), "approved".into());
            serde_json::to_string(&claims).unwrap().replace('/', r"\/").len()
        };
        let message = |length| Message::from_stored("m".repeat(length));
        long.details.message = message(0);
        let rest = 3999 - claims(&long);
        long.details.message = message(rest);
        assert_eq!((claims(&long), long.fits_into_an_answer()), (3999, Ok(())));
        long.details.message = message(rest + 1);
        let refused = long.fits_into_an_answer().unwrap_err();
        assert_eq!((claims(&long), refused.code()), (4000, Code::InvalidRequest));
    }

    #[test]
    fn the_default_lifetime_ends_on_a_whole_second() {
        let odd = Timestamp::from_micros(NOW.micros() + 999_999);
        assert_eq!(expiry(None, odd), Ok(NOW.plus_seconds(300)));
        assert_eq!(expiry(Some(NOW.plus_seconds(1)), odd), Ok(NOW.plus_seconds(1)));
        // Without its fraction it has passed.
        assert!(expiry(Some(odd), NOW).is_err());
    }
}
