//! Encryption of access tokens with `josekit`.
//!
//! This is a crate of its own because `josekit` compiles OpenSSL from source, which takes longer than any other
//! dependency. Only the binary depends on it, so that all other crates compile meanwhile.
//!
//! Form and content of the tokens, and the checks that a text passes before it gets here, are in
//! [`crypto::enrollment`].

use std::error::Error;

use crypto::enrollment::{
    AccessTokenCipher, COMPRESSION, CONTENT_TYPE, CheckedToken, ENCRYPTION, SECRET_BYTES,
};
use josekit::jwe::{self, Dir, JweHeader};

/// The cipher of the server: direct encryption with A256GCM and DEFLATE compression, by `josekit`.
pub struct Josekit;

impl AccessTokenCipher for Josekit {
    fn encrypt(
        &self,
        claims: &[u8],
        kid: &str,
        secret: &[u8; SECRET_BYTES],
    ) -> Result<String, Box<dyn Error + Send + Sync>> {
        let mut header = JweHeader::new();
        header.set_content_encryption(ENCRYPTION);
        header.set_compression(COMPRESSION);
        header.set_content_type(CONTENT_TYPE);
        header.set_key_id(kid);
        let encrypter = Dir.encrypter_from_bytes(secret)?;
        Ok(jwe::serialize_compact(claims, &header, &encrypter)?)
    }

    fn decrypt(&self, token: &CheckedToken<'_>, secret: &[u8; SECRET_BYTES]) -> Option<Vec<u8>> {
        let decrypter = Dir.decrypter_from_bytes(secret).ok()?;
        let (claims, _) = jwe::deserialize_compact(token.text(), &decrypter).ok()?;
        Some(claims)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use crypto::{EnrollmentKey, KeyRing, Sealable};
    use domain::access_tokens::Grant;
    use domain::parameter::Parameter;
    use domain::{AccessTokenSid, AccountSid, FactorType, Identity, ServiceSid, Sid, Timestamp};
    use josekit::jwe::{JweCompression, JweContext};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);
    const KID: &str = "019b76da-a800-7000-8000-000000000002";
    const OUR_SECRET: [u8; SECRET_BYTES] = [1; SECRET_BYTES];
    const OTHER_SECRET: [u8; SECRET_BYTES] = [2; SECRET_BYTES];

    /// Creates a ring with one key, whose ID is [`KID`].
    fn ring(secret: &[u8; SECRET_BYTES]) -> KeyRing {
        let key = EnrollmentKey::from_bytes(&[KID.as_bytes(), secret].concat()).unwrap();
        KeyRing::new(vec![key], Arc::new(Josekit)).unwrap()
    }

    fn grant() -> Grant {
        Grant {
            sid: AccessTokenSid::from_bytes([1; 16]),
            account_sid: AccountSid::from_bytes([2; 16]),
            service_sid: ServiceSid::from_bytes([3; 16]),
            identity: Identity::from_parameter("user-0001-abcd").unwrap(),
            factor_type: FactorType::Push,
            expires_at: Timestamp::from_micros(NOW.micros() + 60_000_001),
        }
    }

    fn with_part(text: &str, place: usize, part: &[u8]) -> String {
        let part = URL_SAFE_NO_PAD.encode(part);
        let mut parts: Vec<&str> = text.split('.').collect();
        parts[place] = &part;
        parts.join(".")
    }

    #[test]
    fn issued_access_token_can_be_opened() {
        let ring = ring(&OUR_SECRET);
        let token = ring.issue(&grant(), NOW).unwrap();
        assert!(ring.knows(token.expose()));
        assert_eq!(ring.open(token.expose(), NOW), Some(grant()));
        assert!(token.expose().len() < 600, "{}", token.expose().len());
    }

