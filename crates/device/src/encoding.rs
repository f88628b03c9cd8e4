//! Encodes forms and queries, percent-encoded exactly as each SDK does it (docs/protocol/device.md, section
//! 3).

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::style::Style;

/// The characters that `android.net.Uri.encode` escapes: everything but letters, digits, and `_-!.~'()*`.
const ANDROID_ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'_')
    .remove(b'-')
    .remove(b'!')
    .remove(b'.')
    .remove(b'~')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*');

/// The characters that the iOS SDK escapes: everything outside Foundation's `CharacterSet.urlQueryAllowed`,
/// plus `+`.
const IOS_ESCAPED: &AsciiSet = &ANDROID_ESCAPED
    .remove(b'$')
    .remove(b'&')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@')
    .remove(b'/')
    .remove(b'?');

/// Returns the pairs as `name=value`, percent-encoded in the given style and joined with `&`.
pub(crate) fn encode_pairs(style: Style, pairs: &[(&str, String)]) -> String {
    let encoded: Vec<String> = pairs.iter().map(|(name, value)| encode_pair(style, name, value)).collect();
    encoded.join("&")
}

fn encode_pair(style: Style, name: &str, value: &str) -> String {
    match style {
        // On Android, `Uri.Builder` escapes the name and the value separately.
        Style::Android => format!("{}={}", escape(name, ANDROID_ESCAPED), escape(value, ANDROID_ESCAPED)),
        // The iOS SDK escapes the whole pair, so characters that are legal in a query remain literal in the
        // value too.
        Style::Ios => escape(&format!("{name}={value}"), IOS_ESCAPED),
    }
}

fn escape(text: &str, escaped: &'static AsciiSet) -> String {
    utf8_percent_encode(text, escaped).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(style: Style, text: &str) -> String {
        encode_pairs(style, &[("n", text.to_owned())]).split_once('=').unwrap().1.to_owned()
    }

    #[test]
    fn percent_encoding_of_printable_characters_matches_each_mobile_sdk() {
        let printable: String = (' '..='~').collect();
        let android = "%20!%22%23%24%25%26'()*%2B%2C-.%2F0123456789%3A%3B%3C%3D%3E%3F%40\
                       ABCDEFGHIJKLMNOPQRSTUVWXYZ%5B%5C%5D%5E_%60abcdefghijklmnopqrstuvwxyz%7B%7C%7D~";
        let ios = "%20!%22%23$%25&'()*%2B,-./0123456789:;%3C=%3E?@\
                   ABCDEFGHIJKLMNOPQRSTUVWXYZ%5B%5C%5D%5E_%60abcdefghijklmnopqrstuvwxyz%7B%7C%7D~";
        assert_eq!(value(Style::Android, &printable), android);
        assert_eq!(value(Style::Ios, &printable), ios);
    }

    #[test]
    fn non_ascii_and_control_characters_are_percent_encoded_as_utf8() {
        for style in [Style::Android, Style::Ios] {
            assert_eq!(value(style, "Jürg’s\n"), "J%C3%BCrg%E2%80%99s%0A");
        }
    }

    #[test]
    fn encoded_form_pairs_are_joined_with_ampersands() {
        let both = [("A.b", "1".to_owned()), ("C", String::new())];
        assert_eq!(encode_pairs(Style::Android, &both), "A.b=1&C=");
        assert_eq!(encode_pairs(Style::Ios, &both), "A.b=1&C=");
        assert_eq!(encode_pairs(Style::Ios, &[]), "");
    }
}
