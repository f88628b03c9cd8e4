//! Challenges: requests to prove that a factor is at hand, each of which is answered at most once. Each type of factor
//! has a file of its own.
//!
//! ```text
//!            ┌─ answer of its type ─▶ approved | denied
//! pending ───┼─ expires_at reached ─▶ expired      (computed from the clock at every read)
//!            └─ its factor deleted ─▶ voided       (shown as expired)
//! ```

mod details;
pub mod passkey;
pub mod push;
mod summary;
pub mod totp;

use serde_json::{Map, Value, json};

pub use crate::challenges::details::{Details, Field, Message};
pub use crate::challenges::passkey::{PasskeyChallenge, PasskeyTarget};
pub use crate::challenges::push::{AnswerDigest, MAX_ANSWER_CHARACTERS, PushChallenge, SIGNATURE_FIELDS};
pub use crate::challenges::summary::{ChallengeSummary, Version};
pub use crate::challenges::totp::{TotpChallenge, challenge_limits};
use crate::entities::EntityPath;
use crate::factors::{Factor, FactorType, HasFactorType};
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

/// The stored state of a challenge. Expiration is not stored, but computed; see [`Challenge::status`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The challenge is not answered.
    Pending,
    /// The factor was deleted before the challenge was answered.
    Voided,
    /// The challenge was answered.
    Answered {
        /// The user's decision.
        answer: Answer,
        /// Time of the answer.
        at: Timestamp,
    },
}

impl State {
    /// Returns the status at `now` of a challenge that expires at `expires_at`.
    fn status(self, expires_at: Timestamp, now: Timestamp) -> Status {
        match self {
            Self::Pending if now < expires_at => Status::Pending,
            Self::Pending | Self::Voided => Status::Expired,
            Self::Answered { answer: Answer::Approved, .. } => Status::Approved,
            Self::Answered { answer: Answer::Denied, .. } => Status::Denied,
        }
    }

    /// Returns the time of the answer, or `None` if the challenge is not answered.
    pub const fn responded_at(self) -> Option<Timestamp> {
        match self {
            Self::Answered { at, .. } => Some(at),
            Self::Pending | Self::Voided => None,
        }
    }
}

/// The status of a challenge at a given time, as callers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The challenge can be answered.
    Pending,
    /// The challenge was not answered in time, or its factor was deleted before.
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

/// The factor that a challenge is for, and its entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Entity to which the factor belongs.
    pub entity_sid: EntitySid,
    /// Identity of the entity.
    pub identity: Identity,
    /// Factor that must answer the challenge, or has answered it.
    pub factor_sid: FactorSid,
}

impl Target {
    /// Returns the target of a challenge for `factor`.
    pub fn of<Kind>(factor: &Factor<Kind>) -> Self {
        Self { entity_sid: factor.entity_sid, identity: factor.identity.clone(), factor_sid: factor.sid }
    }
}

/// A challenge as it is stored. `Kind` is what its factor type adds: [`PushChallenge`], [`TotpChallenge`] or
/// [`PasskeyChallenge`]; [`ChallengeKind`] if the type is known only at run time.
///
/// The factor is part of the kind ([`Target`]), because a passkey challenge may not know its factor before the answer.
#[derive(Clone, Debug)]
pub struct Challenge<Kind = ChallengeKind> {
    /// SID of the challenge. Its first byte is that of the factor type ([`FactorType::sid_byte`]).
    pub sid: ChallengeSid,
    /// Account that owns the challenge.
    pub account_sid: AccountSid,
    /// Service to which the challenge belongs.
    pub service_sid: ServiceSid,
    /// Stored state of the challenge.
    pub state: State,
    /// Data that the device or the backend has stored with the challenge.
    pub metadata: Option<StringMap>,
    /// Expiry of the challenge, a whole second. At or after this time, the challenge cannot be answered.
    pub expires_at: Timestamp,
    /// Creation time of the challenge.
    pub created_at: Timestamp,
    /// Time of the last change to the challenge.
    pub updated_at: Timestamp,
    /// What the factor type adds.
    pub kind: Kind,
}

