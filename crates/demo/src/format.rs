//! Abbreviates values and formats JSON for the output of the demo.

use serde_json::{Map, Value};

/// Maximum length of a JSON value that is printed on one line, in characters.
const MAX_INLINE_CHARS: usize = 72;

/// Maximum length of a text that is printed in full, in characters.
const MAX_TEXT_CHARS: usize = 64;

/// Returns a SID or a text of more than 64 characters shortened to its first and last characters. Returns any
/// other text unchanged.
pub(crate) fn abbreviate(text: &str) -> String {
    if is_sid(text) {
        keep_ends(text, 6, 4)
    } else if text.chars().count() > MAX_TEXT_CHARS {
        keep_ends(text, 24, 8)
    } else {
        text.to_owned()
    }
}

/// Returns the first eight characters of a secret: enough to recognize it, too few to use it.
pub(crate) fn abbreviate_secret(secret: &str) -> String {
    keep_ends(secret, 8, 0)
}

fn keep_ends(text: &str, head: usize, tail: usize) -> String {
    let length = text.chars().count();
    let head: String = text.chars().take(head).collect();
    let tail: String = text.chars().skip(length.saturating_sub(tail)).collect();
    format!("{head}…{tail}")
}

/// Returns whether `text` has the form of a SID: two capital letters and 32 hexadecimal digits.
fn is_sid(text: &str) -> bool {
    let (prefix, digits) = text.split_at_checked(2).unwrap_or_default();
    digits.len() == 32
        && prefix.bytes().all(|byte| byte.is_ascii_uppercase())
        && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Returns the URL path with its SIDs and long segments abbreviated.
pub(crate) fn abbreviate_path(path: &str) -> String {
    path.split('/').map(abbreviate).collect::<Vec<_>>().join("/")
}

/// Abbreviates every string in a JSON value. Members named `token` and `secret` are shortened as secrets, a member
/// named `url` as a path.
fn abbreviate_json(value: &mut Value) {
    match value {
        Value::String(text) => *text = abbreviate(text),
        Value::Array(items) => items.iter_mut().for_each(abbreviate_json),
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(secret) if ["token", "secret"].contains(&name.as_str()) => {
                        *secret = abbreviate_secret(secret)
                    }
                    Value::String(path) if name == "url" => *path = abbreviate_path(path),
                    other => abbreviate_json(other),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Returns the members of an object that are listed in `names`, in that order, and adds a member that says
/// how many were omitted. The same names are applied to objects inside an array member. Any other value is
/// returned unchanged.
pub(crate) fn select_members(value: &Value, names: &[&str]) -> Value {
    let Value::Object(members) = value else { return value.clone() };
    let mut chosen = Map::new();
    for name in names {
        match members.get(*name) {
            Some(Value::Array(items)) => {
                let items = items.iter().map(|item| select_members(item, names)).collect();
                chosen.insert((*name).to_owned(), items);
            }
            Some(member) => drop(chosen.insert((*name).to_owned(), member.clone())),
            None => {}
        }
    }
    let omitted = members.len() - chosen.len();
    if omitted > 0 {
        chosen.insert("…".to_owned(), format!("and {omitted} more").into());
    }
    Value::Object(chosen)
}

/// Returns the value as abbreviated JSON: one line if it is at most 72 characters long, otherwise several
/// lines.
pub(crate) fn compact(mut value: Value) -> Vec<String> {
    abbreviate_json(&mut value);
    member_lines(None, &value)
}

/// Returns the value as abbreviated JSON on several lines.
pub(crate) fn pretty(mut value: Value) -> Vec<String> {
    abbreviate_json(&mut value);
    lines(&value)
}

/// Returns the value as JSON on several lines. Each short member or item is on a single line.
fn lines(value: &Value) -> Vec<String> {
    match value {
        Value::Object(members) if !members.is_empty() => {
            let member = |(name, value): (&String, &Value)| member_lines(Some(name), value);
            block('{', members.iter().map(member).collect(), '}')
        }
        Value::Array(items) if !items.is_empty() => {
            block('[', items.iter().map(|item| member_lines(None, item)).collect(), ']')
        }
        simple => vec![simple.to_string()],
    }
}

/// Returns the lines for a member of an object, which has a `name`, or for an item of an array, which has
/// none.
fn member_lines(name: Option<&String>, value: &Value) -> Vec<String> {
    let text = value.to_string();
    let mut lines = if text.chars().count() <= MAX_INLINE_CHARS { vec![text] } else { lines(value) };
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sids_secrets_and_long_texts_are_abbreviated() {
        assert_eq!(abbreviate("VA0123456789abcdef0123456789abcdef"), "VA0123…cdef");
        assert_eq!(abbreviate("user-0001"), "user-0001");
        assert_eq!(
            abbreviate_path("/v2/Services/VA0123456789abcdef0123456789abcdef/Entities"),
            "/v2/Services/VA0123…cdef/Entities"
        );
        assert_eq!(abbreviate_secret("0123456789abcdef"), "01234567…");
        let mut body = json!({ "token": "0123456789abcdef", "list": [{ "long": "é".repeat(100) }] });
        abbreviate_json(&mut body);
        assert_eq!(body["token"], "01234567…");
        assert_eq!(body["list"][0]["long"], format!("{}…{}", "é".repeat(24), "é".repeat(8)));
    }

    #[test]
    fn selected_members_have_the_requested_order_and_omitted_members_are_counted() {
        let body = json!({ "b": [{ "a": 1, "x": 2 }], "a": "x", "c": null, "d": { "e": {} } });
        let picked = json!({ "a": "x", "b": [{ "a": 1, "…": "and 1 more" }], "…": "and 2 more" });
        assert_eq!(select_members(&body, &["a", "b", "z"]), picked);
        assert_eq!(select_members(&json!([1]), &["a"]), json!([1]));
    }

    #[test]
    fn wide_json_is_formatted_on_several_lines() {
        let wide = json!({ "list": ["x".repeat(40), "y".repeat(40)] });
        assert_eq!(compact(wide).len(), 6);
        assert_eq!(compact(json!({ "a": [1] })), [r#"{"a":[1]}"#]);
        assert_eq!(pretty(json!({ "a": [1], "b": {} })), ["{", r#"  "a": [1],"#, r#"  "b": {}"#, "}"]);
    }
}
