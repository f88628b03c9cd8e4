//! Time-based one-time passwords of authenticator apps: TOTP (RFC 6238) over HOTP (RFC 4226).
//!
//! A step is the number of whole time steps since the Unix epoch. Each step has one code, which is accepted once: the
//! caller stores the step of the last accepted code, and passes it to [`TotpKey::find_step`].

use std::fmt;
use std::sync::LazyLock;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac::{self, HMAC_SHA1_FOR_LEGACY_USE_ONLY, HMAC_SHA256, HMAC_SHA512};
use data_encoding::{Encoding, Specification};
use domain::factors::TotpSettings;
use domain::factors::totp::{Algorithm, TotpSecret};
use domain::{Entropy, Secret, Timestamp};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use zeroize::Zeroizing;

use crate::constant_time_eq;

/// The characters that the URI escapes: everything but the unreserved characters of RFC 3986 section 2.3.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Base32 (RFC 4648 section 6) without padding and in either case. Unused bits at the end may have any value, because
/// authenticator apps ignore them.
#[expect(clippy::expect_used, reason = "the specification is constant, and every test of base32 uses it")]
static BASE32: LazyLock<Encoding> = LazyLock::new(|| {
    let mut base32 = Specification::new();
    base32.symbols.push_str("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567");
    base32.translate.from.push_str("abcdefghijklmnopqrstuvwxyz");
    base32.translate.to.push_str("ABCDEFGHIJKLMNOPQRSTUVWXYZ");
    base32.check_trailing_bits = false;
    base32.encoding().expect("the specification of base32 is valid")
});

/// The secret that an authenticator app and the server share. It cannot be printed, and is wiped when dropped.
pub struct TotpKey(Zeroizing<Vec<u8>>);

impl TotpKey {
    /// Minimum length of a secret, in bytes. Secrets of 80 bits are common in older systems.
    pub const MIN_BYTES: usize = 10;

    /// Maximum length of a secret, in bytes.
    pub const MAX_BYTES: usize = 128;

    /// Generates a random secret as long as the HMAC (RFC 6238 section 5.1): 20, 32 or 64 bytes.
    pub fn generate(algorithm: Algorithm, entropy: &dyn Entropy) -> Self {
        let mut bytes = Zeroizing::new(vec![0; hmac_algorithm(algorithm).tag_len()]);
        entropy.fill(&mut bytes);
        Self(bytes)
    }

