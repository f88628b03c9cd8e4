//! Instructions for calls in TwiML, which Twilio and gateways with the same interface understand.

use crate::locales::Locale;

/// Returns the instructions for a call that says a text twice, with a pause between.
pub(super) fn say_twice(text: &str, locale: Locale) -> String {
    let say = say(text, locale);
    response(&format!("<Pause length=\"1\"/>{say}<Pause length=\"2\"/>{say}"))
}

/// Returns the instructions for a call that asks for a key twice, and continues with the instructions at `url` when one
/// is pressed. Without a key it ends.
pub(super) fn ask_for_key(prompt: &str, locale: Locale, url: &str) -> String {
    let (prompt, url) = (say(prompt, locale), escape(url));
    // Without `finishOnKey=""`, the key # would not count.
    response(&format!(
        "<Pause length=\"1\"/><Gather numDigits=\"1\" finishOnKey=\"\" timeout=\"5\" action=\"{url}\">\
         {prompt}<Pause length=\"2\"/>{prompt}</Gather>"
    ))
}

/// Returns the instructions that end a call.
pub(super) fn hang_up() -> String {
    response("<Hangup/>")
}

/// Returns a code whose characters are pronounced one by one, such as `1, 2, 3`.
pub(super) fn spell(code: &str) -> String {
    let mut spelled = String::with_capacity(3 * code.len());
    for character in code.chars() {
        if !spelled.is_empty() {
            spelled.push_str(", ");
        }
        spelled.push(character);
    }
    spelled
}

fn say(text: &str, locale: Locale) -> String {
    format!("<Say language=\"{}\">{}</Say>", locale.voice(), escape(text))
}

fn response(content: &str) -> String {
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response>{content}</Response>")
}

/// Escapes a text for XML 1.0, and omits the characters that it does not permit.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            '\n' | '\t' => escaped.push(character),
            '\0'..' ' | '\u{fffe}' | '\u{ffff}' => {}
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_for_xml() {
        assert_eq!(
            escape("<a b=\"c\">'&\u{7}\n\u{ffff}ü</a>"),
            "&lt;a b=&quot;c&quot;&gt;&apos;&amp;\nü&lt;/a&gt;"
        );
    }

    #[test]
    fn code_is_spelled_character_by_character() {
        assert_eq!(
            (spell("0123").as_str(), spell("").as_str(), spell("a1").as_str()),
            ("0, 1, 2, 3", "", "a, 1")
        );
    }
}