/// What the factor type adds to the fields that all challenges have. Lists and look-ups under an entity return it.
#[derive(Clone, Debug)]
pub enum ChallengeKind {
    /// A question to a device.
    Push(PushChallenge),
    /// A request for a one-time code.
    Totp(TotpChallenge),
    /// A request for a WebAuthn assertion. Only the routes of passkeys need the rest of [`PasskeyChallenge`].
    Passkey(PasskeyTarget),
}

/// The kind of a challenge, which knows the factor that the challenge is for.
pub trait ChallengedKind: HasFactorType {
    /// Returns the factor that the challenge is for; `None` if it is not known, which is possible only for passkeys.
    fn target(&self) -> Option<&Target>;
}

impl HasFactorType for ChallengeKind {
    fn factor_type(&self) -> FactorType {
        match self {
            Self::Push(_) => FactorType::Push,
            Self::Totp(_) => FactorType::Totp,
            Self::Passkey(_) => FactorType::Passkeys,
        }
    }
}

impl ChallengedKind for ChallengeKind {
    fn target(&self) -> Option<&Target> {
        match self {
            Self::Push(push) => push.target(),
            Self::Totp(totp) => totp.target(),
            Self::Passkey(passkey) => passkey.target(),
        }
    }
}

impl From<Challenge<PushChallenge>> for Challenge {
    fn from(challenge: Challenge<PushChallenge>) -> Self {
        let (challenge, push) = challenge.split();
        challenge.with(ChallengeKind::Push(push))
    }
}

impl From<Challenge<TotpChallenge>> for Challenge {
    fn from(challenge: Challenge<TotpChallenge>) -> Self {
        let (challenge, totp) = challenge.split();
        challenge.with(ChallengeKind::Totp(totp))
    }
}

impl From<Challenge<PasskeyChallenge>> for Challenge {
    fn from(challenge: Challenge<PasskeyChallenge>) -> Self {
        let (challenge, passkey) = challenge.split();
        challenge.with(ChallengeKind::Passkey(passkey.target))
    }
}

impl<Kind> Listed for Challenge<Kind> {
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

impl Challenge<()> {
    /// Returns the challenge with `kind`, which [`Challenge::split`] has taken from it or which replaces that.
    pub fn with<Kind>(self, kind: Kind) -> Challenge<Kind> {
        self.replace_kind(kind).0
    }
}

impl<Kind: ChallengedKind> Challenge<Kind> {
    /// Returns the type of the factor that the challenge is for.
    pub fn factor_type(&self) -> FactorType {
        self.kind.factor_type()
    }

    /// Returns the factor that the challenge is for; `None` if it is not known, which is possible only for passkeys.
    pub fn target(&self) -> Option<&Target> {
        self.kind.target()
    }
}

impl<Kind> Challenge<Kind> {
    /// Takes the challenge's kind out of it, so that code can branch on the kind and continue with a challenge of that
    /// kind.
    pub fn split(self) -> (Challenge<()>, Kind) {
        self.replace_kind(())
    }

    /// Returns the challenge with another kind, and the kind that it had.
    fn replace_kind<Other>(self, kind: Other) -> (Challenge<Other>, Kind) {
        let challenge = Challenge {
            sid: self.sid,
            account_sid: self.account_sid,
            service_sid: self.service_sid,
            state: self.state,
            metadata: self.metadata,
            expires_at: self.expires_at,
            created_at: self.created_at,
            updated_at: self.updated_at,
            kind,
        };
        (challenge, self.kind)
    }

    /// Returns the path of the entity to which the factor `target` belongs.
    pub(crate) fn path_of(&self, target: &Target) -> EntityPath {
        EntityPath {
            account_sid: self.account_sid,
            service_sid: self.service_sid,
            identity: target.identity.clone(),
        }
    }

    /// Returns the status that callers see at `now`.
    pub fn status(&self, now: Timestamp) -> Status {
        self.state.status(self.expires_at, now)
    }

