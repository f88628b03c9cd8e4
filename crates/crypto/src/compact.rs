//! The compact serialization of RFC 7515 section 7.1 and RFC 7516 section 7.1: base64url parts separated by dots.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;

/// Splits `text` into exactly `N` parts, which may be empty; returns `None` for another number.
pub(crate) fn split<const N: usize>(text: &str) -> Option<[&str; N]> {
    let mut found = text.split('.');
    let mut parts = [""; N];
    for part in &mut parts {
        *part = found.next()?;
    }
    found.next().is_none().then_some(parts)
}

/// Decodes a part. Padding, white space and nonzero trailing bits are refused, so that every part has one spelling.
pub(crate) fn decode(part: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}

/// Encodes `bytes` as a part.
pub(crate) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes a part and parses it as JSON. serde_json limits the depth to 128. Of two members with the same name, a map
/// keeps the last, as RFC 7515 section 4 permits.
pub(crate) fn parse_json<T: DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&decode(part)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_with_another_number_of_parts_is_refused() {
        assert_eq!(split("a..c"), Some(["a", "", "c"]));
        assert_eq!(split::<3>("a.b"), None);
        assert_eq!(split::<3>("a.b.c.d"), None);
        assert_eq!(split(""), Some([""]));
    }

    #[test]
    fn part_is_accepted_in_one_spelling_only() {
        assert_eq!(decode("AA"), Some(vec![0]));
        for other in ["AA==", "AB", "A", " AA", "AA\n", "+/+/"] {
            assert_eq!(decode(other), None, "{other}");
        }
    }
}
