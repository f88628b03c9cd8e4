//! Public keys that a factor cannot have, and proofs of possession that do not verify a factor.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use device::{SigningKey, Style};
use serde_json::json;

use super::{FACTORS, assert_refuses, invalid, refused};
use crate::fixture::IDENTITY;
use crate::world::{World, entity};

#[tokio::test]
async fn invalid_or_unsupported_public_keys_are_refused() {
    const P384: &str = "MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEWYYTVIdBdoj+/nXMh8poREhce1C/vRB2n5hZm+laA7NvBsdYkpIesQHNdupjVnbxUH/3QiZVYxI/zKC7KWw8gDpDSaeut0t5q2uHWEYUxbs/vmypZamjJvclT1iOPvIr";
    const SECP256K1: &str = "MFYwEAYHKoZIzj0CAQYFK4EEAAoDQgAELriRJ4jPWL1nYZXBbvdy9eEPnJqB0bDTG0zAnm/h/WeD/sLkyPtCPIPemqN8NhMuJFxIhSSxnJ02RSbWRYLr8g==";
    const ED25519: &str = "MCowBQYDK2VwAyEAi66V12bq9t0N+Yi+6jLltzyBgro7wQyqu1zBByL4pxk=";
    /// A P-256 public key with explicit curve parameters instead of the named curve, in base64.
    const EXPLICIT: &str = "MIIBSzCCAQMGByqGSM49AgEwgfcCAQEwLAYHKoZIzj0BAQIhAP////8AAAABAAAAAAAAAAAAAAAA////////////////MFsEIP////8AAAABAAAAAAAAAAAAAAAA///////////////8BCBaxjXYqjqT57PrvVV2mIa8ZR0GsMxTsPY7zjw+J9JgSwMVAMSdNgiG5wSTamZ44ROdJreBn36QBEEEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9QIhAP////8AAAAA//////////+85vqtpxeehPO5ysL8YyVRAgEBA0IABP7BuS6sgorL3opQN8FiLITStoNmUNRaFdGDFSUHL6QomxiSKaanClyC+dCY1gMFr8UfBwzAcpl8dlZb1TD0ifk=";

    let key = SigningKey::generate();
    let good = key.public_key().as_der().to_vec();
    assert_eq!(good.len(), 91);
    let encoded = |der: &[u8]| STANDARD.encode(der);
    let changed = |at: usize, byte: u8| {
        let mut der = good.clone();
        der[at] = byte;
        encoded(&der)
    };
    // A compressed point: x, and the sign of y.
    let compressed = {
        let mut der = good[..59].to_vec();
        (der[1], der[24], der[26]) = (57, 34, 2 + (good[90] & 1));
        encoded(&der)
    };
    let trailing = [&good[..], b"x"].concat();
    let doubled = [&good[..], &good[..]].concat();
    let identity_point = [&good[..24], &[2, 0, 0]].concat();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----", encoded(&good));
    let mut wrapped = encoded(&good);
    wrapped.insert(64, '\n');
    let private = key.to_pkcs8_base64();
    let keys = [
        ("no base64", "no base64".to_owned()),
        ("base64 of the web", encoded(&good).replace(['/', '+', 'A'], "-")),
        ("without padding", encoded(&good).trim_end_matches('=').to_owned()),
        ("with line breaks", wrapped),
        ("with a space in front", format!(" {}", encoded(&good))),
        ("PEM", pem),
        ("P-384", P384.to_owned()),
        ("secp256k1", SECP256K1.to_owned()),
        ("Ed25519", ED25519.to_owned()),
        ("explicit parameters", EXPLICIT.to_owned()),
        ("off the curve", changed(90, good[90] ^ 1)),
        ("another first coordinate", changed(30, good[30] ^ 1)),
        ("coordinates beyond the field", encoded(&[&good[..27], &[0xff; 64]].concat())),
        ("coordinates of zero", encoded(&[&good[..27], &[0; 64]].concat())),
        ("the point at infinity", encoded(&identity_point)),
        ("compressed", compressed),
        ("hybrid", changed(26, 6 + (good[90] & 1))),
        ("the bare point", encoded(&good[26..])),
        ("trailing bytes", encoded(&trailing)),
        ("twice", encoded(&doubled)),
        ("cut short", encoded(&good[..90])),
        ("another object identifier", changed(12, 2)),
        ("unused bits", changed(25, 1)),
        ("a private key", private.expose().clone()),
        ("nothing but padding", "====".to_owned()),
    ];
    let refusal = refused(400, 60314, "Factors binding format is invalid");
    let keys = keys.iter().map(|(_, key)| [("Binding.PublicKey", key.as_str())]);
    let algorithms = ["RS256", "es256", "ES384", "none"].map(|name| [("Binding.Alg", name)]);
    let rows: Vec<_> = keys.chain(algorithms).map(|change| (change, refusal.clone())).collect();
    assert_refuses(FACTORS, &rows).await;
}

