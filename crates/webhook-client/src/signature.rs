//! The `X-Twilio-Signature` header, by which receivers verify the sender and content of a request
//! (docs/protocol/webhooks.md, section 4).

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::accounts::AuthToken;

/// Signs a form request to `url`. Returns the signature: HMAC-SHA1 keyed with the account's auth token, in
/// base64.
///
/// `url` is the URL as it was configured, from [`CallbackUrl::signed`](domain::CallbackUrl::signed). The
/// order of the parameters does not matter: names are sorted by their bytes. A name with several values is
/// signed once, followed by its distinct values in sorted order. A request without a form, such as one with a
/// JSON body, is signed without parameters.
pub fn sign(auth_token: &AuthToken, url: &str, parameters: &[(String, String)]) -> String {
    let mut sorted = BTreeMap::<&str, BTreeSet<&str>>::new();
    for (name, value) in parameters {
        sorted.entry(name).or_default().insert(value);
    }
    // The protocol requires SHA-1, which is still secure in an HMAC.
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, auth_token.expose().as_bytes());
    let mut context = hmac::Context::with_key(&key);
    context.update(url.as_bytes());
    for (name, values) in sorted {
        context.update(name.as_bytes());
        values.into_iter().for_each(|value| context.update(value.as_bytes()));
    }
    STANDARD.encode(context.sign())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: [(&str, &str); 7] = [
        ("uuid", "2c4f7a36-bf7a-4394-a241-3fccc024ab7a"),
        ("type", "challenge.approved"),
        ("account_sid", "AC11111111111111111111111111111111"),
        ("service_sid", "VA22222222222222222222222222222222"),
        ("entity_identity", "user-0001-abcd"),
        ("factor_sid", "YF03333333333333333333333333333333"),
        ("challenge_sid", "YC03444444444444444444444444444444"),
    ];

    fn signed(url: &str, parameters: &[(&str, &str)]) -> String {
        let token = AuthToken::parse("0123456789abcdef0123456789abcdef").unwrap();
        let owned: Vec<_> = parameters.iter().map(|&(name, value)| (name.into(), value.into())).collect();
        sign(&token, url, &owned)
    }

    /// The test vectors in docs/protocol/webhooks.md, section 4, computed with twilio-python and twilio-node.
    #[test]
    fn signature_matches_the_documented_test_vectors() {
        for (url, signature) in [
            ("https://backend.example.com/verify/hook?tenant=7", "wGZ405b8pUopisRtWgwN63qFgOM="),
            ("https://backend.example.com:443/verify/hook?tenant=7", "set9fNv0kBa3m2WEyvC9H/LR5js="),
            ("https://backend.example.com:8443/h", "ekxT67UQc1NAAG7UOUzYtEOl5lg="),
        ] {
            assert_eq!(signed(url, &FORM), signature, "{url}");
        }
    }

    #[test]
    fn signature_covers_a_json_body_by_its_hash_in_the_url() {
        let url = "https://backend.example.com/verify/hook?tenant=7&bodySHA256=\
                   92964d0f4a79cbc9d1bc2db364b27b69a481bcb649df5dab01e80c660bb215f1";
        assert_eq!(signed(url, &[]), "e6WPWjwbGd1ZQELonYEDL5etrR0=");
    }

    #[test]
    fn order_and_repetition_of_parameters_do_not_change_the_signature() {
        let mut backwards = FORM;
        backwards.reverse();
        assert_eq!(signed("https://h/", &backwards), signed("https://h/", &FORM));

        let several = signed("https://h/", &[("a", "2"), ("b", "x"), ("a", "1"), ("a", "2")]);
        assert_eq!(several, signed("https://h/", &[("a", "1"), ("a", "2"), ("b", "x")]));
        assert_eq!(
            several,
            signed("https://h/", &[("a", "12"), ("b", "x")]),
            "values are concatenated without a separator"
        );
    }

    #[test]
    fn signed_parameters_are_sorted_by_the_bytes_of_their_names() {
        assert_eq!(signed("u", &[("b", "1"), ("B", "2"), ("_", "3")]), signed("uB2_3b1", &[]));
        assert_eq!(signed("u", &[("ü", "ß"), ("z", "")]), signed("uzüß", &[]));
    }
}
