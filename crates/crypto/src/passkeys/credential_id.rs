//! The IDs of credentials.

use domain::factors::passkey::CredentialId;

use crate::compact;

use super::{Rejection, decode_base64url};

/// Minimum number of hexadecimal digits that are recognized as such in `rawId`. A base64url text of this length
/// consists of them with a probability of 2⁻⁶⁴.
const MIN_HEX_DIGITS: usize = 32;

/// Decodes an ID from base64url without padding, or returns `None` if the text is malformed.
pub fn parse_credential_id(base64url: &str) -> Option<CredentialId> {
    CredentialId::new(decode_base64url(base64url, CredentialId::MAX_BYTES)?)
}

/// Returns the ID in base64url without padding.
pub fn format_credential_id(id: &CredentialId) -> String {
    compact::encode(id.as_bytes())
}

/// Decodes the member `rawId`. Browsers and Twilio's SDKs send base64url; Twilio's documentation shows hexadecimal
/// digits.
fn parse_raw_id(text: &str) -> Option<CredentialId> {
    let is_hex_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let is_hex =
        text.len() >= MIN_HEX_DIGITS && text.len().is_multiple_of(2) && text.bytes().all(is_hex_digit);
    if is_hex { CredentialId::new(hex::decode(text).ok()?) } else { parse_credential_id(text) }
}

/// The ID that a response states outside of the authenticator data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StatedId {
    pub(super) id: CredentialId,
    /// The rejection if the credential has another ID. It names the member that stated it.
    mismatch: Rejection,
}

impl StatedId {
    /// Checks that the credential has this ID.
    pub(super) fn require(&self, id: &CredentialId) -> Result<(), Rejection> {
        if self.id == *id { Ok(()) } else { Err(self.mismatch) }
    }
}

/// Decodes the members `id` and `rawId` and returns the ID that both have. Returns `None` if both are absent.
pub(super) fn parse_ids(id: Option<&str>, raw_id: Option<&str>) -> Result<Option<StatedId>, Rejection> {
    let id = id.map(|text| parse_credential_id(text).ok_or(Rejection::Id)).transpose()?;
    let raw_id = raw_id.map(|text| parse_raw_id(text).ok_or(Rejection::RawId)).transpose()?;
    match (id, raw_id) {
        (Some(id), Some(raw_id)) if id != raw_id => Err(Rejection::RawId),
        (Some(id), _) => Ok(Some(StatedId { id, mismatch: Rejection::Id })),
        (None, Some(id)) => Ok(Some(StatedId { id, mismatch: Rejection::RawId })),
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "eb24a684977aa8650c0ad862aaccf26f839de14e93167d2fdc32f3fb5119acd4";
    const BASE64URL: &str = "6ySmhJd6qGUMCthiqszyb4Od4U6TFn0v3DLz-1EZrNQ";

    #[test]
    fn credential_id_has_1_to_1023_bytes() {
        for (length, is_valid) in [(0, false), (1, true), (1023, true), (1024, false)] {
            let text = compact::encode(&vec![7; length]);
            assert_eq!(parse_credential_id(&text).is_some(), is_valid, "{length}");
            assert_eq!(CredentialId::new(vec![7; length]).is_some(), is_valid, "{length}");
        }
        assert_eq!(format_credential_id(&parse_credential_id(BASE64URL).unwrap()), BASE64URL);
    }

    #[test]
    fn raw_id_is_base64url_or_hexadecimal() {
        let id = parse_credential_id(BASE64URL).unwrap();
        let stated = |mismatch| Ok(Some(StatedId { id: id.clone(), mismatch }));
        for raw_id in [HEX, BASE64URL] {
            assert_eq!(parse_ids(Some(BASE64URL), Some(raw_id)), stated(Rejection::Id));
            assert_eq!(parse_ids(None, Some(raw_id)), stated(Rejection::RawId));
        }
        assert_eq!(parse_ids(Some(BASE64URL), None), stated(Rejection::Id));
        assert_eq!(parse_ids(None, None), Ok(None));
    }

    #[test]
    fn malformed_or_different_ids_are_rejected() {
        let rejection = |id, raw_id| parse_ids(id, raw_id).unwrap_err();
        assert_eq!(rejection(Some(HEX), Some(HEX)), Rejection::RawId);
        assert_eq!(rejection(Some(BASE64URL), Some("AAAA")), Rejection::RawId);
        assert_eq!(rejection(Some("+"), Some(HEX)), Rejection::Id);
        assert_eq!(rejection(Some(""), None), Rejection::Id);
        // A text with an odd number of digits is not hexadecimal. As base64url, it has another length than the ID.
        assert_eq!(rejection(Some(BASE64URL), Some(&HEX[1..])), Rejection::RawId);
        assert_eq!(rejection(None, Some("=")), Rejection::RawId);
    }
}
