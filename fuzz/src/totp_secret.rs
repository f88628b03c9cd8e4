//! Secrets of authenticator apps in base32, compared with a decoder that works bit by bit.

use crypto::TotpKey;
use domain::Timestamp;
use domain::factors::TotpSettings;
use domain::factors::totp::Algorithm;
use domain::parameter::Bounded;

use crate::NOW_SECONDS;

/// Interprets the input as base32 and, if it is a secret, as the names in its URI.
pub fn check(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let key = TotpKey::parse(text);
    assert_eq!(key.as_ref().map(TotpKey::as_bytes), slowly(text).as_deref());
    if let Some(key) = key {
        own(&key);
        let upper = text.trim_end_matches('=').to_ascii_uppercase();
        let written = key.to_base32().expose().clone();
        // Only unused bits at the end may differ.
        assert_eq!(written.len(), upper.len());
        assert_eq!(written[..written.len() - 1], upper[..upper.len() - 1]);
    }
    if let Some(key) = TotpKey::from_bytes(data) {
        own(&key);
        let written = key.to_uri(&settings(Algorithm::Sha1), text, text).expose().clone();
        assert!(
            written.bytes().all(|byte| byte.is_ascii_graphic() && !b"'\"<>#".contains(&byte)),
            "{written}"
        );
        assert_eq!(written.matches('?').count(), 1);
        assert_eq!(written.matches('&').count(), 4);
    }
}

fn settings(algorithm: Algorithm) -> TotpSettings {
    TotpSettings {
        algorithm,
        code_length: Bounded::new(6).unwrap(),
        time_step: Bounded::new(30).unwrap(),
        skew: Bounded::new(1).unwrap(),
    }
}

/// Checks that the secret is parsed from its own base32, and that its codes are found once.
fn own(key: &TotpKey) {
    assert!(TotpKey::parse(key.to_base32().expose()).unwrap().is_equal(key));
    let now = Timestamp::from_seconds(NOW_SECONDS);
    for algorithm in [Algorithm::Sha1, Algorithm::Sha256, Algorithm::Sha512] {
        let settings = settings(algorithm);
        let step = settings.step_at(now);
        let code = key.code(&settings, step + 1);
        assert!(code.len() == 6 && code.bytes().all(|byte| byte.is_ascii_digit()));
        // Two steps may have the same code, so an earlier one may be found.
        assert!(key.find_step(&settings, None, now, &code).is_some_and(|found| found <= step + 1));
        assert_eq!(key.find_step(&settings, Some(step), now, &code), Some(step + 1));
        assert_eq!(key.find_step(&settings, Some(step + 1), now, &code), None);
    }
}

fn slowly(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let mut bits = Vec::new();
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a',
            b'2'..=b'7' => digit - b'2' + 26,
            _ => return None,
        };
        bits.extend((0..5).rev().map(|bit| value >> bit & 1));
    }
    // A last digit of which no bit is used does not occur in base32.
    if bits.len() % 8 >= 5 {
        return None;
    }
    let bytes: Vec<u8> =
        bits.chunks_exact(8).map(|bits| bits.iter().fold(0, |byte, bit| byte << 1 | bit)).collect();
    (10..=128).contains(&bytes.len()).then_some(bytes)
}
