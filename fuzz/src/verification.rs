//! One-time codes: recipients, what a message is made of, words of delivery reports, and tokens in the URLs that outlets
//! get.

use std::sync::LazyLock;

use crypto::attempt_tokens::AttemptTokenUse;
use crypto::{HashingKey, MasterKey};
use domain::parameter::Parameter;
use domain::verifications::{
    AppHash, AttemptReference, ChannelConfiguration, CustomCode, DeliveryProgress, SendDigits, Substitutions,
};
use domain::{AttemptSid, Channel, Recipient, ServiceSid, Sid as _};
use serde_json::Value;

/// Key that issues tokens, made from a fixed master key.
static KEY: LazyLock<HashingKey> =
    LazyLock::new(|| MasterKey::parse(&"07".repeat(32)).unwrap().hashing_key());

/// Interprets the input as each of the values.
pub fn check(data: &[u8]) {
    attempt_token(data);
    let Ok(text) = str::from_utf8(data) else { return };
    phone_number(text);
    mail_address(text);
    short_texts(text);
    substitutions(text);
    report_word(text);
}

fn phone_number(text: &str) {
    let good = text.len() <= 16
        && text.strip_prefix('+').is_some_and(|digits| {
            digits.len() >= 7
                && digits.chars().all(|digit| digit.is_ascii_digit())
                && !digits.starts_with('0')
        });
    let parsed = Recipient::of_channel(Channel::Sms, text).ok();
    assert_eq!(parsed.as_ref().map(Recipient::as_str), Some(text).filter(|_| good));
    if let Some(recipient) = parsed {
        assert_eq!(recipient.key(), text);
        let number = recipient.phone_number().unwrap();
        assert_eq!(number.prefix().len() + 4, text.len());
        assert!(text.starts_with(number.prefix()));
    }
}

fn mail_address(text: &str) {
    let Ok(recipient) = Recipient::of_channel(Channel::Email, text) else { return };
    assert_eq!(recipient.as_str(), text);
    // Nothing in it can end the header or the command of SMTP that contains it, or add another recipient.
    assert_eq!(text.matches('@').count(), 1);
    assert!(
        !text.contains(|letter: char| letter.is_control()
            || letter.is_whitespace()
            || "<>\",;".contains(letter))
    );
    // The normal form has the same local part, and is its own normal form.
    let key = recipient.key();
    assert_eq!(key.split_once('@').unwrap().0, text.split_once('@').unwrap().0);
    assert_eq!(Recipient::from_stored(key.clone()).key(), key);
}

fn short_texts(text: &str) {
    let is_code = (4..=10).contains(&text.chars().count()) && text.chars().all(|c| c.is_ascii_alphanumeric());
    let code = CustomCode::from_parameter(text).ok();
    assert_eq!(code.as_ref().map(CustomCode::expose), Some(text).filter(|_| is_code));
    assert!(code.is_none_or(|code| format!("{code:?}") == "CustomCode([secret])"));

    let is_key = |c: char| c.is_ascii_digit() || "#*wW".contains(c);
    let are_keys = (1..=32).contains(&text.chars().count()) && text.chars().all(is_key);
    let keys = SendDigits::from_parameter(text).ok();
    assert_eq!(keys.as_ref().map(SendDigits::as_str), Some(text).filter(|_| are_keys));

    let is_hash =
        text.chars().count() == 11 && text.chars().all(|c| c.is_ascii_alphanumeric() || "+/".contains(c));
    let hash = AppHash::from_parameter(text).ok();
    assert_eq!(hash.as_ref().map(AppHash::as_str), Some(text).filter(|_| is_hash));
}

fn substitutions(text: &str) {
    let json = serde_json::from_str::<Value>(text).ok();
    if let Ok(values) = Substitutions::from_parameter(text) {
        for (name, value) in json.as_ref().and_then(Value::as_object).expect(text) {
            assert_eq!(values.get(name), value.as_str());
            assert!(!value.as_str().expect(text).chars().any(char::is_control));
        }
    }
    if let Ok(configuration) = ChannelConfiguration::from_parameter(text)
        && let Some(from) = configuration.mail.from
    {
        mail_address(&from);
    }
}

fn report_word(text: &str) {
    let progress = DeliveryProgress::from_report(text);
    assert_eq!(DeliveryProgress::from_report(&text.to_ascii_uppercase()), progress);
    if let Some(progress) = progress {
        assert!(progress.earlier().all(|earlier| earlier != progress));
        assert_eq!(DeliveryProgress::from_report(progress.as_str()), Some(progress));
    }
}

/// Checks that an issued token names its attempt for its use alone, and that nothing else is a token.
fn attempt_token(data: &[u8]) {
    let uses = [AttemptTokenUse::DeliveryReport, AttemptTokenUse::SpokenCode];
    if let Some((service, rest)) = data.split_first_chunk()
        && let Some((attempt, rest)) = rest.split_first_chunk()
    {
        let reference = AttemptReference {
            service_sid: ServiceSid::from_bytes(*service),
            attempt_sid: AttemptSid::from_bytes(*attempt),
        };
        for (token_use, other) in [(uses[0], uses[1]), (uses[1], uses[0])] {
            let token = KEY.attempt_token(token_use, reference);
            assert_eq!(KEY.verify_attempt_token(token_use, &token), Some(reference));
            assert_eq!(KEY.verify_attempt_token(other, &token), None);
            assert_eq!(KEY.verify_attempt_token(token_use, &crate::altered(&token, rest)), None);
        }
    }
    for token_use in uses {
        if let Ok(text) = str::from_utf8(data)
            && let Some(reference) = KEY.verify_attempt_token(token_use, text)
        {
            assert_eq!(KEY.attempt_token(token_use, reference), text);
        }
    }
}
