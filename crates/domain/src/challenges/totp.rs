//! TOTP challenges: requests for a one-time code.

use std::num::NonZeroU32;

use serde_json::{Map, Value, json};

use crate::challenges::details::{Field, Message};
use crate::challenges::{Answer, Challenge, ChallengedKind, State, Target};
use crate::entities::EntityPath;
use crate::factors::totp::CodeLength;
use crate::factors::{FactorType, HasFactorType};
use crate::limits::Window;
use crate::problem::{Code, Problem};
use crate::text::StringMap;
use crate::time::Timestamp;

/// Maximum number of wrong codes for one challenge.
pub const MAX_ATTEMPTS: u32 = 5;

/// Returns the limits on new challenges to a factor whose codes have this length (docs/protocol/decisions.md, No. 22).
/// Without them, an attacker could try any number of codes, [`MAX_ATTEMPTS`] with each challenge.
pub fn challenge_limits(code_length: CodeLength) -> &'static [Window] {
    const HOUR: i64 = 3600;
    const DAY: i64 = 24 * HOUR;
    const SHORT_CODES: &[Window] = &[window(10, DAY)];
    const LONG_CODES: &[Window] = &[window(50, HOUR), window(100, DAY)];
    if code_length.get() <= 4 { SHORT_CODES } else { LONG_CODES }
}

const fn window(most: u32, seconds: i64) -> Window {
    match NonZeroU32::new(most) {
        Some(most) => Window::new(most, seconds),
        // This is evaluated at compile time, so `unreachable!` can only fail the build.
        None => unreachable!(),
    }
}

/// What a TOTP challenge adds to a [`Challenge`].
#[derive(Clone, Debug)]
pub struct TotpChallenge {
    /// Factor whose code must answer the challenge.
    pub target: Target,
    /// Message that the backend gave, if any. No device shows it.
    pub message: Option<Message>,
    /// Labeled facts that the backend gave. No device shows them.
    pub fields: Vec<Field>,
    /// Further details that the backend gave.
    pub hidden_details: Option<StringMap>,
    /// Number of wrong codes so far.
    pub attempts: u32,
}

impl HasFactorType for TotpChallenge {
    fn factor_type(&self) -> FactorType {
        FactorType::Totp
    }
}

impl ChallengedKind for TotpChallenge {
    fn target(&self) -> Option<&Target> {
        Some(&self.target)
    }
}

impl TotpChallenge {
    /// Returns the fields of the challenge that the API shows at `now`, except those that all types show in the same
    /// way. `challenge` is the challenge to which this kind belongs.
    pub fn shown_fields<Kind>(&self, challenge: &Challenge<Kind>, now: Timestamp) -> Map<String, Value> {
        let message = self.message.as_ref().map_or("", |message| message.as_str());
        let details = json!({ "message": message, "fields": self.fields });
        challenge.shown_fields(&self.target, details, self.hidden_details.as_ref(), now)
    }
}

impl Challenge<TotpChallenge> {
    /// Returns the path of the entity to which the challenge belongs.
    pub fn path(&self) -> EntityPath {
        self.path_of(&self.kind.target)
    }

    /// Checks that another code may be tried on the challenge.
    ///
    /// # Errors
    /// Returns error 60308 after [`MAX_ATTEMPTS`] wrong codes.
    pub fn require_attempt(&self) -> Result<(), Problem> {
        if self.kind.attempts < MAX_ATTEMPTS {
            return Ok(());
        }
        let advice = "five codes were wrong; create another challenge";
        Err(Problem::with_advice(Code::TooManyChallengeAttempts, advice))
    }

    /// Records a code that was sent at `now`. The right code approves the challenge, a wrong one is counted.
    pub fn record_code(&mut self, is_right: bool, now: Timestamp) {
        if is_right {
            self.state = State::Answered { answer: Answer::Approved, at: now };
            self.updated_at = now;
        } else {
            self.kind.attempts += 1;
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::challenges::Status;
    use crate::challenges::tests::{challenge_of, target};

    const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

    /// Returns what a TOTP challenge without details adds.
    pub(crate) fn kind() -> TotpChallenge {
        TotpChallenge {
            target: target(),
            message: None,
            fields: Vec::new(),
            hidden_details: None,
            attempts: 0,
        }
    }

    #[test]
    fn totp_challenge_without_details_shows_empty_ones() {
        let challenge = challenge_of(kind(), State::Pending, NOW.plus_seconds(300));
        let shown = challenge.kind.shown_fields(&challenge, NOW);
        assert_eq!(shown["details"], json!({ "message": "", "fields": [] }));
        assert_eq!((&shown["hidden_details"], &shown["status"]), (&Value::Null, &json!("pending")));
        assert_eq!(challenge.path().identity, target().identity);
    }

    #[test]
    fn right_code_approves_a_challenge_and_five_wrong_ones_lock_it() {
        let later = NOW.plus_seconds(9);
        let mut challenge = challenge_of(kind(), State::Pending, NOW.plus_seconds(300));
        let created = challenge.updated_at;
        for wrong in 0..5 {
            assert_eq!(challenge.require_attempt(), Ok(()));
            challenge.record_code(false, later);
            assert_eq!((challenge.kind.attempts, challenge.status(later)), (wrong + 1, Status::Pending));
        }
        assert_eq!(challenge.updated_at, created);
        let refused = challenge.require_attempt().unwrap_err();
        assert_eq!((refused.code(), refused.retry_after()), (Code::TooManyChallengeAttempts, None));

        challenge.kind.attempts = 4;
        challenge.record_code(true, later);
        assert_eq!((challenge.status(later), challenge.responded_at()), (Status::Approved, Some(later)));
        assert_eq!((challenge.kind.attempts, challenge.updated_at), (4, later));
    }

    #[test]
    fn challenges_for_short_codes_are_limited_more_strictly() {
        let limits = |digits| {
            let windows = challenge_limits(CodeLength::new(digits).unwrap()).iter();
            let seconds = |window: &Window| NOW.seconds() - window.span(NOW).start.seconds();
            windows.map(|window| (window.most().get(), seconds(window))).collect::<Vec<_>>()
        };
        for digits in [3, 4] {
            assert_eq!(limits(digits), [(10, 86_400)]);
        }
        for digits in [5, 6, 7, 8] {
            assert_eq!(limits(digits), [(50, 3600), (100, 86_400)]);
        }
    }
}
