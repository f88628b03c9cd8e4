//! TOTP factors: secrets that are shared with an authenticator app, from which both derive one-time codes.

use std::fmt;

use crate::factor_type::{FactorType, HasFactorType};
use crate::factors::{Factor, Status};
use crate::parameter::{Bounded, Expected, Parameter};
use crate::problem::{Code, Problem};
use crate::secret::Sealed;
use crate::services::Totp;
use crate::text::FriendlyName;
use crate::time::Timestamp;

/// Maximum number of wrong codes with which the verification of a factor can be attempted.
pub const MAX_FAILED_VERIFICATIONS: u32 = 5;

/// Number of seconds for which a code is valid.
pub type TimeStep = Bounded<20, 60>;

/// Number of digits of a code.
pub type CodeLength = Bounded<3, 8>;

/// Number of time steps before and after the current one whose codes are accepted.
pub type Skew = Bounded<0, 2>;

/// The secret from which codes are derived, in plaintext. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct TotpSecret(Vec<u8>);

impl TotpSecret {
    /// Wraps the bytes of a secret.
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Returns the bytes of the secret.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for TotpSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// The hash function of the HMAC that derives codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// HMAC-SHA-1, the only one that all authenticator apps support.
    Sha1,
    /// HMAC-SHA-256.
    Sha256,
    /// HMAC-SHA-512.
    Sha512,
}

impl Algorithm {
    /// Returns the algorithm's name in the API and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }
}

impl Parameter for Algorithm {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        [Self::Sha1, Self::Sha256, Self::Sha512]
            .into_iter()
            .find(|algorithm| algorithm.as_str() == text)
            .ok_or_else(|| Expected::new("must be sha1, sha256 or sha512"))
    }
}

/// A one-time code as a user types it: 3 to 8 ASCII digits. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct TotpCode(String);

impl TotpCode {
    /// Returns the digits of the code.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for TotpCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[code]")
    }
}

impl Parameter for TotpCode {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        if (3..=8).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Expected::new("must have 3 to 8 digits"))
        }
    }
}

/// The settings with which codes are derived and compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TotpSettings {
    /// Hash function of the HMAC.
    pub algorithm: Algorithm,
    /// Number of digits of a code.
    pub code_length: CodeLength,
    /// Number of seconds for which a code is current.
    pub time_step: TimeStep,
    /// Number of steps before and after the current one whose codes are accepted.
    pub skew: Skew,
}

impl TotpSettings {
    /// The settings of RFC 6238, and one time step before and after the current one.
    pub const DEFAULT: Self = match (TimeStep::new(30), CodeLength::new(6), Skew::new(1)) {
        (Some(time_step), Some(code_length), Some(skew)) => {
            Self { algorithm: Algorithm::Sha1, code_length, time_step, skew }
        }
        // This is evaluated at compile time, so `unreachable!` can only fail the build.
        _ => unreachable!(),
    };

    /// Returns the settings of a new factor: the requested ones, otherwise those of its service, otherwise
    /// [`Self::DEFAULT`]. A service has no setting for the algorithm.
    pub fn of_new_factor(requested: TotpChoices, service: &Totp) -> Self {
        let default = Self::DEFAULT;
        Self {
            algorithm: requested.algorithm.unwrap_or(default.algorithm),
            code_length: requested.code_length.or(service.code_length).unwrap_or(default.code_length),
            time_step: requested.time_step.or(service.time_step).unwrap_or(default.time_step),
            skew: requested.skew.or(service.skew).unwrap_or(default.skew),
        }
    }

    /// Returns the current step at `now`. It is negative before the Unix epoch.
    pub const fn step_at(&self, now: Timestamp) -> i64 {
        now.seconds().div_euclid(self.time_step.get())
    }
}