    /// Copies the bytes of a secret, or returns `None` if their number is not 10 to 128.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let is_valid = (Self::MIN_BYTES..=Self::MAX_BYTES).contains(&bytes.len());
        is_valid.then(|| Self(Zeroizing::new(bytes.to_vec())))
    }

    /// Returns the bytes of the secret.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the secret in the form in which it is sealed.
    pub fn to_secret(&self) -> TotpSecret {
        TotpSecret::new(self.0.to_vec())
    }

    /// Parses a secret of 10 to 128 bytes from base32 in either case, with or without `=` at the end. Returns `None`
    /// for any other text, also for one with spaces.
    pub fn parse(base32: &str) -> Option<Self> {
        let digits = base32.trim_end_matches('=').as_bytes();
        // Decoding needs memory in proportion to the text, so the length is checked first.
        let length = BASE32.decode_len(digits.len()).ok().filter(|length| *length <= Self::MAX_BYTES)?;
        let mut bytes = Zeroizing::new(vec![0; length]);
        BASE32.decode_mut(digits, &mut bytes).ok()?;
        (length >= Self::MIN_BYTES).then_some(Self(bytes))
    }

    /// Returns the secret in upper-case base32 without padding.
    pub fn to_base32(&self) -> Secret<String> {
        Secret::new(BASE32.encode(&self.0))
    }

    /// Returns the URI from which authenticator apps import the secret. The parts are percent-encoded UTF-8:
    /// `otpauth://totp/{issuer}:{account_name}?secret=…&issuer=…&algorithm=…&digits=…&period=…`.
    pub fn to_uri(&self, settings: &TotpSettings, issuer: &str, account_name: &str) -> Secret<String> {
        let escape = |text| utf8_percent_encode(text, ESCAPED);
        Secret::new(format!(
            "otpauth://totp/{issuer}:{}?secret={}&issuer={issuer}&algorithm={}&digits={}&period={}",
            escape(account_name),
            BASE32.encode(&self.0),
            settings.algorithm.as_str().to_ascii_uppercase(),
            settings.code_length.get(),
            settings.time_step.get(),
            issuer = escape(issuer),
        ))
    }

    /// Returns the code of `step`, with leading zeros.
    pub fn code(&self, settings: &TotpSettings, step: i64) -> String {
        code(&self.hmac_key(settings), settings, step)
    }

    /// Returns the lowest step after `last_step` that is at most `skew` steps from the current one and has this code.
    /// Returns `None` if there is none. `last_step` is the step of the last accepted code, or `None` if there is none.
    ///
    /// All candidates are compared, each in constant time.
    pub fn find_step(
        &self,
        settings: &TotpSettings,
        last_step: Option<i64>,
        now: Timestamp,
        code: &str,
    ) -> Option<i64> {
        let (current, skew) = (settings.step_at(now), settings.skew.get());
        let key = self.hmac_key(settings);
        let mut found = None;
        for step in (current - skew).max(0)..=current + skew {
            let candidate = self::code(&key, settings, step);
            let is_equal = verify_slices_are_equal(candidate.as_bytes(), code.as_bytes()).is_ok();
            let is_new = last_step.is_none_or(|last| step > last);
            if is_equal & is_new & found.is_none() {
                found = Some(step);
            }
        }
        found
    }

    /// Returns whether `other` is the same secret. The comparison takes constant time.
    pub fn is_equal(&self, other: &Self) -> bool {
        constant_time_eq(&self.0, &other.0)
    }

    fn hmac_key(&self, settings: &TotpSettings) -> hmac::Key {
        hmac::Key::new(hmac_algorithm(settings.algorithm), &self.0)
    }
}

const fn hmac_algorithm(algorithm: Algorithm) -> hmac::Algorithm {
    match algorithm {
        Algorithm::Sha1 => HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        Algorithm::Sha256 => HMAC_SHA256,
        Algorithm::Sha512 => HMAC_SHA512,
    }
}

/// Returns the code of `step`: the HOTP value of RFC 4226 section 5.3.
fn code(key: &hmac::Key, settings: &TotpSettings, step: i64) -> String {
    let tag = hmac::sign(key, &step.to_be_bytes());
    let tag = tag.as_ref();
    // The lowest four bits of the last byte are the offset of a number of 31 bits.
    let offset = usize::from(tag.last().map_or(0, |last| last & 0x0f));
    let number =
        tag.get(offset..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_be_bytes(*bytes));
    let length = settings.code_length.get().unsigned_abs();
    let modulus = (0..length).fold(1, |modulus, _| modulus * 10);
    let width = usize::try_from(length).unwrap_or_default();
    format!("{:0width$}", (number & 0x7fff_ffff) % modulus)
}

