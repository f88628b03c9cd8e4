//! The compact serialization of JWS and JWE (RFC 7515 section 7.1, RFC 7516 section 7.1): base64url parts separated by
//! dots.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;

/// Splits `text` at its dots into exactly `N` parts, which may be empty. Returns `None` if the number of parts differs.
pub(crate) fn split<const N: usize>(text: &str) -> Option<[&str; N]> {
    let mut found = text.split('.');
    let mut parts = [""; N];
    for part in &mut parts {
        *part = found.next()?;
    }
    found.next().is_none().then_some(parts)
}

/// Decodes a base64url part. Returns `None` for padding, white space and nonzero trailing bits, so that every sequence
/// of bytes has exactly one accepted encoding.
pub(crate) fn decode(part: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}

/// Encodes `bytes` as a base64url part without padding.
pub(crate) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes a base64url part and parses it as JSON; returns `None` if either fails. serde_json limits the nesting depth
/// to 128. If an object repeats a member name, a map keeps the last member, as RFC 7515 section 4 permits.
pub(crate) fn parse_json<T: DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&decode(part)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compact_token_with_a_wrong_number_of_parts_is_refused() {
        assert_eq!(split("a..c"), Some(["a", "", "c"]));
        assert_eq!(split::<3>("a.b"), None);
        assert_eq!(split::<3>("a.b.c.d"), None);
        assert_eq!(split(""), Some([""]));
    }

    #[test]
    fn token_part_is_accepted_only_in_canonical_base64url() {
        assert_eq!(decode("AA"), Some(vec![0]));
        for other in ["AA==", "AB", "A", " AA", "AA\n", "+/+/"] {
            assert_eq!(decode(other), None, "{other}");
        }
    }
}
