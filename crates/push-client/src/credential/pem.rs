//! PEM (RFC 7468) as people send it: out of the middle of a file, with `\n` instead of line breaks, or
//! without the lines around it, as Twilio's own documentation asks for.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use super::{Fault, without_bom};

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The contents of all sections whose label `wanted` accepts, in their order; never none. A text without
/// any line of dashes is one section without a label, and always wanted.
pub(super) fn sections(
    text: &str,
    name: &'static str,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<Zeroizing<Vec<u8>>>, Fault> {
    let text = Zeroizing::new(without_bom(text).replace("\\r", "\r").replace("\\n", "\n"));
    if !text.contains("-----BEGIN ") {
        return decode(&text).map(|bytes| vec![bytes]);
    }
    let mut found = Vec::new();
    for section in text.split("-----BEGIN ").skip(1) {
        let (label, rest) = section.split_once("-----").ok_or(Fault::NotPem)?;
        let (body, _) = rest.split_once("-----END ").ok_or(Fault::NotPem)?;
        if wanted(label) {
            if label.contains("ENCRYPTED") || body.contains("ENCRYPTED") {
                return Err(Fault::Encrypted);
            }
            found.push(decode(body)?);
        }
    }
    if found.is_empty() { Err(Fault::OtherPem(name)) } else { Ok(found) }
}

fn decode(base64: &str) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let text: Zeroizing<String> =
        Zeroizing::new(base64.split(char::is_whitespace).filter(|line| !line.is_empty()).collect());
    let bytes = BASE64.decode(text.as_bytes()).map(Zeroizing::new);
    bytes.ok().filter(|bytes| !bytes.is_empty()).ok_or(Fault::NotPem)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "PRIVATE KEY";

    fn keys(text: &str) -> Result<Vec<Vec<u8>>, Fault> {
        let found = sections(text, KEY, |label| label.ends_with(KEY));
        found.map(|found| found.iter().map(|der| der.to_vec()).collect())
    }

    #[test]
    fn reads_what_people_send() {
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
    fn takes_all_sections_of_the_kind() {
        let text =
            "-----BEGIN KEY-----\nAAAA\n-----END KEY-----\n-----BEGIN KEY-----\nAQEB\n-----END KEY-----";
        let found = sections(text, "KEY", |label| label == "KEY").unwrap();
        assert_eq!(found.iter().map(|der| der.to_vec()).collect::<Vec<_>>(), [vec![0; 3], vec![1; 3]]);
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, fault) in [
            ("", Fault::NotPem),
            ("password!", Fault::NotPem),
            ("-----BEGIN PRIVATE KEY-----\nAAAA", Fault::NotPem),
            ("-----BEGIN PRIVATE KEY", Fault::NotPem),
            ("-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----", Fault::NotPem),
            ("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----", Fault::NotPem),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", Fault::OtherPem(KEY)),
            (
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----",
                Fault::Encrypted,
            ),
            (
                "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n\
                 -----END RSA PRIVATE KEY-----",
                Fault::Encrypted,
            ),
        ] {
            assert_eq!(keys(text), Err(fault), "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "(-----BEGIN |-----END |-----|PRIVATE KEY|\\\\n|\n|A|.)*") {
            let _ = keys(&text);
        }

        #[test]
        fn reads_every_key(der in proptest::collection::vec(any::<u8>(), 1..300)) {
            let base64 = BASE64.encode(&der);
            prop_assert_eq!(keys(&base64), Ok(vec![der.clone()]));
            let section = format!("-----BEGIN {KEY}-----\n{base64}\n-----END {KEY}-----\n");
            prop_assert_eq!(keys(&section), Ok(vec![der]));
        }
    }
}
