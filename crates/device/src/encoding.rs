//! Forms and queries, percent-encoded as each platform does it (docs/protocol/device.md, section 3).

use std::fmt::Write;

use crate::style::Style;

/// `name=value` pairs joined with `&`.
pub(crate) fn pairs(style: Style, pairs: &[(&str, String)]) -> String {
    let encoded: Vec<String> = pairs.iter().map(|(name, value)| pair(style, name, value)).collect();
    encoded.join("&")
}

fn pair(style: Style, name: &str, value: &str) -> String {
    match style {
        // `Uri.Builder` escapes the name and the value each for itself.
        Style::Android => format!("{}={}", escape(name, uri_unreserved), escape(value, uri_unreserved)),
        // iOS escapes the pair as a whole, so whatever a query may hold stays literal in a value too.
        Style::Ios => escape(&format!("{name}={value}"), url_query_allowed_but_plus),
    }
}

/// What `android.net.Uri.encode` leaves as it is.
fn uri_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-!.~'()*".contains(&byte)
}

/// Foundation's `CharacterSet.urlQueryAllowed`, from which the SDK takes the plus sign.
fn url_query_allowed_but_plus(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*,;=:@/?".contains(&byte)
}

fn escape(text: &str, stays: fn(u8) -> bool) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut escaped, byte| {
        if stays(byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a String can't fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(style: Style, text: &str) -> String {
        pairs(style, &[("n", text.to_owned())]).split_once('=').unwrap().1.to_owned()
    }

    #[test]
    fn every_printable_character_is_written_as_the_platform_does() {
        let printable: String = (' '..='~').collect();
        let android = "%20!%22%23%24%25%26'()*%2B%2C-.%2F0123456789%3A%3B%3C%3D%3E%3F%40\
                       ABCDEFGHIJKLMNOPQRSTUVWXYZ%5B%5C%5D%5E_%60abcdefghijklmnopqrstuvwxyz%7B%7C%7D~";
        let ios = "%20!%22%23$%25&'()*%2B,-./0123456789:;%3C=%3E?@\
                   ABCDEFGHIJKLMNOPQRSTUVWXYZ%5B%5C%5D%5E_%60abcdefghijklmnopqrstuvwxyz%7B%7C%7D~";
        assert_eq!(value(Style::Android, &printable), android);
        assert_eq!(value(Style::Ios, &printable), ios);
    }

    #[test]
    fn other_characters_go_as_utf8() {
        for style in [Style::Android, Style::Ios] {
            assert_eq!(value(style, "Jürg’s\n"), "J%C3%BCrg%E2%80%99s%0A");
        }
    }

    #[test]
    fn names_and_values_are_joined() {
        let both = [("A.b", "1".to_owned()), ("C", String::new())];
        assert_eq!(pairs(Style::Android, &both), "A.b=1&C=");
        assert_eq!(pairs(Style::Ios, &both), "A.b=1&C=");
        assert_eq!(pairs(Style::Ios, &[]), "");
    }
}
