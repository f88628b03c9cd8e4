//! Forms and queries, compared with a slow reference that follows the specification, and with the parser of the
//! `url` crate, which accepts more but must read every accepted form in the same way.

use std::collections::BTreeSet;

use domain::{Code, Problem};
use url::form_urlencoded;

/// The form module of `countersign-web`, without the HTTP server of that crate.
#[path = "../../crates/web/src/form.rs"]
mod subject;

use subject::Form;

type Pairs = Vec<(String, String)>;

/// Compares the parsed form of `data` with the references.
pub fn check(data: &[u8]) {
    let expected = reference_pairs(data);
    match (Form::parse(data), &expected) {
        (Ok(form), Some(pairs)) => assert_agreement(&form, pairs),
        (Err(problem), None) => assert_short_message(&problem),
        (form, pairs) => panic!("{form:?} instead of {pairs:?}"),
    }
    if let Some(pairs) = &expected {
        assert_eq!(form_urlencoded::parse(data).into_owned().collect::<Pairs>(), *pairs);
        let encoded = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        // A pair with an empty name and an empty value is encoded as `=`, so that it is not lost.
        assert_agreement(&Form::parse(encoded.as_bytes()).unwrap(), pairs);
    }
    if let Ok(text) = str::from_utf8(data) {
        match Form::parse_query(text) {
            Ok(query) => in_any_case(&query, &expected.unwrap()),
            Err(problem) => assert_short_message(&problem),
        }
    }
}

/// Checks that every accessor of `form` returns the values in `pairs`.
fn assert_agreement(form: &Form, pairs: &Pairs) {
    for name in names(pairs) {
        let values: Vec<&str> =
            pairs.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_str()).collect();
        let sent = sent(&values);
        assert_eq!(form.all::<String>(name).unwrap(), sent);
        assert_eq!(form.last::<String>(name).unwrap().as_deref(), sent.last().copied());
        match values[..] {
            [value] => {
                assert_eq!(form.text(name).unwrap(), Some(value));
                assert_eq!(form.optional::<String>(name).unwrap().is_none(), value.is_empty());
                match form.required::<String>(name) {
                    Ok(text) => assert_eq!(text, value),
                    Err(problem) => assert!(problem.code() == Code::MissingParameter && value.is_empty()),
                }
                let mut field = Some("before".to_owned());
                form.set_or_clear(name, &mut field).unwrap();
                assert_eq!(field.unwrap_or_default(), value);
                let mut field = "before".to_owned();
                form.set(name, &mut field).unwrap();
                assert_eq!(field, if value.is_empty() { "before" } else { value });
            }
            _ => {
                assert!(form.text(name).is_err());
                assert!(form.optional::<String>(name).is_err() && form.required::<String>(name).is_err());
            }
        }
    }
    let absent = pairs.iter().map(|(name, _)| name.as_str()).collect::<String>() + "x";
    assert_eq!(form.text(&absent), Ok(None));
}

/// Returns the values that do not count as absent.
fn sent<'v>(values: &[&'v str]) -> Vec<&'v str> {
    values.iter().copied().filter(|value| !value.is_empty()).collect()
}

fn in_any_case(query: &Form, pairs: &Pairs) {
    for name in names(pairs) {
        let values = pairs.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        let values: Vec<&str> = values.map(|(_, value)| value.as_str()).collect();
        assert_eq!(query.all::<String>(name).unwrap(), sent(&values));
        assert_eq!(query.all::<String>(&name.to_ascii_uppercase()).unwrap(), sent(&values));
    }
}

/// Returns at most 32 distinct parameter names. The number is limited because each check iterates over all
/// pairs.
fn names(pairs: &Pairs) -> impl Iterator<Item = &str> {
    pairs.iter().map(|(name, _)| name.as_str()).collect::<BTreeSet<_>>().into_iter().take(32)
}

/// Checks that an error quotes only a short part of the caller's text and contains no line break.
fn assert_short_message(problem: &Problem) {
    assert_eq!(problem.code(), Code::InvalidRequest);
    let message = problem.message();
    assert!(message.starts_with(Code::InvalidRequest.title()) && message.chars().count() < 200);
    assert!(!message.contains(char::is_control));
}

/// Returns the decoded pairs, or `None` if one of them is invalid. A slow reference implementation.
fn reference_pairs(data: &[u8]) -> Option<Pairs> {
    let mut pairs = Pairs::new();
    for pair in data.split(|byte| *byte == b'&') {
        if pair.is_empty() {
            continue;
        }
        let mut halves = pair.splitn(2, |byte| *byte == b'=');
        let name = halves.next().unwrap_or_default();
        let value = halves.next().unwrap_or_default();
        pairs.push((decoded(name)?, decoded(value)?));
    }
    Some(pairs)
}

fn decoded(mut text: &[u8]) -> Option<String> {
    let mut bytes = Vec::new();
    while !text.is_empty() {
        if text[0] == b'%' {
            let digits = str::from_utf8(text.get(1..3)?).ok()?;
            // `from_str_radix` would accept a sign.
            if !digits.chars().all(|digit| digit.is_ascii_hexdigit()) {
                return None;
            }
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            text = &text[3..];
        } else {
            bytes.push(if text[0] == b'+' { b' ' } else { text[0] });
            text = &text[1..];
        }
    }
    if bytes.contains(&0) { None } else { String::from_utf8(bytes).ok() }
}