impl fmt::Debug for TotpKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TotpKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use domain::parameter::Bounded;

    use super::*;
    use crate::SystemEntropy;

    const SHA1: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
    const SHA256: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZA";
    const SHA512: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNA";

    fn settings(algorithm: Algorithm, code_length: i64, time_step: i64, skew: i64) -> TotpSettings {
        TotpSettings {
            algorithm,
            code_length: Bounded::new(code_length).unwrap(),
            time_step: Bounded::new(time_step).unwrap(),
            skew: Bounded::new(skew).unwrap(),
        }
    }

    fn secret() -> TotpKey {
        TotpKey::parse(SHA1).unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    /// The vectors of RFC 6238 appendix B.
    #[test]
    fn codes_equal_the_test_vectors_of_rfc_6238() {
        for (seconds, step, sha1, sha256, sha512) in [
            (59, 1, "94287082", "46119246", "90693936"),
            (1_111_111_109, 37_037_036, "07081804", "68084774", "25091201"),
            (1_111_111_111, 37_037_037, "14050471", "67062674", "99943326"),
            (1_234_567_890, 41_152_263, "89005924", "91819424", "93441116"),
            (2_000_000_000, 66_666_666, "69279037", "90698825", "38618901"),
            (20_000_000_000, 666_666_666, "65353130", "77737706", "47863826"),
        ] {
            for (algorithm, base32, code) in [
                (Algorithm::Sha1, SHA1, sha1),
                (Algorithm::Sha256, SHA256, sha256),
                (Algorithm::Sha512, SHA512, sha512),
            ] {
                let (secret, settings) = (TotpKey::parse(base32).unwrap(), settings(algorithm, 8, 30, 0));
                assert_eq!(settings.step_at(at(seconds)), step);
                assert_eq!(secret.code(&settings, step), code, "{algorithm:?} at {seconds}");
                assert_eq!(secret.find_step(&settings, None, at(seconds), code), Some(step));
                assert_eq!(secret.find_step(&settings, None, at(seconds + 30), code), None);
            }
        }
    }

    #[test]
    fn code_has_three_to_eight_digits_and_step_divides_the_time() {
        for (length, step, code) in [
            (3, 30, "082"),
            (4, 30, "7082"),
            (5, 30, "87082"),
            (6, 30, "287082"),
            (7, 30, "4287082"),
            (8, 30, "94287082"),
            (6, 20, "359152"),
            (6, 60, "755224"),
        ] {
            let settings = settings(Algorithm::Sha1, length, step, 0);
            assert_eq!(secret().code(&settings, settings.step_at(at(59))), code);
        }
    }

    #[test]
    fn code_of_the_wrong_length_is_not_found() {
        let settings = settings(Algorithm::Sha1, 6, 30, 1);
        assert_eq!(secret().find_step(&settings, None, at(59), "287082"), Some(1));
        for code in ["", "082", "87082", "94287082", "0287082", " 287082", "28708२"] {
            assert_eq!(secret().find_step(&settings, None, at(59), code), None, "{code}");
        }
    }

    #[test]
    fn code_is_found_at_most_skew_steps_from_the_current_one() {
        let now = at(1_111_111_111);
        for skew in 0..=2 {
            let settings = settings(Algorithm::Sha1, 8, 30, skew);
            for distance in -4..=4_i64 {
                let step = 37_037_037 + distance;
                let code = secret().code(&settings, step);
                let expected = (distance.abs() <= skew).then_some(step);
                assert_eq!(secret().find_step(&settings, None, now, &code), expected, "{skew} {distance}");
            }
        }
    }

    #[test]
    fn code_is_found_only_after_the_last_accepted_step() {
        let settings = settings(Algorithm::Sha1, 8, 30, 1);
        let code = secret().code(&settings, 37_037_037);
        let find = |last_step| secret().find_step(&settings, last_step, at(1_111_111_111), &code);
        assert_eq!(find(None), Some(37_037_037));
        assert_eq!(find(Some(37_037_036)), Some(37_037_037));
        assert_eq!(find(Some(37_037_037)), None);
        assert_eq!(find(Some(37_037_038)), None);
    }

    #[test]
    fn lowest_new_step_is_found_if_several_steps_have_the_same_code() {
        let settings = settings(Algorithm::Sha1, 3, 30, 2);
        let code = |step| secret().code(&settings, step);
        // With three digits, one step in about a thousand has the code of its successor.
        let twin = (2..).find(|step| code(*step) == code(step + 1)).unwrap();
        let now = at(twin * 30);
        let find = |last_step| secret().find_step(&settings, last_step, now, &code(twin));
        assert_eq!(find(None), Some(twin));
        assert_eq!(find(Some(twin)), Some(twin + 1));
        assert_eq!(find(Some(twin + 1)), None);
    }

    #[test]
    fn extreme_times_do_not_overflow() {
        let settings = settings(Algorithm::Sha1, 6, 20, 2);
        assert_eq!(secret().find_step(&settings, None, at(-1), "000000"), None);
        let first = secret().code(&settings, 0);
        assert_eq!(secret().find_step(&settings, None, at(0), &first), Some(0));
        assert_eq!(secret().find_step(&settings, Some(i64::MAX), at(0), &first), None);
        for micros in [i64::MIN, i64::MAX] {
            secret().find_step(&settings, None, Timestamp::from_micros(micros), "");
        }
    }

    #[test]
    fn base32_is_accepted_in_either_case_and_with_padding() {
        for text in [
            &SHA1.to_ascii_lowercase(),
            &format!("{SHA1}="),
            &format!("{SHA1}======"),
            &SHA1.replace('G', "g"),
        ] {
            assert!(TotpKey::parse(text).unwrap().is_equal(&secret()), "{text}");
        }
        // The two unused bits of the last digit are ones.
        let other = SHA256.replace("GEZA", "GEZB");
        assert_eq!(TotpKey::parse(&other).unwrap().to_base32().expose(), SHA256);
    }

    #[test]
    fn base32_of_another_form_or_length_is_refused() {
        for bytes in [9, 10, 128, 129] {
            let text = BASE32.encode(&vec![7; bytes]);
            assert_eq!(TotpKey::parse(&text).is_some(), (10..=128).contains(&bytes), "{bytes}");
        }
        for bad in [
            "",
            "=",
            &format!("={SHA1}"),
            &format!("{SHA1} "),
            &format!("{SHA1}=A"),
            &SHA1.replace('G', "0"),
            &SHA1.replace('G', "1"),
            &SHA1.replace('G', "8"),
            &SHA1.replace('G', "-"),
            &format!("{SHA1}A"),
            &format!("{SHA1}ſ"),
        ] {
            assert!(TotpKey::parse(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn generated_secret_is_random_and_as_long_as_the_hmac() {
        for (algorithm, bytes) in [(Algorithm::Sha1, 20), (Algorithm::Sha256, 32), (Algorithm::Sha512, 64)] {
            let secret = TotpKey::generate(algorithm, &SystemEntropy);
            assert_eq!(secret.as_bytes().len(), bytes);
            assert!(!secret.is_equal(&TotpKey::generate(algorithm, &SystemEntropy)));
        }
    }

    #[test]
    fn uri_percent_encodes_both_names() {
        let uri = |algorithm, issuer, name| {
            secret().to_uri(&settings(algorithm, 6, 30, 1), issuer, name).expose().clone()
        };
        assert_eq!(
            uri(Algorithm::Sha1, "Example Bank", "Anna's phone"),
            "otpauth://totp/Example%20Bank:Anna%27s%20phone?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\
             &issuer=Example%20Bank&algorithm=SHA1&digits=6&period=30"
        );
        let other = uri(Algorithm::Sha512, "A:b&c=d-._~", "é/?#+");
        assert!(other.starts_with("otpauth://totp/A%3Ab%26c%3Dd-._~:%C3%A9%2F%3F%23%2B?"), "{other}");
        assert!(other.ends_with("&issuer=A%3Ab%26c%3Dd-._~&algorithm=SHA512&digits=6&period=30"), "{other}");
    }

    #[test]
    fn secret_is_not_printed() {
        assert_eq!(secret().as_bytes(), b"12345678901234567890");
        assert_eq!(secret().to_secret().expose(), secret().as_bytes());
        assert!(TotpKey::from_bytes(b"12345678901234567890").unwrap().is_equal(&secret()));
        for length in [0, 9, 129] {
            assert!(TotpKey::from_bytes(&vec![1; length]).is_none());
        }
        assert_eq!(format!("{:?} {:?}", secret(), secret().to_base32()), "TotpKey(…) [secret]");
    }

    proptest! {
        #[test]
        fn parsing_a_secret_never_panics(text in ".*") {
            TotpKey::parse(&text);
        }

        #[test]
        fn secret_is_parsed_from_its_own_base32(bytes in prop::collection::vec(any::<u8>(), 10..=128)) {
            let secret = TotpKey::from_bytes(&bytes).unwrap();
            let parsed = TotpKey::parse(secret.to_base32().expose()).unwrap();
            prop_assert_eq!(parsed.as_bytes(), &bytes[..]);
        }
    }
}