/// The settings that a request for a new factor, or for an update, contains. `None` stands for an absent parameter.
#[derive(Clone, Copy, Debug, Default)]
pub struct TotpChoices {
    /// Hash function of the HMAC.
    pub algorithm: Option<Algorithm>,
    /// Number of digits of a code.
    pub code_length: Option<CodeLength>,
    /// Number of seconds for which a code is current.
    pub time_step: Option<TimeStep>,
    /// Number of steps before and after the current one whose codes are accepted.
    pub skew: Option<Skew>,
}

/// An update of a TOTP factor. Fields that are `None` stay unchanged.
#[derive(Clone, Debug, Default)]
pub struct TotpChanges {
    /// New friendly name of the factor.
    pub friendly_name: Option<FriendlyName>,
    /// New settings. The user's authenticator app does not learn of them.
    pub settings: TotpChoices,
}

impl TotpChanges {
    /// Returns whether the update changes no field.
    pub fn is_empty(&self) -> bool {
        self.names().is_empty()
    }

    /// Returns the names of the changed fields, as API responses spell them.
    pub fn names(&self) -> Vec<&'static str> {
        let names = [
            ("friendly_name", self.friendly_name.is_some()),
            ("config.alg", self.settings.algorithm.is_some()),
            ("config.code_length", self.settings.code_length.is_some()),
            ("config.skew", self.settings.skew.is_some()),
            ("config.time_step", self.settings.time_step.is_some()),
        ];
        names.into_iter().filter(|(_, is_named)| *is_named).map(|(name, _)| name).collect()
    }

    /// Applies the update, made at `now`, to `factor`.
    pub fn apply(self, factor: &mut Factor<TotpFactor>, now: Timestamp) {
        let totp = &mut factor.kind;
        totp.algorithm = self.settings.algorithm.unwrap_or(totp.algorithm);
        totp.code_length = self.settings.code_length.unwrap_or(totp.code_length);
        totp.skew = self.settings.skew.unwrap_or(totp.skew);
        if let Some(time_step) = self.settings.time_step {
            totp.set_time_step(time_step);
        }
        if let Some(friendly_name) = self.friendly_name {
            factor.friendly_name = friendly_name;
        }
        factor.updated_at = now;
    }
}

/// What a TOTP factor adds to a [`Factor`]: the secret, and how codes are derived from it.
#[derive(Clone, Debug)]
pub struct TotpFactor {
    /// Secret that the authenticator app has too.
    pub secret: Sealed<TotpSecret>,
    /// Hash function of the HMAC.
    pub algorithm: Algorithm,
    /// Number of seconds for which a code is valid.
    pub time_step: TimeStep,
    /// Number of digits of a code.
    pub code_length: CodeLength,
    /// Number of time steps before and after the current one whose codes are accepted.
    pub skew: Skew,
    /// Number of the time step of the last accepted code; `None` if none was accepted. No code of this or an earlier
    /// step is accepted again (RFC 6238, section 5.2).
    pub last_step: Option<i64>,
    /// Number of wrong codes with which the verification of the factor was attempted.
    pub failed_verifications: u32,
}

impl TotpFactor {
    /// Returns the settings with which codes are derived and compared.
    pub const fn settings(&self) -> TotpSettings {
        TotpSettings {
            algorithm: self.algorithm,
            code_length: self.code_length,
            time_step: self.time_step,
            skew: self.skew,
        }
    }

    /// Changes the time step. The number of the last accepted step becomes that of the new step in which the old one
    /// ends. A change back and forth therefore makes no used code acceptable again.
    fn set_time_step(&mut self, time_step: TimeStep) {
        let (old, new) = (self.time_step.get(), time_step.get());
        let end_of = |step: i64| step.saturating_add(1).saturating_mul(old).saturating_sub(1);
        self.last_step = self.last_step.map(|step| end_of(step).div_euclid(new));
        self.time_step = time_step;
    }
}

impl Factor<TotpFactor> {
    /// Checks that another code may be tried to verify the factor.
    ///
    /// # Errors
    /// Returns error 60310 after [`MAX_FAILED_VERIFICATIONS`] wrong codes.
    pub fn require_verification_attempt(&self) -> Result<(), Problem> {
        if self.kind.failed_verifications < MAX_FAILED_VERIFICATIONS {
            return Ok(());
        }
        let advice = "five codes were wrong; delete the factor and create another one";
        Err(Problem::with_advice(Code::TooManyFactorAttempts, advice))
    }

