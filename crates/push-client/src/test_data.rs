//! Test data for this crate's unit tests.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::factors::{AppId, RegistrationToken};
use domain::{ChallengeSid, FactorSid, Sid, Timestamp};

use crate::message::Message;

pub(crate) fn message() -> Message {
    let sid = |digit| {
        let mut bytes = [digit; 16];
        bytes[0] = 0x03;
        bytes
    };
    Message {
        challenge_sid: ChallengeSid::from_bytes(sid(0x44)),
        factor_sid: FactorSid::from_bytes(sid(0x33)),
        text: "Log in?".to_owned(),
        token: RegistrationToken::from_stored("0123456789abcdef".to_owned()),
        token_registered_at: Timestamp::from_seconds(0),
        app_id: AppId::from_stored("com.example.app".to_owned()),
        expires_at: None,
        ttl: 300,
        id: "019b76da-a800-7fff-bfff-ffffffffffff".to_owned(),
    }
}

/// Generates a P-256 key and returns its PKCS#8 encoding in base64.
pub(crate) fn p256_key() -> String {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    STANDARD.encode(key.to_pkcs8v1().unwrap())
}
