//! The compact serialization of RFC 7515 section 7.1 and RFC 7516 section 7.1: base64url parts
//! between dots.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;

/// The parts of `text`, if there are exactly `N`. They may be empty.
pub(crate) fn parts<const N: usize>(text: &str) -> Option<[&str; N]> {
    let mut found = text.split('.');
    let mut parts = [""; N];
    for part in &mut parts {
        *part = found.next()?;
    }
    found.next().is_none().then_some(parts)
}

/// The bytes of a part. Padding, white space and stray trailing bits are refused, so that a part has
/// one spelling only.
pub(crate) fn decode(part: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}

/// The part that stands for `bytes`.
pub(crate) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The value that a part holds as JSON. serde_json stops at a depth of 128, and of two members with
/// the same name a map keeps the last, as RFC 7515 section 4 permits.
pub(crate) fn json<T: DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&decode(part)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_parts() {
        assert_eq!(parts("a..c"), Some(["a", "", "c"]));
        assert_eq!(parts::<3>("a.b"), None);
        assert_eq!(parts::<3>("a.b.c.d"), None);
        assert_eq!(parts(""), Some([""]));
    }

    #[test]
    fn a_part_has_one_spelling() {
        assert_eq!(decode("AA"), Some(vec![0]));
        for other in ["AA==", "AB", "A", " AA", "AA\n", "+/+/"] {
            assert_eq!(decode(other), None, "{other}");
        }
    }
}