    /// Records an attempt to verify the factor at `now` with a code. `step` is the time step to which the code belongs,
    /// or `None` if the code is wrong.
    pub fn record_verification(&mut self, step: Option<i64>, now: Timestamp) {
        match step {
            Some(step) => {
                self.kind.last_step = Some(step);
                self.status = Status::Verified;
                self.updated_at = now;
            }
            None => self.kind.failed_verifications += 1,
        }
    }
}

impl HasFactorType for TotpFactor {
    fn factor_type(&self) -> FactorType {
        FactorType::Totp
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::factors::tests::factor_of;

    const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

    /// Returns what a TOTP factor with this secret and the settings of RFC 6238 adds.
    pub(crate) fn kind(secret: Sealed<TotpSecret>) -> TotpFactor {
        TotpFactor {
            secret,
            algorithm: Algorithm::Sha1,
            time_step: TimeStep::new(30).unwrap(),
            code_length: CodeLength::new(6).unwrap(),
            skew: Skew::new(1).unwrap(),
            last_step: None,
            failed_verifications: 0,
        }
    }

    #[test]
    fn totp_algorithms_have_the_names_used_by_the_api() {
        let algorithms =
            [("sha1", Algorithm::Sha1), ("sha256", Algorithm::Sha256), ("sha512", Algorithm::Sha512)];
        for (word, algorithm) in algorithms {
            assert_eq!((algorithm.as_str(), Algorithm::from_parameter(word)), (word, Ok(algorithm)));
        }
        assert!(Algorithm::from_parameter("SHA1").is_err());
    }

    #[test]
    fn debug_output_of_a_totp_factor_hides_its_secret() {
        let secret = TotpSecret::new(b"12345678901234567890".to_vec());
        assert_eq!(
            (secret.expose(), format!("{secret:?}").as_str()),
            (&b"12345678901234567890"[..], "[secret]")
        );
        let printed = format!("{:?}", kind(Sealed::from_bytes(b"12345678901234567890".to_vec())));
        assert!(printed.contains("[sealed]") && !printed.contains("49, 50"), "{printed}");
    }

    fn factor() -> Factor<TotpFactor> {
        factor_of(kind(Sealed::from_bytes(Vec::new())))
    }

    #[test]
    fn code_has_3_to_8_ascii_digits_and_does_not_print() {
        for code in ["000", "123456", "12345678"] {
            let parsed = TotpCode::from_parameter(code).unwrap();
            assert_eq!((parsed.as_str(), format!("{parsed:?}").as_str()), (code, "[code]"));
        }
        for bad in ["", "12", "123456789", "12345a", " 123456", "123 456", "-12345", "١٢٣٤"] {
            assert!(TotpCode::from_parameter(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn requested_settings_precede_those_of_the_service_and_the_defaults() {
        let defaults = TotpSettings::of_new_factor(TotpChoices::default(), &Totp::default());
        assert_eq!(defaults, TotpSettings::DEFAULT);
        assert_eq!(
            (defaults.algorithm, defaults.code_length.get(), defaults.time_step.get(), defaults.skew.get()),
            (Algorithm::Sha1, 6, 30, 1)
        );
        let service = Totp {
            issuer: None,
            time_step: TimeStep::new(60),
            code_length: CodeLength::new(8),
            skew: Skew::new(2),
        };
        let of_service = TotpSettings::of_new_factor(TotpChoices::default(), &service);
        assert_eq!(
            (of_service.time_step.get(), of_service.code_length.get(), of_service.skew.get()),
            (60, 8, 2)
        );
        let choices = TotpChoices {
            algorithm: Some(Algorithm::Sha256),
            code_length: CodeLength::new(7),
            time_step: TimeStep::new(20),
            skew: Skew::new(0),
        };
        let requested = TotpSettings::of_new_factor(choices, &service);
        assert_eq!(requested.algorithm, Algorithm::Sha256);
        assert_eq!(
            (requested.time_step.get(), requested.code_length.get(), requested.skew.get()),
            (20, 7, 0)
        );
    }

    #[test]
    fn totp_update_changes_and_lists_only_the_given_fields() {
        let later = NOW.plus_seconds(9);
        let with = |settings| TotpChanges { friendly_name: None, settings };
        let name = FriendlyName::from_stored("Tablet".into());
        let each = [
            (TotpChanges { friendly_name: Some(name), ..TotpChanges::default() }, "friendly_name"),
            (
                with(TotpChoices { algorithm: Some(Algorithm::Sha512), ..TotpChoices::default() }),
                "config.alg",
            ),
            (
                with(TotpChoices { code_length: CodeLength::new(8), ..TotpChoices::default() }),
                "config.code_length",
            ),
            (with(TotpChoices { skew: Skew::new(2), ..TotpChoices::default() }), "config.skew"),
            (
                with(TotpChoices { time_step: TimeStep::new(60), ..TotpChoices::default() }),
                "config.time_step",
            ),
        ];
        let shown = |factor: &Factor<TotpFactor>| (factor.friendly_name.clone(), factor.kind.settings());
        for (changes, name) in each {
            assert_eq!((changes.names(), changes.is_empty()), (vec![name], false));
            let mut changed = factor();
            changes.apply(&mut changed, later);
            assert_ne!(shown(&changed), shown(&factor()), "{name}");
            assert_eq!(changed.updated_at, later);
        }
        assert!(TotpChanges::default().is_empty());
        let mut unchanged = factor();
        TotpChanges::default().apply(&mut unchanged, later);
        assert_eq!(shown(&unchanged), shown(&factor()));
    }

    #[test]
    fn used_code_stays_used_when_the_time_step_is_changed_back_and_forth() {
        let mut factor = factor();
        let change = |factor: &mut Factor<TotpFactor>, seconds| {
            let settings = TotpChoices { time_step: TimeStep::new(seconds), ..TotpChoices::default() };
            TotpChanges { friendly_name: None, settings }.apply(factor, NOW);
        };
        change(&mut factor, 60);
        assert_eq!(factor.kind.last_step, None);
        for step in [0, 1, 58_907_520, 58_907_521] {
            for other in [20, 29, 31, 45, 60] {
                change(&mut factor, 30);
                factor.kind.last_step = Some(step);
                change(&mut factor, other);
                // A code of the next steps of the new length is accepted.
                let last = factor.kind.last_step.unwrap();
                assert!(
                    last * other < (step + 1) * 30 && (last + 1) * other >= (step + 1) * 30,
                    "{step} {other}"
                );
                change(&mut factor, 30);
                assert!(factor.kind.last_step.unwrap() >= step, "{step} {other}");
                assert!(factor.kind.last_step.unwrap() <= step + 2, "{step} {other}");
            }
        }
    }

    #[test]
    fn factor_is_verified_by_a_right_code_and_locked_after_five_wrong_ones() {
        let later = NOW.plus_seconds(9);
        let mut factor = factor();
        factor.status = Status::Unverified;
        for wrong in 0..5 {
            assert_eq!(factor.require_verification_attempt(), Ok(()));
            factor.record_verification(None, later);
            assert_eq!((factor.kind.failed_verifications, factor.status), (wrong + 1, Status::Unverified));
        }
        assert_eq!(factor.updated_at, NOW);
        let refused = factor.require_verification_attempt().unwrap_err();
        assert_eq!((refused.code(), refused.retry_after()), (Code::TooManyFactorAttempts, None));

        factor.kind.failed_verifications = 4;
        factor.record_verification(Some(7), later);
        assert_eq!((factor.status, factor.kind.last_step), (Status::Verified, Some(7)));
        assert_eq!((factor.kind.failed_verifications, factor.updated_at), (4, later));
    }
}
