//! Push challenges: questions to a device, which answers with a signature.

use serde_json::{Map, Value};

use crate::challenges::details::Details;
use crate::challenges::{Answer, Challenge, ChallengedKind, Target};
use crate::entities::EntityPath;
use crate::factors::{FactorType, HasFactorType};
use crate::parameter::Expected;
use crate::problem::{Code, Problem};
use crate::text::StringMap;
use crate::time::Timestamp;

/// Maximum length of a device's signed answer (docs/protocol/decisions.md, No. 11).
pub const MAX_ANSWER_CHARACTERS: usize = 5456;

/// Length of a signed answer without its claims: the header and the signature (docs/protocol/device.md, section 10),
/// and two dots.
const ANSWER_OVERHEAD_CHARACTERS: usize = 36 + 86 + 2;

/// Names of the fields that a device signs, as listed in the header `Twilio-Verify-Signature-Fields`. There are no
/// spaces between the names, because the SDKs do not trim them (docs/protocol/device.md, section 5).
pub const SIGNATURE_FIELDS: &str = "hidden_details,account_sid,sid,expiration_date,date_created,status,factor_sid,details,service_sid,identity";

/// The SHA-256 digest of the payload that answered a challenge. An equal digest shows that the same payload was sent
/// again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerDigest(pub [u8; 32]);

/// What a push challenge adds to a [`Challenge`]: the question to the device.
#[derive(Clone, Debug)]
pub struct PushChallenge {
    /// Factor whose device must answer the challenge.
    pub target: Target,
    /// Details that the app displays to the user.
    pub details: Details,
    /// Details that are signed but not displayed.
    pub hidden_details: Option<StringMap>,
}

impl HasFactorType for PushChallenge {
    fn factor_type(&self) -> FactorType {
        FactorType::Push
    }
}

impl ChallengedKind for PushChallenge {
    fn target(&self) -> Option<&Target> {
        Some(&self.target)
    }
}

impl PushChallenge {
    /// Returns the names and values of the fields that a device signs ([`SIGNATURE_FIELDS`]), as the API shows them at
    /// `now`. `challenge` is the challenge to which this kind belongs.
    pub fn signed_fields<Kind>(&self, challenge: &Challenge<Kind>, now: Timestamp) -> Map<String, Value> {
        challenge.shown_fields(&self.target, self.details.to_json(), self.hidden_details.as_ref(), now)
    }
}

impl Challenge<PushChallenge> {
    /// Returns the path of the entity to which the challenge belongs.
    pub fn path(&self) -> EntityPath {
        self.path_of(&self.kind.target)
    }

    /// Returns the names and values of the fields that a device signs ([`SIGNATURE_FIELDS`]), as the API shows them at
    /// `now`.
    pub fn signed_fields(&self, now: Timestamp) -> Map<String, Value> {
        self.kind.signed_fields(self, now)
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
    use super::*;
    use crate::challenges::State;
    use crate::challenges::details::{Field, Message};
    use crate::challenges::tests::{challenge_of, target};
    use crate::parameter::Parameter as _;

    const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

    /// Returns a push challenge in this state.
    pub(crate) fn challenge(state: State, expires_at: Timestamp) -> Challenge<PushChallenge> {
        let kind = PushChallenge {
            target: target(),
            details: Details {
                message: Message::from_stored("Sign in to https://example.com/?".into()),
                fields: vec![Field::from_parameter(r#"{"label":"IP","value":"203.0.113.9"}"#).unwrap()],
                date: None,
            },
            hidden_details: Some(StringMap::from_parameter(r#"{"txn":"a/b"}"#).unwrap()),
        };
        challenge_of(kind, state, expires_at)
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
        long.kind.details.fields = vec![Field::from_parameter(&field).unwrap(); 20];
        assert_eq!(long.check_answer_length().unwrap_err().code(), Code::InvalidRequest);
    }

    /// A JWS of 5456 characters contains 3999 bytes of claims. The header has 36 characters, the signature 86 and the
    /// dots 2; every 3 bytes of claims become 4 characters.
    #[test]
    fn answer_of_exactly_the_maximum_length_is_accepted() {
        let mut long = challenge(State::Pending, NOW.plus_seconds(300));
        // Returns the length of the claims as the SDKs serialize them on approval.
        let claims = |challenge: &Challenge<PushChallenge>| {
            let mut claims = challenge.signed_fields(NOW);
            claims.insert("status".into(), "approved".into());
            serde_json::to_string(&claims).unwrap().replace('/', r"\/").len()
        };
        let message = |length| Message::from_stored("m".repeat(length));
        long.kind.details.message = message(0);
        let rest = 3999 - claims(&long);
        long.kind.details.message = message(rest);
        assert_eq!((claims(&long), long.check_answer_length()), (3999, Ok(())));
        long.kind.details.message = message(rest + 1);
        let refused = long.check_answer_length().unwrap_err();
        assert_eq!((claims(&long), refused.code()), (4000, Code::InvalidRequest));
    }
}
