//! Values of single parameters: each is accepted as documented, and returned unchanged.

use domain::challenges::{self, Field, Message, resolve_expiration};
use domain::factors::Platform;
use domain::parameter::{Bounded, Parameter};
use domain::text::{StringMap, Text};
use domain::webhooks::{self, Subscription};
use domain::{FactorType, Identity, Timestamp};
use serde_json::Value;

/// Checks the input text as a value of each kind of parameter.
pub fn check(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let json = serde_json::from_str::<Value>(text).ok();
    texts(text);
    string_map(text, json.as_ref());
    field(text, json.as_ref());
    number::<60, 300>(text);
    number::<{ i64::MIN }, { i64::MAX }>(text);
    words(text);
    time(text);
}

fn texts(text: &str) {
    fn one<const MIN: usize, const MAX: usize>(text: &str) {
        let good = (MIN..=MAX).contains(&text.chars().count()) && !text.chars().any(char::is_control);
        let parsed = Text::<MIN, MAX>::from_parameter(text).ok();
        assert_eq!(parsed.as_ref().map(Text::as_str), Some(text).filter(|_| good));
        let printed = parsed.map(|parsed| format!("{parsed:?}"));
        assert!(printed.is_none_or(|printed| printed == format!("Text({} bytes)", text.len())));
    }
    // Names of people and apps, and the tokens that push providers issue.
    one::<1, 64>(text);
    one::<1, 100>(text);
    one::<1, 4096>(text);

    let plain = |c: char| matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-');
    let identity = Identity::from_parameter(text).ok();
    let good = text.chars().all(plain) && (8..=64).contains(&text.chars().count());
    assert_eq!(identity.as_ref().map(Identity::as_str), Some(text).filter(|_| good));

    let message = Message::from_parameter(text).ok();
    let good = (1..=256).contains(&text.chars().count());
    assert_eq!(message.as_ref().map(Message::as_str), Some(text).filter(|_| good));
}

fn string_map(text: &str, json: Option<&Value>) {
    let members = json.and_then(Value::as_object);
    let good = text.chars().count() <= StringMap::MAX_CHARACTERS
        && members.is_some_and(|members| {
            members.iter().all(|(name, value)| {
                let plain = |text: &str| !text.contains('\0');
                plain(name) && value.as_str().is_some_and(plain)
            })
        });
    match StringMap::from_parameter(text) {
        Ok(map) => {
            assert!(good, "{text}");
            let written = serde_json::to_string(&map).unwrap();
            assert_eq!(serde_json::from_str::<Value>(&written).ok().as_ref(), json);
            assert_eq!(StringMap::from_parameter(&written).ok(), Some(map), "it never grows");
        }
        // The last of two members with one name counts; the text is refused if the first is not a string.
        Err(_) => assert!(!good || text.matches('"').count() > 4 * members.unwrap().len(), "{text}"),
    }
}

fn field(text: &str, json: Option<&Value>) {
    let Ok(field) = Field::from_parameter(text) else { return };
    let member = |name| json.and_then(Value::as_object)?.get(name)?.as_str();
    let (label, value) = (member("label").expect(text), member("value").expect(text));
    assert!((1..=36).contains(&label.chars().count()) && value.chars().count() <= 128);
    assert!(!label.contains('\0') && !value.contains('\0'));
    let written = serde_json::to_value(&field).unwrap();
    assert_eq!(written, serde_json::json!({"label": label, "value": value}));
    assert!(Field::from_parameter(&written.to_string()).is_ok_and(|again| again == field));
}

fn number<const MIN: i64, const MAX: i64>(text: &str) {
    let parsed = Bounded::<MIN, MAX>::from_parameter(text);
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    match parsed {
        Ok(number) => {
            assert!(is_number && (MIN..=MAX).contains(&number.get()));
            assert_eq!(Bounded::from_parameter(&number.get().to_string()), Ok(number));
        }
        Err(_) => assert!(
            !is_number
                || text.parse().is_ok_and(|number: i64| number < MIN || number > MAX)
                || digits.len() > 18
        ),
    }
}

fn words(text: &str) {
    fn one<T: Parameter>(text: &str, name: impl Fn(T) -> &'static str) {
        if let Ok(value) = T::from_parameter(text) {
            assert_eq!(name(value), text);
        }
    }
    one(text, Subscription::as_str);
    one(text, webhooks::Status::as_str);
    one(text, webhooks::Version::as_str);
    one(text, challenges::Status::as_str);
    one(text, Platform::as_str);
    one(text, FactorType::as_str);
    if let Ok(value) = bool::from_parameter(text) {
        assert_eq!(text.to_ascii_lowercase(), value.to_string());
    }
}

/// Checks that a timestamp with a four-digit year is formatted in whole seconds and can be parsed again.
fn time(text: &str) {
    let Ok(time) = Timestamp::from_parameter(text) else { return };
    let shown = time.to_string();
    let years = Timestamp::from_seconds(-62_167_219_200)..Timestamp::from_seconds(253_402_300_800);
    if years.contains(&time) {
        assert_eq!(shown.len(), "2026-01-01T00:00:00Z".len());
        assert_eq!(Timestamp::from_parameter(&shown), Ok(time.truncate_to_second()));
    }
    // A challenge expires within an hour, on a whole second, whatever was requested.
    for now in [Timestamp::from_seconds(crate::NOW_SECONDS), time.plus_seconds(-1), time.plus_seconds(-3600)]
    {
        if let Ok(end) = resolve_expiration(Some(time), now) {
            assert!(end > now && end <= now.plus_seconds(3600) && end == end.truncate_to_second());
        }
    }
}