#[tokio::test]
async fn forged_proof_of_possession_does_not_verify_the_factor() {
    let world = World::ephemeral();
    let service = world.service().await;
    let key = SigningKey::generate();
    let phone = world.phone(Style::Ios);
    let new = world.new_factor(&service, IDENTITY).await;
    let mut enrollment = phone.create_factor_with(&new, key.clone()).await.unwrap();
    let sid = enrollment.factor_sid.clone();
    let path = format!("{}/Factors/{sid}", entity(&service, IDENTITY));
    let good = key.sign_der(sid.as_bytes());
    let with_length = |der: &[u8], length: u8| {
        let mut der = der.to_vec();
        der[1] = length;
        der
    };
    let trailing = [&good[..], &[0]].concat();
    let inner = with_length(&trailing, good[1] + 1);
    let header = json!({ "alg": "ES256" });
    let claims = json!({ "sid": sid });
    let jws = crypto::jws::sign(header.as_object().unwrap(), claims.as_object().unwrap(), &key);
    let long_form = [&[0x30, 0x81, good[1]][..], &good[2..]].concat();
    let before = world.everything().await;
    for (what, proof) in [
        ("another key", SigningKey::generate().sign_der(sid.as_bytes())),
        ("another text", key.sign_der(b"YF03")),
        ("the SID in small letters", key.sign_der(sid.to_lowercase().as_bytes())),
        ("the SID and a line break", key.sign_der(format!("{sid}\n").as_bytes())),
        ("the credential", key.sign_der(enrollment.credential_sid.as_bytes())),
        ("the entity", key.sign_der(IDENTITY.as_bytes())),
        ("nothing", key.sign_der(b"")),
        ("r and s side by side", key.sign_fixed(sid.as_bytes()).to_vec()),
        ("trailing bytes", trailing),
        ("trailing bytes within", inner),
        ("a length in the long form", long_form),
        ("cut short", good[..good.len() - 1].to_vec()),
        ("a shorter length", with_length(&good, good[1] - 1)),
        ("an empty sequence", vec![0x30, 0]),
        ("zeros", vec![0x30, 6, 2, 1, 0, 2, 1, 0]),
        ("ones", vec![0x30, 6, 2, 1, 1, 2, 1, 1]),
        ("noise", vec![0xff; 72]),
        ("a JWS", jws.into_bytes()),
    ] {
        let form = [("AuthPayload", STANDARD.encode(&proof)), ("FriendlyName", "Verified?".to_owned())];
        let form: Vec<_> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let reply = world.backend().post(&path, &form).await;
        refused(403, 60311, "Factor verification failed").assert(&reply, what);
    }
    let good = STANDARD.encode(&good);
    for (what, text) in [
        ("one additional character", good[..89].to_owned()),
        ("of the web", format!("-_{}", &good[2..])),
        ("with a line break", format!("{}\n{}", &good[..40], &good[40..])),
        ("with trailing text", format!("{good} x")),
        ("no base64", "YF03 approved!".to_owned()),
    ] {
        invalid("AuthPayload").assert(&world.backend().post(&path, &[("AuthPayload", &text)]).await, what);
    }
    assert_eq!(world.everything().await, before);
    phone.verify_factor(&mut enrollment).await.unwrap();
    let reply = world.backend().post(&path, &[("AuthPayload", &good)]).await;
    assert_eq!((reply.status, &reply.json()["status"]), (200, &json!("verified")));
    // A forged proof is refused for a verified factor too.
    let before = world.everything().await;
    let bad = STANDARD.encode(SigningKey::generate().sign_der(sid.as_bytes()));
    refused(403, 60311, "Factor verification failed")
        .assert(&world.backend().post(&path, &[("AuthPayload", &bad)]).await, "verified before");
    assert_eq!(world.everything().await, before);
}
