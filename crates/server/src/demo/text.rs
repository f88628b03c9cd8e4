//! Making long things short enough to be read.

use serde_json::{Map, Value};

/// Most columns of a line, where the terminal has that many.
pub(super) const WIDTH: usize = 100;

/// Widest JSON value that stays on one line.
const INLINE: usize = 72;

/// Longest text that is shown in full.
const LONG: usize = 64;

/// A text as it is shown: a SID by its ends, as is everything that is long.
pub(super) fn short(text: &str) -> String {
    if is_sid(text) {
        ends(text, 6, 4)
    } else if text.chars().count() > LONG {
        ends(text, 24, 8)
    } else {
        text.to_owned()
    }
}

/// The beginning of a secret: enough to recognise it, of no use to anybody else.
pub(super) fn hint(secret: &str) -> String {
    ends(secret, 8, 0)
}

fn ends(text: &str, head: usize, tail: usize) -> String {
    let length = text.chars().count();
    let head: String = text.chars().take(head).collect();
    let tail: String = text.chars().skip(length.saturating_sub(tail)).collect();
    format!("{head}…{tail}")
}

/// Two capital letters and 32 hexadecimal digits.
fn is_sid(text: &str) -> bool {
    let (prefix, digits) = text.split_at_checked(2).unwrap_or_default();
    digits.len() == 32
        && prefix.bytes().all(|byte| byte.is_ascii_uppercase())
        && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A path with its SIDs shortened.
pub(super) fn short_path(path: &str) -> String {
    path.split('/').map(short).collect::<Vec<_>>().join("/")
}

/// Every text in the value shortened; a member called `token` is a secret.
fn shorten(value: &mut Value) {
    match value {
        Value::String(text) => *text = short(text),
        Value::Array(items) => items.iter_mut().for_each(shorten),
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(secret) if name == "token" => *secret = hint(secret),
                    // Addresses are full of SIDs.
                    Value::String(path) if name == "url" => *path = short_path(path),
                    other => shorten(other),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The named members of an object, in this order, and how many are left out; of a list the named members
/// of each. Anything else stays as it is.
pub(super) fn pick(value: &Value, names: &[&str]) -> Value {
    let Value::Object(members) = value else { return value.clone() };
    let mut chosen = Map::new();
    for name in names {
        match members.get(*name) {
            Some(Value::Array(items)) => {
                let items = items.iter().map(|item| pick(item, names)).collect();
                chosen.insert((*name).to_owned(), items);
            }
            Some(member) => drop(chosen.insert((*name).to_owned(), member.clone())),
            None => {}
        }
    }
    let left_out = members.len() - chosen.len();
    if left_out > 0 {
        chosen.insert("…".to_owned(), format!("and {left_out} more").into());
    }
    Value::Object(chosen)
}

/// Shortened JSON, on one line if it is small.
pub(super) fn compact(mut value: Value) -> Vec<String> {
    shorten(&mut value);
    within(None, &value)
}

/// Shortened JSON over several lines.
pub(super) fn pretty(mut value: Value) -> Vec<String> {
    shorten(&mut value);
    lines(&value)
}

/// JSON over several lines; what is small inside stays on one.
fn lines(value: &Value) -> Vec<String> {
    match value {
        Value::Object(members) if !members.is_empty() => {
            let member = |(name, value): (&String, &Value)| within(Some(name), value);
            block('{', members.iter().map(member).collect(), '}')
        }
        Value::Array(items) if !items.is_empty() => {
            block('[', items.iter().map(|item| within(None, item)).collect(), ']')
        }
        simple => vec![simple.to_string()],
    }
}

/// The lines of a value inside another.
fn within(name: Option<&String>, value: &Value) -> Vec<String> {
    let text = value.to_string();
    let mut lines = if text.chars().count() <= INLINE { vec![text] } else { lines(value) };
    if let (Some(name), Some(first)) = (name, lines.first_mut()) {
        *first = format!("{}: {first}", Value::from(name.as_str()));
    }
    lines
}

fn block(open: char, parts: Vec<Vec<String>>, close: char) -> Vec<String> {
    let mut block = vec![open.to_string()];
    let last = parts.len().saturating_sub(1);
    for (index, mut part) in parts.into_iter().enumerate() {
        if let Some(end) = part.last_mut().filter(|_| index < last) {
            end.push(',');
        }
        block.extend(part.into_iter().map(|line| format!("  {line}")));
    }
    block.push(close.to_string());
    block
}

/// Words in lines of at most this width.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// A line in lines of at most this width, broken at spaces where there are some; the second one and those after it
/// are indented further than the first one.
pub(super) fn fold(line: &str, width: usize) -> Vec<String> {
    let mut rest: Vec<char> = line.chars().collect();
    let spaces = rest.iter().take_while(|character| **character == ' ').count();
    let indent = (spaces + 4).min(width / 2);
    let mut folded = Vec::new();
    while rest.len() > width {
        let begins = rest.iter().position(|character| *character != ' ').unwrap_or_default();
        let space = rest[..=width].iter().rposition(|character| *character == ' ').filter(|at| *at > begins);
        let end = space.unwrap_or(width);
        folded.push(rest[..end].iter().collect::<String>().trim_end().to_owned());
        let next = rest[end..].iter().skip_while(|character| **character == ' ');
        rest = std::iter::repeat_n(&' ', indent).chain(next).copied().collect();
    }
    folded.push(rest.into_iter().collect());
    folded
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sids_and_secrets_are_cut() {
        assert_eq!(short("VA0123456789abcdef0123456789abcdef"), "VA0123…cdef");
        assert_eq!(short("user-0001"), "user-0001");
        assert_eq!(
            short_path("/v2/Services/VA0123456789abcdef0123456789abcdef/Entities"),
            "/v2/Services/VA0123…cdef/Entities"
        );
        assert_eq!(hint("0123456789abcdef"), "01234567…");
        let mut body = json!({ "token": "0123456789abcdef", "list": [{ "long": "é".repeat(100) }] });
        shorten(&mut body);
        assert_eq!(body["token"], "01234567…");
        assert_eq!(body["list"][0]["long"], format!("{}…{}", "é".repeat(24), "é".repeat(8)));
    }

    #[test]
    fn what_is_picked_comes_in_order_and_the_rest_is_counted() {
        let body = json!({ "b": [{ "a": 1, "x": 2 }], "a": "x", "c": null, "d": { "e": {} } });
        let picked = json!({ "a": "x", "b": [{ "a": 1, "…": "and 1 more" }], "…": "and 2 more" });
        assert_eq!(pick(&body, &["a", "b", "z"]), picked);
        assert_eq!(pick(&json!([1]), &["a"]), json!([1]));
    }

    #[test]
    fn what_is_wide_is_broken() {
        let wide = json!({ "list": ["x".repeat(40), "y".repeat(40)] });
        assert_eq!(compact(wide).len(), 6);
        assert_eq!(compact(json!({ "a": [1] })), [r#"{"a":[1]}"#]);
        assert_eq!(pretty(json!({ "a": [1], "b": {} })), ["{", r#"  "a": [1],"#, r#"  "b": {}"#, "}"]);
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert!(wrap("", 7).is_empty());
    }

    #[test]
    fn a_line_is_folded_at_spaces_or_else_where_it_must() {
        assert_eq!(fold("  short", 20), ["  short"]);
        assert_eq!(fold("  one two three four", 12), ["  one two", "      three", "      four"]);
        let long = format!("    {}", "x".repeat(30));
        let folded = fold(&long, 20);
        assert!(folded.iter().all(|line| line.chars().count() <= 20), "{folded:?}");
        assert_eq!(folded.concat().matches('x').count(), 30);
        assert_eq!(fold("", 20), [""]);
    }
}