    #[test]
    fn access_token_has_the_documented_header_and_claims() {
        let token = ring(&OUR_SECRET).issue(&grant(), NOW).unwrap();
        let decrypter = Dir.decrypter_from_bytes(OUR_SECRET).unwrap();
        let (claims, _) = jwe::deserialize_compact(token.expose(), &decrypter).unwrap();
        assert_eq!(
            serde_json::from_slice::<Value>(&claims).unwrap(),
            json!({
                "jti": grant().sid,
                "iss": grant().account_sid,
                "svc": grant().service_sid,
                "sub": "user-0001-abcd",
                "typ": "push",
                "exp_us": grant().expires_at.micros(),
            })
        );
        let parts: Vec<&str> = token.expose().split('.').collect();
        let [header, "", _, _, _] = parts[..] else { panic!("{parts:?}") };
        assert_eq!(
            serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap(),
            json!({
                "alg": "dir",
                "enc": "A256GCM",
                "zip": "DEF",
                "cty": "twilio-fpa;v=1",
                "kid": KID,
            })
        );
    }

    #[test]
    fn altered_access_token_is_refused() {
        let ring = ring(&OUR_SECRET);
        let token = ring.issue(&grant(), NOW).unwrap();
        for place in 0..token.expose().len() {
            let mut text = token.expose().as_bytes().to_vec();
            text[place] = if text[place] == b'A' { b'B' } else { b'A' };
            assert_eq!(ring.open(str::from_utf8(&text).unwrap(), NOW), None, "character {place}");
            assert_eq!(ring.open(&token.expose()[..place], NOW), None, "cut to {place}");
        }
        assert_eq!(ring.open(&format!("{}A", token.expose()), NOW), None);
    }

    #[test]
    fn access_token_encrypted_with_a_different_key_of_the_same_id_is_refused() {
        let ours = ring(&OUR_SECRET);
        let token = ring(&OTHER_SECRET).issue(&grant(), NOW).unwrap();
        assert!(ours.knows(token.expose()));
        assert_eq!(ours.open(token.expose(), NOW), None);
    }

    /// A compression algorithm that records whether josekit decompresses data.
    #[derive(Clone, Debug)]
    struct Tripwire(Arc<AtomicBool>);

    impl JweCompression for Tripwire {
        fn name(&self) -> &str {
            "DEF"
        }

        fn compress(&self, message: &[u8]) -> Result<Vec<u8>, io::Error> {
            Ok(message.to_vec())
        }

        fn decompress(&self, message: &[u8]) -> Result<Vec<u8>, io::Error> {
            self.0.store(true, Ordering::Relaxed);
            Ok(message.to_vec())
        }

        fn box_clone(&self) -> Box<dyn JweCompression> {
            Box::new(self.clone())
        }
    }

    #[test]
    fn access_token_is_not_decompressed_before_it_is_authenticated() {
        let ours = ring(&OUR_SECRET);
        let bomb = Josekit.encrypt(&vec![0; 2_000_000], KID, &OTHER_SECRET).unwrap();
        assert!(ours.knows(&bomb));
        assert_eq!(ours.open(&bomb, NOW), None);

        let inflated = Arc::new(AtomicBool::new(false));
        let mut context = JweContext::new();
        context.add_compression(Box::new(Tripwire(Arc::clone(&inflated))));
        let decrypter = Dir.decrypter_from_bytes(OUR_SECRET).unwrap();
        assert!(context.deserialize_compact(&bomb, &decrypter).is_err());
        assert!(!inflated.load(Ordering::Relaxed), "josekit decompresses before it authenticates");

        let decrypter = Dir.decrypter_from_bytes(OTHER_SECRET).unwrap();
        assert!(context.deserialize_compact(&bomb, &decrypter).is_ok());
        assert!(inflated.load(Ordering::Relaxed), "the tripwire detects decompression");
    }

    proptest! {
        #[test]
        fn opening_an_access_token_never_panics(text in ".*", parts: [Vec<u8>; 5]) {
            let ring = ring(&OUR_SECRET);
            prop_assert!(ring.open(&text, NOW).is_none());
            prop_assert!(ring.open(&parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join("."), NOW).is_none());
        }

        #[test]
        fn opening_an_access_token_with_a_valid_header_never_panics(parts: [Vec<u8>; 3], nonce: [u8; 12], tag: [u8; 16]) {
            let ring = ring(&OUR_SECRET);
            let token = ring.issue(&grant(), NOW).unwrap();
            for (place, part) in [(2, &parts[0][..]), (2, &nonce), (3, &parts[1]), (4, &parts[2]), (4, &tag)] {
                prop_assert!(ring.open(&with_part(token.expose(), place, part), NOW).is_none());
            }
        }
    }
}