    /// Returns the time of the answer, or `None` if the challenge is not answered.
    pub const fn responded_at(&self) -> Option<Timestamp> {
        self.state.responded_at()
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

    /// Returns the fields of a challenge to the factor `target` that the API shows at `now`, and that a device signs.
    pub(crate) fn shown_fields(
        &self,
        target: &Target,
        details: Value,
        hidden_details: Option<&StringMap>,
        now: Timestamp,
    ) -> Map<String, Value> {
        let fields = json!({
            "hidden_details": hidden_details,
            "account_sid": self.account_sid,
            "sid": self.sid,
            "expiration_date": self.expires_at,
            "date_created": self.created_at,
            "status": self.status(now).as_str(),
            "factor_sid": target.factor_sid,
            "details": details,
            "service_sid": self.service_sid,
            "identity": target.identity,
        });
        match fields {
            Value::Object(fields) => fields,
            _ => Map::new(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

    /// Returns a factor that a challenge is for.
    pub(crate) fn target() -> Target {
        let sid = |prefix: &str, digit: &str| format!("{prefix}{}", digit.repeat(32));
        Target {
            entity_sid: sid("YE", "5").parse().unwrap(),
            identity: Identity::from_stored("user-0001-abcd".into()),
            factor_sid: sid("YF", "3").parse().unwrap(),
        }
    }

    /// Returns a challenge of this kind.
    pub(crate) fn challenge_of<Kind>(kind: Kind, state: State, expires_at: Timestamp) -> Challenge<Kind> {
        let sid = |prefix: &str, digit: &str| format!("{prefix}{}", digit.repeat(32));
        Challenge {
            sid: sid("YC", "4").parse().unwrap(),
            account_sid: sid("AC", "1").parse().unwrap(),
            service_sid: sid("VA", "2").parse().unwrap(),
            state,
            metadata: None,
            expires_at,
            created_at: NOW,
            updated_at: NOW,
            kind,
        }
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
            let challenge = challenge_of((), state, NOW.plus_seconds(expires));
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
        let pending = challenge_of((), State::Pending, NOW.plus_seconds(300));
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
            let answered = challenge_of((), State::Answered { answer, at }, expiry);
            for now in [NOW, expiry] {
                assert_eq!(answered.status(now), status);
                assert_eq!(answered.require_pending(now).unwrap_err().code(), Code::ChallengeResponded);
            }
            assert_eq!(answered.responded_at(), Some(at));
        }
        let voided = challenge_of((), State::Voided, expiry);
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
    fn challenge_expiration_must_be_at_most_an_hour_ahead() {
        assert_eq!(resolve_expiration(None, NOW), Ok(NOW.plus_seconds(300)));
        assert_eq!(resolve_expiration(Some(NOW.plus_seconds(3600)), NOW), Ok(NOW.plus_seconds(3600)));
        for refused in [NOW, NOW.plus_seconds(-1), NOW.plus_seconds(3601)] {
            assert_eq!(resolve_expiration(Some(refused), NOW).unwrap_err().code(), Code::InvalidRequest);
        }
    }

    #[test]
    fn challenge_expiration_is_truncated_to_a_whole_second() {
        let odd = Timestamp::from_micros(NOW.micros() + 999_999);
        assert_eq!(resolve_expiration(None, odd), Ok(NOW.plus_seconds(300)));
        assert_eq!(resolve_expiration(Some(NOW.plus_seconds(1)), odd), Ok(NOW.plus_seconds(1)));
        // Truncated to a whole second, the requested time equals `now`.
        assert!(resolve_expiration(Some(odd), NOW).is_err());
    }

    #[test]
    fn only_a_passkey_challenge_can_lack_its_factor() {
        let expires_at = NOW.plus_seconds(300);
        let push: Challenge = push::tests::challenge(State::Pending, expires_at).into();
        let totp: Challenge = challenge_of(totp::tests::kind(), State::Pending, expires_at).into();
        let passkey = |target| -> Challenge {
            challenge_of(passkey::tests::kind(target), State::Pending, expires_at).into()
        };
        let target = target();
        assert_eq!((push.factor_type(), push.target()), (FactorType::Push, Some(&target)));
        assert_eq!((totp.factor_type(), totp.target()), (FactorType::Totp, Some(&target)));
        let known = passkey(PasskeyTarget::Factor(target.clone()));
        assert_eq!((known.factor_type(), known.target()), (FactorType::Passkeys, Some(&target)));
        assert_eq!(passkey(PasskeyTarget::Anyone).target(), None);
    }
}
