//! A lenient decoder for PEM (RFC 7468). It accepts text around the sections, literal `\n` instead of line
//! breaks, and bare base64, which Twilio's documentation tells users to send.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use super::{InvalidReason, without_bom};

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Decodes every PEM section whose label `is_wanted` accepts, and returns the DER bytes in the same order.
/// Text without a `BEGIN` line is decoded as bare base64. The result is never empty.
///
/// # Errors
/// Returns the reason if the text is malformed, a wanted section is encrypted, or no section has a wanted
/// label. The error message names `label` as the expected label.
pub(super) fn decode_sections(
    text: &str,
    label: &'static str,
    is_wanted: impl Fn(&str) -> bool,
) -> Result<Vec<Zeroizing<Vec<u8>>>, InvalidReason> {
    let text = Zeroizing::new(without_bom(text).replace("\\r", "\r").replace("\\n", "\n"));
    if !text.contains("-----BEGIN ") {
        return decode(&text).map(|bytes| vec![bytes]);
    }
    let mut found = Vec::new();
    for section in text.split("-----BEGIN ").skip(1) {
        let (found_label, rest) = section.split_once("-----").ok_or(InvalidReason::NotPem)?;
        let (body, _) = rest.split_once("-----END ").ok_or(InvalidReason::NotPem)?;
        if is_wanted(found_label) {
            if found_label.contains("ENCRYPTED") || body.contains("ENCRYPTED") {
                return Err(InvalidReason::Encrypted);
            }
            found.push(decode(body)?);
        }
    }
    if found.is_empty() { Err(InvalidReason::MissingPemSection(label)) } else { Ok(found) }
}

/// Decodes base64, ignoring whitespace. Padding is optional. Empty input is an error.
fn decode(base64: &str) -> Result<Zeroizing<Vec<u8>>, InvalidReason> {
    let text: Zeroizing<String> =
        Zeroizing::new(base64.split(char::is_whitespace).filter(|line| !line.is_empty()).collect());
    let bytes = BASE64.decode(text.as_bytes()).map(Zeroizing::new);
    bytes.ok().filter(|bytes| !bytes.is_empty()).ok_or(InvalidReason::NotPem)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "PRIVATE KEY";

    fn keys(text: &str) -> Result<Vec<Vec<u8>>, InvalidReason> {
        let found = decode_sections(text, KEY, |label| label.ends_with(KEY));
        found.map(|found| found.iter().map(|der| der.to_vec()).collect())
    }

    #[test]
    fn common_variants_of_pem_are_decoded() {
        let der = || Ok(vec![b"0123456789".to_vec()]);
        for text in [
            "-----BEGIN PRIVATE KEY-----\nMDEyMzQ1\nNjc4OQ==\n-----END PRIVATE KEY-----\n",
            "-----BEGIN PRIVATE KEY-----\r\nMDEyMzQ1\r\nNjc4OQ==\r\n-----END PRIVATE KEY-----",
            r"-----BEGIN PRIVATE KEY-----\nMDEyMzQ1\nNjc4OQ==\n-----END PRIVATE KEY-----\n",
            "-----BEGIN RSA PRIVATE KEY----- MDEyMzQ1 Njc4OQ== -----END RSA PRIVATE KEY-----",
            "Bag Attributes\n  friendlyName: me\nKey Attributes: <No Attributes>\n\
             -----BEGIN PRIVATE KEY-----\nMDEyMzQ1Njc4OQ==\n-----END PRIVATE KEY-----\ntrailing words",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n\
             -----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n\
             -----BEGIN EC PRIVATE KEY-----\nMDEyMzQ1Njc4OQ==\n-----END EC PRIVATE KEY-----\n",
            "MDEyMzQ1Njc4OQ==",
            "MDEyMzQ1Njc4OQ",
            " MDEyMzQ1\n  Njc4OQ==\n",
            r"MDEyMzQ1\nNjc4OQ==\n",
            "\u{feff}MDEyMzQ1Njc4OQ==",
            "\u{feff}-----BEGIN PRIVATE KEY-----\nMDEyMzQ1Njc4OQ==\n-----END PRIVATE KEY-----\n",
        ] {
            assert_eq!(keys(text), der(), "{text}");
        }
    }

    #[test]
    fn all_sections_with_the_label_are_decoded() {
        let text =
            "-----BEGIN KEY-----\nAAAA\n-----END KEY-----\n-----BEGIN KEY-----\nAQEB\n-----END KEY-----";
        let found = decode_sections(text, "KEY", |label| label == "KEY").unwrap();
        assert_eq!(found.iter().map(|der| der.to_vec()).collect::<Vec<_>>(), [vec![0; 3], vec![1; 3]]);
    }

    #[test]
    fn malformed_pem_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", InvalidReason::NotPem),
            ("password!", InvalidReason::NotPem),
            ("-----BEGIN PRIVATE KEY-----\nAAAA", InvalidReason::NotPem),
            ("-----BEGIN PRIVATE KEY", InvalidReason::NotPem),
            ("-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----", InvalidReason::NotPem),
            ("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----", InvalidReason::NotPem),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
                InvalidReason::MissingPemSection(KEY),
            ),
            (
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----",
                InvalidReason::Encrypted,
            ),
            (
                "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n\
                 -----END RSA PRIVATE KEY-----",
                InvalidReason::Encrypted,
            ),
        ] {
            assert_eq!(keys(text), Err(reason), "{text}");
        }
    }

    proptest! {
        #[test]
        fn decoding_arbitrary_text_as_pem_does_not_panic(text in "(-----BEGIN |-----END |-----|PRIVATE KEY|\\\\n|\n|A|.)*") {
            let _ = keys(&text);
        }

        #[test]
        fn every_key_is_decoded_from_pem_and_base64(der in proptest::collection::vec(any::<u8>(), 1..300)) {
            let base64 = BASE64.encode(&der);
            prop_assert_eq!(keys(&base64), Ok(vec![der.clone()]));
            let section = format!("-----BEGIN {KEY}-----\n{base64}\n-----END {KEY}-----\n");
            prop_assert_eq!(keys(&section), Ok(vec![der]));
        }
    }
}
